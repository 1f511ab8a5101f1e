"""Bringing a database to the tables of this program: a new one as they are now, an old one by Alembic's migrations."""

from __future__ import annotations

import functools
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from pdmlab.errors import ServiceError
from pdmlab.service import schema
from pdmlab.service.engine import run_script

MIGRATIONS = Path(__file__).parent / "migrations"

# Alembic's own table, which says how far its migrations have come.
_VERSION = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))


def migrate(connection: Connection, name: str) -> None:
    """Bring the tables of a database, called `name` in errors, to the version of this program.

    Raises:
        ServiceError: a newer pdmlab has written it, or another program.
    """
    there = set(sa.inspect(connection).get_table_names())
    found = connection.scalar(sa.select(_VERSION.c.version_num)) if _VERSION.name in there else None
    connection.rollback()
    if found is None and there & set(schema.metadata.tables):
        raise ServiceError(
            f"the database {name} has tables of these names already",
            status=503,
            hint="they are another program's: take another database",
        )
    if found is not None and found > schema.HEAD:
        raise ServiceError(
            f"the database has version {found}, this pdmlab knows {schema.HEAD}",
            status=503,
            hint="a newer pdmlab has written it: update this one, or take another name or state folder",
        )
    if found is None:
        with connection.begin():
            run_script(connection, "BEGIN", *_tables(connection.dialect.name))
            connection.execute(sa.insert(_VERSION).values(version_num=schema.HEAD))
    elif found < schema.HEAD:
        _upgrade(connection)


@functools.cache  # writing it down takes ten times as long as the database takes to do it
def _tables(dialect: str) -> tuple[str, ...]:
    """Return the statements that make all tables and indexes, in the words of a database."""
    words, tables = sa.make_url(f"{dialect}://").get_dialect()(), (*schema.metadata.sorted_tables, _VERSION)
    makes: list[ExecutableDDLElement] = [CreateTable(table) for table in tables]
    for table in tables:
        makes += [CreateIndex(index) for index in sorted(table.indexes, key=lambda each: str(each.name))]
    return tuple(str(each.compile(dialect=words)) for each in makes)


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.rollback()
