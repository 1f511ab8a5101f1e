"""Updates on worn and full media, and manifests that were damaged while they were kept."""

from __future__ import annotations

import random

import pytest

from pdmlab.clock import DeviceClock, PowerLost
from pdmlab.errors import BootFailed, CorruptMedium, NoSpace, StorageError
from pdmlab.storage import FlashIAPBlockDevice, Medium, QSPIFBlockDevice, SDBlockDevice
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.faults import MediumFaults
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.fota import FotaBootloader
from pdmlab.update.bootloaders.interface import BootResult, Hardware
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.interface import Answer
from pdmlab.update.manifest import Manifest
from pdmlab.update.version import Version
from tests.update.bootloaders.boards import LAYOUT, NEW, OLD, OLD_DIGEST
from tests.update.test_download import IMAGE, Phone, order

K = 1024


def storage(part: str) -> BlockDevice:
    """A part with its real driver, ready for use."""
    devices = {
        "SD": lambda: SDBlockDevice(Medium(64 * K, erase_value=0)),
        "QSPIF": lambda: QSPIFBlockDevice(Medium(64 * K)),
        "FLASHIAP": lambda: FlashIAPBlockDevice(Medium(64 * K), part="K64F"),
    }
    device = devices[part]()
    device.init()
    return device


# -- the candidate's storage -------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["SD", "QSPIF", "FLASHIAP"])
@pytest.mark.parametrize("at", [0, 4096, 20 * K, 48 * K])
def test_a_worn_sector_of_the_slot_ends_the_update_with_a_result_and_another_part_takes_it(part: str, at: int) -> None:
    phone = Phone(storage(part))
    MediumFaults.of(phone.storage.medium).wear_out(at)
    phone.update()
    assert phone.told[-2:] == [("result", 35), 1]
    assert phone.told[0] == 3  # 4 comes once the slot is erased, as the stock client reports it
    assert phone.manifest is None
    assert phone.slot.read() is None
    phone.storage = storage(part)  # another card, or a new board's flash
    phone.update()
    assert phone.told[-1] == "reboot"


@pytest.mark.parametrize("part", ["SD", "QSPIF", "FLASHIAP"])
def test_a_slot_that_wears_out_when_the_candidate_is_marked_installs_nothing(part: str) -> None:
    phone = Phone(storage(part))
    authorise = phone.authorise

    async def wear_then_allow(step: object, manifest: Manifest) -> Answer:
        if phone.told[-1] == 6:
            MediumFaults.of(phone.storage.medium).wear_out(0)
        return await authorise(step, manifest)  # type: ignore[arg-type]

    phone.authorise = wear_then_allow  # type: ignore[method-assign]
    phone.update()
    assert phone.told == [3, 4, 6, ("result", 35), 1]  # 7 comes once the candidate is marked
    assert phone.slot.read() is None


def test_a_card_that_is_pulled_during_the_download_is_a_storage_error() -> None:
    phone = Phone(storage("SD"))
    fetch = phone.fetch

    async def pull(uri: str, number: int, size: int) -> tuple[bytes, bool, int | None]:
        phone.storage.medium.seated = number < 50
        return await fetch(uri, number, size)

    phone.fetch = pull  # type: ignore[method-assign]
    phone.update()
    assert phone.told == [3, 4, ("result", 35), 1]
    phone.storage.medium.seated = True
    phone.storage.deinit()  # the phone is switched off and on
    phone.storage.init()
    phone.fetch = fetch  # type: ignore[method-assign]
    phone.update()
    assert phone.told[-1] == "reboot"


# -- where the manifest is kept ----------------------------------------------------------------------


def test_a_volume_too_full_for_the_manifest_ends_the_update_before_a_byte_is_fetched() -> None:
    phone = Phone(storage("SD"))

    def full(manifest: bytes) -> None:
        raise NoSpace("cannot write /kcm/FOTA_MANIFEST_KEY (ENOSPC, -28)", code=-28)

    phone.save = full  # type: ignore[method-assign]
    phone.update()
    assert phone.told == [("result", 35), 1]
    assert phone.asked == []


def test_a_manifest_that_cannot_be_forgotten_is_said_with_the_failure() -> None:
    phone = Phone(storage("SD"))
    reasons: list[str] = []
    phone.image = IMAGE[:1000]

    async def result(result: object, reason: str) -> None:
        reasons.append(reason)

    def broken() -> None:
        raise StorageError("cannot remove it (EIO, -5)", code=-5)

    phone.result = result  # type: ignore[method-assign]
    phone.clear = broken  # type: ignore[method-assign]
    phone.update()
    assert reasons == [
        "/fw/1 ended after 1000 of 50003 B; the manifest could not be forgotten: cannot remove it (EIO, -5)"
    ]
    assert phone.told[-1] == 1


def interrupted(phone: Phone) -> None:
    """Cut the power in mid-download."""
    phone.trouble = {80: [PowerLost()]}
    with pytest.raises(PowerLost):
        phone.update()
    phone.trouble = {}


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda der: b"", id="empty"),
        pytest.param(lambda der: der[: len(der) // 2], id="cut off"),
        pytest.param(lambda der: b"\xff" * len(der), id="blank flash"),
        pytest.param(lambda der: der + b"?", id="longer"),
        pytest.param(lambda der: der[:60] + bytes((der[60] ^ 1,)) + der[61:], id="a bit"),
        pytest.param(lambda der: random.Random(1).randbytes(len(der)), id="noise"),
    ],
)
def test_a_kept_manifest_that_was_damaged_is_rejected_and_forgotten_and_the_next_update_works(damage) -> None:
    phone = Phone(storage("QSPIF"))
    interrupted(phone)
    assert phone.manifest is not None
    phone.manifest = damage(phone.manifest)
    phone.go_on()
    assert phone.told[0] == 2
    assert phone.told[-1] == 1
    assert phone.told[1] in (("result", 22), ("result", 23))
    assert phone.asked == []
    assert phone.manifest is None
    phone.go_on()
    assert phone.told == []
    phone.update()
    assert phone.told[-1] == "reboot"


def test_a_kept_manifest_that_is_older_than_what_runs_by_now_is_rejected() -> None:
    phone = Phone(storage("QSPIF"))
    interrupted(phone)
    phone.version = Version(2, 0, 0)  # a programmer at the debug port was faster
    phone.go_on()
    assert phone.told == [2, ("result", 27), 1]
    assert phone.manifest is None


def test_a_kept_manifest_that_cannot_be_read_is_an_error_before_registration_and_no_update_after_it() -> None:
    phone = Phone(storage("QSPIF"))
    interrupted(phone)

    def corrupt() -> bytes | None:
        raise CorruptMedium("FOTA_MANIFEST_KEY does not fit its tag (KCM_STATUS_FILE_CORRUPTED, 8)", code=8)

    phone.load = corrupt  # type: ignore[method-assign]
    with pytest.raises(CorruptMedium):
        phone.go_on()
    with DeviceClock() as clock:
        fota = phone.boot(clock)
        clock.call_async(fota.resume())  # nothing was found, so nothing is gone on with
    assert phone.told == []


def test_a_kept_manifest_that_becomes_unreadable_ends_with_a_result() -> None:
    phone = Phone(storage("QSPIF"))
    interrupted(phone)

    def corrupt() -> bytes | None:
        raise CorruptMedium("FOTA_MANIFEST_KEY does not fit its tag", code=8)

    with DeviceClock() as clock:
        fota = phone.boot(clock)
        assert clock.call_async(fota.prepare())
        phone.load = corrupt  # type: ignore[method-assign]
        clock.call_async(fota.resume())
    assert phone.told == [("result", 36), 1]
    assert not fota.busy


# -- a corrupted manifest as it comes ----------------------------------------------------------------


@pytest.mark.parametrize("position", range(0, len(order()), 23))
def test_a_manifest_with_one_wrong_byte_changes_nothing_on_the_device(position: int) -> None:
    phone = Phone(storage("QSPIF"))
    before = phone.storage.medium.peek(0, 64 * K)
    der = bytearray(order())
    der[position] ^= 0x20
    with DeviceClock() as clock:
        clock.call_async(phone.boot(clock).receive(bytes(der)))
    assert phone.told[-1] == 1
    assert phone.told[0][0] == "result"
    assert phone.asked == []
    assert phone.manifest is None
    assert phone.storage.medium.peek(0, 64 * K) == before


# -- the application's flash -------------------------------------------------------------------------


class Board:
    """A K64F's flash behind its real driver, an old image in it, and a new one in the slot."""

    def __init__(self) -> None:
        self.flash = storage("FLASHIAP")
        self.slot_medium = storage("SD")
        self.lines: list[str] = []
        for at, data in bootloaders.programmed("fota", LAYOUT, OLD, Version(1, 0, 0)):
            self.flash.medium.poke(at, data)  # type: ignore[attr-defined]
        slot = CandidateSlot(self.slot_medium)
        slot.begin(
            Manifest.for_image(NEW, version="1.0.1", uri="/fw", vendor_id=bytes(16), class_id=bytes(16)),
            precursor=OLD_DIGEST,
        )
        slot.write(0, NEW)
        slot.finish()

    @property
    def bootloader(self) -> FotaBootloader:
        nvstore = NVStore(self.flash, [(area.offset, area.size) for area in LAYOUT.sotp])
        return FotaBootloader(Hardware(LAYOUT, self.flash, self.slot_medium, nvstore), CandidateSlot(self.slot_medium))

    def boot(self) -> BootResult:
        self.lines = []
        return self.bootloader.boot(self.lines.append)


def test_flash_that_refuses_the_first_erase_starts_what_it_still_holds() -> None:
    board = Board()
    MediumFaults.of(board.flash.medium).wear_out(LAYOUT.header_offset)  # type: ignore[attr-defined]
    for _ in range(2):  # at every start again: it does not change
        result = board.boot()
        assert not result.installed
        assert result.active.version_text == "1.0.0"
        assert result.refused is not None
        assert "worn out" in result.refused
        assert "[ERR ] flash program failed\r\n" in board.lines
        assert "All clear. Jumping to application" in board.lines[-1]


def test_flash_that_wears_out_under_the_application_fails_with_a_hint_and_the_candidate_stays() -> None:
    board = Board()
    MediumFaults.of(board.flash.medium).wear_out(LAYOUT.app_offset + 8 * K)  # type: ignore[attr-defined]
    for _ in range(2):
        with pytest.raises(BootFailed, match=r"worn out \(") as caught:
            board.boot()
        assert caught.value.hint
        assert board.lines[-1] == "[ERR ] PANIC!\r\n"
    assert CandidateSlot(board.slot_medium).read() is not None
    board.flash = storage("FLASHIAP")  # another chip is soldered in
    result = board.boot()
    assert result.installed
    assert result.active.version_text == "1.0.1"


def test_a_slot_that_cannot_be_read_starts_the_old_image() -> None:
    board = Board()
    board.slot_medium.medium.seated = False  # type: ignore[attr-defined]
    result = board.boot()
    assert (result.installed, result.active.version_text) == (False, "1.0.0")
    assert "[ERR ] Storage initialization failed!\r\n" in board.lines
    board.slot_medium.medium.seated = True  # type: ignore[attr-defined]
    board.slot_medium.deinit()  # a start initialises it
    board.slot_medium.init()
    assert board.boot().installed


@pytest.mark.parametrize(
    ("kind", "said"), [("fota", "Flash initialization failed!"), ("mbed", "Failed to initialize active storage")]
)
def test_flash_that_cannot_be_read_is_said_and_starts_nothing(kind: bootloaders.Kind, said: str) -> None:
    flash, slot = storage("FLASHIAP"), storage("SD")
    for at, data in bootloaders.programmed(kind, LAYOUT, OLD, Version(1, 0, 0)):
        flash.medium.poke(at, data)  # type: ignore[attr-defined]
    MediumFaults.of(flash.medium).bad_block(LAYOUT.app_offset // (4 * K), "readerror")  # type: ignore[attr-defined]
    nvstore, lines = NVStore(flash, [(area.offset, area.size) for area in LAYOUT.sotp]), list[str]()
    with pytest.raises(BootFailed, match=said) as caught:
        bootloaders.build(kind, Hardware(LAYOUT, flash, slot, nvstore)).boot(lines.append)
    assert caught.value.hint and any(said in line for line in lines)
