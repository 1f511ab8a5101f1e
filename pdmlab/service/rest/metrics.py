"""What has happened in an account, counted: /v3/metrics; and the counts of the Connect API's own calls."""

from __future__ import annotations

import datetime
import re
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pdmlab.service.accounts import Key
from pdmlab.service.core import Core
from pdmlab.service.filters import parse_time
from pdmlab.service.metrics import BUCKET_S, KEPT_S, grid
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.errors import Invalid, is_v2
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.schema.metrics import METRICS, Metric

router = APIRouter(tags=["Metrics"])

_SPAN = re.compile(r"([1-9][0-9]{0,5})([mhdw])")
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(\d{0,6})\d*Z")
_HINT = "5m to 525600m, 1h to 8760h, 1d to 365d or 1w to 53w"

Include = Annotated[str, Query(min_length=1, max_length=1000, description=f"Of these: {', '.join(METRICS)}.")]
Interval = Annotated[str, Query(description=f"What is counted together: {_HINT}.")]
Start = Annotated[str | None, Query(description="A time, a day or a year: 2026-11-30T09:20:56Z, 20261130, 2026.")]
End = Annotated[str | None, Query(description="As start; what happened from then on is left out.")]
Period = Annotated[str | None, Query(description=f"How far back, instead of start and end: {_HINT}.")]


@router.get("/v3/metrics", summary="Get metrics")
async def get_metrics(
    core: TheCore,
    key: TheKey,
    page: Page,
    include: Include,
    interval: Interval,
    start: Start = None,
    end: End = None,
    period: Period = None,
) -> Json:
    """What has happened in the account in each interval, also those in which nothing did; they begin on the hour, at
    midnight (UTC) or on Mondays, as long as they are."""
    wanted = [name for each in include.split(",") if (name := each.strip()) and name != "total_count"]
    if unknown := [name for name in wanted if name not in METRICS]:
        raise Invalid(("include", f"there is no metric {unknown[0][:60]!r}"))
    length = _span("interval", interval)
    first, last = _times(core.now(), start, end, period)
    starts = grid(first, last, length)
    after = _start_of(page.after, length)
    ordered = list(starts)
    total = len(ordered)
    if page.descending:
        ordered.reverse()
    if after is not None:
        ordered = [at for at in ordered if (at < after if page.descending else at > after)]
    shown = ordered[: page.limit]
    sums = core.metrics.sums(key.account_id, sorted(shown), length)
    if page.descending:
        sums.reverse()
    data = [
        {"id": _id(at, length), "timestamp": f"{_text(at)}Z", **{name: counts[name] for name in wanted}}
        for at, counts in zip(shown, sums, strict=True)
    ]
    return {
        "object": "list",
        "data": data,
        "has_more": len(ordered) > page.limit,
        "limit": page.limit,
        "after": page.after,
        "order": "DESC" if page.descending else "ASC",
        "total_count": total,
    }


def _times(now: float, start: str | None, end: str | None, period: str | None) -> tuple[int, int]:
    """Return the time that is asked for (Unix s), to the end of what is counted already."""
    if period is not None:
        if start is not None or end is not None:
            raise Invalid(("period", "it stands instead of start and end"))
        return int(now) - _span("period", period), int(now) + 1
    if start is None or end is None:
        raise Invalid(("start" if start is None else "end", "start and end are wanted, or a period"))
    first, last = _time("start", start), _time("end", end)
    if last <= first:
        raise Invalid(("end", "it is not after the start"))
    if last - first > 365 * 86_400:
        raise Invalid(("end", "at most 365 days can be asked for"))
    # What is not counted any more, or not yet, has no intervals.
    return max(first, int(now) - KEPT_S), min(last, int(now) + 1)


def _span(name: str, text: str) -> int:
    """Return a length of time (s)."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise Invalid((name, f"{text[:40]!r} is no length of time: {_HINT}"))
    length = int(found[1]) * _UNITS[found[2]]
    most = {"w": 53 * _UNITS["w"]}.get(found[2], 365 * _UNITS["d"])
    if not BUCKET_S <= length <= most:
        raise Invalid((name, f"{text} is too {'short' if length < BUCKET_S else 'long'}: {_HINT}"))
    return length


def _time(name: str, text: str) -> int:
    """Return a time (Unix s) in any of the vendor's forms."""
    when: datetime.datetime | None = None
    try:
        if re.fullmatch(r"\d{4}", text):
            when = datetime.datetime(int(text), 1, 1, tzinfo=datetime.UTC)
        elif found := _COMPACT.fullmatch(text):
            *parts, fraction = found.groups()
            year, month, day, hour, minute, second = map(int, parts)
            microsecond = int(fraction.ljust(6, "0"))
            when = datetime.datetime(year, month, day, hour, minute, second, microsecond, datetime.UTC)
        else:
            when = parse_time(text)
    except (ValueError, OverflowError):
        pass
    if when is None:
        raise Invalid((name, f"{text[:40]!r} is no time: write 2026-11-30T09:20:56Z, 20261130 or 2026"))
    return int(when.timestamp())


def _id(at: int, length: int) -> str:
    """Return the id of an interval: when it begins (ms since 1970), and how long it is (s)."""
    return f"{at * 1000:016x}{length:016x}"


def _start_of(id: str | None, length: int) -> int | None:
    if id is None:
        return None
    if not re.fullmatch(r"[0-9a-f]{32}", id) or int(id[16:], 16) != length:
        raise Invalid(("after", "it is the id of a metric of this interval"))
    return int(id[:16], 16) // 1000


def _text(at: int) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


class ConnectCalls:
    """An ASGI application around another: it counts how calls of the Connect API are answered, by account."""

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app = app
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = scope.get("state", {}).get("key") if scope["type"] == "http" and is_v2(scope["path"]) else None
        if not isinstance(key, Key):
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                good = message["status"] < 400
                metric: Metric = "connect_rest_api_success" if good else "connect_rest_api_error"
                self._core.metrics.count(key.account_id, metric)
            await send(message)

        await self._app(scope, receive, counted)
