"""What a bootstrap server has told a board, kept in its NVStore, whatever lies there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pdmlab.client.plain.accounts import Account, Certificate, accounts_of, factory_objects
from pdmlab.client.plain.kept_accounts import KEY, KeptAccounts, made_for
from pdmlab.client.plain.objects import TableObject
from pdmlab.client.plain.standard import ServerObject
from pdmlab.client.plain.tree import SECURITY, ObjectTree
from pdmlab.storage.blockdevice import HeapBlockDevice
from pdmlab.storage.kv.nvstore import NVStore

OWN = Certificate(b"certificate" * 60, b"key" * 40, b"authority" * 50)
BOOTSTRAP = "coaps://bs.example.com:5684?aid=1"
MADE_FOR = made_for("meter", BOOTSTRAP, OWN)


def factory() -> tuple[ObjectTree, TableObject]:
    """Return the objects of a device as it leaves the factory."""
    security, servers = factory_objects(BOOTSTRAP, OWN, bootstrap=True, lifetime=300, version="1.1")
    table = TableObject(SECURITY, security, fixed=False)
    return ObjectTree([table, ServerObject(servers, version="1.1")]), table


def told() -> ObjectTree:
    """Return them after a bootstrap."""
    tree, table = factory()
    security, servers = factory_objects(
        "coaps://lwm2m.example.com:5684?aid=1", OWN, bootstrap=False, lifetime=600, version="1.1"
    )
    table.add(0, security[0])
    server = tree[1]
    assert isinstance(server, TableObject)
    server.add(0, servers[0])
    return tree


@pytest.fixture
def store() -> NVStore:
    device = HeapBlockDevice(8192, 1, 8, 4096)
    device.init()
    store = NVStore(device, [(0, 4096), (4096, 4096)])
    store.init()
    return store


def restored(store: NVStore, made: bytes = MADE_FOR) -> list[Account]:
    tree, table = factory()
    asyncio.run(KeptAccounts(store, made).restore(tree))
    return [each for each in accounts_of(table) if not each.bootstrap]


def test_a_restart_finds_the_account_with_its_keys_and_not_the_bootstrap_servers(store: NVStore) -> None:
    assert restored(store) == []
    kept = KeptAccounts(store, MADE_FOR)
    asyncio.run(kept.save(told()))
    (account,) = restored(store)
    assert account.uri.host == "lwm2m.example.com" and account.uri.queries == ("aid=1",)
    assert (account.identity, account.key, account.server_key) == (OWN.certificate, OWN.private_key, OWN.trust)
    assert b"bs.example.com" not in store.get(KEY) and "key" * 2 not in repr(kept)
    kept.forget()
    kept.forget()
    assert restored(store) == []


@pytest.mark.parametrize(
    "other",
    [
        made_for("meter-2", BOOTSTRAP, OWN),
        made_for("meter", "coaps://other.example.com:5684", OWN),
        made_for("meter", BOOTSTRAP, Certificate(b"another", OWN.private_key, OWN.trust)),
        made_for("meter", BOOTSTRAP, None),
    ],
)
def test_another_build_asks_anew(store: NVStore, other: bytes) -> None:
    asyncio.run(KeptAccounts(store, MADE_FOR).save(told()))
    assert restored(store, other) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:20],
        lambda data: data[:36] + bytes(len(data) - 36),
        lambda data: data[:36] + b"\xff" * (len(data) - 36),
        lambda data: data.replace(b"coaps", b"spoac"),
    ],
)
def test_what_is_damaged_counts_as_nothing(store: NVStore, damage: Callable[[bytes], bytes]) -> None:
    asyncio.run(KeptAccounts(store, MADE_FOR).save(told()))
    store.set(KEY, damage(store.get(KEY)))
    assert restored(store) == []
