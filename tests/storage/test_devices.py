"""Every block device keeps its bytes, its units and Mbed's codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pdmlab.clock import DeviceClock, PowerLost, WallClock
from pdmlab.errors import ConfigError, StorageError, WornOut
from pdmlab.storage import (
    DataFlashBlockDevice,
    FlashIAPBlockDevice,
    HeapBlockDevice,
    Medium,
    QSPIFBlockDevice,
    SDBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.faults import MediumFaults


def test_what_is_programmed_after_an_erase_is_read_back(device: BlockDevice) -> None:
    device.init()
    unit = device.get_erase_size(0)
    device.erase(unit, 2 * unit)
    data = bytes(range(256)) * (unit // 256)
    device.program(unit, data)
    device.sync()
    assert device.read(unit, unit) == data
    if device.erase_value >= 0:
        assert device.read(2 * unit, unit) == bytes([device.erase_value]) * unit


@pytest.mark.parametrize("what", ["read", "program", "erase"])
def test_a_stretch_past_the_end_is_refused_with_the_drivers_code(device: BlockDevice, what: str) -> None:
    device.init()
    unit = device.erase_size
    with pytest.raises(StorageError) as refused:
        if what == "program":
            device.program(device.size, bytes(unit))
        else:
            getattr(device, what)(device.size, unit)
    expected = {"SD": -5003, "SPIF": -4005, "QSPIF": -4005}.get(device.type, -4001) if what == "erase" else 0
    assert refused.value.code == (expected or (-5003 if device.type == "SD" else -4001))
    assert str(refused.value.code) in str(refused.value)


def test_a_misaligned_erase_is_refused(device: BlockDevice) -> None:
    device.init()
    with pytest.raises(StorageError):
        device.erase(device.erase_size // 2, device.erase_size)


@pytest.mark.parametrize(
    ("device", "code", "name"),
    [
        # Mbed checks the address first, against a size that is 0 before init(): never NO_INIT.
        (SDBlockDevice(Medium(1 << 20, erase_value=0)), -5003, "SD_BLOCK_DEVICE_ERROR_PARAMETER"),
        (SPIFBlockDevice(Medium(1 << 20)), -4001, "BD_ERROR_DEVICE_ERROR"),
        (DataFlashBlockDevice(Medium(1 << 20)), -4001, "BD_ERROR_DEVICE_ERROR"),
        (HeapBlockDevice(1 << 20), -4001, "BD_ERROR_DEVICE_ERROR"),
    ],
    ids=["SD", "SPIF", "DATAFLASH", "HEAP"],
)
def test_a_device_needs_as_many_inits_as_deinits(device: BlockDevice, code: int, name: str) -> None:
    device.init()
    device.init()
    device.deinit()
    device.read(0, 512)
    device.deinit()
    with pytest.raises(StorageError, match=name) as refused:
        device.read(0, 512)
    assert refused.value.code == code


def test_nor_flash_programmed_twice_keeps_the_zeros() -> None:
    chip = SPIFBlockDevice(Medium(1 << 20))
    chip.init()
    chip.program(0, b"\xf0")
    chip.program(0, b"\x3c")
    assert chip.read(0, 2) == b"\x30\xff"


def test_a_pulled_card_is_no_device_until_it_is_seated_and_initialised_again() -> None:
    card = SDBlockDevice(Medium(1 << 20, erase_value=0))
    card.init()
    card.program(0, b"a" * 512)
    card.medium.seated = False
    with pytest.raises(StorageError, match="SD_BLOCK_DEVICE_ERROR_NO_DEVICE, -5005"):
        card.read(0, 512)
    card.medium.seated = True
    with pytest.raises(StorageError, match="NO_DEVICE, -5005") as refused:
        card.read(0, 512)
    assert "init()" in str(refused.value.hint)
    card.deinit()
    card.init()
    assert card.read(0, 512) == b"a" * 512


def test_a_read_only_card_refuses_a_block_and_loses_many_without_a_word() -> None:
    card = SDBlockDevice(Medium(1 << 20, erase_value=0))
    card.init()
    card.medium.write_protected = True
    card.read(0, 512)
    with pytest.raises(StorageError, match="SD_BLOCK_DEVICE_ERROR_WRITE, -5011"):
        card.program(0, b"a" * 512)
    card.program(0, b"a" * 1024)  # SDBlockDevice.cpp breaks its loop off and returns BD_ERROR_OK
    assert card.medium.peek(0, 1024) == bytes(1024)


def test_a_worn_sector_fails_alone() -> None:
    chip = QSPIFBlockDevice(Medium(1 << 20))
    chip.init()
    MediumFaults.of(chip.medium).wear_out(5000)
    with pytest.raises(WornOut):
        chip.erase(4096, 4096)
    with pytest.raises(WornOut):
        chip.program(8191, b"x")
    chip.erase(0, 4096)
    chip.program(8192, b"x")
    assert chip.medium.wear == {0: 1}


def test_without_power_nothing_is_touched() -> None:
    chip = SPIFBlockDevice(Medium(1 << 20))
    chip.init()
    chip.program(0, b"kept")
    chip.medium.powered = False
    with pytest.raises(PowerLost):
        chip.erase(0, 4096)
    assert chip.medium.peek(0, 4) == b"kept"


def test_a_power_cut_tears_a_program_at_the_edge_of_a_page() -> None:
    medium = Medium(1 << 20)
    with DeviceClock() as clock:
        chip = SPIFBlockDevice(medium, clock=clock)

        def write() -> None:
            chip.init()
            chip.program(0, b"x" * 2560)

        def cut() -> None:
            thread = clock.spawn(write)
            clock.sleep(9_500_000)
            clock.loop.call_soon(thread.kill)
            with pytest.raises(PowerLost):
                thread.join()

        clock.call(cut)
    written = medium.peek(0, 2560).rstrip(b"\xff")
    assert 0 < len(written) < 2560
    assert len(written) % 256 == 0


def test_sectors_of_internal_flash_differ_in_size() -> None:
    flash = FlashIAPBlockDevice(
        Medium(256 << 10), part="STM32F429ZI", sectors=[(4, 16 << 10), (1, 64 << 10), (1, 128 << 10)], program_size=1
    )
    assert [flash.get_erase_size(address) for address in (0, 65535, 65536, 131071, 131072)] == [
        16384, 16384, 65536, 65536, 131072,
    ]  # fmt: skip
    assert flash.is_valid_erase(49152, 81920)
    assert not flash.is_valid_erase(65536, 16384)
    flash.program(131071, b"ab")
    flash.erase(65536, 65536)
    assert flash.read(131071, 2) == b"\xffb"


def test_faster_buses_and_wider_ones_take_less_device_time() -> None:
    def spent(make: type[SPIFBlockDevice], frequency: int) -> int:
        with DeviceClock() as clock:
            chip = make(Medium(1 << 20), clock=clock, frequency=frequency)

            def read() -> int:
                chip.init()
                before = clock.now()
                chip.read(0, 65536)
                return clock.now() - before

            return clock.call(read)

    slow, fast, wide = (
        spent(SPIFBlockDevice, 8_000_000),
        spent(SPIFBlockDevice, 40_000_000),
        spent(QSPIFBlockDevice, 40_000_000),
    )
    assert slow > fast > wide
    assert slow - fast == (4 + 65536) * 8 * (125 - 25)  # of bits; what the processor adds to a byte stays
    assert wide < 65536 * 2 * 25 + 100_000  # four bits a clock, and no gaps: the QSPI peripheral moves the data


def test_an_image_file_is_the_plain_bytes(tmp_path: Path) -> None:
    for erase_value in (0, 0xFF):
        path = tmp_path / f"{erase_value}.bin"
        medium = Medium(1 << 20, erase_value=erase_value, path=path)
        medium.poke(70_000, b"here")
        medium.close()
        blank = bytes([erase_value])
        assert path.read_bytes() == blank * 70_000 + b"here" + blank * ((1 << 20) - 70_004)
        again = Medium(1 << 20, erase_value=erase_value, path=path)
        assert again.peek(70_000, 4) == b"here"
        again.close()


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card").write_bytes(bytes(100))
    with pytest.raises(StorageError, match="100 B"):
        Medium(1 << 20, path=tmp_path / "card")


def test_an_unknown_part_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="MX25R6435F"):
        SPIFBlockDevice(Medium(1 << 20), clock=WallClock(), part="K64F")


# -- what cannot be ----------------------------------------------------------------------------------

NONSENSE = {
    "flash as a card": lambda: SDBlockDevice(Medium(1 << 20)),
    "a card as SPI flash": lambda: SPIFBlockDevice(Medium(1 << 20, erase_value=0)),
    "a card as QSPI flash": lambda: QSPIFBlockDevice(Medium(1 << 20, erase_value=-1)),
    "a card as DataFlash": lambda: DataFlashBlockDevice(Medium(1 << 20, erase_value=0)),
    "a card as internal flash": lambda: FlashIAPBlockDevice(Medium(1 << 20, erase_value=0)),
    "a card of half a block": lambda: SDBlockDevice(Medium(1000, erase_value=0)),
    "a card larger than its part": lambda: SDBlockDevice(Medium(8 << 30, erase_value=0)),
    "flash of half a sector": lambda: SPIFBlockDevice(Medium(6000)),
    "flash larger than its part": lambda: SPIFBlockDevice(Medium(16 << 20)),
    "DataFlash larger than its part": lambda: DataFlashBlockDevice(Medium(8 << 20)),
    "no medium": lambda: SDBlockDevice(b"card"),  # type: ignore[arg-type]
    "an unknown microcontroller": lambda: SPIFBlockDevice(Medium(1 << 20), mcu="zzz"),
    "no microcontroller": lambda: SPIFBlockDevice(Medium(1 << 20), mcu=None),  # type: ignore[arg-type]
    "a seed that is text": lambda: SPIFBlockDevice(Medium(1 << 20), seed="x"),  # type: ignore[arg-type]
    "units of 0 B": lambda: FlashIAPBlockDevice(Medium(1 << 20), program_size=0),
    "units of 3 B": lambda: FlashIAPBlockDevice(Medium(1 << 20), program_size=3),
    "an empty medium": lambda: Medium(0),
    "a medium of less than nothing": lambda: Medium(-512),
    "a medium of a broken size": lambda: Medium(4096.0),  # type: ignore[arg-type]
    "an erase value of two bytes": lambda: Medium(4096, erase_value=256),
}


@pytest.mark.parametrize("make", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_driver_refuses_what_is_no_part_of_its_kind_with_a_hint(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.hint


def test_a_refused_card_says_how_a_card_is_made() -> None:
    with pytest.raises(ConfigError, match="only clears bits") as caught:
        SDBlockDevice(Medium(1 << 20))
    assert caught.value.hint == "Medium(size, erase_value=0)"


def test_a_card_whose_erased_bytes_nobody_knows_overwrites() -> None:
    card = SDBlockDevice(Medium(1 << 20, erase_value=-1))
    card.init()
    assert card.read(0, 512) == bytes(512)
    card.program(0, b"\x0f" * 512)
    card.program(0, b"\xf0" * 512)
    assert card.read(0, 512) == b"\xf0" * 512


def test_dataflash_as_delivered_has_room_for_all_its_longer_pages() -> None:
    assert DataFlashBlockDevice(Medium(8192 * 528), binary=False).size == 8192 * 528


def test_a_microcontroller_is_known_by_the_head_of_its_name() -> None:
    assert SPIFBlockDevice(Medium(1 << 20), mcu="STM32L432KC").mcu.name == "STM32L432KC"
    assert SPIFBlockDevice(Medium(1 << 20), mcu="generic").mcu.name == "generic"


def test_an_image_may_be_named_by_text(tmp_path: Path) -> None:
    medium = Medium(4096, path=str(tmp_path / "chip.bin"))
    medium.poke(0, b"kept")
    medium.close()
    assert (tmp_path / "chip.bin").read_bytes()[:4] == b"kept"


@pytest.mark.parametrize("units", [(0, 512, 512), (-1, 512, 512), (512, 512, -512), (512, 512.0, 512), (512, 512, 0)])
def test_a_heap_device_refuses_units_that_are_none(units: tuple[int, int, int]) -> None:
    with pytest.raises(StorageError, match="cannot have units"):
        HeapBlockDevice(4096, *units)
    with pytest.raises(StorageError, match="cannot have units"):
        HeapBlockDevice(4096.0)  # type: ignore[arg-type]
