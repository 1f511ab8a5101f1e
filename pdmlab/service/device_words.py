"""What the devices of campaigns say of their slots and bootloaders: asked when an update has ended, and on demand.

A stock device has nothing of the kind (4.04): then that is kept, so that nobody asks it again and again.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.errors import NetworkError, ServiceError
from pdmlab.lwm2m.content import TLV
from pdmlab.lwm2m.paths import Path
from pdmlab.service.schema import campaign_devices
from pdmlab.service.schema import device_words as table
from pdmlab.service.store import Row
from pdmlab.update import device_words

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_log = logging.getLogger(__name__)

PLACE = Path.parse(f"/{device_words.OBJECT}/0")
AT_ONCE = 32
"""Devices that are asked at the same time."""


class DeviceWords:
    """The words of all devices that are, or were, in campaigns."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<DeviceWords, {len(self._tasks)} devices are asked>"

    def later(self, row: Row) -> None:
        """Ask the device of a campaign's row soon, if it can be asked now."""
        if self._core.delivery.obstacle(row["device_id"]) is None:
            task = asyncio.get_running_loop().create_task(self._try(row))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def ask(self, row: Row) -> None:
        """Ask the device of a campaign's row now, and keep what it says.

        Raises:
            NetworkError: it does not answer.
            ServiceError: the database is away.
        """
        message = Message(code=codes.GET, accept=TLV)
        message.opt.uri_path = PLACE.segments
        answer = await self._core.delivery.ask(row["device_id"], message)
        words = device_words.read(answer.payload) if answer.code < 128 else None
        self._keep(row, words)

    def of(self, row_id: str) -> tuple[device_words.Words | None, str | None]:
        """Return what the device of a campaign's row said, None if it does not tell; and when, None if never asked."""
        found = self._store.row(sa.select(table).where(table.c.campaign_device_id == row_id))
        if found is None:
            return None, None
        words: dict[str, Any] | None = json.loads(found["words"]) if found["words"] else None  # Any: what JSON holds
        return (None if words is None else device_words.whole(words)), found["told_at"]

    async def close(self) -> None:
        """Ask nobody any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _try(self, row: Row) -> None:
        try:
            async with self._turns:
                await self.ask(row)
        except NetworkError as error:
            _log.info("device %s said nothing of its slots: %s", row["device_id"], error.message)
        except ServiceError as error:
            _log.error("what device %s said of its slots cannot be kept: %s", row["device_id"], error)

    def _keep(self, row: Row, words: device_words.Words | None) -> None:
        values = {"words": "" if words is None else json.dumps(words), "told_at": self._store.timestamp()}
        here = table.c.campaign_device_id == row["id"]
        with self._store.begin() as db:
            if db.execute(sa.update(table).where(here).values(values)).rowcount:
                return
            # The campaign may have been deleted meanwhile.
            there = campaign_devices.c.id == row["id"], campaign_devices.c.account_id == row["account_id"]
            whose = sa.select(
                campaign_devices.c.id, campaign_devices.c.account_id, *(sa.literal(each) for each in values.values())
            ).where(*there)
            db.execute(sa.insert(table).from_select(["campaign_device_id", "account_id", *values], whose))
            if words is not None and words["refusal"]:
                self._tell_first(row, words["refusal"])

    def _tell_first(self, row: Row, refusal: str) -> None:
        """Put a device's own words before the advice for its result; those it says first: later ones may be of another.

        Where neither a result nor a restart was heard of, its last refusal may be that of an earlier update.
        """
        c = campaign_devices.c
        failed = (
            c.id == row["id"],
            c.summary_status == "fail",
            c.result.is_not(None) | (c.event_type == "UPD4_FAIL_103"),
        )
        found = self._store.row(sa.select(c.description).where(*failed))
        if found is not None:
            said = str(found["description"])
            mark = "): " if "): " in said else ": "
            what, _, advice = said.partition(mark)
            told = f"{what}{mark}the device says: {refusal}; {advice}"
            with self._store.begin() as db:
                db.execute(sa.update(campaign_devices).where(*failed).values(description=told))
