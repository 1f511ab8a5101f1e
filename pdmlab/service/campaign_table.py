"""The rows of campaigns, what is counted in them, and how a campaign comes from one phase to the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.service.campaign_words import SUMMARIES, Phase, event_id, event_title
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import campaign_devices, campaigns
from pdmlab.service.store import Row, Rows

if TYPE_CHECKING:
    from pdmlab.service.core import Core


class CampaignTable:
    """The campaigns of all accounts, at rest."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store

    def find(self, account_id: str, id: str) -> Row:
        """Return a campaign's row; raise Refused (404) if the account has no such campaign."""
        row = self._store.row(sa.select(campaigns).where(campaigns.c.account_id == account_id, campaigns.c.id == id))
        if row is None:
            raise not_found("campaign", id)
        return row

    def list(self, account_id: str) -> Rows:
        """Return an account's campaigns, the oldest first."""
        return self._store.rows(
            sa.select(campaigns).where(campaigns.c.account_id == account_id).order_by(campaigns.c.id)
        )

    def metadata(self, account_id: str, id: str) -> Rows:
        """Return the rows of a campaign's devices; raise as `find` does."""
        self.find(account_id, id)
        return self._store.rows(
            sa.select(campaign_devices).where(campaign_devices.c.campaign_id == id).order_by(campaign_devices.c.id)
        )

    def device(self, account_id: str, id: str, row_id: str) -> Row:
        """Return the row of one of a campaign's devices, by the row's id; raise as `find` does."""
        self.find(account_id, id)
        c = campaign_devices.c
        row = self._store.row(sa.select(campaign_devices).where(c.campaign_id == id, c.id == row_id))
        if row is None:
            raise not_found("campaign device", row_id)
        return row

    def statistics(self, account_id: str, id: str) -> Rows:
        """Return how many devices failed, succeeded, are under way and were skipped; raise as `find` does."""
        campaign = self.find(account_id, id)
        counted = self._counts(id, campaign_devices.c.summary_status)
        return [
            {
                "id": summary,
                "summary_status": summary.upper(),
                "count": counted.get((summary,), 0),
                "campaign_id": id,
                "created_at": campaign["started_at"] or campaign["created_at"],
            }
            for summary in SUMMARIES
        ]

    def event_types(self, account_id: str, id: str, summary_id: str | None = None) -> Rows:
        """Return how many devices are at which event; of one summary (fail, success …), or of all. Raise as `find`."""
        campaign = self.find(account_id, id)
        counted = self._counts(id, campaign_devices.c.summary_status, campaign_devices.c.event_type)
        return [
            {
                "id": event_id(event_type),
                "event_type": event_type,
                "description": event_title(event_type),
                "count": count,
                "summary_status": summary.upper(),
                "summary_status_id": summary,
                "campaign_id": id,
                "created_at": campaign["started_at"] or campaign["created_at"],
            }
            for (summary, event_type), count in sorted(counted.items())
            if summary_id in (None, summary)
        ]

    def metrics(self, account_id: str, id: str) -> dict[str, int]:
        """Return total_count, success_count, failed_count, pending_count and skipped_count; raise as `find` does."""
        counts = {row["id"]: row["count"] for row in self.statistics(account_id, id)}
        return {
            "total_count": sum(counts.values()),
            "success_count": counts["success"],
            "failed_count": counts["fail"],
            "pending_count": counts["info"],
            "skipped_count": counts["skipped"],
        }

    def failing(self, ids: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Return of campaigns how many devices have failed, and how many are done."""
        c = campaign_devices.c
        failed = sa.func.sum(sa.case((c.summary_status == "fail", 1), else_=0))
        counted = sa.select(c.campaign_id, failed.label("failed"), sa.func.count().label("done"))
        done = counted.where(c.campaign_id.in_(list(ids)), c.summary_status != "info").group_by(c.campaign_id)
        return {row["campaign_id"]: (int(row["failed"]), row["done"]) for row in self._store.rows(done)}

    def _row(self, id: str) -> Row | None:
        return self._store.row(sa.select(campaigns).where(campaigns.c.id == id))

    def _set(self, id: str, **values: object) -> None:
        with self._store.begin() as db:
            values["updated_at"] = self._store.timestamp()
            db.execute(sa.update(campaigns).where(campaigns.c.id == id).values(values))

    def _enter(self, id: str, *phases: Phase, as_read: Sequence[sa.ColumnElement[bool]] = (), **values: object) -> bool:
        """Set values of a campaign that is in one of these phases; False if it is not, or somebody was faster.

        as_read: what else must still be as it was read, because the values go by it.
        """
        with self._store.begin() as db:
            values["updated_at"] = self._store.timestamp()
            here = campaigns.c.id == id, campaigns.c.phase.in_(phases), *as_read
            changed: int = db.execute(sa.update(campaigns).where(*here).values(values)).rowcount
            if changed:
                self._core.bus.tell("campaign", id)
        return bool(changed)

    def _must_enter(self, account_id: str, id: str, *phases: Phase, **values: object) -> Row:
        """Do so for a caller, who is told (409) if it cannot be; return the campaign's row."""
        row = self.find(account_id, id)
        if not self._enter(id, *phases, as_read=(), **values):
            raise self._wrong_phase(row, *phases)
        return self.find(account_id, id)

    def _wrong_phase(self, row: Row, *phases: Phase) -> Refused:
        return Refused(
            409,
            f"campaign {row['id']} is in phase {row['phase']}, not {' or '.join(phases)}",
            type="precondition_failed",
        )

    def _counts(self, id: str, *columns: sa.Column[str]) -> dict[tuple[str, ...], int]:
        counted = sa.select(*columns, sa.func.count().label("count")).where(campaign_devices.c.campaign_id == id)
        rows = self._store.rows(counted.group_by(*columns))
        return {tuple(row[column.name] for column in columns): row["count"] for row in rows}
