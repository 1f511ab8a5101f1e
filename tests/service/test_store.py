"""The database: one truth, transactions that are all or nothing, batches that lose nothing acknowledged."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from pdmlab.errors import ConfigError, ServiceError
from pdmlab.service import schema
from pdmlab.service.engine import read_url
from pdmlab.service.ids import Ids, timestamp
from pdmlab.service.migrating import MIGRATIONS
from pdmlab.service.statements import Statement
from pdmlab.service.store import Store
from tests.service.databases import KINDS, PostgreSQL, sqlite_in


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pdmlab.sqlite"


@pytest.fixture(params=KINDS)
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that no service has seen."""
    if request.param == "sqlite":
        return sqlite_in(tmp_path)
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.new(empty=True)


def committed(database: str) -> dict[str, str]:
    """Return the facts that another connection sees."""
    engine = sa.create_engine(read_url(database), poolclass=sa.NullPool)
    with engine.connect() as other:
        return dict(other.execute(sa.select(schema.facts.c.name, schema.facts.c.value)).all())


def note(store: Store, name: str) -> None:
    with store.batch() as db:
        db.execute(sa.insert(schema.facts).values(name=name, value="x"))


def migrated(database: str, to: str = "head") -> sa.Engine:
    """Return the engine of a database on which the migrations have run."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD
    engine = sa.create_engine(read_url(database), poolclass=sa.NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        connection.commit()
    return engine


def shape(engine: sa.Engine) -> dict[str, Any]:
    """Return all that a database tells of its tables."""
    inspector = sa.inspect(engine)
    columns, keys = inspector.get_multi_columns(), inspector.get_multi_pk_constraint()
    foreign, indexes = inspector.get_multi_foreign_keys(), inspector.get_multi_indexes()
    unique = inspector.get_multi_unique_constraints()
    found = {}
    for table in columns.keys() - {(None, "alembic_version")}:
        found[str(table[1])] = {
            "columns": {c["name"]: (str(c["type"]), c["nullable"], str(c["default"])) for c in columns[table]},
            "primary key": keys[table]["constrained_columns"] if keys[table] else None,
            "foreign keys": sorted(
                (str(k["name"]), k["constrained_columns"], k["referred_table"], str(k["options"]))
                for k in foreign[table]
            ),
            "indexes": sorted((str(i["name"]), i["column_names"], i["unique"]) for i in indexes[table]),
            "unique": sorted((str(u["name"]), u["column_names"]) for u in unique[table]),
        }
    return found


def test_migrations_lead_to_the_tables_of_the_schema(empty: str) -> None:
    engine = migrated(empty)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    # What a table's comment says is for those who read the program.
    assert [each for each in found if each[0] != "add_table_comment"] == []
    engine.dispose()


def test_a_new_database_is_what_the_migrations_would_have_made(empty: str) -> None:
    store = Store(empty)
    store.open()
    found = shape(store.engine)
    with store.begin() as db:
        schema.metadata.drop_all(db)
        db.exec_driver_sql("DROP TABLE alembic_version")
    store.close()
    engine = migrated(empty)
    assert found == shape(engine) and len(found) > 20
    engine.dispose()


def test_an_old_database_gets_what_is_new_and_keeps_what_it_has(empty: str) -> None:
    engine = migrated(empty, "0001")
    with engine.begin() as db:
        at = timestamp(0.0)
        db.execute(sa.text(f"INSERT INTO accounts (id, created_at, updated_at) VALUES ('a', '{at}', '{at}')"))
        db.execute(sa.text("INSERT INTO facts (name, value) VALUES ('default_account', 'a')"))
    engine.dispose()
    store = Store(empty)
    store.open()
    assert store.account_id == "a" and store.scalar(sa.text("SELECT version_num FROM alembic_version")) == schema.HEAD
    store.close()


def test_the_default_account_is_made_once(database: str) -> None:
    ids = []
    for _ in range(2):
        store = Store(database)
        store.open()
        store.open()
        ids.append(store.account_id)
        assert store.rows(sa.select(sa.func.count().label("n")).select_from(schema.accounts)) == [{"n": 1}]
        store.close()
    assert ids[0] == ids[1] and re.fullmatch("[0-9a-f]{32}", ids[0])


def test_a_database_of_a_newer_program_is_left_alone(file: Path) -> None:
    store = Store(f"sqlite:///{file}")
    store.open()
    with store.begin() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(ServiceError, match=r"has version 9999.*\nhint: a newer pdmlab"):
        Store(f"sqlite:///{file}").open()


def test_tables_of_another_program_are_left_alone(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE devices (id)")
    connection.commit()
    connection.close()
    with pytest.raises(ServiceError, match="tables of these names already"):
        Store(f"sqlite:///{file}").open()


def test_a_file_that_is_no_database_is_said_to_be_none(file: Path) -> None:
    file.write_bytes(b"no database" * 1000)
    with pytest.raises(ServiceError, match=r"cannot be used: file is not a database\nhint: is the disk full"):
        Store(f"sqlite:///{file}").open()


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="cannot be used: unable to open"):
        Store(f"sqlite:///{tmp_path / 'none' / 'x.sqlite'}").open()


def test_a_url_of_no_database_is_refused_without_repeating_it() -> None:
    for url in ("postgresql://me:secret@[::1", "mysql://me:secret@here/x", "secret"):
        with pytest.raises(ConfigError) as refused:
            Store(url)
        assert "secret" not in str(refused.value) and refused.value.__cause__ is None


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    for url in ("postgresql://me:secret@127.0.0.1:1/x", "postgresql+psycopg://127.0.0.1:1/x?user=me&password=secret"):
        store = Store(url)
        with pytest.raises(ServiceError) as refused:
            store.open()
        text = f"{store!r} {refused.value} {refused.value.__cause__!r}"
        assert "secret" not in text and "127.0.0.1:1/x" in text and "PGPASSWORD" in text


def test_values_are_the_same_from_both_databases(database: str) -> None:
    store = Store(database)
    store.open()
    at, table = store.timestamp(), schema.device_events
    insert = Statement(sa.insert(table), [column.name for column in table.c])
    with store.begin() as db:
        values = {column.name: "" for column in table.c if column.name != "state_change"}
        values |= {"id": "e", "account_id": store.account_id}
        values |= {"date_time": at, "created_at": at, "description": "ü 🙂", "changes": '{"a": [1]}', "data": "{}"}
        assert insert.run(db, **values, state_change=True) == 1
    expected = {"changes": {"a": [1]}, "state_change": True, "description": "ü 🙂"}
    for select in (sa.select(table), Statement(sa.select(table))):
        (row,) = store.rows(select)
        assert {name: row[name] for name in expected} == expected and row["state_change"] is True
    store.close()


def test_a_closed_store_says_so(database: str) -> None:
    store = Store(database)
    with pytest.raises(ServiceError, match="is closed"):
        store.rows(sa.select(schema.facts))
    store.close()


def test_what_waited_for_the_commit_is_committed(database: str) -> None:
    async def story() -> None:
        store = Store(database)
        store.open()
        note(store, "a")
        assert "a" not in committed(database)
        assert store.fact("a") == "x"  # seen here already
        await store.written()
        assert "a" in committed(database)
        store.close()

    asyncio.run(story())


def test_many_writers_share_a_commit(database: str) -> None:
    async def story() -> None:
        store = Store(database)
        store.open()
        before = store.commits

        async def writer(number: int) -> None:
            for turn in range(3):
                note(store, f"{number}-{turn}")
                await store.written()

        await asyncio.gather(*map(writer, range(100)))
        assert len(committed(database)) == 301
        assert store.commits - before < 20
        store.close()

    asyncio.run(story())


def test_a_writer_that_fails_takes_nobody_with_it(database: str) -> None:
    async def story() -> None:
        store = Store(database)
        store.open()
        note(store, "a")
        with pytest.raises(sa.exc.IntegrityError):
            note(store, "a")
        with pytest.raises(ZeroDivisionError), store.batch() as db:
            db.execute(sa.insert(schema.facts).values(name="half", value="x"))
            raise ZeroDivisionError
        note(store, "b")
        await store.written()
        assert {"a", "b"} <= committed(database).keys() and "half" not in committed(database)
        store.close()

    asyncio.run(story())


def test_a_transaction_commits_what_was_batched_before_and_undoes_itself_whole(database: str) -> None:
    async def story() -> None:
        store = Store(database)
        store.open()
        note(store, "batched")
        with pytest.raises(ZeroDivisionError), store.begin():
            store.remember("inner", "x")
            with store.batch() as db:
                db.execute(sa.insert(schema.facts).values(name="deeper", value="x"))
            raise ZeroDivisionError
        assert committed(database).keys() == {"default_account", "batched"}
        await store.written()
        store.close()

    asyncio.run(story())


def test_a_database_that_takes_no_writes_says_so_and_goes_on_when_it_does(file: Path) -> None:
    async def story() -> None:
        store = Store(f"sqlite:///{file}")
        store.open()
        store.connection.exec_driver_sql("PRAGMA query_only = ON")
        for write in (note, lambda store, name: store.remember(name, "x")):
            with pytest.raises(ServiceError, match="could not be written: attempt to write a readonly database"):
                write(store, "a")
        store.connection.exec_driver_sql("PRAGMA query_only = OFF")
        note(store, "b")
        await store.written()
        assert "b" in committed(f"sqlite:///{file}") and "a" not in committed(f"sqlite:///{file}")
        store.close()

    asyncio.run(story())


def test_all_who_wait_hear_that_the_disk_is_full(file: Path) -> None:
    async def story() -> None:
        store = Store(f"sqlite:///{file}")
        store.open()
        pages = store.scalar(sa.text("PRAGMA page_count"))
        note(store, "waits")
        waiting = asyncio.ensure_future(store.written())
        await asyncio.sleep(0)
        store.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(ServiceError, match="full"), store.batch() as db:
            for number in range(1000):
                db.execute(sa.insert(schema.facts).values(name=f"{number}", value="x" * 4000))
        kept = (await asyncio.gather(waiting, return_exceptions=True))[0] is None
        assert ("waits" in committed(f"sqlite:///{file}")) is kept
        store.connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        note(store, "after")
        await store.written()
        assert "after" in committed(f"sqlite:///{file}") and "1" not in committed(f"sqlite:///{file}")
        store.close()

    asyncio.run(story())


def test_a_commit_that_fails_is_told_to_all_who_wait_for_it(file: Path) -> None:
    async def story() -> None:
        store = Store(f"sqlite:///{file}")
        store.open()
        note(store, "a")

        def fails() -> None:
            raise sa.exc.OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))

        store._batch = SimpleNamespace(commit=fails, rollback=store._batch.rollback)
        told = await asyncio.gather(store.written(), store.written(), return_exceptions=True)
        assert [type(each) for each in told] == [ServiceError] * 2
        note(store, "b")
        await store.written()
        assert committed(f"sqlite:///{file}").keys() == {"default_account", "b"}
        store.close()

    asyncio.run(story())


def test_a_store_that_closes_commits_its_batch(database: str) -> None:
    async def story() -> None:
        store = Store(database)
        store.open()
        note(store, "last")
        store.close()
        store.close()

    asyncio.run(story())
    assert "last" in committed(database)


def test_ids_sort_in_the_order_in_which_they_were_made() -> None:
    clock = [1_780_000_000.0]
    ids = Ids(lambda: clock[0], seed=1)
    made = [ids.new() for _ in range(70_000)]
    clock[0] -= 5  # a clock that is set back
    made += [ids.new() for _ in range(10)]
    clock[0] += 100
    made.append(ids.new())
    assert made == sorted(made) and len(set(made)) == len(made)
    assert all(re.fullmatch("[0-9a-f]{32}", id) for id in made[:100])


def test_ids_repeat_with_a_seed_and_cannot_be_guessed_without() -> None:
    now = lambda: 1_780_000_000.0
    assert [Ids(now, 7).new() for _ in range(2)] == [Ids(now, 7).new() for _ in range(2)]
    assert Ids(now).new() != Ids(now).new()


def test_times_always_have_a_fraction() -> None:
    assert timestamp(1_780_000_000.0) == "2026-05-28T20:26:40.000000Z"
