"""Campaigns before they start: made, and changed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from pdmlab.service.campaign_table import CampaignTable
from pdmlab.service.filters import parse, parse_time
from pdmlab.service.ids import timestamp
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import campaigns
from pdmlab.service.store import Row

MAX_FILTER = 8192  # characters
MAX_CAMPAIGNS = 10_000
"""Of an account."""
_EDITABLE = ("name", "description", "device_filter", "root_manifest_id", "when", "campaign_strategy")


class CampaignDrafts(CampaignTable):
    """The campaigns of all accounts, as callers want them."""

    def create(
        self,
        account_id: str,
        *,
        device_filter: str,
        name: str = "",
        description: str = "",
        root_manifest_id: str | None = None,
        when: str | None = None,
        campaign_strategy: str = "one-shot",
    ) -> Row:
        """Make a campaign in phase draft; return its row.

        Raises:
            ConfigError: the filter cannot be read.
            Refused: `when` is no time, there is no such manifest, or there are MAX_CAMPAIGNS (400).
        """
        mine = sa.select(sa.func.count()).select_from(campaigns).where(campaigns.c.account_id == account_id)
        if self._store.scalar(mine) >= MAX_CAMPAIGNS:
            said = f"the account has {MAX_CAMPAIGNS} campaigns: delete some first"
            raise Refused(400, said, type="account_limit_exceeded")
        at = self._store.timestamp()
        row: Row = {"id": self._store.ids.new(), "account_id": account_id, "created_at": at, "updated_at": at}
        row |= self._checked(
            account_id,
            name=name,
            description=description,
            device_filter=device_filter,
            root_manifest_id=root_manifest_id,
            when=when,
            campaign_strategy=campaign_strategy,
        )
        with self._store.begin() as db:
            db.execute(sa.insert(campaigns).values(row))
        return self.find(account_id, row["id"])

    def change(self, account_id: str, id: str, **changes: Any) -> Row:  # Any: a column's type is its own
        """Change a campaign: all of a draft, later its name and description only; return its row.

        What is sent again as it was is no change.

        Raises:
            Refused: no such campaign (404), or what may not be changed any more (403).
        """
        row = self.find(account_id, id)
        wanted = {name: value for name, value in changes.items() if name in _EDITABLE and row[name] != value}
        wanted = {name: value for name, value in self._checked(account_id, **wanted).items() if row[name] != value}
        frozen = wanted.keys() - {"name", "description"}
        if row["phase"] != "draft" and frozen:
            raise Refused(
                403,
                f"{', '.join(sorted(frozen))} of a campaign in phase {row['phase']} cannot be changed",
                type="access_denied",
            )
        if frozen and not self._enter(id, "draft", **wanted):
            raise Refused(403, f"campaign {id} has started meanwhile", type="access_denied")
        if wanted and not frozen:
            self._set(id, **wanted)
        return self.find(account_id, id)

    def _checked(self, account_id: str, **fields: Any) -> Row:  # Any: a column's type is its own
        """Return fields as they are kept; raise if one cannot be."""
        if "device_filter" in fields:
            if len(fields["device_filter"]) > MAX_FILTER:
                raise Refused(400, f"the device filter has more than {MAX_FILTER} characters", type="validation_error")
            parse(fields["device_filter"])
        if fields.get("when") is not None:
            when = parse_time(str(fields["when"]))
            if when is None:
                raise Refused(400, f"when is no time: {str(fields['when'])[:40]!r}", type="validation_error")
            fields["when"] = timestamp(when.timestamp())
        if fields.get("root_manifest_id") is not None:
            self._core.firmware.manifest(account_id, fields["root_manifest_id"])
        return fields
