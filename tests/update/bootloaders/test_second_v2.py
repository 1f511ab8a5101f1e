"""mbed-bootloader and a second decoder judge thousands of flashes alike, with a whole application and without."""

from __future__ import annotations

import hashlib
import random
import zlib
from dataclasses import replace

import pytest

from pdmlab.errors import BootFailed
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.candidate_v2 import storage_locations
from pdmlab.update.header_v2 import FirmwareHeaderV2
from pdmlab.update.layout import Area, FlashGeometry, FlashLayout
from pdmlab.update.version import Version
from tests.update.bootloaders import second_v2
from tests.update.bootloaders.second_v2 import ACTIVE_HEADER, ACTIVE_IMAGE, FLASH, SLOT
from tests.update.bootloaders.test_second import Flash, fill, put, tear, turn_bits

K = 1024
OLD, NEW = random.Random(5).randbytes(3001), random.Random(6).randbytes(4003)
LAYOUT = FlashLayout(
    FlashGeometry(0, FLASH, ((256, 4 * K),), program_size=8),
    Area("bootloader", 0, 0x8000),
    Area("header", ACTIVE_HEADER, 0x400),
    Area("application", ACTIVE_IMAGE, 0x80000 - ACTIVE_IMAGE),
    (Area("SOTP section 1", 0x80000, 0x4000), Area("SOTP section 2", 0x84000, 0x4000)),
    Area("candidate", SLOT, FLASH - SLOT),
    "FLASHIAP",
)
HEADER = FirmwareHeaderV2(len(NEW), 1_700_000_000, hashlib.sha256(NEW).digest())


def hardware(flash: Flash) -> Hardware:
    return Hardware(LAYOUT, flash, flash, NVStore(flash, [(area.offset, area.size) for area in LAYOUT.sotp]))


def whole() -> bytes:
    flash = Flash(b"\xff" * FLASH)
    for at, data in bootloaders.programmed("mbed", LAYOUT, OLD, Version(1, 0, 0)):
        flash.content[at : at + len(data)] = data
    (location,) = storage_locations(hardware(flash))
    location.begin(HEADER)
    location.write(0, NEW)
    location.finish()
    return bytes(flash.content)


WHOLE = whole()


def judge(content: bytes | bytearray) -> str:
    """Let both judge a flash, and hold their verdicts against each other; return the slot's line."""
    verdict, flash, said = second_v2.look(content), Flash(content), list[str]()
    bootloader = bootloaders.build("mbed", hardware(flash))
    try:
        installed, started = bootloader.boot(said.append).installed, True
    except BootFailed:
        installed, started = False, False
    assert (installed, started) == (verdict.installs, verdict.starts), (verdict, said)
    if installed:
        assert flash.read(ACTIVE_IMAGE, len(verdict.image)) == verdict.image
        assert second_v2.look(flash.content).starts
    else:
        assert flash.writes == 0 and f"{verdict.line}\r\n" in said
    return verdict.line


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (HEADER, ""),
        (replace(HEADER, version=1_000_001), ""),
        (replace(HEADER, version=1_000_000), "Update image is older"),
        (replace(HEADER, version=0), "Update image is older"),
        (replace(HEADER, size=0), "Update image is older"),
        (replace(HEADER, digest=bytes(32)), "Update image integrity check failed"),
        (replace(HEADER, size=len(NEW) - 1), "Update image integrity check failed"),
        (replace(HEADER, size=1 << 63), "Update image integrity check failed"),
    ],
)
def test_each_refusal_of_the_description_is_one_here(header: FirmwareHeaderV2, line: str) -> None:
    assert judge(put(WHOLE, SLOT, header.pack_internal())) == line


def test_an_image_that_fits_the_slot_and_not_the_application_is_too_large() -> None:
    image = bytes(0x77D00)
    header = replace(HEADER, size=len(image), digest=hashlib.sha256(image).digest())
    content = put(put(WHOLE, SLOT, header.pack_internal()), SLOT + 112, image)
    assert judge(content) == "Update image too large"


def sign_again(content: bytearray, at: int) -> None:
    """Make the CRC-32 of a header right, whatever it says."""
    content[at + 108 : at + 112] = zlib.crc32(content[at : at + 108]).to_bytes(4, "big")


@pytest.mark.parametrize("part", range(4))
def test_thousands_of_mutated_flashes_are_judged_alike(part: int) -> None:
    rng, seen = random.Random(part), set[str]()
    places = (SLOT, 112), (SLOT + 8, 8), (SLOT + 112, 4003), (ACTIVE_HEADER, 112), (ACTIVE_IMAGE, 3001)
    for _ in range(400):
        content = bytearray(WHOLE)
        for _ in range(rng.choice((1, 1, 2, 3))):
            place = rng.choice(places)
            rng.choice((turn_bits, fill, tear))(rng, content, *place)
            if place[1] < 1000 and rng.random() < 0.6:
                sign_again(content, place[0] & ~0xFF)
        seen.add(judge(content))
    assert seen >= {"", "No Update image", "Update image is older", "Update image integrity check failed"}
