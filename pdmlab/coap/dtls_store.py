"""What outlives a DTLS server: associations in a store, so that a restarted one knows its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from pdmlab.coap.dtls_association import RESERVE, RESERVE_MARGIN, Association
from pdmlab.coap.transport import text_of
from pdmlab.errors import NetworkError, PdmlabError

_SAVE_DELAY = 1.0  # s after which a store knows what has come


class Store(Protocol):
    """Keeps associations by their keys, as secret bytes; where files are involved, for the owner's eyes only."""

    def load(self) -> Iterable[tuple[str, bytes]]:
        """Return all that are kept."""
        ...

    def save(self, changed: Mapping[str, bytes | None]) -> None:
        """Keep these from now on, and no longer those that are None; returns when that is so.

        Raises:
            PdmlabError: they cannot be kept.
        """
        ...


class MemoryStore:
    """A store for as long as the process runs."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<MemoryStore of {len(self.kept)} associations>"

    def load(self) -> Iterable[tuple[str, bytes]]:
        """See Store.load."""
        return list(self.kept.items())

    def save(self, changed: Mapping[str, bytes | None]) -> None:
        """See Store.save."""
        for key, data in changed.items():
            if data is None:
                self.kept.pop(key, None)
            else:
                self.kept[key] = data


class Keeper:
    """Has a store know what it must, no more often than that: numbers before they are used, what came soon after."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._heard: set[Association] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Keeper in {self._store!r}, {len(self._heard)} to save>"

    def load(self) -> Iterator[Association]:
        """Return what is kept; what another version wrote is forgotten, and its device shakes hands again."""
        for key, data in self._store.load():
            try:
                yield Association.from_bytes(data)
            except ValueError:
                self._store.save({key: None})

    def reserve(self, association: Association) -> None:
        """Have the store know of the next numbers before they are used.

        Raises:
            NetworkError: it cannot keep them; after a restart they would be used twice.
        """
        if association.protection.sent + RESERVE_MARGIN <= association.reserved:
            return
        before, association.reserved = association.reserved, association.protection.sent + RESERVE
        try:
            self._store.save({association.key: association.to_bytes()})
        except PdmlabError as error:
            association.reserved = before
            raise NetworkError(f"the connection to {text_of(association.name)} cannot be kept: {error}") from error

    def heard(self, association: Association) -> None:
        """Have the store know soon what has come, and from where, so that it does not come again after a restart."""
        self._heard.add(association)
        if self._timer is None:
            self._timer = self._loop.call_later(_SAVE_DELAY, self.save)

    def save(self) -> None:
        """Have the store know now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._heard:
            return
        try:
            self._store.save({association.key: association.to_bytes() for association in self._heard})
            self._heard.clear()
        except PdmlabError:
            pass  # the store has said so; the next record has it tried again

    def forget(self, association: Association) -> None:
        """Have the store forget an association."""
        self._heard.discard(association)
        try:
            self._store.save({association.key: None})
        except PdmlabError:
            pass  # it comes back at the next start, where nobody speaks to it
