"""The database: one truth, transactions that are all or nothing, batches that lose nothing acknowledged."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from pdmlab.errors import ServiceError
from pdmlab.service import schema
from pdmlab.service.ids import Ids, timestamp
from pdmlab.service.migrating import MIGRATIONS
from pdmlab.service.store import Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pdmlab.sqlite"


def committed(file: Path) -> dict[str, str]:
    """Return the facts that another connection sees."""
    other = sqlite3.connect(file)
    try:
        return dict(other.execute("SELECT name, value FROM facts"))
    finally:
        other.close()


def note(store: Store, name: str) -> None:
    with store.batch() as db:
        db.execute(sa.insert(schema.facts).values(name=name, value="x"))


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def test_migrations_lead_to_the_tables_of_the_schema(file: Path) -> None:
    config = alembic_config()
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD
    engine = sa.create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
    engine.dispose()


def test_a_new_database_is_what_the_migrations_would_have_made(tmp_path: Path) -> None:
    def tables(path: Path) -> set[tuple[str, str]]:
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        connection.close()
        return {(name, re.sub(r"[\s\"]+", " ", sql)) for name, sql in rows if name != "alembic_version"}

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'migrated.sqlite'}")
    config = alembic_config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    engine.dispose()
    store = Store(f"sqlite:///{tmp_path / 'new.sqlite'}")
    store.open()
    store.close()
    # Foreign keys and checks may be told in another order; the names and columns are the same.
    shape = lambda found: {(name, tuple(sorted(re.split(r" ?[(,)] ?", sql)))) for name, sql in found}
    assert shape(tables(tmp_path / "new.sqlite")) == shape(tables(tmp_path / "migrated.sqlite"))


def test_the_default_account_is_made_once(file: Path) -> None:
    ids = []
    for _ in range(2):
        store = Store(f"sqlite:///{file}")
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


def test_a_closed_store_says_so(file: Path) -> None:
    store = Store(f"sqlite:///{file}")
    with pytest.raises(ServiceError, match="is closed"):
        store.rows(sa.select(schema.facts))
    store.close()


def test_what_waited_for_the_commit_is_committed(file: Path) -> None:
    async def story() -> None:
        store = Store(f"sqlite:///{file}")
        store.open()
        note(store, "a")
        assert "a" not in committed(file)
        assert store.fact("a") == "x"  # seen here already
        await store.written()
        assert "a" in committed(file)
        store.close()

    asyncio.run(story())


def test_many_writers_share_a_commit(file: Path) -> None:
    async def story() -> None:
        store = Store(f"sqlite:///{file}")
        store.open()
        before = store.commits

        async def writer(number: int) -> None:
            for turn in range(3):
                note(store, f"{number}-{turn}")
                await store.written()

        await asyncio.gather(*map(writer, range(100)))
        assert len(committed(file)) == 301
        assert store.commits - before < 20
        store.close()

    asyncio.run(story())


def test_a_writer_that_fails_takes_nobody_with_it(file: Path) -> None:
    async def story() -> None:
        store = Store(f"sqlite:///{file}")
        store.open()
        note(store, "a")
        with pytest.raises(sa.exc.IntegrityError):
            note(store, "a")
        with pytest.raises(ZeroDivisionError), store.batch() as db:
            db.execute(sa.insert(schema.facts).values(name="half", value="x"))
            raise ZeroDivisionError
        note(store, "b")
        await store.written()
        assert {"a", "b"} <= committed(file).keys() and "half" not in committed(file)
        store.close()

    asyncio.run(story())


def test_a_transaction_commits_what_was_batched_before_and_undoes_itself_whole(file: Path) -> None:
    async def story() -> None:
        store = Store(f"sqlite:///{file}")
        store.open()
        note(store, "batched")
        with pytest.raises(ZeroDivisionError), store.begin():
            store.remember("inner", "x")
            with store.batch() as db:
                db.execute(sa.insert(schema.facts).values(name="deeper", value="x"))
            raise ZeroDivisionError
        assert committed(file).keys() == {"default_account", "batched"}
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
        assert "b" in committed(file) and "a" not in committed(file)
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
        assert ("waits" in committed(file)) is kept
        store.connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        note(store, "after")
        await store.written()
        assert "after" in committed(file) and "1" not in committed(file)
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
        assert committed(file).keys() == {"default_account", "b"}
        store.close()

    asyncio.run(story())


def test_a_store_that_closes_commits_its_batch(file: Path) -> None:
    async def story() -> None:
        store = Store(f"sqlite:///{file}")
        store.open()
        note(store, "last")
        store.close()
        store.close()

    asyncio.run(story())
    assert "last" in committed(file)


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
