"""Numbers that others published of storage, beside what the model makes of the same job (docs/storage-model.md).

None of them was used to choose a figure. `python -m benchmarks.published` writes the table into the page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from benchmarks.table import Table
from pdmlab.clock import SECOND, DeviceClock
from pdmlab.firmware.stdio import CFile
from pdmlab.storage import (
    FATFileSystem,
    FileSystem,
    HeapBlockDevice,
    LittleFileSystem2,
    Medium,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.mcu import Mcu, mcu
from pdmlab.storage.parts import part, parts

T = TypeVar("T")
Build = Callable[[DeviceClock], BlockDevice]

PAGE = Path(__file__).parent.parent / "docs" / "storage-model.md"
BEGIN, END = "<!-- published: begin -->", "<!-- published: end -->"
CARD = "SDHC"
CARDS = [row.name for row in parts().values() if row.kind == "sd" and row.name != "SD_LIMITS"]
MIB = 1 << 20


@dataclass(frozen=True)
class Published:
    """A published number, what was taken for its set-up, and the model's answer.

    cards: the least and the most over the cards of parts.toml, where a card is in it; None elsewhere.
    """

    source: str
    job: str
    unit: str
    published: float
    model: float
    cards: tuple[float, float] | None = None

    @property
    def error(self) -> str:
        """By how much the model is off: per cent, or a factor where that says more."""
        ratio = self.model / self.published
        if 0.5 <= ratio <= 2:
            return f"{ratio - 1:+.0%}"
        return f"x {_shown(ratio, 2)}" if ratio > 1 else f"/ {_shown(1 / ratio, 2)}"


def rows() -> Iterator[Published]:
    """Do every job that the model can do."""
    yield from thread_14402()
    yield from arduino_676()
    yield from sd_library_on_a_mega()
    yield from littlefs_332()
    yield from littlefs_75()
    yield from littlefs_113()
    yield from littlefs_1019()
    yield from mbed_9062()
    yield from mbed_6325()


# -- cards ---------------------------------------------------------------------------------------------


def thread_14402() -> Iterator[Published]:
    """4 MiB in fwrite() calls to a FAT volume: pins of a 32-pin Nucleo, of which only the L432KC has 8 KiB to spare."""
    nucleo = mcu("STM32L432KC")

    def rate(card: str, buffer: int, gathers: int | None) -> float:
        def job(clock: DeviceClock, device: BlockDevice) -> int:
            fs = FATFileSystem()
            fs.reformat(device)
            data = bytes(buffer)
            before = clock.now()
            file = CFile(fs, "/test3", "a", clock)
            if gathers is None:
                for _ in range(4 * MIB // 16 // buffer):
                    file.write(data)
                file.flush()
            else:  # every byte passes through a buffer of that size, which is written when it is full
                inner, piece = fs.open("/test3", "a"), bytes(gathers)
                for _ in range(4 * MIB // 16 // gathers):
                    inner.write(piece)
            return clock.now() - before

        return MIB / 4 / _on(_card(card, 1_000_000, nucleo, size=2 << 30), job) * SECOND / 1000

    for library, gathers in (("newlib", None), ("newlib-nano", 1024), ("Arm C", 512)):
        for buffer in (512, 2048, 8192) if gathers is None else (8192,):
            yield _on_cards(
                "forums.mbed.com t/14402",
                f"fwrite, {library}, {buffer if gathers is None else 'any'} B, 1 MHz asked for",
                "kB/s", 27.7, lambda card, buffer=buffer, gathers=gathers: rate(card, buffer, gathers),
            )  # fmt: skip


def arduino_676() -> Iterator[Published]:
    """512 B writes to a card by a library that sends each byte by Mbed's SPI::write(int), on an nRF52840."""
    nano = mcu("nRF52840")
    alone = replace(nano, cycles={**nano.cycles, "byte": nano.cycles["byte"] + nano.cycles["lock"], "lock": 0})
    yield _on_cards(
        "ArduinoCore-mbed#676", "512 B blocks, each byte alone, nRF52840 at 4 MHz", "kB/s (printed: kbit/s)", 33.5,
        lambda card: _raw(card, 4_000_000, alone, 512)[0],
    )  # fmt: skip


def sd_library_on_a_mega() -> Iterator[Published]:
    """4 KiB calls as single blocks, which is what SD.h makes of them, on an ATmega2560 without an operating system."""
    # arduino.cc forum, topic 126827: a block of 512 B takes 820 us at 8 MHz: 10 cycles of 16 MHz between two bytes.
    mega = replace(mcu("generic", 16_000_000), name="ATmega2560", cycles={**mcu().cycles, "lock": 0, "byte": 10})
    for clock, published in ((4_000_000, (266.0, 314.0)), (8_000_000, (376.0, 464.0))):
        for number, verb in enumerate(("write", "read")):
            yield _on_cards(
                "SdFat, Arduino forum topic 128335", f"{verb} 512 B blocks, {clock // 10**6} MHz, ATmega2560", "kB/s",
                published[number], lambda card, clock=clock, number=number: _raw(card, clock, mega, 512)[number],
            )  # fmt: skip


def littlefs_332() -> Iterator[Published]:
    """10 MB in 32 KiB calls, blocks and cache of 32 KiB, against FatFs: their bus is faster than SPI, so ratios."""

    def ratio(card: str, which: int) -> float:
        rates = []
        for fs in (FATFileSystem(), LittleFileSystem2(block_size=32768, cache_size=32768, lookahead_size=32)):

            def job(clock: DeviceClock, device: BlockDevice, fs: FileSystem = fs) -> tuple[int, int]:
                fs.reformat(device)
                return _write_and_read(clock, fs, 2 * MIB, 32768)

            rates.append(_on(_card(card, 25_000_000, mcu("STM32F4"), size=1 << 30), job)[which])
        return rates[1] / rates[0]

    for which, (verb, published) in enumerate((("write", 10 / 0.5), ("read", 20 / 8))):
        yield _on_cards(
            "littlefs#332", f"{verb} in 32 KiB calls, SPI at 22.5 MHz for their SDIO", "FatFs / littlefs", published,
            lambda card, which=which: ratio(card, which),
        )  # fmt: skip


def littlefs_75() -> Iterator[Published]:
    """The same bytes raw and to a littlefs file, by size of the one write: STM32F429, card over SPI, 512 B blocks."""

    def ratio(card: str, size: int) -> float:
        data = bytes(size)

        def job(clock: DeviceClock, device: BlockDevice) -> float:
            fs = LittleFileSystem2(read_size=512, prog_size=512, cache_size=512)
            fs.reformat(device)
            before = clock.now()
            device.program(0x10000000, data)
            raw = clock.now() - before
            with fs.open("/dump", "w") as file:
                file.write(data)
            return (clock.now() - before - raw) / raw

        return _on(_card(card, 1_000_000, mcu("STM32F429ZI"), size=1 << 30), job)

    for size, published in ((1024, 2.7), (128 << 10, 7.2), (2 * MIB, 14.6)):
        yield _on_cards(
            "littlefs#75", f"{size >> 10} KiB in one write, 0.7 MHz", "littlefs / raw", published,
            lambda card, size=size: ratio(card, size),
        )  # fmt: skip


# -- chips ---------------------------------------------------------------------------------------------


def littlefs_113() -> Iterator[Published]:
    """4 MiB to littlefs with blocks of 64 KiB on SPI NOR; the chip is not named."""

    def job(clock: DeviceClock, device: BlockDevice) -> float:
        fs = LittleFileSystem2(read_size=256, prog_size=256, block_size=65536, cache_size=256)
        fs.reformat(device)
        return _write_and_read(clock, fs, 4 * MIB, 4096)[0] / SECOND

    def chip(clock: DeviceClock) -> BlockDevice:
        return SPIFBlockDevice(Medium(8 * MIB), clock=clock, part="W25Q64JV", frequency=40_000_000)

    yield Published("littlefs#113", "4 MiB file, blocks of 64 KiB, pages of 256 B, W25Q64JV", "s", 30, _on(chip, job))


def littlefs_1019() -> Iterator[Published]:
    """64 B appended to a file, blocks of 64 KiB, read and programmed by 16 B, on a core at 40 MHz."""

    def job(clock: DeviceClock, device: BlockDevice) -> float:
        fs = LittleFileSystem2(
            read_size=16, prog_size=16, block_size=65536, cache_size=512, lookahead_size=16, block_cycles=500
        )
        fs.reformat(device)
        times = []
        for _ in range(100):
            before = clock.now()
            with fs.open("/log", "a") as file:
                file.write(bytes(64))
            times.append(clock.now() - before)
        return sum(times) / len(times) / SECOND

    def chip(clock: DeviceClock) -> BlockDevice:
        return QSPIFBlockDevice(Medium(8 * MIB), clock=clock, part="MX25R6435F", mcu=mcu("STM32L496", 40_000_000))

    yield Published(
        "littlefs#1019", "append 64 B, blocks of 64 KiB, MX25R6435F on QSPI, 40 MHz", "s", 2.5, _on(chip, job)
    )


def mbed_9062() -> Iterator[Published]:
    """Two new files of 10 B on a fresh volume with Mbed's default sizes, SPIFBlockDevice asked for 16 MHz."""

    def job(clock: DeviceClock, device: BlockDevice) -> float:
        fs = LittleFileSystem2()
        fs.reformat(device)
        fs.unmount()
        before = clock.now()
        fs.mount(device)
        for name in ("/a", "/b"):
            with fs.open(name, "w") as file:
                file.write(bytes(10))
        return (clock.now() - before) / SECOND

    def chip(clock: DeviceClock) -> BlockDevice:
        return SPIFBlockDevice(
            Medium(8 * MIB), clock=clock, part="W25Q64JV", frequency=16_000_000, mcu=mcu("STM32F103RC")
        )

    yield Published("mbed-os#9062", "mount, two files of 10 B, W25Q64JV, 9 MHz for 16", "s", 3, _on(chip, job))


def mbed_6325() -> Iterator[Published]:
    """Operations of one transaction on 128 KiB in units of 512 B; theirs is not shown: a counter of 4 B, rewritten."""

    def count(fs: FileSystem) -> tuple[int, int]:
        profile = ProfilingBlockDevice(HeapBlockDevice(128 << 10))
        fs.reformat(profile)
        with fs.open("/count", "w") as file:
            file.write(bytes(4))
        profile.reset()
        with fs.open("/count", "r+") as file:
            file.read(4)
            file.seek(0)
            file.write(b"\1\0\0\0")
        return profile.reads, profile.programs

    fat = count(FATFileSystem())
    little = count(LittleFileSystem2(read_size=512, prog_size=512, cache_size=512, lookahead_size=32))
    for name, counts, published in (("FAT", fat, (2, 2)), ("littlefs", little, (254, 45))):
        for verb, number, model in zip(("reads", "programs"), published, counts, strict=True):
            yield Published("mbed-os#6325", f"a counter rewritten, {name}: {verb}", "operations", number, model)


# -- how -----------------------------------------------------------------------------------------------


def _on(build: Build, job: Callable[[DeviceClock, BlockDevice], T]) -> T:
    """Do a job of device code on a fresh device."""
    with DeviceClock() as clock:

        def main() -> T:
            device = build(clock)
            device.init()
            return job(clock, device)

        return clock.call(main)


def _card(name: str, frequency: int, processor: Mcu, *, size: int) -> Build:
    return lambda clock: SDBlockDevice(
        Medium(size, erase_value=0), clock=clock, part=part(name, "sd"), frequency=frequency, mcu=processor
    )


def _on_cards(source: str, job: str, unit: str, published: float, model: Callable[[str], float]) -> Published:
    """Ask the model for the card whose times are the specification's, and for every other."""
    answers = {card: model(card) for card in CARDS}
    return Published(source, job, unit, published, answers[CARD], (min(answers.values()), max(answers.values())))


def _raw(card: str, frequency: int, processor: Mcu, size: int) -> tuple[float, float]:
    """Write and read 256 KiB of a card, size bytes a call; return both rates (kB/s)."""
    total = MIB // 4

    def job(clock: DeviceClock, device: BlockDevice) -> tuple[float, float]:
        data, start = bytes(size), clock.now()
        for at in range(0, total, size):
            device.program(at, data)
        written = clock.now()
        for at in range(0, total, size):
            device.read(at, size)
        return total * SECOND / (written - start) / 1000, total * SECOND / (clock.now() - written) / 1000

    return _on(_card(card, frequency, processor, size=MIB), job)


def _write_and_read(clock: DeviceClock, fs: FileSystem, size: int, buffer: int) -> tuple[int, int]:
    """Write and read a file; return how long each took (ns)."""
    data, start = bytes(buffer), clock.now()
    with fs.open("/file", "w") as file:
        for _ in range(size // buffer):
            file.write(data)
    written = clock.now()
    with fs.open("/file", "r") as file:
        for _ in range(size // buffer):
            file.read(buffer)
    return written - start, clock.now() - written


# -- shown ---------------------------------------------------------------------------------------------


def markdown() -> str:
    """Return the table of docs/storage-model.md."""
    lines = [
        "| source | job | unit | published | model | error | over the cards |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for row in rows():
        cards = f"{_shown(row.cards[0])} to {_shown(row.cards[1])}" if row.cards is not None else ""
        cells = (row.source, row.job, row.unit, _shown(row.published), _shown(row.model), row.error, cards)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _shown(number: float, digits: int = 3) -> str:
    return f"{number:.{digits}g}" if number < 10**digits else f"{float(f'{number:.{digits}g}'):.0f}"


def table_in(text: str) -> str:
    """Return the table that a page holds."""
    found = re.search(f"{BEGIN}\n(.*?)\n{END}", text, re.DOTALL)
    assert found is not None
    return found[1]


def bench() -> None:
    """Print the table."""
    table = Table(
        "Published numbers of storage, and the model's (least and most over the cards)",
        {"source": "", "job": "", "unit": "", "published": ".3g", "model": ".3g", "error": "", "least": ".3g",
         "most": ".3g"},
        text_width=58,
    )  # fmt: skip
    for row in rows():
        least, most = row.cards or (None, None)
        table.row(row.source, row.job, row.unit, row.published, row.model, row.error, least, most)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text.replace(table_in(text), markdown()), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} has the table of this model\n")
