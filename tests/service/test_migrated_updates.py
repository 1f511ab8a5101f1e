"""A database of before images lay in pieces: images, uploads and a campaign under way come along."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from pdmlab.service.core import Core
from pdmlab.service.pieces import PIECE
from pdmlab.service.schema import campaign_devices
from tests.service.test_store import empty, migrated

__all__ = ["empty"]

AT = "2026-05-28T20:26:40.000000Z"
IMAGE = bytes(number * 11 % 251 for number in range(2 * PIECE + 100))


@pytest.fixture
def old(empty: str) -> str:
    engine = migrated(empty, "0002")
    times: dict[str, object] = {"created_at": AT, "updated_at": AT}
    named: dict[str, object] = {"account_id": "a", "name": "n", **times}
    chunk: dict[str, object] = {
        "number": 1,
        "account_id": "a",
        "hash": "h",
        "length": 1,
        "data": b"x",
        "created_at": AT,
    }
    campaign: dict[str, object] = {
        "id": "c",
        "device_filter": "",
        "root_manifest_id": "m",
        "phase": "active",
        "state": "deploying",
    }
    campaign |= {
        "started_at": AT,
        "version": "1.2.3",
        "payload_size": 7,
        "component": "MAIN",
        "manifest": b"der",
    } | named
    device: dict[str, object] = {
        "id": "d",
        "campaign_id": "c",
        "device_id": "x",
        "step": "downloading",
        "done_B": 5,
        "deadline": 9e9,
    }
    device |= named
    rows: dict[str, list[dict[str, object]]] = {
        "accounts": [{"id": "a", **times}],
        "facts": [{"name": "default_account", "value": "a"}],
        "firmware_images": [{"id": "i", "size": len(IMAGE), "checksum": "c", "data": IMAGE, **named}],
        "upload_jobs": [
            {"id": "done", "status": "success", "firmware_image_id": "i", **named},
            {"id": "half", "status": "in_progress", "firmware_image_id": None, **named},
        ],
        "upload_chunks": [{"upload_job_id": job, **chunk} for job in ("done", "half")],
        "firmware_manifests": [{"id": "m", "data": b"der", "size": 3, "version": "1.2.3", "payload_size": 7, **named}],
        "campaigns": [campaign],
        "campaign_devices": [device],
    }
    with engine.begin() as db:
        for table, each in rows.items():
            columns = [sa.column(name) for name in each[0]]
            db.execute(sa.insert(sa.table(table, *columns)), each)
    engine.dispose()
    return empty


def test_what_was_there_is_there_afterwards(old: str) -> None:
    async def story() -> None:
        core = Core(old)
        core.store.open()
        image = core.firmware.open("i")
        assert image is not None and image.read(0, image.size) == IMAGE
        assert core.firmware.image("a", "i")["checksum"] == "c"
        assert core.uploads.find("a", "done")["firmware_image_id"] == "i"
        assert core.uploads.chunk("a", "done", 1)["length"] == 1
        assert core.store.rows(sa.text("SELECT id FROM upload_jobs WHERE id = 'half'")) == []  # it begins anew
        manifest = core.firmware.manifest("a", "m")
        assert (manifest["version"], manifest["payload_size"], manifest["schema_version"]) == ("1.2.3", 7, 3)
        assert not manifest["has_key_table"]
        campaign = core.campaigns.find("a", "c")
        assert (campaign["phase"], campaign["version"], campaign["payload_size"]) == ("active", "1.2.3", 7)
        (device,) = core.store.rows(sa.select(campaign_devices))
        assert (device["step"], device["done_B"], device["deadline"]) == ("downloading", 5, 9e9)
        core.firmware.pieces.tidy()
        await core.uploads.close()
        assert image.read(PIECE - 1, PIECE + 1) == IMAGE[PIECE - 1 : PIECE + 1]
        core.store.close()

    asyncio.run(story())
