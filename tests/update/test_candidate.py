from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError, ImageRejected, UpdateError
from pdmlab.storage.blockdevice import HeapBlockDevice
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.manifest import Manifest

Medium = Callable[[str, int], Any]  # a CuttableFlash, which lives in conftest.py
PARTS = pytest.mark.parametrize("part", ["SD", "QSPIF", "FLASHIAP"])


def image(size: int = 70_001, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def describe(data: bytes, version: str = "1.0.1") -> Manifest:
    return Manifest.for_image(data, version=version, uri="/fw", vendor_id=bytes(16), class_id=bytes(16))


def download(slot: CandidateSlot, data: bytes, block: int = 512) -> None:
    while slot.position < len(data):
        slot.write(slot.position, data[slot.position : slot.position + block])


@PARTS
@pytest.mark.parametrize("block", [100, 512, 1024, 70_001])
def test_what_was_downloaded_is_the_candidate(medium: Medium, part: str, block: int) -> None:
    data, slot = image(), CandidateSlot(medium(part, 128 * 1024))
    slot.begin(describe(data), precursor=b"p" * 32)
    download(slot, data, block)
    assert slot.read() is None
    slot.finish()
    found = slot.read()
    assert found is not None and found.component == "MAIN" and found.header.precursor == b"p" * 32
    assert b"".join(slot.image_region(found.header).chunks(0, len(data))) == data


@pytest.mark.parametrize(("part", "header", "start"), [("SD", 512, 1024), ("QSPIF", 20, 180), ("FLASHIAP", 24, 184)])
def test_headers_and_image_lie_where_the_stock_bootloader_looks(
    medium: Medium, part: str, header: int, start: int
) -> None:
    device, data = medium(part, 128 * 1024), image(5000)
    slot = CandidateSlot(device, offset=8192)
    slot.begin(describe(data))
    download(slot, data)
    slot.finish()
    bytes_there = device.read(8192, 8192)
    assert bytes_there[:8] == bytes.fromhex("014ed5fe4d41494e")
    assert bytes_there[header : header + 4] == bytes.fromhex("a353025c")
    assert bytes_there[start : start + 5000] == data


@PARTS
def test_a_new_download_takes_the_old_candidate_away_first(medium: Medium, part: str) -> None:
    slot = CandidateSlot(medium(part, 128 * 1024))
    slot.begin(describe(image()))
    download(slot, image())
    slot.finish()
    slot.begin(describe(image(seed=2)))
    assert slot.read() is None


@PARTS
def test_an_erased_slot_holds_no_candidate(medium: Medium, part: str) -> None:
    slot = CandidateSlot(medium(part, 128 * 1024))
    slot.begin(describe(image()))
    download(slot, image())
    slot.finish()
    slot.erase()
    assert slot.read() is None


@PARTS
def test_a_download_goes_on_after_a_reset_where_it_was(medium: Medium, part: str) -> None:
    device, data = medium(part, 256 * 1024), image(200_000)
    before = CandidateSlot(device)
    before.begin(describe(data))
    download(before, data[:100_000])
    after = CandidateSlot(device)
    assert 100_000 - 2 * 16 * 1024 < after.resume(describe(data)) <= 100_000
    download(after, data)
    after.finish()
    assert after.read() is not None


@PARTS
def test_another_image_does_not_go_on_from_a_foreign_download(medium: Medium, part: str) -> None:
    device = medium(part, 256 * 1024)
    before = CandidateSlot(device)
    before.begin(describe(image(200_000)))
    download(before, image(200_000))
    assert CandidateSlot(device).resume(describe(image(200_000, seed=2))) == 0


@PARTS
@pytest.mark.parametrize("blank", [b"\xff", b"\x00"])
def test_an_image_of_blank_bytes_survives_a_resume(medium: Medium, part: str, blank: bytes) -> None:
    device, data = medium(part, 128 * 1024), blank * 70_000
    before = CandidateSlot(device)
    before.begin(describe(data))
    download(before, data[:60_000])
    after = CandidateSlot(device)
    after.resume(describe(data))
    download(after, data)
    after.finish()
    assert after.read() is not None


@PARTS
@pytest.mark.parametrize("torn", [0.0, 0.4, 0.99])
def test_a_cut_at_any_operation_leaves_no_candidate_and_the_download_can_be_completed(
    medium: Medium, part: str, torn: float
) -> None:
    data = image(40_000)
    device = medium(part, 64 * 1024)
    blank = device.contents()
    whole = CandidateSlot(device)
    whole.begin(describe(data))
    download(whole, data)
    whole.finish()
    total = device.operations
    for cut in range(total):
        device.restore(blank)
        device.cut_at, device.torn = cut, torn
        with pytest.raises(PowerLost):
            slot = CandidateSlot(device)
            slot.begin(describe(data))
            download(slot, data)
            slot.finish()
        device.cut_at = None
        slot = CandidateSlot(device)
        assert slot.read() is None or cut == total - 1
        slot.resume(describe(data))
        download(slot, data)
        slot.finish()
        found = slot.read()
        assert found is not None and slot.digest(found.header) == found.header.digest


@PARTS
def test_a_corrupted_image_is_never_marked_as_whole(medium: Medium, part: str) -> None:
    slot, data = CandidateSlot(medium(part, 128 * 1024)), image()
    slot.begin(describe(data))
    download(slot, data[:-1] + b"?")
    with pytest.raises(ImageRejected, match="SHA-256"):
        slot.finish()
    assert slot.read() is None


def test_a_short_image_is_not_finished(medium: Medium) -> None:
    slot = CandidateSlot(medium("SD", 128 * 1024))
    slot.begin(describe(image()))
    with pytest.raises(ImageRejected, match="0 of 70001 B"):
        slot.finish()


def test_gaps_overruns_and_images_that_do_not_fit_are_refused(medium: Medium) -> None:
    slot = CandidateSlot(medium("SD", 64 * 1024))
    with pytest.raises(UpdateError):
        slot.write(0, b"x")
    slot.begin(describe(image(1000)))
    with pytest.raises(UpdateError):
        slot.write(512, b"x")
    with pytest.raises(UpdateError):
        slot.write(0, bytes(1001))
    slot.begin(describe(image(slot.capacity)))
    with pytest.raises(ImageRejected):
        slot.begin(describe(image(slot.capacity + 1)))


@pytest.mark.parametrize(("offset", "size"), [(100, 4096), (0, 5000), (4096, 8192)])
def test_a_slot_that_does_not_lie_on_sectors_of_the_medium_is_refused(offset: int, size: int) -> None:
    with pytest.raises(ConfigError):
        CandidateSlot(HeapBlockDevice(8192, 1, 1, 4096), offset=offset, size=size)
