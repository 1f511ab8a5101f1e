"""How times, sizes, values and errors are written on the page: each number with its unit, each time with its clock."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from html import escape
from typing import Any

from pdmlab.cloud.values import Value
from pdmlab.errors import PdmlabError
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import ResourceDefinition, core_objects
from pdmlab.update import hub
from pdmlab.update.results import FotaResult, FotaState

MOST = 400
"""Characters of a value that are shown."""
STATES = {
    "registered": "good",
    "bootstrapped": "wait",
    "cloud_enrolling": "wait",
    "unenrolled": "quiet",
    "deregistered": "quiet off",
}
"""How a device's state looks."""


def safe(text: object) -> str:
    """Return text for HTML."""
    return escape(str(text))


def error(problem: PdmlabError) -> str:
    """Return what went wrong, and what to try."""
    return f"{problem.message}. {problem.hint.capitalize() if problem.hint else ''}".strip()


def clock(moment: float) -> str:
    """Return a time of day, UTC."""
    return f"{datetime.datetime.fromtimestamp(moment, datetime.UTC):%H:%M:%S}"


def moment(at: float, now: float | None = None) -> str:
    """Return a time (Unix s) as a time of day, UTC; with its date where that is not the one of `now`, today."""
    there, here = (datetime.datetime.fromtimestamp(each, datetime.UTC) for each in (at, now or time.time()))
    return f"{there:%H:%M:%S}" if there.date() == here.date() else f"{there:%Y-%m-%d %H:%M:%S}"


def lately(text: str | None, now: float | None = None) -> str:
    """Return a time of the API without its date, if that is the one of `now`, today (UTC); "" for none."""
    today = f"{datetime.datetime.fromtimestamp(now or time.time(), datetime.UTC):%Y-%m-%d} "
    return time_of(text).removeprefix(today)


def devices(many: int) -> str:
    """Return how many devices: 1 device, 1,200 devices."""
    return f"{many:,} device{'s' if many != 1 else ''}"


def kept(fresh_for: float | None) -> str:
    """Return what is known of a value that the service keeps, when it came is not; fresh_for: s, None for ever."""
    if fresh_for is None:
        return "came with the registration"
    return f"kept by the service, fresh for {duration(fresh_for)}" if fresh_for > 0 else "kept by the service, stale"


def time_of(text: str | None) -> str:
    """Return a time of the API as people read it: 2026-11-26 04:09:54 (UTC); "" for none."""
    return (text or "").replace("T", " ").partition(".")[0].removesuffix("Z")


def number(value: int | float) -> str:
    """Return a number with its thousands apart."""
    return f"{value:,}"


def size(value: int | None) -> str:
    """Return a size: 1,536 B, 204.8 kB, 1.3 MB."""
    if value is None:
        return ""
    if value < 10_000:
        return f"{value:,} B"
    return f"{value / 1000:,.1f} kB" if value < 10_000_000 else f"{value / 1e6:,.1f} MB"


def duration(seconds: float | None) -> str:
    """Return how long: 45 s, 12 min, 3 h 20 min, 2 d."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min" if whole < 172_800 else f"{whole // 86_400} d"


def value(found: Value, path: str) -> str:
    """Return a value as it is read, with its unit, if the registry has one."""
    if isinstance(found, dict):
        inside = path if path.count("/") > 2 else ""  # the instances of a resource have its unit
        said = ", ".join(f"{id}: {value(each, inside)}" for id, each in found.items())
    elif isinstance(found, bytes):
        said = f"{found[:64].hex(' ')}{' …' if len(found) > 64 else ''} ({len(found):,} B)"
    else:
        said = str(found)
    known = definition(path)
    if (word := _of_update(found, path)) is not None:
        return word
    if known is not None and known.type == "time" and (at := numeric(found)) is not None and 0 <= at < 1e11:
        return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%d %H:%M:%S} UTC, device clock"
    unit = f" {known.unit}" if known is not None and known.unit and said and not isinstance(found, dict) else ""
    return said[:MOST] + ("…" if len(said) > MOST else "") + unit


def _of_update(found: Value, path: str) -> str | None:
    """Return a state or a result of the update object in words; None for what is neither."""
    parts, number = path.split("/"), numeric(found)
    if len(parts) != 4 or parts[1] != "10252" or number is None or number != int(number):
        return None
    what = int(number)
    if parts[3] == "2" and what in tuple(FotaState):
        return str(FotaState(what))
    if parts[3] != "3":
        return None
    if what == -1:
        return "-1 (nothing decided yet)"
    if hub.is_hub_result(what):
        return f"{what} ({hub.explain(what)[0]})"
    return str(FotaResult(what)) if what in tuple(FotaResult) else None


def definition(path: str) -> ResourceDefinition | None:
    """Return what the registry knows of a resource."""
    return core_objects().resource(Path.parse(path)) if path else None


def numeric(found: Value) -> float | None:
    """Return a value as a number; None if it is none."""
    if isinstance(found, bytes | dict):
        return None
    try:
        number = float(found)
    except ValueError:
        return None
    return number if abs(number) < 1e300 else None


def sparkline(values: Sequence[float]) -> str:
    """Return a small drawing of the latest values, of 84 × 24 px; "" of fewer than two."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    step = 80 / (len(values) - 1)
    points = [
        (2 + step * at, 12 if high == low else 21 - 18 * (value - low) / (high - low))
        for at, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    said = f"{len(values)} values from {low:g} to {high:g}"
    return (
        f'<svg class="spark" viewBox="0 0 84 24" role="img" aria-label="{said}"><title>{said}</title>'
        f'<polyline points="{line}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2"/></svg>'
    )


def state(name: str) -> str:
    """Return the classes of a device's state."""
    return f"state {STATES.get(name, 'quiet')}"


def message(row: dict[str, Any], now: float | None = None) -> str:
    """Return a row of the message log as a line of HTML."""
    arrow, kind = {"in": ("←", "in"), "out": ("→", "out"), "": ("•", "event")}[row["direction"]]
    code, at = str(row["code"]), row["time_ns"]
    bad = code[:2] in ("4.", "5.") or row["outcome"] in ("reset", "never acknowledged")
    bad = bad or "failed" in code or code == "unreadable"
    asked = row["path"] + ("" if code[:1].isdigit() else row["query"])
    size_ = f"{row['payload_B']:,} B" if row["payload_B"] else ""
    trip = "" if row["round_trip_ms"] is None else f"after {row['round_trip_ms']:,.1f} ms"
    again = f"transmission {row['transmission']}" if row["transmission"] > 1 else ""
    quiet = " · ".join(filter(None, (row["options"], size_, trip, again, row["outcome"])))
    classes = "line again" if row["transmission"] > 1 else "line"
    return (
        f'<div class="{classes}"><span class="at" title="{safe(row["clock"])} clock">{moment(at // 10**9, now)}.'
        f'{at % 10**9 // 1000:06d} UTC</span><span class="{kind}">{arrow}</span><span>{safe(row["type"])}</span>'
        f'<b class="{"bad" if bad else kind}">{safe(code)}</b>'
        f'<span class="what"><span class="path">{safe(asked)}</span> {safe(row["payload"])}'
        f' <span class="quiet">{safe(quiet)}</span></span></div>'
    )
