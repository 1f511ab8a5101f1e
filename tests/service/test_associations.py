"""DTLS associations in the service's database, as a DTLS server keeps them there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pdmlab.errors import ServiceError
from pdmlab.service.associations import Associations
from pdmlab.service.store import Store


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[], Store]:
    stores: list[Store] = []

    def open_() -> Store:
        for store in stores:
            store.close()
        stores.append(Store(f"sqlite:///{tmp_path / 'pdmlab.sqlite'}"))
        stores[-1].open()
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def test_each_server_finds_its_own_again(opened: Callable[[], Store]) -> None:
    store = opened()
    bootstrap, lwm2m = Associations(store, "bootstrap"), Associations(store, "lwm2m")
    lwm2m.save({"1": b"one", "2": b"two", "ffffffffffffffff": b"three"})
    bootstrap.save({"1": b"other"})
    lwm2m.save({"1": b"changed", "2": None, "3": None})
    store = opened()
    assert dict(Associations(store, "lwm2m").load()) == {"1": b"changed", "ffffffffffffffff": b"three"}
    assert dict(Associations(store, "bootstrap").load()) == {"1": b"other"}


def test_what_was_saved_is_committed_on_return_and_with_all_that_waits(
    opened: Callable[[], Store], tmp_path: Path
) -> None:
    store = opened()
    before = store.commits
    Associations(store, "lwm2m").save({f"{n:x}": bytes(300) for n in range(100)})
    assert store.commits == before + 1
    other = Store(store.url)
    other.open()
    assert len(list(Associations(other, "lwm2m").load())) == 100
    other.close()


def test_what_cannot_be_kept_is_said_and_what_was_kept_stays(opened: Callable[[], Store]) -> None:
    store = opened()
    kept = Associations(store, "lwm2m")
    kept.save({"1": b"one"})
    store.connection.exec_driver_sql("PRAGMA query_only = ON")
    with pytest.raises(ServiceError, match="could not be written") as error:
        kept.save({"1": b"secret", "2": b"secret"})
    assert "secret" not in str(error.value)
    store.connection.exec_driver_sql("PRAGMA query_only = OFF")
    assert dict(kept.load()) == {"1": b"one"}
    assert repr(kept) == "<Associations of the lwm2m server>"
