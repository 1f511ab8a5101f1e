"""What has happened in each account, counted: in memory as it happens, in the database every few seconds.

A count costs a dictionary's look-up; processes that share a database add to the same rows. Whoever kills a process
loses what it counted in its last seconds: counts are for charts, not for bills.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import sqlalchemy as sa

from pdmlab.errors import ServiceError
from pdmlab.service.schema import metric_counts as table
from pdmlab.service.schema.metrics import METRICS, Metric
from pdmlab.service.statements import Statement

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_log = logging.getLogger(__name__)

Counts: TypeAlias = dict[str, int]

BUCKET_S = 300
"""Seconds that are counted together: the vendor's shortest interval."""
KEPT_S = 366 * 86_400
"""How long counts are kept: the vendor's longest period."""
WRITE_S = 5.0
"""How long a count may wait to be written."""
BLOCK = 512
"""B of a message that are one transaction."""

_PRUNE_S = 86_400.0
_AT = {name: number for number, name in enumerate(METRICS)}
_THIS = sa.and_(table.c.account_id == sa.bindparam("account"), table.c.begins == sa.bindparam("bucket"))
_ADD = Statement(
    sa.update(table).where(_THIS).values({name: table.c[name] + sa.bindparam(f"n_{name}") for name in METRICS})
)
_INSERT = Statement(sa.insert(table), [column.name for column in table.c])
_PRUNE = Statement(sa.delete(table).where(table.c.begins < sa.bindparam("before")))
_SUMS = sa.select(table.c.begins, *(table.c[name] for name in METRICS)).where(
    table.c.account_id == sa.bindparam("account"),
    table.c.begins >= sa.bindparam("first"),
    table.c.begins < sa.bindparam("last"),
)


class Metrics:
    """The counts of all accounts."""

    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._now = core.now
        self._counts: dict[tuple[str, int], list[int]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._pruned = -_PRUNE_S

    def __repr__(self) -> str:
        return f"<Metrics of {len({account for account, _ in self._counts})} accounts, not written yet>"

    def count(self, account_id: str, metric: Metric, number: int = 1, at: float | None = None) -> None:
        """Count something that has happened now, or at a time (Unix s); it is written within WRITE_S."""
        key = account_id, int(self._now() if at is None else at) // BUCKET_S
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = [0] * len(METRICS)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(WRITE_S, self._write)
        counts[_AT[metric]] += number

    def sums(self, account_id: str, starts: Sequence[int], interval: int) -> list[Counts]:
        """Return what was counted in intervals (s), which begin at these times (Unix s, the earliest first)."""
        self.flush()
        found: list[Counts] = [dict.fromkeys(METRICS, 0) for _ in starts]
        if not starts:
            return found
        first, last = starts[0], starts[-1] + interval
        for row in self._store.rows(_SUMS, account=account_id, first=first, last=last):
            sums = found[(row["begins"] - first) // interval]
            for name in METRICS:
                sums[name] += row[name]
        return found

    def flush(self) -> None:
        """Write what has been counted; what cannot be written now is kept until it can."""
        counts, self._counts = self._counts, {}
        for (account_id, number), numbers in counts.items():
            try:
                self._add(account_id, number * BUCKET_S, numbers)
            except ServiceError as error:
                _log.warning("metrics wait to be written: %s", error)
                kept = self._counts.setdefault((account_id, number), [0] * len(METRICS))
                kept[:] = [mine + other for mine, other in zip(kept, numbers, strict=True)]
            except sa.exc.IntegrityError:  # the account was deleted meanwhile
                pass

    def close(self) -> None:
        """Write what is left, and count nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._counts:
            self.flush()

    def _write(self) -> None:
        self._timer = None
        self.flush()
        if self._counts and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_S, self._write)
        now = self._now()
        if now - self._pruned >= _PRUNE_S:
            self._pruned = now
            try:
                with self._store.batch() as db:
                    _PRUNE.run(db, before=int(now) - KEPT_S)
            except ServiceError as error:
                _log.warning("metrics cannot be forgotten: %s", error)

    def _add(self, account_id: str, begins: int, numbers: Sequence[int]) -> None:
        values = dict(zip(METRICS, numbers, strict=True))
        added = {f"n_{name}": number for name, number in values.items()}
        for _ in range(2):
            try:
                with self._store.batch() as db:
                    if not _ADD.run(db, account=account_id, bucket=begins, **added):
                        _INSERT.run(db, account_id=account_id, begins=begins, **values)
                return
            except sa.exc.IntegrityError as error:  # another process has made the row meanwhile
                again = error
        raise again


def blocks(size: int) -> int:
    """Return how many transactions a message (B) is."""
    return max(1, -(-size // BLOCK))


def grid(first: int, last: int, interval: int) -> Iterator[int]:
    """Return where intervals (s) begin that cover the time from first to last (Unix s); weeks begin on Mondays."""
    monday = 4 * 86_400 if interval % (7 * 86_400) == 0 else 0  # 1970 began on a Thursday
    start = (first - monday) // interval * interval + monday
    yield from range(start, last, interval)
