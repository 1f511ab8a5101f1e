"""What is kept of uploads and images, piece by piece, and what a full disk or a killed service leaves of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from pdmlab.errors import ServiceError
from pdmlab.service import pieces
from pdmlab.service.pieces import PIECE
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import firmware_images, image_pieces, upload_jobs
from pdmlab.service.turns import Turns
from pdmlab.service.uploads import PATIENCE_S
from tests.service.corelab import CoreLab, Stage


def kept(lab: CoreLab) -> int:
    return int(lab.core.store.scalar(sa.select(sa.func.count()).select_from(image_pieces)))


async def settled(lab: CoreLab) -> None:
    while lab.core.firmware.pieces._dropping:
        await asyncio.sleep(0)


def test_an_image_is_read_from_anywhere_to_anywhere(play: Stage) -> None:
    data = bytes(number * 7 % 253 for number in range(3 * PIECE + 17))

    async def story(lab: CoreLab) -> None:
        account = lab.core.account_id
        job = lab.core.uploads.add(account, "image")["id"]
        for start, stop in ((0, 10), (10, PIECE), (PIECE, PIECE + 5), (PIECE + 5, 3 * PIECE + 17)):
            await lab.core.uploads.add_chunk(account, job, data[start:stop])
        await lab.core.uploads.add_chunk(account, job, b"")
        assert kept(lab) == 4
        image = lab.core.firmware.open(lab.core.uploads.find(account, job)["firmware_image_id"])
        assert image is not None and repr(image) == f"Image(id={image.id!r}, account_id={account!r}, size={len(data)})"
        for start in (0, 1, PIECE - 1, PIECE, 2 * PIECE - 3, 3 * PIECE, 3 * PIECE + 16):
            for size in (1, 5, 1024, PIECE, 2 * PIECE + 1):
                stop = min(start + size, len(data))
                assert image.read(start, stop) == data[start:stop]

    play(story)


def test_little_of_the_images_is_in_memory(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "KEPT_B", 2 * PIECE)

    async def story(lab: CoreLab) -> None:
        ids = [lab.core.firmware.add_image(lab.core.account_id, "i", bytes(PIECE))["id"] for _ in range(4)]
        for id in ids:
            image = lab.core.firmware.open(id)
            assert image is not None and image.read(0, 10) == bytes(10)
        assert repr(lab.core.firmware.pieces) == f"<Pieces, 2 in memory, {2 * PIECE} B>"
        lab.core.firmware.delete_image(lab.core.account_id, ids[-1])
        assert repr(lab.core.firmware.pieces) == f"<Pieces, 1 in memory, {PIECE} B>"
        await settled(lab)
        assert kept(lab) == 3
        with pytest.raises(Refused, match="there is no firmware image"):  # for those who still had it open
            image.read(0, 1)

    play(story)


def test_what_a_killed_service_leaves_goes_at_the_next_start(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        account = lab.core.account_id
        image = lab.core.firmware.add_image(account, "stays", bytes(10))["id"]
        job = lab.core.uploads.add(account, "goes on")
        await lab.core.uploads.add_chunk(account, job["id"], bytes(PIECE + 1))

        def parts() -> Iterator[bytes]:
            yield bytes(PIECE)
            yield bytes(PIECE)

        receiving = asyncio.ensure_future(lab.core.uploads.receive(account, "in one request", parts()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        orphans = kept(lab) - 3
        assert orphans > 0
        # It is killed: what it would still have done is undone.
        rows = lab.core.store.rows(sa.select(image_pieces))
        jobs = lab.core.store.rows(sa.select(upload_jobs).where(upload_jobs.c.status == "receiving"))
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        await settled(lab)
        with lab.core.store.begin() as db:
            db.execute(sa.delete(image_pieces))
            db.execute(sa.insert(upload_jobs), jobs)
            db.execute(sa.insert(image_pieces), rows)
        await lab.restart()  # another process may still be receiving it
        await settled(lab)
        assert kept(lab) == 3 + orphans
        await asyncio.sleep(PATIENCE_S + 1)
        await lab.restart()
        await settled(lab)
        assert kept(lab) == 3
        await lab.core.uploads.add_chunk(account, job["id"], b"")
        assert lab.core.uploads.find(account, job["id"])["status"] == "success"
        assert {row["id"] for row in lab.core.store.rows(sa.select(firmware_images))} == {image, job["image_id"]}

    play(story)


def test_an_upload_that_is_given_up_leaves_nothing_but_the_image_that_it_has_become(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        account, uploads = lab.core.account_id, lab.core.uploads
        half, whole = (uploads.add(account, name)["id"] for name in ("half", "whole"))
        for job in (half, whole):
            await uploads.add_chunk(account, job, bytes(PIECE * 2))
        await uploads.add_chunk(account, whole, b"")
        image = uploads.find(account, whole)["firmware_image_id"]
        for job in (half, whole):
            uploads.delete(account, job)
        await settled(lab)
        assert kept(lab) == 2 and lab.core.firmware.image(account, image)["size"] == PIECE * 2

    play(story)


def test_two_chunks_at_once_are_one_too_many(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        account, uploads = lab.core.account_id, lab.core.uploads
        job = uploads.add(account, "image")["id"]
        for number in range(20):
            await uploads.add_chunk(account, job, bytes([number]) * PIECE * 2)
        ends = [uploads.add_chunk(account, job, b"") for _ in range(2)]
        first, second = await asyncio.gather(*ends, return_exceptions=True)
        assert isinstance(first, dict) and first["number"] == 21
        assert isinstance(second, Refused) and second.status == 409
        assert (await uploads.add_chunk(account, job, b""))["number"] == 21

    play(story)


def test_a_full_disk_says_so_and_nothing_of_the_chunk_is_kept(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        store, account, uploads = lab.core.store, lab.core.account_id, lab.core.uploads
        if store.shared:
            return
        job = uploads.add(account, "image")["id"]
        await uploads.add_chunk(account, job, b"before")
        size = store.scalar(sa.text("PRAGMA page_count"))
        store.connection.exec_driver_sql(f"PRAGMA max_page_count = {size + 4}")
        with pytest.raises(ServiceError, match="full") as full:
            await uploads.add_chunk(account, job, bytes(PIECE * 8))
        assert full.value.status == 503 and "disk full" in (full.value.hint or "")
        store.connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        assert uploads.find(account, job)["chunks"] == 1
        await uploads.add_chunk(account, job, b" and after")
        await uploads.add_chunk(account, job, b"")
        image = lab.core.firmware.open(uploads.find(account, job)["firmware_image_id"])
        assert image is not None and image.read(0, image.size) == b"before and after"

    play(story)


def test_a_turn_is_over_when_its_time_is(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        turns, begun, ended = Turns(2, 2.0), [], []

        async def one(number: int, takes: float) -> None:
            async with turns.take():
                begun.append((number, round(lab.now() - start, 3)))
                await asyncio.sleep(takes)
            ended.append(number)

        start = lab.now()
        await asyncio.gather(one(0, 100.0), one(1, 1.0), one(2, 1.0), one(3, 1.0), one(4, 1.0))
        # The first one's turn is taken back after 2 s, and it goes on; nobody waits for it.
        assert begun == [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2)] and ended[-1] == 0
        begun.clear()
        start = lab.now()
        await asyncio.gather(*(one(number, 1.0) for number in range(4)))
        assert begun == [(0, 0), (1, 0), (2, 1), (3, 1)]  # and none is there twice

    play(story)
