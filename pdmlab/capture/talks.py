"""What a reader knows of a log while it goes over it: talks, exchanges, and one reading a message."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import TypeVar

from pdmlab.capture.kept import Kept, KeptEvent
from pdmlab.capture.parts import URI_QUERY, Parts, take_apart

_NOTHING = take_apart(b"")
_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Table(OrderedDict[_K, _V]):
    """A dictionary of the latest entries."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: _K, value: _V) -> None:
        super().__setitem__(key, value)
        if len(self) > self._most:
            self.popitem(last=False)


class Talk:
    """What one device and one endpoint say to each other over one address or connection."""

    __slots__ = ("device", "name", "tokens")

    def __init__(self) -> None:
        self.device = self.name = ""
        self.tokens: dict[bytes, str] = {}

    def copy(self) -> Talk:
        """Return one of which as much is known, and that may learn more."""
        talk = Talk()
        talk.device, talk.name, talk.tokens = self.device, self.name, self.tokens
        return talk

    def __repr__(self) -> str:
        return f"<Talk with {self.device or 'nobody known'} {self.name}>"


class Exchange:
    """A request with its blocks, and what was answered by its token."""

    __slots__ = ("code", "path", "query", "request", "sent", "size", "told")

    def __init__(self, parts: Parts, path: tuple[str, ...]) -> None:
        self.code, self.path = parts.code, path
        self.query = parts.texts(URI_QUERY)
        self.request: Reading | None = None
        self.sent, self.told = bytearray(), bytearray()  # bodies as far as they are together
        self.size: dict[int, int] = {}  # Size1 and Size2, if they were said

    def __repr__(self) -> str:
        return f"<Exchange about /{'/'.join(self.path)}>"


class Reading:
    """A kept message, and what its log knows of it; `again` are later transmissions of the same."""

    __slots__ = (
        *("about", "again", "answers", "body", "exchange", "first", "kept", "outcome", "parts", "path", "since"),
        "talk",
    )

    def __init__(self, kept: Kept | KeptEvent, talk: Talk) -> None:
        self.kept = kept
        self.parts = take_apart(kept.data, kept.size) if isinstance(kept, Kept) else _NOTHING
        self.talk = talk
        self.exchange: Exchange | None = None
        self.path = ""  # where there is no exchange
        self.first: tuple[Reading, int] | None = None  # the first transmission, and which this is
        self.again = 0
        self.answers: Reading | None = None
        self.since: int | None = None  # when what it replies to was first sent or came (ns)
        self.outcome = ""
        self.about: int | None = None  # blocks there are
        self.body: bytes | None = None  # whole, where this is its last block

    def __repr__(self) -> str:
        return f"<Reading {self.kept.number} of {self.talk!r}>"
