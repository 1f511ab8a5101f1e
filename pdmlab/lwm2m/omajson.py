"""LwM2M 1.0's own JSON (OMA LwM2M 1.0.2 section 6.4.4, content format 11543), which SenML has replaced."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable
from typing import Final

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.senml import MAX_NAME, MAX_RECORDS, Kind, Record, read_json

# Field -> kind of value: `sv` is text, or data in base64, which only the resource's type can tell.
_KINDS: Final[dict[str, Kind]] = {"v": "v", "bv": "vb", "ov": "vlo", "sv": "sv"}
_TYPES: Final = {"v": (int, float), "vb": (bool,), "vlo": (str,), "sv": (str,)}
_FIELDS: Final[dict[Kind, str]] = {"v": "v", "vb": "bv", "vlo": "ov", "vs": "sv", "vd": "sv"}


def read(payload: bytes, base: str) -> list[Record]:
    """Read the entries; names without a base name of their own begin with `base`.

    Raises:
        Lwm2mError: it is no such JSON.
    """
    whole = read_json(payload)
    entries = whole.get("e") if isinstance(whole, dict) else None
    if not isinstance(whole, dict) or not isinstance(entries, list) or len(entries) > MAX_RECORDS:
        raise Lwm2mError(f'LwM2M JSON: an object with an array "e" of at most {MAX_RECORDS} entries')
    prefix, since = whole.get("bn", base), whole.get("bt", 0)
    if not isinstance(prefix, str) or not isinstance(since, int | float):
        raise Lwm2mError('LwM2M JSON: "bn" is text, and "bt" a number')
    return [_record(entry, prefix, since) for entry in entries]


def _record(entry: object, prefix: str, since: float) -> Record:
    if not isinstance(entry, dict):
        raise Lwm2mError("LwM2M JSON: an entry is an object")
    name, found = entry.get("n", ""), [field for field in _KINDS if field in entry]
    if not isinstance(name, str) or not 0 < len(prefix + name) <= MAX_NAME or len(found) > 1:
        raise Lwm2mError(f"LwM2M JSON: an entry has a name of at most {MAX_NAME} characters and one value")
    time = entry.get("t", 0)
    if not isinstance(time, int | float) or not math.isfinite(since + time):
        raise Lwm2mError('LwM2M JSON: "t" is a number')
    when = float(since + time) if since or time else None
    if not found:
        return Record(prefix + name, time=when)
    kind, value = _KINDS[found[0]], entry[found[0]]
    if not isinstance(value, _TYPES[kind]) or isinstance(value, bool) != (kind == "vb"):
        raise Lwm2mError(f"LwM2M JSON: {found[0]} cannot be {str(value)[:40]!r}")
    return Record(prefix + name, kind, value, when)


def write(records: Iterable[Record], base: str) -> bytes:
    """Return the records' bytes, with `base` as base name.

    Raises:
        Lwm2mError: a number is not finite.
    """
    entries: list[dict[str, object]] = []
    for record in records:
        entry: dict[str, object] = {"n": record.name.removeprefix(base)}
        if record.kind is not None:
            value = record.value
            if isinstance(value, float) and not math.isfinite(value):
                raise Lwm2mError(f"JSON has no way to write {value} ({record.name})")
            entry[_FIELDS[record.kind]] = base64.b64encode(value).decode() if isinstance(value, bytes) else value
        entries.append(entry)
    return json.dumps({"bn": base, "e": entries}, separators=(",", ":"), ensure_ascii=False).encode()
