"""Notification attributes (pmin, pmax, gt, lt, st, epmin, epmax) and the rule that they make."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Literal

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.content import Value, parse_float

SECOND = 1_000_000_000
MAX_QUERIES = 5  # what the stock client reads of one request, each under MAX_QUERY characters
MAX_QUERY = 20
LONGEST_QUERY = 80  # characters: a name, and the longest number that is read
LONGEST_TIME = (1 << 32) - 1  # s; more is no time that a clock could wait for

Reason = Literal["change", "gt", "lt", "st", "pmax"]


@dataclass(frozen=True, slots=True)
class NotificationAttributes:
    """Shortest and longest time between notifications (s), thresholds, and the least step; None is not set.

    epmin and epmax (LwM2M 1.1) are the shortest and longest time between two looks at the value (s).
    """

    pmin: int | None = None
    pmax: int | None = None
    gt: float | None = None
    lt: float | None = None
    st: float | None = None
    epmin: int | None = None
    epmax: int | None = None

    def __post_init__(self) -> None:
        # LwM2M 1.1 core, 5.1.2
        if self.pmin is not None and self.pmax is not None and self.pmin > self.pmax:
            raise Lwm2mError(f"pmin={self.pmin} is longer than pmax={self.pmax}")
        if self.epmin is not None and self.epmax is not None and self.epmin > self.epmax:
            raise Lwm2mError(f"epmin={self.epmin} is longer than epmax={self.epmax}")
        if self.st is not None and self.st < 0:
            raise Lwm2mError(f"st={self.st:g} is negative")
        if self.gt is not None and self.lt is not None:
            if not self.lt < self.gt:
                raise Lwm2mError(f"lt={self.lt:g} is not less than gt={self.gt:g}")
            if self.st is not None and not self.lt + 2 * self.st < self.gt:
                raise Lwm2mError(f"lt + 2·st = {self.lt + 2 * self.st:g} is not less than gt={self.gt:g}")

    def updated(self, queries: Iterable[str], *, version: str = "1.0") -> NotificationAttributes:
        """Return these attributes with those of a Write-Attributes request; "pmax" without a value unsets it.

        Version "1.1" knows epmin and epmax too, and is not held to what the stock client reads.

        Raises:
            Lwm2mError: one is not known, is no number, or they contradict each other.
        """
        queries = list(queries)
        stock = version == "1.0"
        if not stock and any(len(query) > LONGEST_QUERY for query in queries):
            raise Lwm2mError(f"an attribute of more than {LONGEST_QUERY} characters")
        if stock and (len(queries) > MAX_QUERIES or any(len(query) >= MAX_QUERY for query in queries)):
            raise Lwm2mError(f"at most {MAX_QUERIES} attributes of less than {MAX_QUERY} characters each")
        changes: dict[str, float | int | None] = {}
        for query in queries:
            name, _, text = query.partition("=")
            if name in ("pmin", "pmax") or (name in ("epmin", "epmax") and not stock):
                changes[name] = _whole(query, text) if text else None
            elif name in ("gt", "lt", "st"):
                changes[name] = _number(query, text) if text else None
            else:
                raise Lwm2mError(f"{query!r} is no notification attribute", hint="pmin, pmax, gt, lt or st")
        # Built at once, so that only the whole is held against the rules.
        return replace(self, **changes)  # type: ignore[arg-type]  # the names decide which are whole

    @property
    def queries(self) -> list[str]:
        """What a Write-Attributes request carries."""
        return [f"{name}={value:.12g}" for name, value in self.items()]

    def items(self) -> list[tuple[str, float]]:
        """Return those that are set."""
        values = ((each.name, getattr(self, each.name)) for each in fields(self))
        return [(name, value) for name, value in values if value is not None]

    def under(self, above: NotificationAttributes) -> NotificationAttributes:
        """Return these, completed by those of the level above; where the two contradict each other, these count.

        A pmax that is shorter than pmin then sets no longest time (LwM2M 1.1.1 core, 5.1.2).
        """
        values = dict(above.items()) | dict(self.items())
        if values.get("pmax", math.inf) < values.get("pmin", 0):
            del values["pmax"]
        if values.get("epmax", math.inf) < values.get("epmin", 0):
            del values["epmax"]
        try:
            return NotificationAttributes(**values)  # type: ignore[arg-type]  # the names decide which are whole
        except Lwm2mError:
            thresholds = ("gt", "lt", "st")  # those of this level make sense by themselves
            own = {
                name: value for name, value in values.items() if name not in thresholds or (name, value) in self.items()
            }
            return NotificationAttributes(**own)  # type: ignore[arg-type]


def _whole(query: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise Lwm2mError(f"{query!r} is no time in whole seconds")
    if len(text) > 10 or int(text) > LONGEST_TIME:
        raise Lwm2mError(f"{query[:40]!r} is longer than {LONGEST_TIME} s")
    return int(text)


def _number(query: str, text: str) -> float:
    number = parse_float(text)
    if number is None:
        raise Lwm2mError(f"{query!r} is no number")
    return number


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to notify now, why, and when to ask again if the value stays (ns; None: no need).

    With `notify` False and a reason, the notification waits for pmin.
    """

    notify: bool
    reason: Reason | None = None
    at: int | None = None


class NotificationRule:
    """Decides when an observed value is to be told, and by which attribute.

    Thresholds and step compare with the value told last: a value that crosses gt and comes back while pmin
    holds the notification is not worth one.

    >>> rule = NotificationRule(NotificationAttributes(pmin=1, pmax=60), 20, now=0)
    >>> rule.update(21, now=200_000_000)
    Decision(notify=False, reason='change', at=1000000000)
    >>> rule.update(21, now=1_000_000_000)
    Decision(notify=True, reason='change', at=61000000000)
    """

    def __init__(self, attributes: NotificationAttributes, value: Value, now: int) -> None:
        self.attributes = attributes
        self.value = value
        self.told_at = now

    def update(self, value: Value, now: int) -> Decision:
        """Decide for the present value at a clock's time (ns); a yes counts as told."""
        pmin = (self.attributes.pmin or 0) * SECOND
        pmax = self.attributes.pmax
        # pmax=0 sets no longest time, or every look would be a notification
        latest = self.told_at + pmax * SECOND if pmax else None
        reason = reason_to_tell(self.attributes, self.value, value)
        if reason is None and latest is not None and now >= latest:
            reason = "pmax"
        if reason is None:
            return Decision(False, None, latest)
        if now < self.told_at + pmin:
            return Decision(False, reason, self.told_at + pmin)
        self.value, self.told_at = value, now
        return Decision(True, reason, now + pmax * SECOND if pmax else None)


def reason_to_tell(rules: NotificationAttributes, old: Value, value: Value) -> Reason | None:
    """Return which attribute makes a value worth telling after the one told last; None if none does."""
    if value == old:
        return None
    numeric = isinstance(value, int | float) and isinstance(old, int | float)
    if not numeric or (rules.gt is None and rules.lt is None and rules.st is None):
        return "change"
    assert isinstance(value, int | float) and isinstance(old, int | float)
    if rules.gt is not None and (old > rules.gt) != (value > rules.gt):
        return "gt"
    if rules.lt is not None and (old < rules.lt) != (value < rules.lt):
        return "lt"
    if rules.st is not None and abs(value - old) >= rules.st:
        return "st"
    return None
