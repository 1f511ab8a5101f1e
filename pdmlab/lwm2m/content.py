"""Resource values and their bytes in text, opaque and TLV."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from typing import Final, Literal, TypeAlias

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.paths import Path

ResourceType = Literal["string", "integer", "float", "boolean", "opaque", "time", "objlnk"]
Value: TypeAlias = str | int | float | bool | bytes
"""objlnk is text, "3:0"; time is whole seconds since 1970."""

TEXT: Final = 0
LINK_FORMAT: Final = 40
OPAQUE: Final = 42
TLV: Final = 11542
TLV_OLD: Final = 99  # before registration with IANA; the stock client knows both

FORMAT_NAMES = {TEXT: "text/plain", LINK_FORMAT: "application/link-format", OPAQUE: "application/octet-stream"}
FORMAT_NAMES |= {TLV: "application/vnd.oma.lwm2m+tlv", TLV_OLD: "application/vnd.oma.lwm2m+tlv (99)"}

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_LONGEST_FLOAT = 80  # characters; repr() writes 24 at most
_LINK = re.compile(r"([0-9]{1,5}):([0-9]{1,5})", re.ASCII)


def default_format(type: ResourceType) -> int:
    """Return the format that a resource is read in when nobody asks: opaque for opaque, else text."""
    return OPAQUE if type == "opaque" else TEXT


def encode(value: Value, type: ResourceType, format: int, path: Path, *, wide_integers: bool = False) -> bytes:
    """Return a resource's payload; wide_integers writes TLV integers in 8 bytes, as the stock client does.

    Raises:
        Lwm2mError: the value does not fit its type, or the format is not known.
    """
    if format in (TLV, TLV_OLD):
        data = to_bytes(value, type, wide_integers=wide_integers)
        ids = path.ids
        if len(ids) == 4:
            return tlv.encode([tlv.multiple(ids[2], [(ids[3], data)])])
        return tlv.encode([tlv.resource(ids[-1], data)])
    if format == TEXT:
        return to_text(value, type).encode()
    if format == OPAQUE:
        return value if isinstance(value, bytes) else to_text(value, type).encode()
    raise Lwm2mError(f"content format {format} is not known", hint=f"one of {FORMAT_NAMES}")


def decode(payload: bytes, type: ResourceType, format: int | None, path: Path) -> Value | dict[int, Value]:
    """Return a resource's value; a dict of instances for a multiple resource in TLV.

    Raises:
        Lwm2mError: the payload is not what its format and type require.
    """
    if format in (TLV, TLV_OLD):
        for entry in _resources(tlv.decode(payload)):
            if entry.id != path.resource:
                continue
            if entry.kind == tlv.Kind.RESOURCE:
                return from_bytes(entry.value, type)
            values = {each.id: from_bytes(each.value, type) for each in entry.entries}
            wanted = path.resource_instance
            if wanted is None:
                return values
            if wanted in values:
                return values[wanted]
        raise Lwm2mError(f"the TLV payload has no {path}")
    if type == "opaque" and format in (None, OPAQUE):
        return payload
    if format in (None, TEXT, OPAQUE):
        try:
            return from_text(payload.decode(), type)
        except UnicodeDecodeError as error:
            raise Lwm2mError(f"the value of {path} is not UTF-8") from error
    raise Lwm2mError(f"content format {format} is not known", hint=f"one of {FORMAT_NAMES}")


def _resources(entries: tuple[tlv.Entry, ...]) -> tuple[tlv.Entry, ...]:
    """Look into the object instance, if the payload is wrapped in one."""
    if len(entries) == 1 and entries[0].kind == tlv.Kind.OBJECT_INSTANCE:
        return entries[0].entries
    return tuple(entry for entry in entries if entry.kind in (tlv.Kind.RESOURCE, tlv.Kind.MULTIPLE_RESOURCE))


def parse_float(text: str) -> float | None:
    """Return a finite number written in decimal; None if it is none (Python's own float takes "1_0" and "nan")."""
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return None


def _link(text: str) -> tuple[int, int] | None:
    match = _LINK.fullmatch(text)
    ids = (int(match[1]), int(match[2])) if match is not None else (-1, -1)
    return ids if min(ids) >= 0 and max(ids) <= 0xFFFF else None  # 65535:65535 links to nothing


def to_text(value: Value, type: ResourceType) -> str:
    """Return a value as text/plain carries it (opaque in base64).

    Raises:
        Lwm2mError: the value does not fit its type.
    """
    if type == "opaque" and isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if type == "boolean" and isinstance(value, bool):
        return str(int(value))
    if type in ("string", "objlnk") and isinstance(value, str):
        return value
    if type in ("integer", "time") and isinstance(value, int):
        return str(int(value))
    if type == "float" and isinstance(value, int | float):
        return repr(value)
    raise Lwm2mError(f"{value!r} is no {type}")


def from_text(text: str, type: ResourceType) -> Value:
    """Read a value from text/plain.

    Raises:
        Lwm2mError: the text is not of the type.
    """
    try:
        if type in ("integer", "time") and _INTEGER.fullmatch(text) and -(1 << 63) <= (whole := int(text)) < 1 << 63:
            return whole
        if type == "float" and len(text) <= _LONGEST_FLOAT and (number := parse_float(text)) is not None:
            return number
        if type == "boolean" and text in ("0", "1"):
            return text == "1"
        if type == "opaque":
            return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        pass
    if type == "string" or (type == "objlnk" and _link(text) is not None):
        return text
    raise Lwm2mError(f"{text[:80]!r} is no {type}")


def to_bytes(value: Value, type: ResourceType, *, wide_integers: bool = False) -> bytes:
    """Return a value as TLV carries it: big-endian integers of 1, 2, 4 or 8 bytes, doubles.

    Raises:
        Lwm2mError: the value does not fit its type.
    """
    if type in ("integer", "time") and isinstance(value, int):
        for width in (8,) if wide_integers else (1, 2, 4, 8):
            if -(1 << 8 * width - 1) <= value < 1 << 8 * width - 1:
                return value.to_bytes(width, "big", signed=True)
        raise Lwm2mError(f"{value} does not fit 64 bits")
    if type == "float" and isinstance(value, int | float):
        return struct.pack(">d", value)
    if type == "boolean" and isinstance(value, bool):
        return bytes((value,))
    if type == "opaque" and isinstance(value, bytes):
        return value
    if type == "objlnk" and isinstance(value, str) and (link := _link(value)) is not None:
        return struct.pack(">HH", *link)
    if type == "string" and isinstance(value, str):
        return value.encode()
    raise Lwm2mError(f"{value!r} is no {type}")


def from_bytes(data: bytes, type: ResourceType) -> Value:
    """Read a value from TLV.

    Raises:
        Lwm2mError: the length or the bytes are not of the type.
    """
    size = len(data)
    if type in ("integer", "time") and size in (1, 2, 4, 8):
        return int.from_bytes(data, "big", signed=True)
    if type == "float" and size in (4, 8):
        return float(struct.unpack(">f" if size == 4 else ">d", data)[0])
    if type == "boolean" and data in (b"\0", b"\1"):
        return data == b"\1"
    if type == "opaque":
        return data
    if type == "objlnk" and size == 4:
        return f"{int.from_bytes(data[:2], 'big')}:{int.from_bytes(data[2:], 'big')}"
    if type == "string":
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    raise Lwm2mError(f"{size} bytes {data[:8].hex()} are no {type}")
