"""Which value of a resource is told, and why: attributes applied to a series of values, second by second."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pdmlab.clock import SECOND
from pdmlab.lwm2m.attributes import NotificationAttributes, NotificationRule
from pdmlab.prng import SplitMix64

if TYPE_CHECKING:
    import pandas as pd


def temperatures(seed: int, *, seconds: int = 600) -> list[float]:
    """Return a value a second: a room (°C, steps of 0.1) that drifts, and is aired now and then."""
    random = SplitMix64(seed).split("temperatures")
    values, value, target = [], 21.0, 21.0
    for _ in range(seconds):
        if random.below(90) == 0:
            target = 16.0 + random.below(90) / 10
        value += (target - value) / 20 + (random.random() - 0.5) / 4
        values.append(round(value, 1))
    return values


def told(values: Sequence[float], attributes: NotificationAttributes) -> pd.DataFrame:
    """Apply the attributes to one value a second; return time_s, value, told, reason, known and error a second.

    `known` is what the server believes, `error` how far that is from the value. The first value is told when
    the observation begins. A notification that waits for pmin has `waits_for` set to what it waits with.
    """
    import pandas as pd

    rule = NotificationRule(attributes, values[0], now=0)
    rows: list[dict[str, object]] = []
    known = values[0]
    for second, value in enumerate(values):
        decision = rule.update(value, second * SECOND)
        notify = decision.notify or second == 0
        reason = "observe" if second == 0 else (decision.reason or "") if notify else ""
        known = value if notify else known
        waits = decision.reason or "" if not notify else ""
        rows.append(
            {"time_s": second, "value": value, "told": notify, "reason": reason, "waits_for": waits, "known": known,
             "error": round(abs(value - known), 3), "simulated": True, "clock": "device"}
        )  # fmt: skip
    return pd.DataFrame(rows)
