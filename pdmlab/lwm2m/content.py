"""A resource's value and its bytes: text, opaque, CBOR, TLV, SenML and LwM2M's old JSON."""

from __future__ import annotations

from typing import Final

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import cbor, omajson, senml, tlv
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.senml import Kind, Record
from pdmlab.lwm2m.values import (
    ResourceType,
    Value,
    from_bytes,
    from_record,
    from_text,
    parse_float,
    to_bytes,
    to_record,
    to_text,
)

__all__ = [
    "ResourceType",
    "Value",
    "decode",
    "default_format",
    "encode",
    "from_bytes",
    "from_cbor",
    "from_record",
    "from_text",
    "parse_float",
    "read_records",
    "registered_format",
    "to_bytes",
    "to_record",
    "to_text",
    "unknown_format",
    "write_records",
]

TEXT: Final = 0
LINK_FORMAT: Final = 40
OPAQUE: Final = 42
CBOR: Final = 60
SENML_JSON: Final = 110
SENML_CBOR: Final = 112
SENML_ETCH_JSON: Final = 320  # RFC 8790: the same records, in FETCH and iPATCH
SENML_ETCH_CBOR: Final = 322
TLV: Final = 11542
TLV_OLD: Final = 99  # before registration with IANA; the stock client knows both
JSON: Final = 11543

FORMAT_NAMES = {TEXT: "text/plain", LINK_FORMAT: "application/link-format", OPAQUE: "application/octet-stream"}
FORMAT_NAMES |= {CBOR: "application/cbor", SENML_JSON: "application/senml+json", SENML_CBOR: "application/senml+cbor"}
FORMAT_NAMES |= {SENML_ETCH_JSON: "application/senml-etch+json", SENML_ETCH_CBOR: "application/senml-etch+cbor"}
FORMAT_NAMES |= {TLV: "application/vnd.oma.lwm2m+tlv", TLV_OLD: "application/vnd.oma.lwm2m+tlv (99)"}
FORMAT_NAMES |= {JSON: "application/vnd.oma.lwm2m+json"}

_EARLIER: Final = {1541: TEXT, 1542: TLV, 1543: JSON, 1544: OPAQUE}
"""Numbers that servers used before those of LwM2M were registered, and some still do."""

RECORDS: Final = {SENML_JSON, SENML_CBOR, SENML_ETCH_JSON, SENML_ETCH_CBOR, JSON}
"""Formats of records, each with its path."""
TLVS: Final = {TLV, TLV_OLD}
SINGLE: Final = {TEXT, OPAQUE, CBOR}
"""Formats of one value, which only the request's path can name."""

_EPOCH_TAG = b"\xc1"  # RFC 8949 section 3.4.2: times may carry it


def default_format(type: ResourceType) -> int:
    """Return the format that a resource is read in when nobody asks: opaque for opaque, else text."""
    return OPAQUE if type == "opaque" else TEXT


def encode(value: Value, type: ResourceType, format: int, path: Path, *, wide_integers: bool = False) -> bytes:
    """Return a resource's payload; wide_integers writes TLV integers in 8 bytes, as the stock client does.

    Raises:
        Lwm2mError: the value does not fit its type, or the format is not known.
    """
    if format in TLVS:
        data = to_bytes(value, type, wide_integers=wide_integers)
        ids = path.ids
        if len(ids) == 4:
            return tlv.encode([tlv.multiple(ids[2], [(ids[3], data)])])
        return tlv.encode([tlv.resource(ids[-1], data)])
    if format == TEXT:
        return to_text(value, type).encode()
    if format == OPAQUE:
        return value if isinstance(value, bytes) else to_text(value, type).encode()
    if format == CBOR:
        return cbor.dumps(to_record(path, value, type).value)
    if format in RECORDS:
        return write_records([to_record(path, value, type)], format, f"{path.parent or ''}/")
    raise unknown_format(format)


def decode(payload: bytes, type: ResourceType, format: int | None, path: Path) -> Value | dict[int, Value]:
    """Return a resource's value; a dict of instances for a multiple resource in TLV, SenML or JSON.

    Raises:
        Lwm2mError: the payload is not what its format and type require.
    """
    if format in TLVS:
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
    if format == CBOR:
        return from_cbor(payload, type)
    if format in RECORDS:
        return _of_records(read_records(payload, format, path), type, path)
    if type == "opaque" and format in (None, OPAQUE):
        return payload
    if format in (None, TEXT, OPAQUE):
        try:
            return from_text(payload.decode(), type)
        except UnicodeDecodeError as error:
            raise Lwm2mError(f"the value of {path} is not UTF-8") from error
    raise unknown_format(format)


def registered_format(format: int) -> int:
    """Return the registered number of a format, for one from before."""
    return _EARLIER.get(format, format)


def unknown_format(format: int) -> Lwm2mError:
    """Return the error of a content format that is not known."""
    return Lwm2mError(f"content format {format} is not known", hint=f"one of {FORMAT_NAMES}")


def _resources(entries: tuple[tlv.Entry, ...]) -> tuple[tlv.Entry, ...]:
    """Look into the object instance, if the payload is wrapped in one."""
    if len(entries) == 1 and entries[0].kind == tlv.Kind.OBJECT_INSTANCE:
        return entries[0].entries
    return tuple(entry for entry in entries if entry.kind in (tlv.Kind.RESOURCE, tlv.Kind.MULTIPLE_RESOURCE))


def _of_records(records: list[Record], type: ResourceType, path: Path) -> Value | dict[int, Value]:
    values: dict[int, Value] = {}
    for record in records:
        where = Path.parse(record.name)
        if record.kind is None or not path.contains(where):
            continue
        value = from_record(record, type)
        if where == path:
            return value
        if len(where.ids) == 4 and len(path.ids) == 3:
            values[where.ids[3]] = value
    if not values:
        raise Lwm2mError(f"the payload has no {path}")
    return values


def read_records(payload: bytes, format: int, path: Path | None) -> list[Record]:
    """Read a payload in one of RECORDS; old JSON may leave out the path that was asked for.

    Raises:
        Lwm2mError: it is none.
    """
    if format == JSON:
        return omajson.read(payload, f"{path or ''}/" if path is None or len(path.ids) < 4 else str(path))
    return senml.read(payload, binary=format in (SENML_CBOR, SENML_ETCH_CBOR))


def write_records(records: list[Record], format: int, base: str) -> bytes:
    """Return a payload in one of RECORDS; base is what their names begin with."""
    if format == JSON:
        return omajson.write(records, base)
    return senml.write(records, binary=format in (SENML_CBOR, SENML_ETCH_CBOR), base=base)


def from_cbor(payload: bytes, type: ResourceType) -> Value:
    """Read a value from CBOR (content format 60).

    Raises:
        Lwm2mError: it is none of the type.
    """
    if type == "time":
        payload = payload.removeprefix(_EPOCH_TAG)
    value = cbor.loads(payload)
    if isinstance(value, bool):
        kind: Kind = "vb"
    elif isinstance(value, int | float):
        kind = "v"
    elif isinstance(value, bytes):
        kind = "vd"
    elif isinstance(value, str):
        kind = "vlo" if type == "objlnk" else "vs"
    else:
        raise Lwm2mError(f"CBOR: one value is wanted, and this is {str(value)[:80]}")
    return from_record(Record("the value", kind, value), type)
