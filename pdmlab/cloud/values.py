"""What the service carries in base64, as the values they are: text, bytes, or resources by id."""

from __future__ import annotations

import base64
import binascii
from typing import TypeAlias

from pdmlab.errors import Lwm2mError, ServiceError
from pdmlab.lwm2m import content, tlv
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import core_objects

Value: TypeAlias = "str | bytes | int | float | bool | dict[int, Value]"
"""Text as it came; bytes of what is opaque; of an instance or a multiple resource, its values by id."""

_TLV = content.FORMAT_NAMES[content.TLV]


def decode(payload: str, content_type: str | None, path: str) -> Value:
    """Return the value of a base64 payload that came from a path.

    Raises:
        ServiceError: it is no base64.
    """
    try:
        data = base64.b64decode(payload, validate=True)
    except (ValueError, binascii.Error) as error:
        raise ServiceError(f"the service sent a value of {path} that is no base64", status=200) from error
    if content_type is not None and content_type.startswith(_TLV):
        return _from_tlv(data, Path.parse(path))
    if content_type == content.FORMAT_NAMES[content.OPAQUE]:
        return data
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def encode(value: str | bytes | int | float | bool) -> tuple[bytes, str]:
    """Return a value's bytes and their content type."""
    if isinstance(value, bytes):
        return value, content.FORMAT_NAMES[content.OPAQUE]
    if isinstance(value, bool):
        value = int(value)
    return str(value).encode(), content.FORMAT_NAMES[content.TEXT]


def _from_tlv(data: bytes, path: Path) -> Value:
    try:
        entries = tlv.decode(data)
    except Lwm2mError:
        return data
    if path.resource is not None and len(entries) == 1:
        return _value(entries[0], path)
    return {entry.id: _value(entry, _below(path, entry)) for entry in entries}


def _value(entry: tlv.Entry, path: Path) -> Value:
    if entry.kind in (tlv.Kind.OBJECT_INSTANCE, tlv.Kind.MULTIPLE_RESOURCE):
        return {each.id: _value(each, _below(path, each)) for each in entry.entries}
    known = core_objects().resource(path)
    try:
        return content.from_bytes(entry.value, known.type) if known is not None and known.type else entry.value
    except Lwm2mError:
        return entry.value


def _below(path: Path, entry: tlv.Entry) -> Path:
    """Return an entry's path: resources that came without their instance belong to the path that was read."""
    ids = path.ids
    if entry.kind == tlv.Kind.RESOURCE_INSTANCE:
        return Path((*ids[:3], entry.id))
    if entry.kind == tlv.Kind.OBJECT_INSTANCE:
        return Path((ids[0], entry.id))
    return Path((ids[0], ids[1] if len(ids) > 1 else 0, entry.id))
