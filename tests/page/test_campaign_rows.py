"""Devices' rows in a campaign: those that share an endpoint name are told apart."""

from __future__ import annotations

import asyncio
from typing import Any

from pdmlab.page.api import Api
from pdmlab.page.campaign_rows import Opened, rows_of


def row(device_id: str, name: str | None) -> dict[str, Any]:
    nothing = dict.fromkeys(("total_B", "done_B", "left_s", "left_from", "round_trip_ms", "block_B", "description"))
    return nothing | {"device_id": device_id, "endpoint_name": name, "phase": "waiting"}


def test_devices_of_one_name_show_the_end_of_their_ids() -> None:
    async def names() -> list[str]:
        rows = [row("1" * 32, "desk"), row("2" * 32, "desk"), row("3" * 32, "alone"), row("4" * 32, None)]
        opened = Opened(Api("http://127.0.0.1:1", "key"), "campaign")
        return [each["endpoint"] for each in rows_of(rows, opened, may_ask=True)]

    assert asyncio.run(names()) == ["desk …11111111", "desk …22222222", "alone", "4" * 32]
