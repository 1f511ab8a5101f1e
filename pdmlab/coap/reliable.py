"""CoAP over reliable transports as RFC 8323 has it, in the words of datagrams."""

from __future__ import annotations

import sys

from pdmlab.coap.framing import MAX_MESSAGE, BadFrame, Framing

_CON, _NON, _ACK = 0, 1, 2


class Reliable(Framing):
    """CoAP over TCP and TLS as RFC 8323 has it: no types, no message IDs, and signalling.

    A request from the peer reaches the endpoint as a confirmable one, anything else as a non-confirmable message. What
    the endpoint sends to be confirmed is acknowledged here: the stream delivers it, or the connection ends.
    """

    way = "rfc8323"
    signals = True
    __slots__ = ("_back", "_mid", "_owed", "_rest", "_unanswered", "leaving", "limit", "more")

    def __init__(self) -> None:
        self.limit = 1152  # section 5.3.1: until the peer's CSM says otherwise
        self._rest = b""
        self.more = False
        self._back = b""
        self._owed: list[bytes] = []
        self._mid = 0
        self.leaving: str | None = None
        self._unanswered: dict[bytes, None] = {}  # tokens of requests, oldest first

    def hello(self) -> bytes:
        """Return the CSM: with 1152 B and blocks, the peer sends none of 1024 B that are bundled (section 6)."""
        return _frame(_CSM, b"", bytes.fromhex("22 0480 20"))

    def farewell(self) -> bytes:
        """Return a Release."""
        return _frame(_RELEASE, b"", b"")

    @property
    def unfinished(self) -> bool:
        """See Framing.unfinished."""
        return bool(self._rest)

    @property
    def answered(self) -> bool:  # type: ignore[override]  # always so, elsewhere
        """Whether the peer waits for no answer."""
        return not self._unanswered

    @property
    def block_size(self) -> int:
        """See Framing.block_size."""
        return max(1 << (max(self.limit - _OPTIONS_ROOM, 0) or 1).bit_length() - 1, 16) if self.limit < 1152 else 1024

    def take_back(self) -> bytes:
        """See Framing.take_back."""
        back, self._back = self._back, b""
        return back

    def take_owed(self) -> list[bytes]:
        """See Framing.take_owed."""
        owed, self._owed = self._owed, []
        return owed

    def send(self, message: bytes) -> bytes:
        """See Framing.send; acknowledgements and resets without content have no place."""
        code = message[1]
        if code == 0:
            return b""
        kind, token_end = message[0] >> 4 & 3, 4 + (message[0] & 15)
        token = message[4:token_end]
        frame = _frame(code, token, message[token_end:])
        self._check(len(frame))
        if code >> 5:
            self._unanswered.pop(token, None)
        if kind == _CON:
            self._owed.append(bytes((0x40 | _ACK << 4, 0, message[2], message[3])))
        return frame

    def receive(self, data: bytes, most: int = sys.maxsize) -> list[bytes]:
        """See Framing.receive."""
        if self._rest:
            data = self._rest + data
        messages, at = [], 0
        self.more = False
        while (head := _head(data, at)) is not None:
            token_at, body_at, end = head
            if end - at > MAX_MESSAGE:
                raise _abort(f"a message of {end - at} B; {MAX_MESSAGE} B at most")
            if end > len(data):
                break
            if not most:
                self.more = True
                break
            most -= 1
            code, token, rest = data[token_at - 1], data[token_at:body_at], data[body_at:end]
            at = end
            if code >> 5 == 7:
                self._signalled(code, token, rest)
            elif code:  # section 3.4: empty messages say nothing
                messages.append(self._as_datagram(code, token, rest))
        self._rest = data[at:]
        return messages

    def _as_datagram(self, code: int, token: bytes, rest: bytes) -> bytes:
        self._mid = self._mid + 1 & 0xFFFF
        kind = _NON if code >> 5 else _CON
        if kind == _CON:
            self._unanswered[token] = None
            if len(self._unanswered) > _MOST_UNANSWERED:
                del self._unanswered[next(iter(self._unanswered))]
        return bytes((0x40 | kind << 4 | len(token), code, self._mid >> 8, self._mid & 0xFF)) + token + rest

    def _signalled(self, code: int, token: bytes, rest: bytes) -> None:
        options, payload = _options(rest)
        known = {_CSM: (2, 4), _PING: (2,), _PONG: (2,), _RELEASE: (2, 4), _ABORT: (2,)}.get(code)
        if known is None:
            return  # section 5.2: codes that are not known are ignored
        for number, value in options:
            if code == _CSM and number == 2:
                self.limit = int.from_bytes(value[:4], "big")
            elif number & 1 and number not in known:
                raise _abort(
                    f"option {number} of a {code >> 5}.{code & 31:02} is not known", number if code == _CSM else None
                )
        if code == _PING:
            self._back += _frame(_PONG, token, b"")
        elif code == _RELEASE:
            self.leaving = f"the peer released the connection{_in_words(payload)}"
        elif code == _ABORT:
            raise BadFrame(f"the peer aborted the connection{_in_words(payload)}")


_CSM, _PING, _PONG, _RELEASE, _ABORT = 0xE1, 0xE2, 0xE3, 0xE4, 0xE5
_OPTIONS_ROOM = 128  # B beside the payload
_MOST_UNANSWERED = 256  # a peer may send requests that need no answer, for ever
# The length of options and payload, by its first 4 bits: how many bytes more tell it, and what they start from.
_EXTENDED = {13: (1, 13), 14: (2, 269), 15: (4, 65805)}


def _head(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return where token, options and the end of a frame are; None if that has not arrived yet.

    Raises:
        BadFrame: a token of more than 8 B.
    """
    if at >= len(data):
        return None
    length, token_length = data[at] >> 4, data[at] & 15
    if token_length > 8:
        raise _abort(f"a token of {token_length} B")
    more, base = _EXTENDED.get(length, (0, length))
    token_at = at + 2 + more
    if token_at > len(data):
        return None
    if more:
        length = base + int.from_bytes(data[at + 1 : at + 1 + more], "big")
    body_at = token_at + token_length
    return token_at, body_at, body_at + length


def _frame(code: int, token: bytes, rest: bytes) -> bytes:
    length = len(rest)
    if length < 13:
        return bytes((length << 4 | len(token), code)) + token + rest
    if length < 269:
        return bytes((0xD0 | len(token), length - 13, code)) + token + rest
    return bytes((0xE0 | len(token),)) + (length - 269).to_bytes(2, "big") + bytes((code,)) + token + rest


def _options(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Read the options and the payload of a signalling message.

    Raises:
        BadFrame: they are not as RFC 7252 section 3.1 has them.
    """
    options: list[tuple[int, bytes]] = []
    at = number = 0
    while at < len(data) and data[at] != 0xFF:
        head = data[at]
        delta, at = _nibble(data, head >> 4, at + 1)
        length, at = _nibble(data, head & 15, at)
        number += delta
        if at + length > len(data) or number > 0xFFFF:
            raise _abort(f"option {number} does not end")
        options.append((number, data[at : at + length]))
        at += length
    return options, data[at + 1 :]


def _nibble(data: bytes, value: int, at: int) -> tuple[int, int]:
    if value == 15:
        raise _abort("an option with a reserved length")
    if value < 13:
        return value, at
    more, base = _EXTENDED[value]
    return base + int.from_bytes(data[at : at + more], "big"), at + more


def _abort(what: str, option: int | None = None) -> BadFrame:
    """Return the error, with the Abort that tells the peer of it."""
    bad = b"" if option is None else b"\x22" + option.to_bytes(2, "big")
    return BadFrame(what, farewell=_frame(_ABORT, b"", bad + b"\xff" + what.encode()))


def _in_words(payload: bytes) -> str:
    text = payload[:200].decode(errors="backslashreplace")
    return f": {text}" if text.isprintable() and text else ""
