"""Values as they came from a device, in whichever content format it chose for several at once."""

from __future__ import annotations

import base64
import binascii

from pdmlab.cloud import values
from pdmlab.cloud.values import Value
from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import content
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.payload import decode_all
from pdmlab.lwm2m.registry import core_objects
from pdmlab.lwm2m.values import ResourceType

_RECORDS = {content.FORMAT_NAMES[number]: number for number in content.RECORDS}
"""Formats of named records, which the client library passes on as they are."""


def decode(payload: str, content_type: str | None, path: str) -> Value:
    """Return the value of a base64 payload: text, bytes, or resources by id.

    Raises:
        ServiceError: it is no base64.
    """
    number = _RECORDS.get(content_type or "")
    if number is not None:
        try:
            found = decode_all(base64.b64decode(payload), _type_of, number, Path.parse(path))
            return _below(dict(found), Path.parse(path))
        except (Lwm2mError, binascii.Error):
            pass  # it is shown as it came
    return values.decode(payload, content_type, path)


def _type_of(path: Path) -> ResourceType | None:
    known = core_objects().resource(path)
    return known.type if known is not None else None


def _below(found: dict[Path, object], base: Path) -> Value:
    """Return values by their ids below a path; of the path itself, its value."""
    if base in found and len(found) == 1:
        return _plain(found[base])
    shown: dict[int, Value] = {}
    for path, value in found.items():
        ids = path.ids[len(base.ids) :]
        if not ids:
            return _plain(value)
        inner = shown
        for id in ids[:-1]:
            nested = inner.setdefault(id, {})
            if not isinstance(nested, dict):
                break
            inner = nested
        inner[ids[-1]] = _plain(value)
    return shown


def _plain(value: object) -> Value:
    if isinstance(value, dict):
        return {int(id): _plain(each) for id, each in value.items()}
    return value if isinstance(value, str | bytes | int | float | bool) else str(value)
