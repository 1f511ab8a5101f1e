"""What a bootstrap server has told a board, kept over restarts: objects 0 and 1 in TLV, in NVStore.

Without it a board would ask anew at each start, and be another device each time where one certificate is in many
boards. What is kept is of one server, name and certificate: a build with others asks anew.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from pdmlab.client.plain.accounts import Certificate, PreSharedKey, accounts_of
from pdmlab.client.plain.objects import Refusal, TableObject
from pdmlab.client.plain.tree import SECURITY, SERVER, ObjectTree
from pdmlab.client.plain.writing import read_payload
from pdmlab.errors import PdmlabError, StorageError
from pdmlab.lwm2m.content import TLV
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.payload import encode_all
from pdmlab.storage.kv.nvstore import NVStore, forget, keep

KEY = 13
"""NVStore's key of it; free in sotp.h and in nvstore.h, as object 5's 12."""

_HEAD = struct.Struct("<32sHH")  # who it was made for, and how long /0 and /1 are (B)


class KeptAccounts:
    """One board's accounts; made_for: what they are of, as `made_for` says it."""

    def __init__(self, nvstore: NVStore, made_for: bytes) -> None:
        self._nvstore = nvstore
        self._made_for = made_for
        self.blocking: Callable[..., Awaitable[Any]] = _at_once

    def __repr__(self) -> str:
        return f"<KeptAccounts in NVStore, key {KEY}>"

    async def restore(self, tree: ObjectTree) -> None:
        """Put what was kept into a device's objects; what is damaged, or of another build, counts as nothing."""
        tables = [tree[SECURITY], tree[SERVER]]
        before = [each.snapshot() for each in tables if isinstance(each, TableObject)]
        try:
            kept = await self.blocking(self._nvstore.get, KEY)
            made_for, *sizes = _HEAD.unpack_from(kept)
            if made_for != self._made_for or _HEAD.size + sum(sizes) != len(kept):
                return
            at = _HEAD.size
            for table, size in zip(tables, sizes, strict=True):
                _write(tree, table.id, kept[at : at + size])
                at += size
            security = tree[SECURITY]
            assert isinstance(security, TableObject)
            accounts_of(security)
        except (PdmlabError, Refusal, struct.error):
            for table, values in zip(tables, before, strict=True):
                assert isinstance(table, TableObject)
                table.restore(values)

    async def save(self, tree: ObjectTree) -> None:
        """Keep the accounts of LwM2M servers, not the bootstrap server's, which is compiled in.

        Raises:
            StorageError: they cannot be kept.
        """
        security = tree[SECURITY]
        assert isinstance(security, TableObject)
        told = {each.instance for each in accounts_of(security) if not each.bootstrap}
        parts = [
            encode_all(
                {
                    path: value
                    for path, value in tree.values(Path.of(id), secret=True).items()
                    if id != SECURITY or path.instance in told
                },
                tree.type_of,
                TLV,
                Path.of(id),
            )
            for id in (SECURITY, SERVER)
        ]
        if max(map(len, parts)) > 0xFFFF:
            raise StorageError(f"accounts of {sum(map(len, parts))} B are not kept")
        head = _HEAD.pack(self._made_for, *map(len, parts))
        await self.blocking(keep, self._nvstore, KEY, b"".join([head, *parts]))

    def forget(self) -> None:
        """Forget all of it: the device asks its bootstrap server again; may block, as a board's flash does."""
        forget(self._nvstore, KEY)


def made_for(endpoint_name: str, server: str, credentials: PreSharedKey | Certificate | None) -> bytes:
    """Return the SHA-256 of what a device has compiled in: its name, its bootstrap server, and what it proves."""
    proof = credentials.resources if credentials is not None else {}
    return hashlib.sha256(repr((endpoint_name, server, sorted(proof.items()))).encode()).digest()


def _write(tree: ObjectTree, id: int, payload: bytes) -> None:
    table = tree[id]
    assert isinstance(table, TableObject)
    instances: dict[int, dict[int, Any]] = {}  # Any: what TableObject takes
    for path, value in read_payload(tree, Path.of(id), payload, TLV).items():
        _, instance, resource = path.ids
        instances.setdefault(instance, {})[resource] = value
    for instance, resources in instances.items():
        table.add(instance, resources)


async def _at_once(work: Callable[..., Any], *given: object) -> Any:  # Any: what the work returns
    return work(*given)
