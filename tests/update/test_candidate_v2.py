"""Storage locations of the older update client, held to the offsets of its own storage drivers."""

from __future__ import annotations

import hashlib
import hmac
import random
import struct

import pytest

from pdmlab.errors import ConfigError, ImageRejected, UpdateError
from pdmlab.storage.blockdevice import HeapBlockDevice
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.storage.kv.sotp import SotpType
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.candidate_v2 import StorageLocation, storage_locations
from pdmlab.update.header_v2 import FirmwareHeaderV2
from pdmlab.update.layout import Area, FlashGeometry, FlashLayout

IMAGE = random.Random(1).randbytes(10_007)
HEADER = FirmwareHeaderV2(len(IMAGE), 1_700_000_000, hashlib.sha256(IMAGE).digest())
ROT = bytes(range(16))
KEY = hmac.digest(ROT, b"StorageEnc256HMACSHA256SIGNATURE", "sha256")


def device(size: int = 256 * 1024, program: int = 512, erase: int = 4096) -> HeapBlockDevice:
    made = HeapBlockDevice(size, 1, program, erase)
    made.init()
    return made


def store(location: StorageLocation, image: bytes = IMAGE, step: int = 511) -> None:
    location.begin(FirmwareHeaderV2(len(image), HEADER.version, hashlib.sha256(image).digest()))
    for at in range(0, len(image), step):
        location.write(at, image[at : at + step])


def test_an_external_location_has_a_header_with_an_hmac_and_the_image_after_it() -> None:
    medium = device()
    location = StorageLocation(medium, offset=8192, size=64 * 1024, key=lambda: KEY)
    store(location)
    location.finish()
    header = bytes(medium.read(8192, 296))
    assert struct.unpack(">IIQQ", header[:24]) == (0x5A51B3D4, 2, HEADER.version, len(IMAGE))
    assert header[24:56] == hashlib.sha256(IMAGE).digest()
    assert header[232:264] == hmac.digest(KEY, header[:232], "sha256")
    assert bytes(medium.read(8192 + 512, len(IMAGE))) == IMAGE, "296 B are filled up to the program size of 512 B"
    assert location.header() == HEADER
    assert location.image_region(HEADER).offset == 8192 + 512


@pytest.mark.parametrize(("program", "image_at"), [(1, 112), (4, 112), (8, 112), (256, 256)])
def test_an_internal_location_has_a_header_with_a_checksum(program: int, image_at: int) -> None:
    medium = device(program=program)
    location = StorageLocation(medium, size=64 * 1024)
    store(location)
    location.finish()
    assert bytes(medium.read(image_at, len(IMAGE))) == IMAGE
    assert location.header() == HEADER and location.image_offset == image_at


def test_nothing_counts_before_it_is_finished() -> None:
    location = StorageLocation(device(), key=lambda: KEY)
    store(location)
    location.verify()
    assert location.header() is None
    location.finish()
    assert location.header() == HEADER


def test_another_boards_header_is_none() -> None:
    medium = device()
    location = StorageLocation(medium, key=lambda: KEY)
    store(location)
    location.finish()
    assert StorageLocation(medium, key=lambda: b"k" * 32).header() is None


def test_what_the_digest_does_not_match_is_refused() -> None:
    location = StorageLocation(device(), key=lambda: KEY)
    location.begin(HEADER)
    location.write(0, IMAGE[:-1] + b"!")
    with pytest.raises(ImageRejected, match="SHA-256"):
        location.finish()
    assert location.header() is None


def test_the_largest_image_fits_and_no_larger_one() -> None:
    location = StorageLocation(device(), size=16 * 1024, key=lambda: KEY)
    assert location.capacity == 16 * 1024 - 512
    store(location, bytes(location.capacity))
    location.finish()
    with pytest.raises(ImageRejected, match="does not fit"):
        location.begin(FirmwareHeaderV2(location.capacity + 1, 2, bytes(32)))


def test_writes_are_in_order_and_within_the_image() -> None:
    location = StorageLocation(device(), key=lambda: KEY)
    with pytest.raises(UpdateError, match="begun"):
        location.write(0, b"x")
    location.begin(HEADER)
    with pytest.raises(UpdateError, match="goes on at 0"):
        location.write(5, b"x")
    with pytest.raises(UpdateError, match="more than"):
        location.write(0, IMAGE + b"x")
    with pytest.raises(ImageRejected, match="0 of"):
        location.verify()


def test_an_erased_location_holds_nothing() -> None:
    location = StorageLocation(device(), key=lambda: KEY)
    store(location)
    location.finish()
    location.erase()
    assert location.header() is None
    with pytest.raises(UpdateError, match="begun"):
        location.verify()


def hardware(area: Area, on: str, medium: HeapBlockDevice, sectors: tuple[tuple[int, int], ...]) -> Hardware:
    size = sum(count * each for count, each in sectors)
    geometry = FlashGeometry(0, size, sectors, 8)
    bounds = geometry.bounds()
    sotp = tuple(Area(f"SOTP {n}", bounds[n - 4], bounds[n - 3] - bounds[n - 4]) for n in (1, 2))
    end = area.offset if on == "FLASHIAP" else sotp[0].offset
    layout = FlashLayout(
        geometry,
        Area("bootloader", 0, 0x8000),
        Area("header", 0x8000, 0x400),
        Area("application", 0x8400, end - 0x8400),
        (sotp[0], sotp[1]),
        area,
        on,
    )
    flash = device(size, 8, 4096)
    nvstore = NVStore(flash, [(each.offset, each.size) for each in sotp])
    nvstore.set_once(SotpType.ROT, ROT)
    return Hardware(layout, flash, flash if on == "FLASHIAP" else medium, nvstore)


SMALL = ((64, 4096),)


@pytest.mark.parametrize(
    ("count", "edges"),
    [
        (1, [(0x2000, 0x1F000)]),
        (2, [(0x2000, 0xF000), (0x11000, 0xF000)]),
        (3, [(0x2000, 0xA000), (0xC000, 0xA000), (0x16000, 0xA000)]),
    ],
)
def test_locations_lie_where_the_stock_driver_puts_them(count: int, edges: list[tuple[int, int]]) -> None:
    # arm_uc_pal_blockdevice_implementation.c, worked out by hand for 0x1f800 B from 0x2000 on, erase units of 0x1000:
    # the end goes down to 0x21000, a location has at most (0x21000 - 0x2000) / count, and its size goes down as well.
    made = storage_locations(hardware(Area("candidate", 0x2000, 0x1F800), "SPIF", device(), SMALL), count)
    assert [(each.region.offset, each.region.size) for each in made] == edges
    store(made[-1])
    made[-1].finish()
    assert made[-1].header() == HEADER
    assert all(each.header() is None for each in made[:-1])


def test_locations_in_flash_have_internal_headers() -> None:
    made = storage_locations(hardware(Area("candidate", 0x20000, 0x1E000), "FLASHIAP", device(), SMALL), 2)
    assert [(each.region.offset, each.region.size) for each in made] == [(0x20000, 0xF000), (0x2F000, 0xF000)]
    assert made[0].image_offset == 112 and "internal" in repr(made[0])


@pytest.mark.parametrize("count", [0, -1, 64])
def test_storage_that_cannot_be_divided_is_refused(count: int) -> None:
    with pytest.raises(ConfigError, match="cannot be divided"):
        storage_locations(hardware(Area("candidate", 0x2000, 0x1F800), "SPIF", device(), SMALL), count)
