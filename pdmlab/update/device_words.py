"""What a device says of its updates by object 26241, as it is on the wire and as it is read: slots, log, last refusal.

Whatever a device says is read with bounds: what is too long is cut, what makes no sense is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m import tlv
from pdmlab.update.areas import INTERNAL
from pdmlab.update.map_picture import Stretch, strip

OBJECT = 26241
BOOTLOADER, SLOTS, LOG, REFUSAL = range(4)
"""Resources of its one instance."""
MOST_LOG, MOST_REFUSAL, MOST_SLOTS = 4096, 600, 16
"""B of the log, its end; characters of a refusal; slots, areas and media."""
MOST_TEXT, MOST_BODY = 200, 32 * 1024
"""Characters of any other text; B of all together."""

Words = dict[str, Any]  # Any: whatever JSON can hold
"""bootloader, log, refusal, problem: texts. media: B by name. areas: name, offset, size (B) in flash. slots: name,
medium, offset, size, state, detail, and header: None, or size, version, number, digest (hex) and more (by name)."""


def read(payload: bytes) -> Words | None:
    """Read what an instance of the object has in TLV; None if it is not that."""
    if len(payload) > MOST_BODY:
        return None
    try:
        entries = tlv.decode(payload)
    except Lwm2mError:
        return None
    values = {entry.id: entry.value for entry in entries if entry.kind is tlv.Kind.RESOURCE}
    if BOOTLOADER not in values:
        return None
    try:
        report = json.loads(values.get(SLOTS, b"{}"))
    except (ValueError, RecursionError):
        report = {}
    log = values.get(LOG, b"")[-MOST_LOG:].decode("utf-8", "replace")
    return whole(
        {
            **(report if isinstance(report, dict) else {}),
            "bootloader": values[BOOTLOADER].decode("utf-8", "replace"),
            "log": log,
            "refusal": values.get(REFUSAL, b"").decode("utf-8", "replace"),
        }
    )


def whole(found: Mapping[str, Any]) -> Words:
    """Return words as they are shown: nothing missing, nothing too long, no control characters."""
    media = found.get("media")
    return {
        "bootloader": _text(found.get("bootloader"), 32),
        "log": _lines(found.get("log")),
        "refusal": _text(found.get("refusal"), MOST_REFUSAL),
        "problem": _text(found.get("problem")),
        "media": {_text(name, 16): _number(size) for name, size in _first(media.items())}
        if isinstance(media, dict)
        else {},
        "areas": [
            {"name": _text(name, 32), "offset": _number(offset), "size": _number(size)}
            for name, offset, size in _first(_triples(found.get("areas")))
        ],
        "slots": [_slot(each) for each in _first(found.get("slots")) if isinstance(each, dict)],
    }


def _slot(found: Mapping[str, Any]) -> Words:
    header = found.get("header")
    return {
        "name": _text(found.get("name"), 32),
        "medium": _text(found.get("medium"), 16),
        "offset": _number(found.get("offset")),
        "size": _number(found.get("size")),
        "state": _text(found.get("state"), 16),
        "detail": _text(found.get("detail")),
        "header": _header(header) if isinstance(header, dict) else None,
    }


def _header(found: Mapping[str, Any]) -> Words:
    more = found.get("more")
    return {
        "size": _number(found.get("size")),
        "version": _text(found.get("version"), 40),
        "number": _number(found.get("number")),
        "digest": _text(found.get("digest"), 64),
        "more": {_text(name, 32): _text(value, 96) for name, value in _first(more.items())}
        if isinstance(more, dict)
        else {},
    }


def _triples(found: object) -> list[tuple[Any, Any, Any]]:  # Any: whatever JSON can hold
    rows = found if isinstance(found, list) else []
    named = [(row.get("name"), row.get("offset"), row.get("size")) if isinstance(row, dict) else row for row in rows]
    return [tuple(row) for row in named if isinstance(row, list | tuple) and len(row) == 3]


def _first(found: object) -> list[Any]:  # Any: whatever JSON can hold
    return list(found)[:MOST_SLOTS] if isinstance(found, Iterable) and not isinstance(found, str | bytes) else []


def _text(found: object, most: int = MOST_TEXT) -> str:
    text = "" if found is None else str(found)[: most * 2]
    # A half of a character of two halves, which JSON can hold, is none.
    sound = text.encode("utf-8", "replace").decode()
    return "".join(each if each.isprintable() else " " for each in sound)[:most].strip()


def _lines(found: object) -> str:
    lines = str(found or "")[-MOST_LOG:].replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(_text(line, MOST_LOG) for line in lines).strip("\n")


def _number(found: object) -> int:
    sound = isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 63
    return int(found) if sound else 0  # type: ignore[call-overload]  # mypy does not see through `sound`


def picture(words: Words) -> str:
    """Return the media as SVG, to scale: the slots where they lie, full as far as their images reach; areas beside."""
    media: dict[str, list[Stretch]] = {}
    for slot in words["slots"]:
        header = slot["header"]
        note = f"{slot['state']}{', version ' + header['version'] if header else ''}"
        filled = 0 if header is None or slot["state"] == "empty" else header["size"]
        media.setdefault(slot["medium"] or INTERNAL, []).append(
            Stretch(f"{slot['name']} ({slot['state']})", slot["offset"], slot["size"], filled, note)
        )
    taken = [(slot["offset"], slot["offset"] + slot["size"]) for slot in words["slots"] if slot["medium"] == INTERNAL]
    for area in words["areas"]:
        start, end = area["offset"], area["offset"] + area["size"]
        if not any(start < last and first < end for first, last in taken):
            media.setdefault(INTERNAL, []).append(Stretch(area["name"], start, area["size"]))
    strips = []
    for medium, stretches in sorted(media.items(), key=lambda each: each[0] != INTERNAL):
        end = max([words["media"].get(medium, 0), *(each.offset + each.size for each in stretches)])
        name = "flash" if medium == INTERNAL else medium
        if medium in words["media"]:
            strips.append(strip(f"{name}, {end / 1024:,.0f} KiB", end, stretches))
        else:  # how large it is, a device need not know
            start = min(each.offset for each in stretches)
            strips.append(strip(f"{name}, from 0x{start:x} on", end, stretches, start=start))
    return "".join(strips)
