"""Media that are full or worn: a clear error, everything else still there, and the volume usable again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pdmlab.clock import Clock, WallClock
from pdmlab.errors import NoSpace, PdmlabError, StorageError, WornOut
from pdmlab.storage import (
    FATFileSystem,
    FileSystem,
    FlashIAPBlockDevice,
    LittleFileSystem2,
    Medium,
    NVStore,
    QSPIFBlockDevice,
    SDBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.blockdevice import BlockDevice, HeapBlockDevice
from pdmlab.storage.credentials import CredentialStore
from pdmlab.storage.faults import MediumFaults

KEPT = b"kept " * 500
ROOT = bytes(range(16))

PARTS: dict[str, Callable[[int, Clock], BlockDevice]] = {
    "SD": lambda size, clock: SDBlockDevice(Medium(size, erase_value=0), clock=clock),
    "SPIF": lambda size, clock: SPIFBlockDevice(Medium(size), clock=clock),
    "QSPIF": lambda size, clock: QSPIFBlockDevice(Medium(size), clock=clock),
}
STACKS = [("SD", FATFileSystem), ("SD", LittleFileSystem2), ("SPIF", LittleFileSystem2), ("QSPIF", FATFileSystem)]


@pytest.fixture(params=STACKS, ids=lambda stack: f"{stack[0]}+{stack[1].type}")
def volume(request: pytest.FixtureRequest) -> tuple[FileSystem, BlockDevice]:
    """A volume, as small as it can be, with a file that must survive."""
    part, kind = request.param
    device = PARTS[part]((1 << 20) if (part, kind) == ("QSPIF", FATFileSystem) else (256 << 10), WallClock())
    fs = kind("fs")
    fs.reformat(device)
    with fs.open("/kept", "w") as file:
        file.write(KEPT)
    return fs, device


def check_kept(fs: FileSystem) -> None:
    with fs.open("/kept") as file:
        assert file.read() == KEPT


# -- full --------------------------------------------------------------------------------------------


def test_on_a_full_volume_every_change_is_refused_and_nothing_is_lost(volume: tuple[FileSystem, BlockDevice]) -> None:
    fs, device = volume
    number = 0
    with pytest.raises(NoSpace):
        while True:
            with fs.open(f"/f{number}", "w") as file:
                file.write(bytes(1500))
            number += 1
    with pytest.raises(NoSpace) as refused, fs.open("/kept", "a") as file:
        for _ in range(100):
            file.write(b"x" * 4096)
            file.sync()
    assert refused.value.hint == "remove files, or use a larger part"
    assert "ENOSPC, -28" in str(refused.value)
    with pytest.raises(StorageError, match=r"ENOSPC, -28|EACCES, -13") as refused:  # FatFs denies it, Mbed says EACCES
        for n in range(300):
            fs.mkdir(f"/d{n}")
    assert refused.value.hint is not None
    assert "full" in refused.value.hint or "remove files" in refused.value.hint
    with fs.open("/kept") as file:
        assert file.read()[: len(KEPT)] == KEPT
    names = fs.listdir("/")
    fs.unmount()
    fs.mount(device)  # after a reset
    assert sorted(fs.listdir("/")) == sorted(names)
    fs.remove("/f0")
    fs.remove("/f1")
    with fs.open("/again", "w") as file:
        file.write(b"room")
    assert fs.open("/again").read() == b"room"
    fs.unmount()


def test_a_full_volume_keeps_old_credentials_and_takes_new_ones_again(volume: tuple[FileSystem, BlockDevice]) -> None:
    fs, _ = volume
    store = CredentialStore(fs, ROOT)
    store.set("mbed.LwM2MServerURI", b"coap://127.0.0.1:5684")
    with pytest.raises(NoSpace), fs.open("/fill", "w") as file:
        while True:
            file.write(bytes(8192))
            file.sync()
    with pytest.raises(NoSpace):
        for n in range(100):
            store.set(f"item{n}", bytes(900))
    again = CredentialStore(fs, ROOT)
    assert again.get("mbed.LwM2MServerURI") == b"coap://127.0.0.1:5684"
    fs.remove("/fill")
    again.set("mbed.LwM2MServerURI", b"coap://127.0.0.1:5686")
    assert again.get("mbed.LwM2MServerURI") == b"coap://127.0.0.1:5686"
    fs.unmount()


# -- worn --------------------------------------------------------------------------------------------


def test_a_worn_block_in_the_way_of_a_file_is_said_and_the_rest_stays(volume: tuple[FileSystem, BlockDevice]) -> None:
    fs, device = volume
    # Everything that is free wears out at once: whichever block is taken next, it is worn.
    medium = device.medium  # type: ignore[attr-defined]
    free = [
        at
        for at in range(0, device.size, device.erase_size)
        if medium.peek(at, device.erase_size) in (b"\xff" * device.erase_size, bytes(device.erase_size))
    ]
    for at in free:
        MediumFaults.of(medium).wear_out(at)
    with pytest.raises(WornOut) as caught, fs.open("/new", "w") as file:
        file.write(bytes(range(256)) * 64)
    assert "is worn out (" in str(caught.value)
    assert ", -" in str(caught.value)
    assert "the part's life is over there" in str(caught.value)
    check_kept(fs)
    fs.unmount()
    again = type(fs)("again", device)
    check_kept(again)
    again.unmount()


def test_a_worn_block_under_a_file_does_not_keep_it_from_being_read(volume: tuple[FileSystem, BlockDevice]) -> None:
    fs, device = volume
    medium = device.medium  # type: ignore[attr-defined]
    for at in range(0, device.size, device.erase_size):
        MediumFaults.of(medium).wear_out(at)
    check_kept(fs)
    for work in (lambda: fs.remove("/kept"), lambda: fs.mkdir("/d"), lambda: fs.rename("/kept", "/k")):
        with pytest.raises(WornOut):
            work()
    check_kept(fs)
    fs.unmount()


def test_formatting_a_worn_part_says_so() -> None:
    for part, kind in STACKS:
        device = PARTS[part](1 << 20, WallClock())
        MediumFaults.of(device.medium).wear_out(0)  # type: ignore[attr-defined]
        fs = kind("fs")
        with pytest.raises(WornOut):
            fs.reformat(device)
        with pytest.raises(StorageError):
            fs.open("/a", "w")


def test_worn_credentials_are_still_read() -> None:
    medium = Medium(256 << 10)
    fs = LittleFileSystem2("fs")
    fs.reformat(SPIFBlockDevice(medium))
    store = CredentialStore(fs, ROOT)
    store.set("mbed.AccountID", b"0164")
    for at in range(0, medium.size, 4096):
        MediumFaults.of(medium).wear_out(at)
    with pytest.raises(WornOut):
        store.set("mbed.AccountID", b"0165")
    assert store.get("mbed.AccountID") == b"0164"
    fs.unmount()


def test_worn_sectors_of_the_root_of_trust_are_said_and_its_records_stay() -> None:
    medium = Medium(8192)
    flash = FlashIAPBlockDevice(medium, part="K64F")
    flash.init()
    areas = [(0, 4096), (4096, 4096)]
    store = NVStore(flash, areas)
    store.set(1, b"first")
    for at in (0, 4096):
        MediumFaults.of(medium).wear_out(at)
    with pytest.raises(StorageError) as caught:
        for _ in range(500):  # until its area is full and the worn one's turn comes
            store.set(2, bytes(64))
    assert caught.value.code < 0
    assert store.get(1) == b"first"
    again = FlashIAPBlockDevice(medium, part="K64F")
    again.init()
    assert NVStore(again, areas).get(1) == b"first"


def test_every_error_of_a_medium_carries_a_code_with_its_name() -> None:
    """No bare numbers: what a driver refuses names Mbed's code."""
    card = SDBlockDevice(Medium(1 << 20, erase_value=0))
    errors: list[PdmlabError] = []
    card.init()
    for work in (
        lambda: card.read(1, 512),
        lambda: card.program(0, b"x"),
        lambda: card.erase(1 << 20, 512),
        lambda: (MediumFaults.of(card.medium).wear_out(0), card.program(0, bytes(512))),
    ):
        with pytest.raises(StorageError) as caught:
            work()
        errors.append(caught.value)
    for error in errors:
        assert isinstance(error, StorageError)
        assert f"{error.code})" in str(error)
        assert "BLOCK_DEVICE" in str(error)
    assert HeapBlockDevice(512).size == 512
