"""How whole messages lie in a byte stream, or in the records of TLS: the stock client's ways, and RFC 8323.

Whatever the way, messages towards the endpoint are those of UDP (RFC 7252 section 3), with types and message IDs.
Nothing here does any input or output: a framing is given what arrived and returns messages, is given a message and
returns what to write.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import Literal

from pdmlab.errors import NetworkError

Way = Literal["length", "record", "rfc8323"]

STOCK_LIMIT = 1152
"""The stock client reads so much at once, and what is longer is cut in two (B; docs/wire.md 1.2)."""

STOCK_BLOCK = 512
"""What the stock client takes and sends in one block (B; docs/wire.md 1.9)."""

MAX_MESSAGE = 16 << 10
"""The longest message that is taken (B): what fits into a TLS record."""

_LENGTH = 4  # B in front of each message on plain TCP


class BadFrame(NetworkError):
    """What arrived is no message, and where the next one begins nobody knows; `farewell` (B) may still be sent."""

    def __init__(self, message: str, *, farewell: bytes = b"", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.farewell = farewell


class TooLong(NetworkError):
    """A message is longer than its peer takes."""


class Framing(ABC):
    """One connection's way. `back` is what has to be written, `owed` what the endpoint has to be told meanwhile.

    Whoever drives it takes both after each call, by `take_back` and `take_owed`.
    """

    way: Way
    limit: int
    """The longest message that the peer takes (B)."""
    signals = False
    """Whether there are messages of the framing's own, so that `back` and `owed` are worth a look."""
    leaving: str | None = None
    """Why the peer wants the connection to end, once it does; it still waits for answers unless `answered`."""
    answered = True
    more = False
    """Whether `receive` left messages for the next call, which may bring nothing new."""

    __slots__ = ()

    @abstractmethod
    def receive(self, data: bytes, most: int = sys.maxsize) -> list[bytes]:
        """Take what arrived, a record or a piece of the stream, and return the messages that are whole now.

        At most `most` of them, those that are the framing's own included; see `more`.

        Raises:
            BadFrame: it cannot be a message.
        """

    @abstractmethod
    def send(self, message: bytes) -> bytes:
        """Return what to write for a message; b"" if it has no place on this connection.

        Raises:
            TooLong: it is longer than the peer takes.
        """

    @property
    def unfinished(self) -> bool:
        """Whether the beginning of a message has arrived, and not its end."""
        return False

    @property
    def block_size(self) -> int:
        """The largest block (B) that leaves room for options in a message."""
        return STOCK_BLOCK

    def hello(self) -> bytes:
        """Return what to write before all else."""
        return b""

    def farewell(self) -> bytes:
        """Return what to write before the connection is closed."""
        return b""

    def take_back(self) -> bytes:
        """Return what has to be written by itself."""
        return b""

    def take_owed(self) -> list[bytes]:
        """Return the messages that the endpoint must get, as if from the peer, but not before it has sent its own."""
        return []

    def _check(self, size: int) -> None:
        if size > self.limit:
            raise TooLong(
                f"a message of {size} B is longer than the {self.limit} B that the peer takes",
                hint="large payloads go in blocks; long options leave less room for them",
            )


class Records(Framing):
    """One message, one TLS record: the stock client's, which tells messages apart by nothing else."""

    way = "record"
    limit = STOCK_LIMIT
    __slots__ = ()

    def receive(self, data: bytes, most: int = sys.maxsize) -> list[bytes]:
        """See Framing.receive; what is wrong with a message, the endpoint tells the peer."""
        return [data]

    def send(self, message: bytes) -> bytes:
        """See Framing.send."""
        if len(message) > STOCK_LIMIT:
            self._check(len(message))
        return message


class Lengths(Framing):
    """Each message behind its length in 4 bytes, big-endian: the stock client's on plain TCP."""

    way = "length"
    limit = STOCK_LIMIT
    __slots__ = ("_rest", "more")

    def __init__(self) -> None:
        self._rest = b""
        self.more = False

    def receive(self, data: bytes, most: int = sys.maxsize) -> list[bytes]:
        """See Framing.receive."""
        if self._rest:
            data = self._rest + data
        messages: list[bytes] = []
        at, size = 0, len(data)
        self.more = False
        while size - at >= _LENGTH:
            length = int.from_bytes(data[at : at + _LENGTH], "big")
            if not 4 <= length <= MAX_MESSAGE:
                raise BadFrame(f"a length of {length} B, and no message has that (4 to {MAX_MESSAGE} B)")
            end = at + _LENGTH + length
            if end > size:
                break
            if len(messages) == most:
                self.more = True
                break
            messages.append(data[at + _LENGTH : end])
            at = end
        self._rest = data[at:]
        return messages

    def send(self, message: bytes) -> bytes:
        """See Framing.send."""
        self._check(len(message))
        return len(message).to_bytes(_LENGTH, "big") + message

    @property
    def unfinished(self) -> bool:
        """See Framing.unfinished."""
        return bool(self._rest)
