"""A value's own bytes, by its type: as text, in TLV, and in the records of SenML and old JSON."""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from typing import Literal, TypeAlias

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.senml import Record

ResourceType = Literal["string", "integer", "float", "boolean", "opaque", "time", "objlnk", "unsigned", "corelnk"]
Value: TypeAlias = str | int | float | bool | bytes
"""objlnk is text, "3:0"; corelnk too, links as RFC 6690 writes them; time is whole seconds since 1970."""

_INTEGERS = ("integer", "time", "unsigned")
_STRINGS = ("string", "corelnk")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_LONGEST_FLOAT = 80  # characters; repr() writes 24 at most
_LINK = re.compile(r"([0-9]{1,5}):([0-9]{1,5})", re.ASCII)


def to_record(path: Path, value: Value, type: ResourceType) -> Record:
    """Return a value as SenML carries it.

    Raises:
        Lwm2mError: the value does not fit its type.
    """
    if type == "boolean" and isinstance(value, bool):
        return Record(str(path), "vb", value)
    if type == "opaque" and isinstance(value, bytes):
        return Record(str(path), "vd", value)
    if type == "objlnk" and isinstance(value, str) and _link(value) is not None:
        return Record(str(path), "vlo", value)
    if type in _STRINGS and isinstance(value, str):
        return Record(str(path), "vs", value)
    if type in _INTEGERS and isinstance(value, int):
        return Record(str(path), "v", _in_range(int(value), type))
    if type == "float" and isinstance(value, int | float) and math.isfinite(value):
        return Record(str(path), "v", float(value))
    raise Lwm2mError(f"{value!r} is no {type}")


def from_record(record: Record, type: ResourceType | None) -> Value:
    """Return a record's value; without a type, the one that its field says.

    Raises:
        Lwm2mError: it is none of the type.
    """
    kind, value = record.kind, record.value
    if kind is None or value is None:
        raise Lwm2mError(f"{record.name} has no value")
    if type is None:
        return value
    if kind == "sv":
        return base64_bytes(str(value)) if type == "opaque" else from_text(str(value), type)
    if kind == "v" and not isinstance(value, str | bytes):
        if type == "float":
            return float(value)
        if type in _INTEGERS and value == int(value):
            return _in_range(int(value), type)
    if (kind == "vs" and type in _STRINGS) or (kind, type) in (("vb", "boolean"), ("vd", "opaque")):
        return value
    if kind == "vlo" and type == "objlnk" and _link(str(value)) is not None:
        return value
    raise Lwm2mError(f"{record.name}: {str(value)[:80]!r} in {kind} is no {type}")


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
    if type in ("string", "objlnk", "corelnk") and isinstance(value, str):
        return value
    if type in _INTEGERS and isinstance(value, int):
        return str(_in_range(int(value), type))
    if type == "float" and isinstance(value, int | float) and math.isfinite(value):
        return repr(value)
    raise Lwm2mError(f"{value!r} is no {type}")


def from_text(text: str, type: ResourceType) -> Value:
    """Read a value from text/plain.

    Raises:
        Lwm2mError: the text is not of the type.
    """
    if type in _INTEGERS and _INTEGER.fullmatch(text):
        lowest, beyond = (0, 1 << 64) if type == "unsigned" else (-(1 << 63), 1 << 63)
        if lowest <= (whole := int(text)) < beyond:
            return whole
    if type == "float" and len(text) <= _LONGEST_FLOAT and (number := parse_float(text)) is not None:
        return number
    if type == "boolean" and text in ("0", "1"):
        return text == "1"
    if type == "opaque":
        return base64_bytes(text)
    if type in _STRINGS or (type == "objlnk" and _link(text) is not None):
        return text
    raise Lwm2mError(f"{text[:80]!r} is no {type}")


def to_bytes(value: Value, type: ResourceType, *, wide_integers: bool = False) -> bytes:
    """Return a value as TLV carries it: big-endian integers of 1, 2, 4 or 8 bytes, doubles.

    Raises:
        Lwm2mError: the value does not fit its type.
    """
    if type in _INTEGERS and isinstance(value, int):
        _in_range(value, type)
        signed = type != "unsigned"
        for width in (8,) if wide_integers else (1, 2, 4):
            if (-(1 << 8 * width - 1) if signed else 0) <= value < 1 << 8 * width - signed:
                return value.to_bytes(width, "big", signed=signed)
        return value.to_bytes(8, "big", signed=signed)
    if type == "float" and isinstance(value, int | float) and math.isfinite(value):
        return struct.pack(">d", value)
    if type == "boolean" and isinstance(value, bool):
        return bytes((value,))
    if type == "opaque" and isinstance(value, bytes):
        return value
    if type == "objlnk" and isinstance(value, str) and (link := _link(value)) is not None:
        return struct.pack(">HH", *link)
    if type in _STRINGS and isinstance(value, str):
        return value.encode()
    raise Lwm2mError(f"{value!r} is no {type}")


def from_bytes(data: bytes, type: ResourceType) -> Value:
    """Read a value from TLV.

    Raises:
        Lwm2mError: the length or the bytes are not of the type.
    """
    size = len(data)
    if type in _INTEGERS and size in (1, 2, 4, 8):
        return int.from_bytes(data, "big", signed=type != "unsigned")
    if type == "float" and size in (4, 8):
        number = float(struct.unpack(">f" if size == 4 else ">d", data)[0])
        if math.isfinite(number):
            return number
    if type == "boolean" and data in (b"\0", b"\1"):
        return data == b"\1"
    if type == "opaque":
        return data
    if type == "objlnk" and size == 4:
        return f"{int.from_bytes(data[:2], 'big')}:{int.from_bytes(data[2:], 'big')}"
    if type in _STRINGS:
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    raise Lwm2mError(f"{size} bytes {data[:8].hex()} are no {type}")


def _in_range(whole: int, type: ResourceType) -> int:
    lowest, beyond = (0, 1 << 64) if type == "unsigned" else (-(1 << 63), 1 << 63)
    if not lowest <= whole < beyond:
        raise Lwm2mError(f"{whole} does not fit 64 bits" if type != "unsigned" else f"{whole} is no unsigned integer")
    return whole


def base64_bytes(text: str) -> bytes:
    """Read base64 as text/plain and old JSON carry it; raises Lwm2mError."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise Lwm2mError(f"{text[:80]!r} is no opaque") from None
