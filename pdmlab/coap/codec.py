"""Bytes to aiocoap messages and back, for input that may be hostile.

aiocoap decodes any length of any option, remembers every number it ever saw, and lets UnicodeDecodeError
through; the reader here builds the same Message and Options objects, but within RFC 7252's limits. The writer
takes the header's fields apart from the message, so that a handler's response needs no copy to be sent; its
bytes are those of aiocoap's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiocoap import Message
from aiocoap.message import Direction
from aiocoap.numbers.codes import Code
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import Type
from aiocoap.options import Options
from aiocoap.optiontypes import (
    BlockOption,
    ContentFormatOption,
    OpaqueOption,
    OptionType,
    StringOption,
    UintOption,
)

from pdmlab.coap.transport import Address, scheme_of

# number -> shortest and longest value (B), and whether it may repeat: RFC 7252 table 4, 7641, 7959, 7967, 8768, 9175.
# Not If-Match, If-None-Match and Proxy-Scheme: they are critical and nobody here heeds them, so 4.02 is the answer.
_LENGTHS: dict[int, tuple[int, int, bool]] = {
    OptionNumber.URI_HOST: (1, 255, False),
    OptionNumber.ETAG: (1, 8, True),
    OptionNumber.OBSERVE: (0, 3, False),
    OptionNumber.URI_PORT: (0, 2, False),
    OptionNumber.LOCATION_PATH: (0, 255, True),
    OptionNumber.URI_PATH: (0, 255, True),
    OptionNumber.CONTENT_FORMAT: (0, 2, False),
    OptionNumber.MAX_AGE: (0, 4, False),
    OptionNumber.URI_QUERY: (0, 255, True),
    OptionNumber.HOP_LIMIT: (1, 1, False),
    OptionNumber.ACCEPT: (0, 2, False),
    OptionNumber.LOCATION_QUERY: (0, 255, True),
    OptionNumber.BLOCK2: (0, 3, False),
    OptionNumber.BLOCK1: (0, 3, False),
    OptionNumber.SIZE2: (0, 4, False),
    OptionNumber.PROXY_URI: (1, 1034, False),
    OptionNumber.SIZE1: (0, 4, False),
    OptionNumber.ECHO: (1, 40, False),
    OptionNumber.NO_RESPONSE: (0, 1, False),
    OptionNumber.REQUEST_TAG: (0, 8, True),
}


def _block(number: OptionNumber, value: tuple[int, bool, int]) -> BlockOption:
    option = BlockOption(number)
    option._value = BlockOption.BlockwiseTuple(*value)
    return option


def _read_block(number: OptionNumber, raw: bytes) -> BlockOption:
    value = int.from_bytes(raw, "big")
    return _block(number, (value >> 4, bool(value & 8), value & 7))


# What the options' own decode() and aiocoap's setters do, at half their cost.
_READERS: dict[type[OptionType], Callable[[OptionNumber, bytes], OptionType]] = {
    StringOption: lambda number, raw: StringOption(number, raw.decode("utf-8")),
    OpaqueOption: OpaqueOption,
    UintOption: lambda number, raw: UintOption(number, int.from_bytes(raw, "big")),
    ContentFormatOption: lambda number, raw: ContentFormatOption(number, int.from_bytes(raw, "big")),
    BlockOption: _read_block,
}
_OPTIONS = {
    int(number): (OptionNumber(number), _READERS[OptionNumber(number).format], *limits)
    for number, limits in _LENGTHS.items()
}
_DERIVED: dict[str, tuple[OptionNumber, Callable[[OptionNumber, Any], OptionType]]] = {
    "etag": (OptionNumber.ETAG, OpaqueOption),
    "observe": (OptionNumber.OBSERVE, UintOption),
    "max_age": (OptionNumber.MAX_AGE, UintOption),
    "block1": (OptionNumber.BLOCK1, _block),
    "size1": (OptionNumber.SIZE1, UintOption),
    "block2": (OptionNumber.BLOCK2, _block),
    "size2": (OptionNumber.SIZE2, UintOption),
}


MAX_OPTIONS = 128
"""More in one message are nobody's: an empty option is one byte, and costs a thousand times what a byte costs."""


class Malformed(ValueError):
    """A datagram is no CoAP message; `mid` is its message ID if it is a confirmable one to be reset."""

    def __init__(self, what: str, mid: int | None = None) -> None:
        super().__init__(what)
        self.mid = mid


_CODES = [Code(number) for number in range(256)]
_TYPES = [Type(number) for number in range(4)]
_BYTES = [bytes((number,)) for number in range(256)]


class _Blank(Message):  # type: ignore[misc]  # aiocoap has no types
    """A message whose fields are its class's until they are set; most never are."""


for _name, _value in vars(Message()).items():
    if _name not in ("code", "opt"):
        setattr(_Blank, _name, _value)
_Blank.written = None  # its options as bytes, where they are known beforehand


def blank(code: Code) -> Message:
    """Make an outgoing message, at a fifth of what Message() costs."""
    message = _Blank.__new__(_Blank)
    message.code, message.opt = code, Options()
    return message


def decode(data: bytes, peer: Address, known: frozenset[int] | None = None) -> tuple[Message, int | None]:
    """Read a message; the second item is a critical option that it has and we do not know, or None.

    Bytes behind the header of an empty message are tolerated: the stock client's empty ACK has five
    (it appends a zero-length Content-Format).

    known: options beside which none, elective or not, may stand in the message; None allows any.

    Raises:
        Malformed: RFC 7252 section 3, or `known`, does not allow it.
    """
    if len(data) < 4 or data[0] >> 6 != 1:
        raise Malformed("not a CoAP version 1 message")
    kind, token_length, code, mid = data[0] >> 4 & 3, data[0] & 15, data[1], data[2] << 8 | data[3]
    message = blank(_CODES[code])
    message.mtype, message.mid, message.remote = _TYPES[kind], mid, peer
    message.direction = Direction.INCOMING
    if code == 0:
        return message, None
    reset = None if kind else mid  # of a confirmable one
    if token_length > 8 or 4 + token_length > len(data):
        raise Malformed(f"a token of {token_length} B", reset)
    message.token = data[4 : 4 + token_length]
    return message, _read_options(message, data, 4 + token_length, reset, known)


def _read_options(
    message: Message, data: bytes, at: int, reset: int | None, known: frozenset[int] | None
) -> int | None:
    number, size, unknown, count = 0, len(data), None, 0
    options = message.opt._options
    try:
        while at < size:
            head = data[at]
            at += 1
            if head == 0xFF:
                if at == size:
                    raise Malformed("a payload marker without a payload", reset)
                message.payload = data[at:]
                break
            count += 1
            if count > MAX_OPTIONS:
                raise Malformed(f"more than {MAX_OPTIONS} options", reset)
            delta, length = head >> 4, head & 15
            if delta > 12:
                delta, at = _extended(data, at, delta, reset)
            if length > 12:
                length, at = _extended(data, at, length, reset)
            number += delta
            if at + length > size or number > 0xFFFF:
                raise Malformed(f"option {number} does not end", reset)
            if known is not None and number not in known:
                raise Malformed(f"option {number}, which is not known here", reset)
            row = _OPTIONS.get(number)
            if row is None or not row[2] <= length <= row[3] or (number in options and not row[4]):
                # Section 5.4.3 and 5.4.5: as an option that is not known. Elective ones are left out.
                if number & 1 and unknown is None:
                    unknown = number
            else:
                option = row[1](row[0], data[at : at + length])
                if number in options:
                    options[row[0]].append(option)
                else:
                    options[row[0]] = [option]
            at += length
    except IndexError:
        raise Malformed("an option's header does not end", reset) from None
    except UnicodeDecodeError:
        raise Malformed(f"option {number} is not UTF-8", reset) from None
    return unknown


def _extended(data: bytes, at: int, nibble: int, reset: int | None) -> tuple[int, int]:
    if nibble == 13:
        return data[at] + 13, at + 1
    if nibble == 14:
        return (data[at] << 8 | data[at + 1]) + 269, at + 2
    raise Malformed("a reserved option length", reset)


def encode(message: Message, kind: Type, mid: int, token: bytes) -> bytes:
    """Return the bytes of a message with this type, message ID and token; its own are not looked at."""
    head = bytes((0x40 | kind << 4 | len(token), message.code, mid >> 8, mid & 0xFF)) + token
    if isinstance(message, _Blank) and message.written is not None:
        head += message.written
    elif message.opt._options:
        head += _write_options(message.opt._options)
    return head + b"\xff" + message.payload if message.payload else head


def _write_options(options: dict[OptionNumber, list[Any]]) -> bytes:
    parts: list[bytes] = []
    last = 0
    for number in sorted(options):
        for option in options[number]:
            value = option.encode()
            delta, length = number - last, len(value)
            last = number
            if delta < 13 and length < 13:
                parts += _BYTES[delta << 4 | length], value
            else:
                delta, more = _extend(delta)
                length, longer = _extend(length)
                parts += _BYTES[delta << 4 | length], more, longer, value
    return b"".join(parts)


def _extend(value: int) -> tuple[int, bytes]:
    """Return the nibble of an option's delta or length, and the bytes that extend it."""
    if value < 13:
        return value, b""
    if value < 269:
        return 13, _BYTES[value - 13]
    return 14, (value - 269).to_bytes(2, "big")


def empty(kind: Type, mid: int) -> bytes:
    """Return an empty message (an ACK, a reset or a ping): four bytes."""
    return bytes((0x40 | kind << 4, 0, mid >> 8, mid & 0xFF))


def derive(message: Message, payload: bytes, **options: Any) -> Message:  # Any: one type for each option
    """Make an outgoing message like this one with another payload; options given as None are left out.

    The options that can be given are those of _DERIVED.
    Shares the option values, which nobody changes in place; Message.copy copies them deeply at 20 times the cost.
    """
    new = blank(message.code)
    new.payload = payload
    new.mtype, new.mid, new.token = message.mtype, message.mid, message.token
    new.opt._options = kept = dict(message.opt._options)
    for name, value in options.items():
        number, make = _DERIVED[name]
        if value is not None:
            kept[number] = [make(number, value)]
        else:
            kept.pop(number, None)
    return new


class BlockRequests:
    """Requests for one block after the other of the same resource, whose other options are written once."""

    def __init__(self, message: Message, size_exponent: int) -> None:
        """Take a request without payload and without Block2."""
        number = OptionNumber.BLOCK2
        options = message.opt._options
        self._message, self._szx = message, size_exponent
        self._before = _write_options({each: options[each] for each in options if each < number})
        self._delta = number - max((each for each in options if each < number), default=0)
        assert self._delta < 13, "an option shortly before Block2 saves a byte, and a case here"
        after = _write_options(
            {number: [_block(number, (0, False, 0))]} | {each: options[each] for each in options if each > number}
        )
        self._after = after[2:]  # without Block2 itself: a delta of 13 and more, and no value

    def __call__(self, block: int) -> Message:
        """Return the request for a block."""
        message = derive(self._message, b"", block2=(block, False, self._szx))
        value = block << 4 | self._szx
        raw = value.to_bytes((value.bit_length() + 7) // 8, "big")
        message.written = b"".join((self._before, _BYTES[self._delta << 4 | len(raw)], raw, self._after))
        return message


def uri(message: Message, peer: Address) -> str:
    """Return what a request asks for, as people write it."""
    host = f"[{peer[0]}]" if ":" in peer[0] else peer[0]
    query = "?" + "&".join(message.opt.uri_query) if message.opt.uri_query else ""
    return f"{scheme_of(peer)}://{host}:{peer[1]}/{'/'.join(message.opt.uri_path)}{query}"
