"""What the tables have in common: their metadata, and the columns that many of them have."""

from __future__ import annotations

from sqlalchemy import JSON, Column, ForeignKey, MetaData, String, text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Id = String(32)
Time = String(27)


def id_() -> Column[str]:
    """Return the column `id`: 32 hex digits that sort by creation."""
    return Column("id", Id, primary_key=True)


def account() -> Column[str]:
    """Return the column of whose row it is: rows go with their account."""
    return Column("account_id", Id, ForeignKey("accounts.id", ondelete="CASCADE"), nullable=False)


def key() -> Column[str]:
    """Return the column of the API key that a row belongs to, and goes with."""
    return Column("api_key_id", Id, ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=False)


def device() -> Column[str]:
    """Return the column of the device that a row belongs to, and goes with."""
    return Column("device_id", Id, ForeignKey("devices.id", ondelete="CASCADE"), nullable=False)


def created() -> tuple[Column[str], Column[str]]:
    """Return the columns of when a row was made, and changed last."""
    return Column("created_at", Time, nullable=False), Column("updated_at", Time, nullable=False)


def json_(name: str, empty: str) -> Column[object]:
    """Return a column of JSON, which begins as `empty`."""
    return Column(name, JSON, nullable=False, server_default=text(f"'{empty}'"))
