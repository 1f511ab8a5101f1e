"""Drivers send what Mbed's send, wait as long, give up after the same tries, and answer with the same codes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import pytest

import pdmlab
from pdmlab.clock import MS, SECOND, DeviceClock
from pdmlab.errors import ConfigError, StorageError, WornOut
from pdmlab.storage import (
    DataFlashBlockDevice,
    FATFileSystem,
    FlashIAPBlockDevice,
    HeapBlockDevice,
    Medium,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
    SlicingBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.driver import MediumDevice, code_names
from pdmlab.storage.faults import MediumFaults
from pdmlab.storage.mcu import Mcu, mcu, mcus, next_tick, processor_of
from pdmlab.storage.medium import MediumFault
from pdmlab.storage.parts import Part, part, parts

T = TypeVar("T")
BYTE = 8_000
"""A byte at 1 MHz (ns)."""
INSTANT = replace(mcu(), cycles=dict.fromkeys(mcu().cycles, 0))
"""A processor that takes no time, so that only the bus and the part do."""
QUIET = part("SDHC", "sd").with_(
    program=4 * BYTE, program_next=0, read_access=2 * BYTE, erase=9 * BYTE, stall=0, init_wait=0, ncr=1
)


def sd(clock: DeviceClock, **options: object) -> SDBlockDevice:
    chosen: dict[str, object] = {"part": QUIET, "mcu": INSTANT, "timing": "maximum", **options}
    return SDBlockDevice(Medium(1 << 20, erase_value=0), clock=clock, **chosen)  # type: ignore[arg-type]


def on(work: Callable[[DeviceClock], T]) -> T:
    with DeviceClock() as clock:
        return clock.call(lambda: work(clock))


def spent(clock: DeviceClock, work: Callable[[], object]) -> int:
    before = clock.now()
    work()
    return clock.now() - before


def refused(clock: DeviceClock, work: Callable[[], object]) -> tuple[int, int]:
    """Return the code that something is refused with, and how long that took (ns)."""
    before = clock.now()
    with pytest.raises(StorageError) as caught:
        work()
    return caught.value.code, clock.now() - before


# -- an SD card --------------------------------------------------------------------------------------

# Preclock, ready, CMD and argument and CRC, N_CR, R1.
COMMAND = 1 + 1 + 6 + 1 + 1


@pytest.mark.parametrize(
    ("what", "count"),
    [
        # CMD24; token, data, CRC, response; four bytes busy and one ready; postclock
        (lambda card: card.program(0, bytes(512)), COMMAND + 1 + 512 + 2 + 1 + 5 + 1),
        # CMD55 and what it waits, ACMD23, postclock; CMD25; two blocks; stop token, postclock
        (
            lambda card: card.program(0, bytes(1024)),
            (COMMAND + 1 + 8 + 1) + COMMAND + (1 + 512 + 2 + 1 + 5) + (1 + 512 + 2 + 1 + 1) + 2,
        ),
        # CMD17; two bytes, then the token; data, CRC; postclock
        (lambda card: card.read(0, 512), COMMAND + 3 + 512 + 2 + 1),
        # CMD18; a second block whose token comes at once; postclock; CMD12 with its stuff byte and its wait
        (lambda card: card.read(0, 1024), COMMAND + (3 + 512 + 2) + (1 + 512 + 2) + 1 + (1 + 6 + 1 + 1 + 1 + 1 + 1)),
        # CMD32, CMD33, CMD38 and nine bytes busy
        (lambda card: card.trim(0, 1024), 3 * (COMMAND + 1) + 10),
        (lambda card: card.erase(0, 1024), 0),
    ],
    ids=["CMD24", "ACMD23+CMD25", "CMD17", "CMD18+CMD12", "CMD32+CMD33+CMD38", "erase"],
)
def test_a_card_is_sent_byte_for_byte_what_mbed_sends(what: Callable[[SDBlockDevice], object], count: int) -> None:
    def measure(clock: DeviceClock) -> int:
        card = sd(clock)
        card.init()
        return spent(clock, lambda: what(card))

    assert on(measure) == count * BYTE


def test_a_byte_alone_costs_a_lock_and_a_byte_of_a_buffer_does_not() -> None:
    slow = replace(INSTANT, cycles={**INSTANT.cycles, "lock": 120, "byte": 12})  # 1 us and 100 ns at 120 MHz

    def measure(clock: DeviceClock) -> int:
        card = sd(clock, mcu=slow)
        card.init()
        return spent(clock, lambda: card.program(0, bytes(512)))

    alone = COMMAND + 1 + 2 + 1 + 4 + 1  # busy, in longer bytes, takes fewer of them
    assert on(measure) == alone * (BYTE + 1_100) + 512 * (BYTE + 100) + 1_000  # the driver's own mutex


def test_a_card_that_is_not_there_is_asked_five_times_and_three_times_each() -> None:
    def measure(clock: DeviceClock) -> tuple[int, int]:
        card = sd(clock)
        card.medium.seated = False
        return refused(clock, card.init)

    code, took = on(measure)
    assert code == -5005
    tries = 5 * (1 + 1 + 3 * (6 + 16) + 1) * 10 * BYTE  # at 100 kHz
    assert tries <= took <= tries + 5 * MS


def test_what_a_missing_card_answers_in_mid_operation() -> None:
    def story(clock: DeviceClock) -> None:
        card = sd(clock)
        card.init()
        card.medium.seated = False
        unanswered = (1 + 1 + 3 * (6 + 16) + 1) * BYTE
        assert refused(clock, lambda: card.read(0, 512)) == (-5005, unanswered)
        assert refused(clock, lambda: card.program(0, bytes(2048))) == (-5005, unanswered)
        card.medium.seated = True
        assert refused(clock, lambda: card.read(0, 512))[0] == -5005  # it has forgotten that it was initialised
        for work, code in (  # pulled after the command
            (lambda: card.program(0, bytes(512)), -5011),
            (lambda: card.read(0, 512), -5008),
            (lambda: card.read(0, 1024), -5005),  # it is CMD12 that gets no answer
        ):
            card.deinit()
            card.init()
            MediumFaults.of(card.medium, 1).pull_card(after=1)
            assert refused(clock, work)[0] == code
            card.medium.faults = None
            card.medium.seated = True

    on(story)


def test_of_many_blocks_mbed_does_not_notice_the_one_that_failed() -> None:
    def story(clock: DeviceClock) -> None:
        card = sd(clock)
        card.init()
        card.program(0, b"old!" * 512)
        MediumFaults.of(card.medium, 1).bad_block(2, "progerror")
        assert refused(clock, lambda: card.program(1024, bytes(512)))[0] == -5011
        card.program(0, b"new!" * 512)
        assert card.read(0, 512) == b"new!" * 128
        assert card.read(1024, 1024) == b"old!" * 256  # it and what would have followed
        card.medium.faults = None
        MediumFaults.of(card.medium, 1).bad_block(1, "readerror")
        code, took = refused(clock, lambda: card.read(512, 512))
        assert (code, took >= 300 * MS) == (-5008, True)
        assert card.read(0, 1536) == b"new!" * 128 + bytes(1024)  # CMD12 was fine, and its status is what counts

    on(story)


def test_a_worn_block_of_a_card_says_so() -> None:
    def story(clock: DeviceClock) -> None:
        card = sd(clock)
        card.init()
        MediumFaults.of(card.medium, 1).wear_out(512)
        with pytest.raises(WornOut, match=r"0x200 is worn out .*WRITE, -5011") as caught:
            card.program(512, bytes(512))
        assert isinstance(caught.value.__cause__, MediumFault)

    on(story)


@pytest.mark.parametrize(
    ("what", "code", "seconds"),
    [
        (lambda card: card.read(0, 512), -5008, 10.3),
        (lambda card: card.program(0, bytes(512)), -5011, 20),
        (lambda card: card.read(0, 1024), 0, 20.3),
        (lambda card: card.program(0, bytes(1024)), 0, 40),
        (lambda card: card.trim(0, 1024), 0, 40),
    ],
    ids=["read", "program", "read many", "program many", "trim"],
)
def test_a_card_that_stays_busy_costs_mbeds_time_outs(
    what: Callable[[SDBlockDevice], object], code: int, seconds: float
) -> None:
    def story(clock: DeviceClock) -> tuple[int, float]:
        card = sd(clock)
        card.init()
        MediumFaults.of(card.medium, 1).stick_busy()
        before = clock.now()
        try:
            what(card)
            answer = 0
        except StorageError as error:
            answer = error.code
        return answer, (clock.now() - before) / SECOND

    answer, took = on(story)
    assert answer == code
    assert seconds <= took < seconds + 0.1


def test_a_card_that_is_busy_for_a_while_is_waited_for() -> None:
    def story(clock: DeviceClock) -> int:
        card = sd(clock)
        card.init()
        MediumFaults.of(card.medium, 1).stick_busy(3)
        return spent(clock, lambda: card.program(0, bytes(512)))

    assert 3 * SECOND <= on(story) < 3.1 * SECOND


def test_a_card_that_is_busy_at_init_is_waited_for_or_given_up_after_fifty_seconds() -> None:
    def story(clock: DeviceClock) -> None:
        card = sd(clock)
        faults = MediumFaults.of(card.medium, 1)
        faults.stick_busy(2)
        assert 2 * SECOND <= spent(clock, card.init) < 2.1 * SECOND
        card.deinit()
        faults.stick_busy()
        code, took = refused(clock, card.init)
        assert (code, took // SECOND) == (-5005, 50)
        assert not card.is_initialized

    on(story)


def test_before_init_no_address_is_on_the_card() -> None:
    def story(clock: DeviceClock) -> None:
        card = sd(clock)
        for work in (lambda: card.read(0, 512), lambda: card.program(0, bytes(512)), lambda: card.erase(0, 512)):
            assert refused(clock, work)[0] == -5003

    on(story)


# -- what varies -------------------------------------------------------------------------------------


def test_a_seed_means_the_same_times_and_another_seed_others() -> None:
    def times(seed: int, timing: str = "typical") -> list[int]:
        def measure(clock: DeviceClock) -> list[int]:
            card = sd(clock, part="SDHC", seed=seed, timing=timing)
            card.init()
            return [spent(clock, lambda: card.program(0, bytes(512))) for _ in range(40)]

        return on(measure)

    first = times(1)
    assert times(1) == first != times(2)
    assert max(first) - min(first) < 0.2 * 4 * MS + BYTE
    worst = times(1, "maximum")
    assert len(set(worst)) == 1
    assert worst[0] > 250 * MS
    assert worst == times(2, "maximum")


def test_a_card_stalls_now_and_then_and_never_longer_than_its_maximum() -> None:
    stalling = QUIET.with_(stall=(60 * MS, 250 * MS), stall_every=65536)

    def measure(clock: DeviceClock) -> list[int]:
        card = sd(clock, part=stalling, timing="typical")
        card.init()
        return [spent(clock, lambda: card.program(0, bytes(512))) for _ in range(4096)]

    times = on(measure)
    stalls = [took - min(times) for took in times if took > 2 * min(times)]
    assert 20 < len(stalls) < 45  # 2 MiB, one each 64 KiB
    assert max(stalls) <= 120 * MS
    assert 40 * MS < sum(stalls) / len(stalls) < 80 * MS


@pytest.mark.parametrize(
    "make", [SDBlockDevice, SPIFBlockDevice, QSPIFBlockDevice, DataFlashBlockDevice, FlashIAPBlockDevice]
)
def test_every_driver_names_the_estimates_in_its_times(make: type[MediumDevice]) -> None:
    blank = 0 if make is SDBlockDevice else 0xFF
    device = make(Medium(1 << 20, erase_value=blank))  # type: ignore[call-arg]
    assert "generic: call" in device.unsourced
    estimated = device.part.with_(endurance=1)
    for figure in device.figures:
        if figure in estimated and figure in estimated.unsourced:
            assert figure in device.unsourced
    sourced = replace(device.mcu, sources=dict.fromkeys(device.mcu.sources, "measured"))
    figures = {name: replace(figure, source="measured") for name, figure in device.part.figures.items()}
    medium, row = Medium(1 << 20, erase_value=blank), replace(device.part, figures=figures)
    known = make(medium, part=row, mcu=sourced)  # type: ignore[call-arg]
    assert known.unsourced == ""


# -- NOR flash ---------------------------------------------------------------------------------------

NOR = part("W25Q64JV", "nor").with_(
    program=600_000, program_byte=600_000, erase_4k=45 * MS, erase_32k=120 * MS, erase_64k=150 * MS
)


def nor(clock: DeviceClock, make: type[SPIFBlockDevice] = SPIFBlockDevice, **options: object) -> SPIFBlockDevice:
    chosen: dict[str, object] = {
        "part": NOR, "mcu": INSTANT, "timing": "maximum", "frequency": 1_000_000, **options,
    }  # fmt: skip
    return make(Medium(1 << 20), clock=clock, **chosen)  # type: ignore[arg-type]


def test_a_page_takes_a_tick_after_the_write_enable_and_ticks_until_it_is_ready() -> None:
    def measure(clock: DeviceClock) -> list[int]:
        chip = nor(clock)
        chip.init()
        clock.charge(next_tick(clock.now()) - clock.now())
        return [spent(clock, lambda n=n: chip.program(0, bytes(n))) for n in (1, 1, 256)]

    first, second, page = on(measure)
    # Write enable; to the tick; two looks (16 us each); 02h, address, 1 B; 0.6 ms; to the tick; a look.
    assert first == 2 * MS + 2 * BYTE
    assert second == 2 * MS  # what was left of the look's tick is slept away
    # 4 + 256 B are 2.08 ms: with the looks and 0.6 ms that ends in the third tick after the enable's.
    assert page == 4 * MS


def test_an_erase_takes_the_largest_command_that_fits() -> None:
    def measure(clock: DeviceClock) -> list[int]:
        chip = nor(clock)
        chip.init()
        kib = 1024
        stretches = [(0, 4), (0, 64), (92, 104), (32, 36)]
        return [spent(clock, lambda at=at, n=n: chip.erase(at * kib, n * kib)) for at, n in stretches]

    took = [round(time / MS) for time in on(measure)]
    # Of 104 KiB from 92 KiB: 4, 32, 64, 4, as Mbed's own unit test of SFDP has it.
    whole = [45, 150, 45 + 120 + 150 + 45, 120 + 45]
    assert all(sum_ < time <= sum_ + 12 for time, sum_ in zip(took, whole, strict=True))


def test_spi_reads_byte_by_byte_and_qspi_on_four_lines_but_programs_on_one() -> None:
    def measure(make: type[SPIFBlockDevice]) -> tuple[int, int]:
        def work(clock: DeviceClock) -> tuple[int, int]:
            chip = nor(clock, make)
            chip.init()
            reading = spent(clock, lambda: chip.read(0, 1000))
            clock.charge(next_tick(clock.now()) - clock.now())
            return reading, spent(clock, lambda: chip.program(0, bytes(256)))

        return on(work)

    assert measure(SPIFBlockDevice)[0] == (1 + 3 + 1000) * BYTE
    dummy = NOR["dummy_quad"]
    assert measure(QSPIFBlockDevice)[0] == (8 + 24 // 4 + dummy + 2 * 1000) * 1000
    assert measure(SPIFBlockDevice)[1] == measure(QSPIFBlockDevice)[1]


@pytest.mark.parametrize(
    ("make", "at_init", "program", "erase"),
    [(SPIFBlockDevice, -4001, -4004, -4003), (QSPIFBlockDevice, -4003, -4004, -4004)],
    ids=["SPIF", "QSPIF"],
)
def test_a_chip_that_stays_busy_costs_ten_thousand_looks(
    make: type[SPIFBlockDevice], at_init: int, program: int, erase: int
) -> None:
    def story(clock: DeviceClock) -> None:
        chip = nor(clock, make)
        faults = MediumFaults.of(chip.medium, 1)
        faults.stick_busy()
        code, took = refused(clock, chip.init)
        assert (code, 10 * SECOND <= took < 10.1 * SECOND) == (at_init, True)
        faults.release_busy()
        chip.init()
        faults.stick_busy()
        for work, expected in ((lambda: chip.program(0, b"x"), program), (lambda: chip.erase(0, 4096), erase)):
            code, took = refused(clock, work)
            assert (code, 10 * SECOND <= took < 10.1 * SECOND) == (expected, True)
        assert chip.read(0, 4) == bytes(4)  # a busy chip drives nothing, and nobody looks
        faults.release_busy()
        faults.stick_busy(2)
        assert 2 * SECOND < spent(clock, lambda: chip.program(0, b"x")) < 2.1 * SECOND

    on(story)


@pytest.mark.parametrize(
    ("make", "erase"), [(SPIFBlockDevice, -4003), (QSPIFBlockDevice, -4004)], ids=["SPIF", "QSPIF"]
)
def test_a_chip_that_does_not_answer_has_no_sfdp_and_takes_no_write_enable(
    make: type[SPIFBlockDevice], erase: int
) -> None:
    def story(clock: DeviceClock) -> None:
        chip = nor(clock, make)
        faults = MediumFaults.of(chip.medium, 1)
        faults.lose_contact()
        assert refused(clock, chip.init)[0] == -4002
        faults.restore_contact()
        chip.init()
        faults.lose_contact()
        assert refused(clock, lambda: chip.program(0, b"x"))[0] == -4004
        assert refused(clock, lambda: chip.erase(0, 4096))[0] == erase
        assert chip.read(0, 4) == bytes(4)
        faults.restore_contact()
        assert chip.read(0, 4) == b"\xff" * 4

    on(story)


def test_an_erase_slower_than_ten_thousand_looks_is_given_up() -> None:
    def story(clock: DeviceClock) -> tuple[int, int]:
        chip = nor(clock, part=NOR.with_(erase_4k=11 * SECOND))
        chip.init()
        return refused(clock, lambda: chip.erase(0, 4096))

    code, took = on(story)
    assert (code, took // SECOND) == (-4003, 10)


def test_qspi_devices_share_no_chip_select_and_are_ten_at_most() -> None:
    def story(clock: DeviceClock) -> None:
        first = QSPIFBlockDevice(Medium(1 << 16), clock=clock, csel="PE_11")
        first.init()
        assert refused(clock, QSPIFBlockDevice(Medium(1 << 16), clock=clock, csel="PE_11").init)[0] == -4006
        for number in range(9):
            QSPIFBlockDevice(Medium(1 << 16), clock=clock, csel=f"PA_{number}").init()
        assert refused(clock, QSPIFBlockDevice(Medium(1 << 16), clock=clock, csel="PB_0").init)[0] == -4007
        first.deinit()
        again = QSPIFBlockDevice(Medium(1 << 16), clock=clock, csel="PE_11")
        again.init()
        assert again.is_initialized

    on(story)


# -- DataFlash and internal flash --------------------------------------------------------------------


def dataflash(clock: DeviceClock, **options: object) -> DataFlashBlockDevice:
    chosen: dict[str, object] = {"mcu": INSTANT, "timing": "maximum", "frequency": 1_000_000, **options}
    return DataFlashBlockDevice(Medium(1 << 20), clock=clock, **chosen)  # type: ignore[arg-type]


def test_dataflash_has_pages_of_528_bytes_or_of_512() -> None:
    def story(clock: DeviceClock) -> None:
        for binary, page in ((True, 512), (False, 528)):
            chip = dataflash(clock, binary=binary)
            chip.init()
            assert (chip.erase_size, chip.size) == (page, (1 << 20) // page * page)
            chip.erase(page, 2 * page)
            chip.program(page - 4, b"in two pages")
            assert chip.read(page - 4, 12) == b"in two pages"
            with pytest.raises(StorageError, match="DEVICE_ERROR, -4001"):
                chip.erase(page, page + 1)

    on(story)


def test_dataflash_is_looked_at_once_and_then_every_seventeen_ticks() -> None:
    def measure(clock: DeviceClock) -> tuple[int, int]:
        chip = dataflash(clock, part=part("AT45DB321D", "dataflash").with_(program=3 * MS, page_erase=1_000))
        chip.init()
        programming = spent(clock, lambda: chip.program(0, bytes(4)))
        return programming, spent(clock, lambda: chip.erase(0, 512))

    programming, erasing = on(measure)
    assert 16 * MS < programming < 18 * MS  # the chip takes 3 ms
    assert erasing == (4 + 4 + 3 + 4) * BYTE  # write enable, 81h and address, status, write disable


def test_a_dataflash_that_is_stuck_or_gone_is_given_up_after_ten_seconds() -> None:
    def story(clock: DeviceClock) -> None:
        chip = dataflash(clock)
        faults = MediumFaults.of(chip.medium, 1)
        faults.lose_contact()
        assert refused(clock, chip.init)[0] == -4001
        faults.restore_contact()
        chip.init()
        faults.stick_busy()
        code, took = refused(clock, lambda: chip.program(0, b"x"))
        assert (code, took // SECOND) == (-4001, 10)
        faults.release_busy()
        faults.bad_block(0, "progerror")
        assert refused(clock, lambda: chip.program(0, b"x"))[0] == -4001
        assert refused(clock, lambda: chip.program(1 << 20, b"x"))[0] == -4001

    on(story)


def test_internal_flash_is_tried_sixteen_times_and_erased_by_the_size_of_each_sector() -> None:
    def story(clock: DeviceClock) -> None:
        row = part("STM32F429ZI", "internal").with_(program=16_000, erase_16384=250 * MS, erase_65536=550 * MS)
        flash = FlashIAPBlockDevice(Medium(128 << 10), clock=clock, part=row, mcu=INSTANT, timing="maximum")
        assert [flash.get_erase_size(at << 10) for at in (0, 48, 64)] == [16 << 10, 16 << 10, 64 << 10]
        assert spent(clock, lambda: flash.erase(0, 128 << 10)) == (4 * 250 + 550) * MS
        unit = row["unit"]
        once = spent(clock, lambda: flash.program(0, bytes(4 * unit)))
        assert once == 4 * 16_000
        MediumFaults.of(flash.medium, 1).bad_block(0, "progerror")
        assert refused(clock, lambda: flash.program(0, bytes(4 * unit))) == (-4001, 16 * once)

    on(story)


# -- the microcontroller -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "core", "wanted", "made"),
    [
        ("STM32L432KC", 80_000_000, 1_000_000, 625_000),
        ("STM32F429ZIT6", 180_000_000, 1_000_000, 703_125),
        ("STM32F413ZHT6", 100_000_000, 25_000_000, 25_000_000),
        ("STM32F207ZGT6", 120_000_000, 100_000, 234_375),  # no slower one
        ("MK64FN1M0VLL12", 120_000_000, 1_000_000, 937_500),
        ("M487JIDAE", 192_000_000, 1_000_000, 1_000_000),
        ("R7S721030 (RZ/A1LU)", 384_000_000, 1_000_000, 1_000_000),
        ("nRF52840", 64_000_000, 25_000_000, 8_000_000),
        ("something else", 48_000_000, 1_000_000, 1_000_000),
    ],
)
def test_the_bus_has_the_clock_that_the_microcontroller_makes(name: str, core: int, wanted: int, made: int) -> None:
    assert mcu(name, core).spi_clock(wanted) == made


def test_qspi_divides_the_cores_clock() -> None:
    assert mcu("STM32F413ZHT6", 100_000_000).qspi_clock(40_000_000) == 33_333_333
    assert mcu().qspi_clock(40_000_000) == 40_000_000


def test_every_microcontroller_is_whole_and_shows_its_sources() -> None:
    for row in mcus().values():
        assert row.core_clock > 0
        assert all(cycles >= 0 for cycles in row.cycles.values())
        assert set(row.unsourced) <= set(row.sources)
        assert "estimate" in row._repr_html_()
        assert f"{row.core_clock / 1e6:g} MHz" in repr(row)
    with pytest.raises(ConfigError, match="cannot run at 0 Hz"):
        mcu("MK64F", 0)


def test_a_file_system_takes_the_time_of_the_microcontroller_below_it() -> None:
    def call(core_clock: int) -> int:
        def measure(clock: DeviceClock) -> int:
            fs = FATFileSystem()
            card = SDBlockDevice(Medium(1 << 20, erase_value=0), clock=clock, mcu=mcu("MK64F", core_clock))
            fs.reformat(ProfilingBlockDevice(SlicingBlockDevice(card, 0, 1 << 19)))
            with fs.open("/f", "w") as file:
                return spent(clock, file.tell)

        return on(measure)

    assert call(120_000_000) == 8_000
    assert call(60_000_000) == 16_000
    assert processor_of(HeapBlockDevice(512)) == mcu()


def test_every_board_has_a_microcontroller_of_its_own() -> None:
    from pdmlab.boards.catalog import boards

    for row in boards().values():
        assert mcu(row.mcu, row.core_clock).title != mcu().title, row.mcu


# -- codes -------------------------------------------------------------------------------------------


def test_every_code_of_a_driver_or_wrapper_says_what_to_do() -> None:
    for code in (-22, -1, -3101, -3102, -4001, -4002, -4003, -4004, -4005, -4006, -4007, *range(-5011, -5000)):
        found = pdmlab.explain(code)
        assert all(len(row.meaning) > 10 and len(row.advice) > 5 for row in found)
    assert {-4001, -4002, -4003, -4004, -4005, -4006, -4007, *range(-5011, -5000)} <= set(code_names())


@pytest.mark.parametrize("row", parts().values(), ids=lambda row: row.name)
def test_every_part_works_with_its_drivers_at_every_timing(row: Part) -> None:
    makes: dict[str, list[type[MediumDevice]]] = {
        "sd": [SDBlockDevice],
        "nor": [SPIFBlockDevice, *([QSPIFBlockDevice] if "max_clock_quad" in row else [])],
        "dataflash": [DataFlashBlockDevice],
        "internal": [FlashIAPBlockDevice],
    }
    size = sum(n * size for n, size in row.sectors) or min(row["capacity"], 1 << 24)

    def story(clock: DeviceClock, make: type[MediumDevice], timing: str) -> int:
        most = {"sd": "max_clock", "nor": getattr(make, "max_clock", ""), "dataflash": "max_clock"}.get(row.kind)
        bus = {"frequency": row[most]} if most else {}
        medium = Medium(size, erase_value=0 if row.kind == "sd" else 0xFF)
        device = make(medium, clock=clock, part=row, timing=timing, **bus)  # type: ignore[call-arg]
        device.init()
        unit = device.get_erase_size(0)
        data = bytes(range(256)) * (unit // 256 + 1)
        before = clock.now()
        device.erase(0, unit)
        device.program(0, data[:unit])
        assert device.read(0, unit) == data[:unit]
        return clock.now() - before

    for make in makes[row.kind]:
        typical, worst = (
            on(lambda clock, make=make, timing=timing: story(clock, make, timing)) for timing in ("typical", "maximum")
        )
        assert 0 < typical < 1.1 * worst


def test_a_clock_that_the_part_has_not_is_refused() -> None:
    for make in (SPIFBlockDevice, QSPIFBlockDevice, DataFlashBlockDevice):
        with pytest.raises(ConfigError, match="cannot be clocked"):
            make(Medium(1 << 20), frequency=1_000_000_000)
    with pytest.raises(StorageError, match="cannot be clocked at 26000000 Hz"):
        SDBlockDevice(Medium(1 << 20, erase_value=0), frequency=26_000_000)


def test_a_part_or_microcontroller_may_be_given_as_it_is() -> None:
    own: Part = QUIET.with_(name="mine")
    processor: Mcu = mcu("MK64F", 100_000_000)
    card = SDBlockDevice(Medium(1 << 20, erase_value=0), part=own, mcu=processor)
    assert "mine" in repr(card)
    assert card.mcu.core_clock == 100_000_000
    assert repr(card.bus) == "<SPI at 892857 Hz: 14911 ns a byte, 10461 ns in a buffer>"
