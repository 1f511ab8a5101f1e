"""Mbed's `/kv/` paths: values of whatever stores are attached, by "/partition/key".

>>> from pdmlab.storage import HeapBlockDevice
>>> from pdmlab.storage.kv import TDBStore
>>> kv_attach("kv", TDBStore(HeapBlockDevice(1 << 16, 1, 1, 4096)))
>>> kv_set("/kv/ssid", b"lab")
>>> kv_get("/kv/ssid")
b'lab'
>>> kv_detach("kv")

A name without a partition is one of the first that was attached. As in Mbed's KVMap, a partition is known by the
head of its name: "/k/ssid" is found in "kv", too. Each board has partitions of its own; outside any board the
process has.
"""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field

from pdmlab.storage.kv.kvstore import Info, KeyIterator, KVStore, MbedError, refuse

MAX_ATTACHED = 3
MAX_NAME = 128
"""KV_MAX_KEY_LENGTH: of a whole name, partition and all (characters)."""
ALL_FLAGS = 0xFFFF_FFFF
_TYPE = "KVMap"


@dataclass
class _Partition:
    name: str
    store: KVStore
    flags_mask: int


@dataclass
class KVMap:
    """Which store is behind which partition; at most three."""

    partitions: list[_Partition] = field(default_factory=list)

    def attach(self, name: str, store: KVStore, flags_mask: int = ALL_FLAGS) -> None:
        """Initialise a store and make it the partition `name`; of flags only those of the mask reach it.

        A name may be attached twice, as in Mbed: the first store is found, the second once that is detached.

        Raises:
            StorageError: three are attached (OUT_OF_MEMORY).
        """
        if len(self.partitions) >= MAX_ATTACHED:
            what = f"{MAX_ATTACHED} partitions are attached"
            raise refuse(_TYPE, MbedError.OUT_OF_MEMORY, what, "kv_detach() one first")
        store.init()
        self.partitions.append(_Partition(name.strip("/"), store, flags_mask))

    def detach(self, name: str) -> None:
        """Deinitialise a partition's store and forget it; ITEM_NOT_FOUND if there is none of that name."""
        for partition in self.partitions:
            if partition.name == name.strip("/"):
                partition.store.deinit()
                self.partitions.remove(partition)
                return
        raise refuse(_TYPE, MbedError.ITEM_NOT_FOUND, f"no partition {name!r}", self._hint())

    def lookup(self, full_name: str) -> tuple[KVStore, str, int]:
        """Return the store of a name, the key in it, and the mask of its flags."""
        if not isinstance(full_name, str):
            raise refuse(_TYPE, MbedError.INVALID_ARGUMENT, f"{full_name!r} is no name", '"/partition/key"')
        if len(full_name) > MAX_NAME:
            what = f"a name of {len(full_name)} characters"
            raise refuse(_TYPE, MbedError.INVALID_ARGUMENT, what, f"at most {MAX_NAME}, partition and all")
        head, slash, key = full_name.removeprefix("/").partition("/")
        if not slash:
            head, key = "", head
        for partition in self.partitions:
            if partition.name.startswith(head):
                return partition.store, key, partition.flags_mask
        raise refuse(_TYPE, MbedError.ITEM_NOT_FOUND, f"no partition for {full_name!r}", self._hint())

    def _hint(self) -> str:
        names = ", ".join(f"/{partition.name}/" for partition in self.partitions) or "none"
        return f"attached: {names}; kv_attach() attaches"

    def __repr__(self) -> str:
        inner = ", ".join(f"/{partition.name}/: {partition.store!r}" for partition in self.partitions)
        return f"<KVMap {inner or 'without partitions'}>"


kv_map: contextvars.ContextVar[KVMap] = contextvars.ContextVar("kv_map")
"""The running board's partitions; set by whoever boots the board."""
_process_map = KVMap()


def kv_attach(name: str, store: KVStore, flags_mask: int = ALL_FLAGS) -> None:
    """Attach a store as partition `name` ("kv" in Mbed's own configurations): see KVMap.attach."""
    _map().attach(name, store, flags_mask)


def kv_detach(name: str) -> None:
    """Detach a partition: see KVMap.detach."""
    _map().detach(name)


def kv_set(full_name: str, value: bytes, flags: int = 0) -> None:
    """Store a value under "/partition/key"; flags are KVFlag's. Raises as the store's set() does."""
    store, key, mask = _map().lookup(full_name)
    if not isinstance(flags, int):
        raise refuse(_TYPE, MbedError.INVALID_ARGUMENT, f"flags {flags!r} for {full_name!r}", "see KVFlag")
    store.set(key, value, flags & mask)


def kv_get(full_name: str, size: int | None = None) -> bytes:
    """Return at most size bytes of a value, all if None. Raises as the store's get() does."""
    store, key, _ = _map().lookup(full_name)
    return store.get(key, size)


def kv_get_info(full_name: str) -> Info:
    """Return size (B) and flags of a value."""
    store, key, _ = _map().lookup(full_name)
    return store.get_info(key)


def kv_remove(full_name: str) -> None:
    """Forget a value."""
    store, key, _ = _map().lookup(full_name)
    store.remove(key)


def kv_reset(partition: str) -> None:
    """Forget every value of a partition, such as "/kv/".

    As in Mbed, a name without a slash at its end names no partition, but a key in the first: kv_reset("kv") and
    kv_reset("nix") both reset the partition that was attached first.
    """
    store, _, _ = _map().lookup(partition)
    store.reset()


def kv_iterator_open(full_prefix: str) -> KeyIterator:
    """Go through the names that begin with "/partition/prefix"."""
    store, prefix, _ = _map().lookup(full_prefix)
    return _Names(full_prefix.removesuffix(prefix), store.iterate(prefix))


def kv_iterator_next(it: KeyIterator) -> str:
    """Return the next name; ITEM_NOT_FOUND behind the last."""
    try:
        return next(it)
    except StopIteration:
        raise refuse(
            _TYPE, MbedError.ITEM_NOT_FOUND, "no more names", "a `for` over the iterator ends by itself"
        ) from None


def kv_iterator_close(it: KeyIterator) -> None:
    """Give an iterator back."""
    it.close()


class _Names(KeyIterator):
    def __init__(self, path: str, keys: KeyIterator) -> None:
        self._path, self._keys = path, keys

    def __next__(self) -> str:
        return self._path + next(self._keys)

    def close(self) -> None:
        """Give the iterator back; a second close does nothing."""
        self._keys.close()


def _map() -> KVMap:
    return kv_map.get(_process_map)
