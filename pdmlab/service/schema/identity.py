"""What the service knows of itself, accounts, and the keys that open them."""

from __future__ import annotations

from sqlalchemy import Column, Index, String, Table, Text

from pdmlab.service.schema.base import Id, Time, account, created, id_, json_, metadata

facts = Table(
    "facts",
    metadata,
    Column("name", String(160), primary_key=True),
    Column("value", Text, nullable=False),
    comment="what the service itself has to remember: its default account, its ports",
)

accounts = Table(
    "accounts",
    metadata,
    id_(),
    Column("display_name", String(255)),
    Column("status", String(16), nullable=False, server_default="ACTIVE"),
    Column("tier", String(8), nullable=False, server_default="1"),
    json_("fields", "{}"),
    *created(),
    comment="fields: whatever else PUT /v3/accounts/me has set",
)

api_keys = Table(
    "api_keys",
    metadata,
    id_(),
    account(),
    Column("name", String(100), nullable=False),
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("key_prefix", String(40), nullable=False, server_default=""),
    Column("owner", Id),
    Column("status", String(16), nullable=False, server_default="ACTIVE"),
    Column("last_login_at", Time),
    *created(),
    Index(None, "account_id"),
    comment="key_hash: SHA-256 of the key in hex; the key itself is not kept. key_prefix: what of it is shown",
)
