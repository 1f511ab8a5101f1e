"""DTLS associations in the service's database: a device goes on with the next record, whatever became of the service.

They hold the keys of connections, and lie where the service's own keys lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from pdmlab.coap.dtls_association import Association
from pdmlab.service.schema import dtls_associations as table
from pdmlab.service.schema import shared_keys
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Store

_PSK = b"psk"
_SINCE = Statement(sa.select(shared_keys.c.updated_at).where(shared_keys.c.identity == sa.bindparam("identity")))
_THIS = sa.and_(table.c.role == sa.bindparam("in_role"), table.c.key == sa.bindparam("of_key"))
_CHANGE = Statement(sa.update(table).where(_THIS).values(data=sa.bindparam("new_data"), updated_at=sa.bindparam("at")))
_KEEP = Statement(sa.insert(table))
_FORGET = Statement(sa.delete(table).where(_THIS))


class Associations:
    """What one of the two servers keeps of its DTLS clients."""

    def __init__(self, store: Store, role: str) -> None:
        self._store = store
        self._role = role

    def __repr__(self) -> str:
        return f"<Associations of the {self._role} server>"

    def load(self) -> Iterable[tuple[str, bytes]]:
        """Return all that are kept, by their keys; those of pre-shared keys that were withdrawn since are forgotten."""
        rows = self._store.rows(sa.select(table).where(table.c.role == self._role))
        kept = {row["key"]: bytes(row["data"]) for row in rows}
        over = [row["key"] for row in rows if _PSK in kept[row["key"]] and self._withdrawn(kept[row["key"]], row)]
        if over:
            self.save(dict.fromkeys(over))
        return [(key, data) for key, data in kept.items() if key not in over]

    def _withdrawn(self, data: bytes, row: Row) -> bool:
        """Whether an association was made with a key that is another one by now, or none."""
        try:
            identity = Association.from_bytes(data).identity
        except ValueError:
            return False  # whoever loads it forgets it
        if identity is None or identity.kind != "psk":
            return False
        since: str | None = self._store.scalar(_SINCE, identity=identity.name)
        return since is None or since > row["updated_at"]

    def save(self, changed: Mapping[str, bytes | None]) -> None:
        """Keep these from now on, and no longer those that are None.

        Raises:
            ServiceError: the database cannot be written (503).
        """
        at = self._store.timestamp()
        # Committed on return: a number that has been used must not be used again, even after a kill.
        with self._store.begin() as db:
            for key, data in changed.items():
                if data is None:
                    _FORGET.run(db, in_role=self._role, of_key=key)
                elif not _CHANGE.run(db, in_role=self._role, of_key=key, new_data=data, at=at):
                    _KEEP.run(db, role=self._role, key=key, data=data, updated_at=at)
