"""What a log keeps of a message or event when it passes: little enough that the endpoint does not feel it.

Nothing is decoded here: the bytes are there anyway, and what they mean is found out when somebody looks (reading.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pdmlab.capture.dialect import Who

Direction: TypeAlias = Literal["in", "out"]

MOST = 1536
"""Bytes of a message that are kept: a block of 1024 B with the longest header of the stock client is whole."""
MOST_UNREADABLE = 16
"""Bytes that are kept of what could not be read, up to what may begin a payload: that may be a secret."""


class Secret(NamedTuple):
    """What a log keeps in place of a payload that it must not: words, and who they are about."""

    words: str
    who: Who | None = None


class Kept(NamedTuple):
    """A message: its bytes as they stand in UDP, of which the first MOST are kept; `size` is how many there were.

    `time_ns` is of the endpoint's clock; `here` says where the endpoint is reached by which scheme; `secret` stands for
    the payload, which is then not in `data`. `fault` says why the endpoint could not read it.
    """

    number: int
    time_ns: int
    clock: str
    endpoint: str
    here: Mapping[str, tuple[str, int]]
    direction: Direction
    peer: tuple[str, int]
    data: bytes
    size: int
    secret: Secret | None = None
    fault: str = ""


What: TypeAlias = Literal[
    "handshake started", "handshake completed", "handshake failed", "connected", "closed", "gave up", "step"
]
"""What can happen; a step is one of a client's way to its server, with how long it took."""


class Event(NamedTuple):
    """Something that happened to a connection or an exchange, and is no message of its own.

    what    in two or three words: "handshake failed"
    words   what there is to say about it; of a failed handshake, why
    reason  of a failed handshake: HandshakeFailed.reason
    hint    what to do about it, if whoever tells of it knows
    mid     of a message that was given up: its message ID; `words` is then why, beside that nobody acknowledged it
    """

    what: What
    words: str = ""
    reason: str = ""
    hint: str = ""
    resumed: bool = False
    who: Who | None = None
    mid: int = -1


class KeptEvent(NamedTuple):
    """An event with its time, its endpoint and its peer, as of a message."""

    number: int
    time_ns: int
    clock: str
    endpoint: str
    here: Mapping[str, tuple[str, int]]
    peer: tuple[str, int]
    event: Event


def scheme_of(peer: tuple[str, int]) -> str:
    """Return by what a peer is reached: coap (UDP) unless the address is a connection's."""
    scheme: str = getattr(peer, "scheme", "coap")
    return scheme
