"""SenML (RFC 8428) in JSON and CBOR: records with a name, a value and a time, base fields resolved."""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import cbor

Kind: TypeAlias = Literal["v", "vs", "vb", "vd", "vlo", "sv"]
"""Which field has the value: number, text, boolean, data, link to an object (LwM2M's own); `sv` is omajson's."""

MAX_SIZE = 1 << 20
"""The longest payload that is read (B)."""
MAX_RECORDS = 10_000
MAX_NAME = 255  # characters: a long base name with many records would be kept once for each of them
VERSION: Final = 10
_WHOLE = 1 << 64  # whole numbers beyond are kept as floats, which is what they can only be

# RFC 8428 table 4; vlo is text in both (OMA LwM2M 1.1 core, 7.4.4).
_LABELS = {"bver": -1, "bn": -2, "bt": -3, "bu": -4, "bv": -5, "bs": -6}
_LABELS |= {"n": 0, "u": 1, "v": 2, "vs": 3, "vb": 4, "s": 5, "t": 6, "ut": 7, "vd": 8}
_FIELDS: dict[object, str] = {label: name for name, label in _LABELS.items()}
_KINDS: tuple[Kind, ...] = ("v", "vs", "vb", "vd", "vlo")
_NUMBERS = ("bver", "bt", "bv", "bs", "v", "s", "t", "ut")
_TEXTS = ("bn", "bu", "n", "u", "vs", "vlo")
_BASE64 = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Record:
    """One record: name and time in full; a name alone (to ask for it) has no kind."""

    name: str
    kind: Kind | None = None
    value: str | int | float | bool | bytes | None = None
    time: float | None = None
    unit: str | None = None


def read(payload: bytes, *, binary: bool) -> list[Record]:
    """Read a pack, as JSON or (binary) as CBOR.

    Raises:
        Lwm2mError: it is none, is of another version, has a field that must be understood and is not, or is too much.
    """
    pack = (read_cbor if binary else read_json)(payload)
    if not isinstance(pack, list) or len(pack) > MAX_RECORDS:
        raise Lwm2mError(f"SenML: a pack is an array of at most {MAX_RECORDS} records")
    base: dict[str, object] = {}
    return [_record(entry, base, binary) for entry in pack]


def _record(entry: object, base: dict[str, object], binary: bool) -> Record:
    fields = _fields(entry, binary)
    version = fields.get("bver", VERSION)
    if not isinstance(version, int) or not 0 < version <= VERSION:
        raise Lwm2mError(f"SenML: version {version!r}; those up to {VERSION} are known")
    base.update({name: value for name, value in fields.items() if name in ("bn", "bt", "bu", "bv")})
    name = str(base.get("bn", "")) + str(fields.get("n", ""))
    if not 0 < len(name) <= MAX_NAME:
        raise Lwm2mError(f"SenML: a name of {len(name)} characters; 1 to {MAX_NAME} are allowed")
    kinds = [kind for kind in _KINDS if kind in fields]
    if len(kinds) > 1:
        raise Lwm2mError(f"SenML: {name} has {' and '.join(kinds)}; a record has one value")
    kind: Kind | None = kinds[0] if kinds else None
    value = fields.get(kind) if kind is not None else None
    if "bv" in base and kind in (None, "v"):  # RFC 8428 section 4.1: what is missing of the sum is zero
        kind, value = "v", _sum(base["bv"], value)
    time = _sum(base.get("bt"), fields.get("t")) if "t" in fields or "bt" in base else None
    unit = fields.get("u", base.get("bu"))
    assert isinstance(value, str | int | float | bytes | None)
    return Record(name, kind, value, None if time is None else float(time), None if unit is None else str(unit))


def _sum(one: object, other: object) -> int | float:
    total = sum(each for each in (one, other) if isinstance(each, int | float))
    if not math.isfinite(total):
        raise Lwm2mError("SenML: a sum of base value and value that is no finite number")
    return total if abs(total) < _WHOLE else float(total)


def _fields(entry: object, binary: bool) -> dict[str, object]:
    if not isinstance(entry, dict):
        raise Lwm2mError("SenML: a record is a map")
    fields: dict[str, object] = {}
    for label, value in entry.items():
        if not binary:
            name = label if label in _LABELS or label == "vlo" else ""
        else:
            name = "vlo" if label == "vlo" else "" if isinstance(label, bool) else _FIELDS.get(label, "")
        if name:
            fields[name] = _typed(name, value, binary)
        elif str(label).endswith("_"):
            raise Lwm2mError(f"SenML: field {str(label)[:40]!r} must be understood, and is not")
    return fields


def _typed(name: str, value: object, binary: bool) -> object:
    if name in _NUMBERS and isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if (name in _TEXTS and isinstance(value, str)) or (name == "vb" and isinstance(value, bool)):
        return value
    if name == "vd" and isinstance(value, bytes if binary else str):
        return value if isinstance(value, bytes) else _data(str(value))
    raise Lwm2mError(f"SenML: {name} cannot be {str(value)[:40]!r}")


def _data(text: str) -> bytes:
    # Base64url without padding by RFC 8428; padded, and in the other alphabet, by clients in the field.
    text = text.rstrip("=").replace("+", "-").replace("/", "_")
    try:
        if _BASE64.fullmatch(text):
            return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        pass
    raise Lwm2mError(f"SenML: vd is no base64: {text[:40]!r}")


def read_cbor(payload: bytes) -> object:
    """Read CBOR of at most MAX_SIZE; raises Lwm2mError."""
    _limit(payload)
    return cbor.loads(payload)


def read_json(payload: bytes) -> object:
    """Read JSON of at most MAX_SIZE: no NaN, no key twice, no endless numbers; raises Lwm2mError."""
    _limit(payload)
    try:
        return json.loads(
            payload.decode(),
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_float,
            parse_constant=_float,
        )
    except (ValueError, RecursionError) as error:
        raise Lwm2mError(f"JSON: {str(error)[:200]}") from error


def _limit(payload: bytes) -> None:
    if len(payload) > MAX_SIZE:
        raise Lwm2mError(f"{len(payload)} B, of which {MAX_SIZE} B are read at most")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Lwm2mError("JSON: a name comes twice in one object")
    return found


def _whole(text: str) -> int | float:
    number = int(text) if len(text) <= 21 else _float(text)  # 2^64 has twenty digits
    return number if abs(number) < _WHOLE else float(number)


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Lwm2mError(f"JSON: {text[:40]} is no finite number")
    return number


def write(records: Iterable[Record], *, binary: bool, base: str = "") -> bytes:
    """Return a pack; `base` is told once, and names in full that begin with it are shortened.

    Raises:
        Lwm2mError: a number is not finite.
    """
    pack: list[Mapping[str, object]] = []
    for record in records:
        fields: dict[str, object] = {}
        if base and not pack:
            fields["bn"] = base
        name = record.name.removeprefix(base)
        if name:
            fields["n"] = name
        if record.unit is not None:
            fields["u"] = record.unit
        if record.kind is not None:
            value = record.value
            if isinstance(value, float) and not math.isfinite(value):
                raise Lwm2mError(f"SenML has no way to write {value} ({record.name})")
            if isinstance(value, bytes) and not binary:
                value = base64.urlsafe_b64encode(value).decode().rstrip("=")
            fields[record.kind] = value
        if record.time is not None:
            whole = record.time.is_integer() and abs(record.time) < _WHOLE
            fields["t"] = int(record.time) if whole else record.time
        pack.append(fields)
    if binary:
        return cbor.dumps([{_LABELS.get(name, name): value for name, value in each.items()} for each in pack])
    return json.dumps(pack, separators=(",", ":"), ensure_ascii=False).encode()
