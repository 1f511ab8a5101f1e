"""The 4.x bootloader and the second decoder judge thousands of flashes alike, mutated and whole."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from pdmlab.errors import BootFailed
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.header import FirmwareHeader, pack_ready
from pdmlab.update.layout import Area, FlashGeometry, FlashLayout
from pdmlab.update.manifest import Manifest
from pdmlab.update.pages import ChecksummedPages
from pdmlab.update.version import Version
from tests.update.bootloaders import second
from tests.update.bootloaders.second import ACTIVE_HEADER, ACTIVE_IMAGE, FLASH, SLOT

K = 1024
OLD, NEW = random.Random(3).randbytes(3001), random.Random(4).randbytes(4003)
LAYOUT = FlashLayout(
    FlashGeometry(0, FLASH, ((256, 4 * K),), program_size=8),
    Area("bootloader", 0, 0x8000),
    Area("header", ACTIVE_HEADER, 0x200),
    Area("application", ACTIVE_IMAGE, 0x80000 - ACTIVE_IMAGE),
    (Area("SOTP section 1", 0x80000, 0x4000), Area("SOTP section 2", 0x84000, 0x4000)),
    Area("candidate", SLOT, FLASH - SLOT),
    "FLASHIAP",
)
STATUS = {39: "component", 41: "header", 25: "encrypted", 33: "size", 36: "size", 26: "sha256", 32: "precursor",
          27: "version"}  # fmt: skip


class Flash(BlockDevice):
    """A K64F's flash as bytes, for as many starts as there are flashes."""

    type = "FLASH"

    def __init__(self, content: bytes | bytearray) -> None:
        super().__init__()
        self.content = bytearray(content)
        self.writes = 0

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.content[address : address + size])

    def program(self, address: int, data: bytes) -> None:
        assert address % 8 == 0 and len(data) % 8 == 0, "not the program size"
        assert self.content[address : address + len(data)] == b"\xff" * len(data), "not erased"
        self.content[address : address + len(data)] = data
        self.writes += 1

    def erase(self, address: int, size: int) -> None:
        assert address % 4096 == 0 and size % 4096 == 0, "not an erase unit"
        self.content[address : address + size] = b"\xff" * size
        self.writes += 1

    @property
    def program_size(self) -> int:
        return 8

    @property
    def erase_size(self) -> int:
        return 4096

    @property
    def size(self) -> int:
        return FLASH


def whole(*, paged: bool = False) -> bytes:
    """Return a flash with an application of 1.0.0, and a whole candidate of 1.0.1 as the client writes it."""
    flash = Flash(b"\xff" * FLASH)
    for at, data in bootloaders.programmed("fota", LAYOUT, OLD, Version(1, 0, 0)):
        flash.content[at : at + len(data)] = data
    slot = CandidateSlot(flash, offset=SLOT, size=FLASH - SLOT)
    manifest = Manifest.for_image(NEW, version="1.0.1", uri="/fw", vendor_id=bytes(16), class_id=bytes(16))
    slot.begin(manifest, precursor=hashlib.sha256(OLD).digest(), pages=ChecksummedPages() if paged else None)
    slot.write(0, NEW)
    slot.finish()
    return bytes(flash.content)


WHOLE, PAGED = whole(), whole(paged=True)


def start(flash: Flash) -> tuple[bool, str, str | None]:
    """Start a board with such a flash; return whether it installs, its console, and why not."""
    said: list[str] = []
    nvstore = NVStore(flash, [(area.offset, area.size) for area in LAYOUT.sotp])
    bootloader = bootloaders.build("fota", Hardware(LAYOUT, flash, flash, nvstore))
    try:
        result = bootloader.boot(said.append)
    except BootFailed as error:
        return False, "".join(said), error.message
    return result.installed, "".join(said), result.refused


def judge(content: bytes | bytearray) -> set[str]:
    """Let both judge a flash, and hold their verdicts against each other; return why it is refused."""
    verdict, flash = second.look(content), Flash(content)
    installed, said, refused = start(flash)
    if not verdict.active_is_whole:
        return {"active"}
    assert installed == verdict.installs, (verdict.reasons, said)
    if installed:
        image = flash.read(ACTIVE_IMAGE, len(verdict.image))
        assert image == verdict.image and second.look(bytes(flash.content)).active_is_whole
        assert flash.read(ACTIVE_HEADER, 112) == content[SLOT + 24 : SLOT + 24 + 112]
    else:
        assert flash.writes == 0
        status = next((word for number, word in STATUS.items() if f"update -{number}." in said), "no ready marker")
        # Pages that are not whole are passed over, and the slot ends before the image does.
        assert status in verdict.reasons or (status == "size" and "sha256" in verdict.reasons), (verdict.reasons, said)
        assert (refused is None) == (status == "no ready marker")
    return verdict.reasons


def put(content: bytes, at: int, data: bytes) -> bytes:
    return content[:at] + data + content[at + len(data) :]


def header(**changed: object) -> bytes:
    """Return the candidate's header with something else in it."""
    right = FirmwareHeader(len(NEW), Version(1, 0, 1), hashlib.sha256(NEW).digest(), hashlib.sha256(OLD).digest())
    return replace(right, **changed).pack()  # type: ignore[arg-type]


# -- each refusal of the page --------------------------------------------------------------------------


@pytest.mark.parametrize("content", [WHOLE, PAGED])
def test_what_the_client_writes_is_installed_by_both(content: bytes) -> None:
    assert judge(content) == set()


@pytest.mark.parametrize(
    ("at", "data", "reason"),
    [
        (SLOT, b"\xff" * 4, "no ready marker"),
        (SLOT + 16, b"\xff" * 4, "no ready marker"),
        (SLOT, pack_ready("METER"), "component"),
        (SLOT + 24, b"\xff" * 160, "header"),
        (SLOT + 24, header(version=Version(1, 0, 0)), "version"),
        (SLOT + 24, header(version=Version(0, 9, 9)), "version"),
        (SLOT + 24, header(digest=bytes(32)), "sha256"),
        (SLOT + 24 + 160 + 5, b"?", "sha256"),
        (SLOT + 24, header(precursor=bytes(32)), "precursor"),
        (SLOT + 24, header(precursor=hashlib.sha256(NEW).digest()), "precursor"),
        (SLOT + 24, header(flags=1), "encrypted"),
        (SLOT + 24, header(size=0x80000), "size"),
        (SLOT + 24, header(size=0xFFFF_FFFF), "size"),
    ],
)
def test_each_refusal_of_the_description_is_one_here(at: int, data: bytes, reason: str) -> None:
    assert reason in judge(put(WHOLE, at, data))


# -- thousands of flashes ------------------------------------------------------------------------------


def turn_bits(rng: random.Random, content: bytearray, start_at: int, size: int) -> None:
    content[start_at + rng.randrange(size)] ^= 1 << rng.randrange(8)


def fill(rng: random.Random, content: bytearray, start_at: int, size: int) -> None:
    at = start_at + rng.randrange(size)
    length = min(rng.choice((1, 2, 4, 8, 32)), start_at + size - at)
    content[at : at + length] = rng.choice((b"\xff" * length, bytes(length), rng.randbytes(length)))


def tear(rng: random.Random, content: bytearray, start_at: int, size: int) -> None:
    kept = rng.randrange(size)
    content[start_at + kept : start_at + size] = b"\xff" * (size - kept)


def renumber(rng: random.Random, content: bytearray, start_at: int, size: int) -> None:
    """Give the candidate or the application another version number, of any kind."""
    at = rng.choice((SLOT + 24 + 8, ACTIVE_HEADER + 8))
    number = rng.choice((0, 1, Version(1, 0, 0).number, Version(1, 0, 2).number, (1 << 64) - 1, rng.getrandbits(64)))
    content[at : at + 8] = number.to_bytes(8, "little")


CHANGES: tuple[Callable[[random.Random, bytearray, int, int], None], ...] = (turn_bits, fill, tear, renumber)
PLACES = ((SLOT, 20), (SLOT + 20, 4), (SLOT + 24, 160), (SLOT + 184, 4100), (ACTIVE_HEADER, 112), (ACTIVE_IMAGE, 3001))


@pytest.mark.parametrize("part", range(8))
def test_thousands_of_mutated_flashes_are_judged_alike(part: int) -> None:
    rng, seen = random.Random(part), set[str]()
    for _ in range(400):
        content = bytearray(PAGED if rng.random() < 0.1 else WHOLE)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            place = rng.choice(PLACES[:4] if rng.random() < 0.8 else PLACES)
            rng.choice(CHANGES)(rng, content, *place)
        found = judge(content)
        seen |= found or {"installed"}
    assert {"installed", "no ready marker", "component", "header", "sha256", "version", "active"} <= seen
