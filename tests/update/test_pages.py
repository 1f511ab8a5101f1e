"""Candidates in pages: read back by a reader made from the layout alone, cut anywhere, installed by the bootloader."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.storage.kv.nvstore import NVStore, root_of_trust
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.manifest import Manifest
from pdmlab.update.pages import ChecksummedPages, EncryptedPages, Pages, pages_of
from pdmlab.update.payloads.blocks import BlockCipher, wrap_key
from pdmlab.update.version import Version
from tests.update.bootloaders.boards import LAYOUT, NEW, OLD, OLD_DIGEST, FotaBoard

Medium = Callable[[str, int], Any]  # a CuttableFlash, which lives in conftest.py
K = 1024
KEY, DEVICE = bytes(range(16)), bytes(range(100, 116))
DATA = random.Random(1).randbytes(30_001)
PARTS = pytest.mark.parametrize("part", ["SD", "QSPIF", "FLASHIAP"])


def checksummed() -> Pages:
    return ChecksummedPages()


def one_time() -> Pages:
    return EncryptedPages(BlockCipher(KEY), wrapped_key=wrap_key(KEY, DEVICE, 77))


def of_device() -> Pages:
    return EncryptedPages(BlockCipher.of_device(DEVICE), resume=False)


KINDS = pytest.mark.parametrize("kind", [checksummed, one_time, of_device])


def describe(data: bytes = DATA, version: str = "1.0.1") -> Manifest:
    return Manifest.for_image(data, version=version, uri="/fw", vendor_id=bytes(16), class_id=bytes(16))


def download(slot: CandidateSlot, data: bytes = DATA, block: int = 512) -> None:
    while slot.position < len(data):
        slot.write(slot.position, data[slot.position : slot.position + block])


def checksum_reader(raw: bytes, size: int) -> bytes:
    image = b""
    for at in range(0, len(raw), 1024):
        data = raw[at + 2 : at + 2 + min(1022, size - len(image))]
        if struct.unpack_from("<H", raw, at)[0] == sum(data) % 65536:
            image += data
        if len(image) == size:
            return image
    raise AssertionError("not whole")


def ccm_reader(raw: bytes, size: int, key: bytes, counter: int) -> bytes:
    cipher, image = AESCCM(key, tag_length=8), b""
    for at in range(0, len(raw), 1024):
        length = min(1016, size - len(image))
        tag, data = raw[at : at + 8], raw[at + 8 : at + 8 + length]
        try:
            image += cipher.decrypt(struct.pack("<Q", counter), data + tag, None)
        except InvalidTag:
            continue
        counter += 1
        if len(image) == size:
            return image
    raise AssertionError("not whole")


@PARTS
def test_checksummed_pages_lie_as_the_stock_client_writes_them(medium: Medium, part: str) -> None:
    device = medium(part, 128 * K)
    slot = CandidateSlot(device)
    slot.begin(describe(), precursor=b"p" * 32, pages=ChecksummedPages())
    download(slot)
    slot.finish()
    raw = device.read(0, device.size)
    start = {"SD": 1024, "QSPIF": 180, "FLASHIAP": 184}[part]
    header = {"SD": 512, "QSPIF": 20, "FLASHIAP": 24}[part]
    assert raw[header + 113] == 2 and raw[header + 116 : header + 118] == b"\x00\x04"
    assert checksum_reader(raw[start:], len(DATA)) == DATA


@PARTS
def test_pages_under_a_key_of_their_own_open_with_the_device_key_only(medium: Medium, part: str) -> None:
    device = medium(part, 128 * K)
    slot = CandidateSlot(device)
    slot.begin(describe(), pages=one_time())
    download(slot)
    slot.finish()
    raw = device.read(0, device.size)
    start = {"SD": 1024, "QSPIF": 20 + 192, "FLASHIAP": 24 + 192}[part]
    assert ccm_reader(raw[start:], len(DATA), KEY, 1) == DATA
    found = slot.read()
    assert found is not None and found.header.flags == 3
    assert b"".join(slot.image(found.header, DEVICE)) == DATA and slot.digest(found.header, DEVICE)
    assert DATA[:64] not in raw and KEY not in raw
    for other in (None, bytes(16)):
        with pytest.raises(ImageRejected):
            slot.image(found.header, other)


@PARTS
@KINDS
def test_a_download_goes_on_behind_the_last_whole_page(medium: Medium, part: str, kind: Callable[[], Pages]) -> None:
    device = medium(part, 128 * K)
    before = CandidateSlot(device)
    before.begin(describe(), pages=kind())
    download(before, DATA[:20_000])
    after = CandidateSlot(device)
    room = kind().room
    assert after.resume(describe(), pages=kind()) == 20_000 // room * room
    download(after)
    after.finish()
    header = after.header()
    assert header is not None and b"".join(after.image(header, DEVICE)) == DATA


@PARTS
@KINDS
@pytest.mark.parametrize("torn", [0.0, 0.4, 0.99])
def test_a_cut_at_any_operation_leaves_no_candidate_and_the_download_can_be_completed(
    medium: Medium, part: str, kind: Callable[[], Pages], torn: float
) -> None:
    data, device = DATA[:12_345], medium(part, 64 * K)
    blank = device.contents()

    def fetch(slot: CandidateSlot) -> None:
        download(slot, data)
        slot.finish()

    whole = CandidateSlot(device)
    whole.begin(describe(data), pages=kind())
    fetch(whole)
    for cut in range(device.operations):
        device.restore(blank)
        device.cut_at, device.torn = cut, torn
        try:
            slot = CandidateSlot(device)
            slot.begin(describe(data), pages=kind())
            fetch(slot)
        except PowerLost:
            device.cut_at = None
        slot = CandidateSlot(device)
        if not slot.is_finished(describe(data)):
            slot.resume(describe(data), pages=kind())
            fetch(slot)
        header = slot.header()
        assert header is not None and b"".join(slot.image(header, DEVICE)) == data, f"replay: {cut=} {torn=}"


@PARTS
def test_a_download_in_other_pages_begins_anew(medium: Medium, part: str) -> None:
    device = medium(part, 128 * K)
    for pages, other in ((checksummed(), one_time()), (one_time(), None), (None, checksummed())):
        slot = CandidateSlot(device)
        slot.begin(describe(), pages=pages)
        download(slot, DATA[:25_000])
        assert CandidateSlot(device).resume(describe(), pages=other) == 0


@KINDS
def test_an_image_that_fills_the_slot_in_pages_fits_and_a_byte_more_does_not(
    medium: Medium, kind: Callable[[], Pages]
) -> None:
    slot = CandidateSlot(medium("FLASHIAP", 32 * K))
    data = random.Random(2).randbytes(slot.capacity_for(kind()))
    slot.begin(describe(data), pages=kind())
    download(slot, data)
    slot.finish()
    with pytest.raises(ImageRejected, match="does not fit"):
        slot.begin(describe(data + b"?"), pages=kind())


def test_a_download_begins_anew_when_torn_pages_leave_no_room_for_it(medium: Medium) -> None:
    device = medium("FLASHIAP", 32 * K)
    slot = CandidateSlot(device)
    data = random.Random(2).randbytes(slot.capacity_for(checksummed()) - 100)
    slot.begin(describe(data), pages=checksummed())
    download(slot, data[:2044])
    device.program(184 + 2048, bytes(1023) + b"\1")  # what a cut tears
    slot = CandidateSlot(device)
    assert slot.resume(describe(data), pages=checksummed()) == 0
    download(slot, data)
    slot.finish()


@pytest.mark.parametrize("kind", [checksummed, one_time])
def test_the_bootloader_installs_a_candidate_that_lies_in_pages(medium: Medium, kind: Callable[[], Pages]) -> None:
    board = FotaBoard(medium, options={"encrypted": kind is one_time})
    nvstore = NVStore(board.flash, [(area.offset, area.size) for area in LAYOUT.sotp])
    assert root_of_trust(nvstore, lambda n: DEVICE[:n]) == DEVICE
    slot = CandidateSlot(board.storage)
    slot.begin(describe(NEW), precursor=OLD_DIGEST, pages=kind())
    download(slot, NEW)
    slot.finish()
    assert board.boot().installed and board.running() == NEW


def test_a_candidate_that_another_device_encrypted_is_refused(medium: Medium) -> None:
    board = FotaBoard(medium, options={"encrypted": True})
    slot = CandidateSlot(board.storage)
    slot.begin(describe(NEW), precursor=OLD_DIGEST, pages=one_time())
    download(slot, NEW)
    slot.finish()
    for _ in range(2):  # without a root of trust, and with another
        refused = board.boot().refused
        assert refused is not None and board.running() == OLD
        root_of_trust(NVStore(board.flash, [(area.offset, area.size) for area in LAYOUT.sotp]), bytes)
    assert refused.startswith("decrypt data failed")


@pytest.mark.parametrize("size", [0, 2, 1 << 16])
def test_pages_of_impossible_sizes_are_refused(size: int) -> None:
    with pytest.raises(ConfigError):
        ChecksummedPages(size)


def test_a_header_of_impossible_pages_is_rejected() -> None:
    header = FirmwareHeader(1000, Version(1, 0, 0), bytes(32), flags=2, block_size=2)
    with pytest.raises(ImageRejected):
        pages_of(header, None)
    with pytest.raises(ImageRejected):
        pages_of(replace(header, flags=3, block_size=8), DEVICE)
