"""Resource values between CoAP and the JSON that notification channels carry."""

from __future__ import annotations

import base64
from typing import Any

from aiocoap import Message

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import content
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import core_objects
from pdmlab.service.refusal import Refused

TLV_NAME = "application/vnd.oma.lwm2m+tlv"
DEFAULT_MAX_AGE = 60  # s, RFC 7252 section 5.10.5

_NAMES = {
    content.TEXT: "text/plain",
    content.LINK_FORMAT: "application/link-format",
    41: "application/xml",
    content.OPAQUE: "application/octet-stream",
    47: "application/exi",
    50: "application/json",
    60: "application/cbor",
    content.TLV_OLD: TLV_NAME,
    110: "application/senml+json",
    112: "application/senml+cbor",
    content.TLV: TLV_NAME,
    11543: "application/vnd.oma.lwm2m+json",
}
_NUMBERS = {name: number for number, name in _NAMES.items()} | {
    "application/nanoservice-tlv": content.TLV_OLD,
    "application/vnd.oma.lwm2m+text": content.TEXT,
    "application/vnd.oma.lwm2m+opaq": content.OPAQUE,
}


def format_name(number: int | None) -> str:
    """Return the media type of a content format; text where a message names none."""
    return _NAMES.get(content.TEXT if number is None else number, f"application/coap-{number}")


def format_number(name: str | None) -> int | None:
    """Return the content format of a media type; None where none is given.

    Raises:
        Refused: devices know no such format (400).
    """
    if not name:
        return None
    plain = name.partition(";")[0].strip().lower()
    if plain.isascii() and plain.isdigit() and len(plain) <= 5 and int(plain) <= 0xFFFF:
        return int(plain)
    if plain not in _NUMBERS:
        raise Refused(400, "UNSUPPORTED_CONTENT_TYPE", hint=f"{name[:80]!r} is none of {', '.join(sorted(_NUMBERS))}")
    return _NUMBERS[plain]


def max_age_of(message: Message) -> int:
    """Return how long a value may be kept (s)."""
    return DEFAULT_MAX_AGE if message.opt.max_age is None else int(message.opt.max_age)


def as_json(path: str, payload: bytes, format: int | None, max_age: int) -> dict[str, Any]:
    """Return ct, payload (base64) and max-age of a value as channels carry them.

    A single resource in TLV, SenML or CBOR becomes text: clients of the REST API expect it, and one dies of TLV.
    """
    payload, format = plain(path, payload, format)
    return as_it_came(path, payload, format, max_age)


def as_it_came(_: str, payload: bytes, format: int | None, max_age: int) -> dict[str, Any]:
    """Return ct, payload (base64) and max-age of a value in the format that it has."""
    return {
        "ct": format_name(format),
        "payload": base64.b64encode(payload).decode(),
        "max-age": str(max_age),
    }


def plain(path: str, payload: bytes, format: int | None) -> tuple[bytes, int | None]:
    """Return a single resource's value as text or opaque, with its content format; whatever else it is, as it came.

    A device chooses the format where nobody asks for one, and the stock client goes on with the one that it was last
    asked for by anybody (docs/wire.md 4.4).
    """
    if format is None or format in (content.TEXT, content.OPAQUE):
        return payload, format
    try:
        where = Path.parse(path)
        known = core_objects().resource(where)
        type = None if known is None else known.type
        if len(where.ids) < 3:
            return payload, format
        if type is None:
            return _untyped(where, payload, format)
        value = content.decode(payload, type, format, where)
        if isinstance(value, dict):
            return payload, format
        if isinstance(value, bytes):
            return value, content.OPAQUE
        return content.to_text(value, type).encode(), content.TEXT
    except (Lwm2mError, ValueError):
        return payload, format


def _untyped(path: Path, payload: bytes, format: int) -> tuple[bytes, int | None]:
    """Return the value of a resource whose type is not known: records say it, TLV does not."""
    if format not in content.RECORDS:
        return payload, format
    found = [each for each in content.read_records(payload, format, path) if each.name == str(path)]
    if len(found) != 1:
        return payload, format
    value = content.from_record(found[0], None)
    if isinstance(value, bytes):
        return value, content.OPAQUE
    return (str(int(value)) if isinstance(value, bool) else str(value)).encode(), content.TEXT


def published(path: Path, text: str) -> tuple[bytes, int]:
    """Return value and content format of what a registration sends along with a path (`v=`)."""
    known = core_objects().resource(path)
    if known is not None and known.type == "opaque":
        try:
            return base64.b64decode(text, validate=True), content.OPAQUE
        except ValueError:
            pass
    return text.encode(), content.TEXT
