"""The store on PostgreSQL: what goes wrong there, and must not take anything with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from pdmlab.errors import ServiceError
from pdmlab.service import database, schema
from pdmlab.service.engine import read_url
from pdmlab.service.refusal import Refused
from pdmlab.service.store import Store
from tests.service.databases import PostgreSQL
from tests.service.restlab import RestLab
from tests.service.test_store import committed, note

facts = schema.facts


@pytest.fixture
def url(postgresql: PostgreSQL) -> Iterator[str]:
    url = postgresql.new()
    yield url
    postgresql.drop(url)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(database, "RETRY_S", 0.0)
    yield


def opened(url: str) -> Store:
    store = Store(url)
    store.open()
    return store


def end_connection(of: Store, url: str) -> None:
    """Have the server end a store's connection, as it does when it is stopped."""
    number = of.scalar(sa.text("SELECT pg_backend_pid()"))
    engine = sa.create_engine(read_url(url), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as other:
        # Waits until it has ended (ms).
        assert other.scalar(sa.text(f"SELECT pg_terminate_backend({number}, 5000)"))


def test_a_read_that_fails_takes_nothing_of_the_batch_with_it(url: str) -> None:
    async def story() -> None:
        store = opened(url)
        note(store, "before")
        with pytest.raises(ServiceError):
            store.rows(sa.text("SELECT 1 / 0"))
        with pytest.raises(ServiceError, match="could not be read"):
            store.rows(sa.text("SELECT * FROM nothing"))
        note(store, "after")
        await store.written()
        assert {"before", "after"} <= committed(url).keys()
        store.close()

    asyncio.run(story())


def test_a_failure_that_is_caught_inside_a_transaction_is_not_committed_in_silence(url: str) -> None:
    store = opened(url)
    with pytest.raises(ServiceError, match="a part of the transaction has failed"), store.begin() as db:
        store.remember("a", "x")
        with pytest.raises(sa.exc.IntegrityError), store.begin():
            db.execute(sa.insert(facts).values(name="a", value="x"))
    store.remember("b", "x")
    assert committed(url).keys() == {"default_account", "b"}
    store.close()


@pytest.mark.parametrize("value", ["x" * 161, "nul\0"])
def test_a_value_that_does_not_fit_is_refused_and_nothing_else(url: str, value: str) -> None:
    async def story() -> None:
        store = opened(url)
        note(store, "a")
        with pytest.raises(Refused) as refused:
            note(store, value)
        assert refused.value.status == 400
        if "\0" in value:
            with pytest.raises(Refused):
                store.fact(value)
        await store.written()
        assert "a" in committed(url)
        store.close()

    asyncio.run(story())


def test_a_connection_that_has_ended_is_told_to_all_and_made_again(url: str) -> None:
    async def story() -> None:
        store, made_again = opened(url), []
        store.on_reconnect.append(lambda: made_again.append(True))
        note(store, "lost")
        end_connection(store, url)
        with pytest.raises(ServiceError, match="the connection to the database has ended") as told:
            note(store, "lost too")
        assert told.value.status == 503
        assert not made_again
        note(store, "kept")
        await store.written()
        assert made_again == [True] and committed(url).keys() == {"default_account", "kept"}

        note(store, "at the commit")
        end_connection(store, url)
        with pytest.raises(ServiceError, match="has ended"):
            await store.written()
        end_connection(store, url)
        with pytest.raises(ServiceError, match="has ended"):
            store.fact("kept")
        assert store.fact("kept") == "x" and "at the commit" not in committed(url)
        end_connection(store, url)
        with pytest.raises(ServiceError, match="has ended"), store.begin():
            store.remember("a", "x")
        with store.begin():
            store.remember("b", "x")
        assert committed(url).keys() == {"default_account", "kept", "b"}
        store.close()

    asyncio.run(story())


def test_a_transaction_does_not_go_on_by_another_connection(url: str) -> None:
    store = opened(url)
    with pytest.raises(ServiceError, match="is away"), store.begin():
        store.remember("a", "x")
        end_connection(store, url)
        with pytest.raises(ServiceError, match="has ended"):
            store.fact("a")
        with pytest.raises(ServiceError, match="is away"):
            store.fact("a")
        store.remember("b", "x")
    assert committed(url).keys() == {"default_account"}
    store.close()


def test_a_database_that_is_away_is_not_asked_all_the_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "RETRY_S", 3600.0)
    of = opened(url)
    end_connection(of, url)
    attempts = []
    connect = of.engine.connect

    def away() -> sa.Connection:
        attempts.append(True)
        return refused()

    monkeypatch.setattr(of.engine, "connect", away)
    for _ in range(5):
        with pytest.raises(ServiceError):
            of.fact("a")
    assert len(attempts) == 1
    monkeypatch.setattr(database, "RETRY_S", 0.0)
    monkeypatch.setattr(of, "_retry_at", 0.0)
    monkeypatch.setattr(of.engine, "connect", connect)
    assert of.fact("a") is None
    of.close()


def test_of_two_that_are_in_each_others_way_one_goes_on_and_the_other_is_told(url: str) -> None:
    stores = {"one": opened(url), "other": opened(url)}
    for name in ("a", "b"):
        stores["one"].remember(name, "before")
    both_have_one = Barrier(2, timeout=60)

    def write(who: str, first: str, second: str) -> ServiceError | None:
        try:
            with stores[who].begin():
                stores[who].remember(first, who)
                both_have_one.wait()
                stores[who].remember(second, who)
        except ServiceError as error:
            return error
        return None

    with ThreadPoolExecutor(2) as threads:
        told = dict(zip(stores, threads.map(write, stores, "ab", "ba"), strict=True))
    ((loser, error),) = ((who, error) for who, error in told.items() if error is not None)
    assert error.status == 503 and "another process was at the same rows: deadlock" in str(error)
    (winner,) = stores.keys() - {loser}
    assert {name: stores[loser].fact(name) for name in "ab"} == {"a": winner, "b": winner}
    stores[loser].remember("a", loser)
    for each in stores.values():
        each.close()


def test_processes_that_start_at_once_make_one_service(postgresql: PostgreSQL) -> None:
    url = postgresql.new(empty=True)
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(opened, [url] * 4))
    assert len({each.account_id for each in stores}) == 1
    assert len(stores[0].rows(sa.select(schema.accounts))) == 1
    for each in stores:
        each.close()


def test_a_database_of_another_encoding_is_refused(postgresql: PostgreSQL) -> None:
    url = postgresql.new(empty=True, encoding="SQL_ASCII")
    with pytest.raises(ServiceError, match="its encoding is SQL_ASCII: createdb --encoding=UTF8"):
        opened(url)


@pytest.mark.parametrize("path", ["/v3/devices", "/v2/endpoints"])
def test_rest_says_503_while_the_database_is_away_and_goes_on_when_it_is_there(
    url: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = RestLab(url)
    store = lab.core.store
    device = lab.device()

    async def end() -> None:
        end_connection(store, url)

    lab.run(end())
    with monkeypatch.context() as away:
        away.setattr(store.engine, "connect", refused)
        for _ in range(2):
            answer = lab.call("GET", path)
            assert answer.status_code == 503 and "PostgreSQL" in f"{answer.text} {answer.headers}"
    assert device.id in str(lab.get(path))
    lab.close()


def refused() -> sa.Connection:
    raise sa.exc.OperationalError("", {}, Exception("connection refused"))


def test_a_database_that_is_missing_is_told_with_what_makes_it(url: str) -> None:
    there = read_url(url)
    name = f"{there.database}_missing"
    with pytest.raises(ServiceError, match=f"there is no database '{name}' at postgresql") as missing:
        Store(there.set(database=name)).open()
    assert missing.value.hint == f"createdb {name} makes it" and missing.value.status == 503
    with pytest.raises(ServiceError) as away:
        Store(there.set(host="127.0.0.1", port=1)).open()
    assert "is PostgreSQL running there" in str(away.value.hint)
