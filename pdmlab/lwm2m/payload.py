"""Values of several resources in one payload: an object, an instance, or what a composite request names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import senml, tlv
from pdmlab.lwm2m.content import (
    JSON,
    RECORDS,
    SENML_CBOR,
    SENML_ETCH_CBOR,
    TLVS,
    read_records,
    unknown_format,
    write_records,
)
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.senml import Record
from pdmlab.lwm2m.values import ResourceType, Value, from_bytes, from_record, to_bytes, to_record

Values: TypeAlias = dict[Path, Value | dict[int, Value]]
"""Resource (three ids) -> value; a dict by instance id for a multiple resource."""

TypeOf: TypeAlias = Callable[[Path], ResourceType | None]
"""Tells a resource's type; None if it is not known."""


def natural_type(value: Value) -> ResourceType:
    """Return the type of a value whose resource nobody knows."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) else "float"
    return "opaque" if isinstance(value, bytes) else "string"


def encode_all(values: Values, type_of: TypeOf, format: int, base: Path | None) -> bytes:
    """Return the payload that answers a read of base (None: of several paths) in TLV, SenML or old JSON.

    Raises:
        Lwm2mError: the format cannot carry this, or a value does not fit its type.
    """
    if format in TLVS and base is not None:
        return tlv.encode(_entries(values, type_of, base))
    if format not in RECORDS:
        raise unknown_format(format)
    return write_records(records_of(values, type_of), format, _base_name(base))


def records_of(values: Values, type_of: TypeOf) -> list[Record]:
    """Return one record a value, as SenML carries them."""
    records = []
    for path, value in values.items():
        kind = type_of(path)
        if isinstance(value, dict):
            for id, each in value.items():
                records.append(to_record(path / id, each, kind or natural_type(each)))
        else:
            records.append(to_record(path, value, kind or natural_type(value)))
    return records


def _base_name(base: Path | None) -> str:
    if base is None:
        return ""
    return f"{base if len(base.ids) < 3 else base.parent}/"


def _entries(values: Values, type_of: TypeOf, base: Path) -> list[tlv.Entry]:
    instances: dict[int, list[tlv.Entry]] = {}
    for path, value in values.items():
        kind = type_of(path)
        if isinstance(value, dict):
            inside = [(id, to_bytes(each, kind or natural_type(each))) for id, each in value.items()]
            entry = tlv.multiple(path.ids[2], inside)
        else:
            entry = tlv.resource(path.ids[2], to_bytes(value, kind or natural_type(value)))
        instances.setdefault(path.ids[1], []).append(entry)
    if base.instance is None:
        return [tlv.object_instance(id, inside) for id, inside in instances.items()]
    return [entry for inside in instances.values() for entry in inside]


def decode_all(payload: bytes, type_of: TypeOf, format: int | None, base: Path | None) -> Values:
    """Read what a payload says of the resources at or below base; None: anywhere.

    A resource of unknown type keeps its bytes in TLV, and the type that SenML says.

    Raises:
        Lwm2mError: the format is not known or does not fit, or something is twice, of another type, or elsewhere.
    """
    if format in TLVS and base is not None:
        values: Values = {}
        _collect(values, tlv.decode(payload), base, type_of)
        return values
    if format not in RECORDS:
        raise (
            Lwm2mError("a payload of several values has a content format") if format is None else unknown_format(format)
        )
    return values_of(read_records(payload, format, base), type_of, base)


def values_of(records: Iterable[Record], type_of: TypeOf, base: Path | None) -> Values:
    """Return the values of records; see decode_all."""
    values: Values = {}
    for record in records:
        path = Path.parse(record.name)
        if len(path.ids) < 3 or not (base is None or base.contains(path) or path.contains(base)):
            raise Lwm2mError(f"{record.name[:80]} is no resource{'' if base is None else f' of {base}'}")
        resource = Path(path.ids[:3])
        _put(values, resource, path.resource_instance, from_record(record, type_of(resource)))
    return values


def _put(values: Values, resource: Path, instance: int | None, value: Value) -> None:
    if instance is None:
        if resource in values:
            raise Lwm2mError(f"{resource} comes twice")
        values[resource] = value
        return
    several = values.setdefault(resource, {})
    if not isinstance(several, dict) or instance in several:
        raise Lwm2mError(f"{resource}/{instance} comes twice")
    several[instance] = value


def _collect(values: Values, entries: tuple[tlv.Entry, ...], base: Path, type_of: TypeOf) -> None:
    instance: int | None = base.instance
    for entry in entries:
        if entry.kind == tlv.Kind.OBJECT_INSTANCE:
            if instance is not None and (entry.id != instance or len(entries) > 1):
                raise Lwm2mError(f"TLV: instance {entry.id} in a payload of {base}")
            _collect(values, entry.entries, Path.of(base.object, entry.id), type_of)
            continue
        if entry.kind == tlv.Kind.RESOURCE_INSTANCE:
            if base.resource is None:
                raise Lwm2mError(f"TLV: resource instance {entry.id} of no resource")
            resource = Path(base.ids[:3])
            _put(values, resource, entry.id, _value(entry, type_of(resource)))
            continue
        if instance is None:
            raise Lwm2mError(f"TLV: resource {entry.id} of no instance of {base}")
        resource = Path.of(base.object, instance, entry.id)
        if base.resource not in (None, entry.id):
            raise Lwm2mError(f"TLV: {resource} in a payload of {base}")
        if entry.kind == tlv.Kind.RESOURCE:
            _put(values, resource, base.resource_instance, _value(entry, type_of(resource)))
            continue
        if resource in values:
            raise Lwm2mError(f"{resource} comes twice")
        values[resource] = {}
        for each in entry.entries:
            _put(values, resource, each.id, _value(each, type_of(resource)))


def _value(entry: tlv.Entry, kind: ResourceType | None) -> Value:
    return entry.value if kind is None else from_bytes(entry.value, kind)


def encode_paths(paths: Iterable[Path | None], format: int) -> bytes:
    """Return the payload of a composite read: names without values; None is the root, "/"."""
    return write_records([Record(str(path or "/")) for path in paths], format, "")


def decode_paths(payload: bytes, format: int | None) -> list[Path | None]:
    """Read which paths a composite read asks for; None is the root.

    Raises:
        Lwm2mError: the format is not SenML, or a name is no path.
    """
    if format not in RECORDS - {JSON}:
        raise unknown_format(format or 0)
    records = senml.read(payload, binary=format in (SENML_CBOR, SENML_ETCH_CBOR))
    return list(dict.fromkeys(None if each.name == "/" else Path.parse(each.name) for each in records))
