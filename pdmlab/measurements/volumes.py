"""The volume that files are measured on: any part under its driver, with a file system of any sizes, blank or filled.

What cannot be is named and explained (NotMeasurable), so that a sweep over a product of factors leaves it out and
says why. What is left at None, and only that, is what Mbed OS would take: the board's own part and file system, the
driver's own bus clock, littlefs's sizes from littlefs2/mbed_lib.json raised to the part's units.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from pdmlab.errors import ConfigError, NotMeasurable, StorageError
from pdmlab.measurements.bench import Bench
from pdmlab.measurements.factors import percent, require_name, whole_or_none
from pdmlab.measurements.filling import fill
from pdmlab.measurements.memory import fat_ram, littlefs_ram
from pdmlab.storage import (
    DataFlashBlockDevice,
    FATFileSystem,
    FlashIAPBlockDevice,
    LittleFileSystem2,
    Medium,
    ProfilingBlockDevice,
    QSPIFBlockDevice,
    SDBlockDevice,
    SPIFBlockDevice,
)
from pdmlab.storage.mcu import mcu
from pdmlab.storage.parts import Part, Timing
from pdmlab.storage.parts import part as part_of

if TYPE_CHECKING:
    from pdmlab.clock import Clock
    from pdmlab.storage.blockdevice import BlockDevice
    from pdmlab.storage.driver import MediumDevice
    from pdmlab.storage.filesystem import FileSystem

Bus = Literal["SPI", "QSPI", "internal"]
FileSystemName = Literal["FAT", "LFS"]
FAT_SECTORS = (512, 1024, 2048, 4096)
_DRIVERS: dict[tuple[str, Bus], type[MediumDevice]] = {
    ("sd", "SPI"): SDBlockDevice,
    ("nor", "SPI"): SPIFBlockDevice,
    ("nor", "QSPI"): QSPIFBlockDevice,
    ("dataflash", "SPI"): DataFlashBlockDevice,
    ("internal", "internal"): FlashIAPBlockDevice,
}
_DEFAULT_BLOCK, _DEFAULT_CACHE, _DEFAULT_LOOKAHEAD = 512, 64, 64
"""littlefs2/mbed_lib.json (B). Units of reading and programming are the device's own (LittleFileSystem2.cpp)."""
_SIZES = ("read_size_B", "prog_size_B", "block_size_B", "cache_size_B", "lookahead_size_B")
_MULTIPLES = "the part's unit, read_size or prog_size, cache_size, block_size: each a multiple of the one before"


@dataclass(frozen=True)
class VolumeSetup:
    """What a volume is made of; None: as Mbed OS has it for this board."""

    part: str | Part | None = None
    bus: Bus | None = None
    bus_Hz: int | None = None
    timing: Timing = "typical"
    file_system: FileSystemName | None = None
    volume_B: int | None = None
    fill_percent: float = 0
    read_size_B: int | None = None
    prog_size_B: int | None = None
    block_size_B: int | None = None
    cache_size_B: int | None = None
    lookahead_size_B: int | None = None

    def __post_init__(self) -> None:
        require_name("timing", self.timing, get_args(Timing))
        for what, value, known in (("bus", self.bus, Bus), ("file system", self.file_system, FileSystemName)):
            if value is not None:
                require_name(what, value, get_args(known))
        for name in ("bus_Hz", "volume_B", *_SIZES):
            object.__setattr__(self, name, whole_or_none(name, getattr(self, name)))
        object.__setattr__(self, "fill_percent", percent("fill_percent", self.fill_percent))

    @classmethod
    def of(cls, **given: Any) -> VolumeSetup:  # Any: a sweep's cells
        """Return the setup of factors by name.

        Raises:
            ConfigError: there is no such factor, or a value is a name that there is not, or no number.
            NotMeasurable: a number cannot be.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ConfigError(f"a volume has no {', '.join(unknown)}", hint=f"it has {', '.join(known)}")
        return cls(**given)


@dataclass(frozen=True)
class Volume:
    """A mounted file system, and what it was made of."""

    fs: FileSystem
    device: WearingDevice
    driver: MediumDevice
    settings: Mapping[str, Any]
    """Every factor of VolumeSetup, as it came to be."""
    sizes: Mapping[str, int]
    """What decides about its RAM: cache and lookahead, or the sector (B)."""

    def ram(self, files: int) -> Mapping[str, int]:
        """Return the RAM that it takes with so many files open, by purpose (B)."""
        return fat_ram(files=files, **self.sizes) if "sector" in self.sizes else littlefs_ram(files=files, **self.sizes)

    @property
    def estimates(self) -> str:
        """The figures without a source that its times are made of; "" for none."""
        return self.driver.unsourced

    def require_room(self, size: int, factor: str) -> None:
        """Raise NotMeasurable unless so many bytes more have room (B); factor: what a smaller size is asked for by."""
        room = self.fs.statvfs()
        free = room.free_blocks * room.block_size
        if size > free:
            raise NotMeasurable(
                f"{size} B have no room in {free} B, which {self.settings['fill_percent']:g} % of "
                f"{self.settings['volume_B']} B leave",
                hint=f"a larger volume_B, a smaller {factor} or less fill_percent",
            )


class WearingDevice(ProfilingBlockDevice):
    """Counts operations, and how often each erase unit was erased: on a card, which overwrites, rewritten."""

    def __init__(self, device: BlockDevice) -> None:
        super().__init__(device)
        self.wear: Counter[int] = Counter()

    def erase(self, address: int, size: int) -> None:
        """Erase, and count."""
        super().erase(address, size)
        end = address + size
        while address < end:
            self.wear[address] += 1
            address += self.device.get_erase_size(address)


def make_volume(board: Bench, clock: Clock, setup: VolumeSetup) -> Volume:
    """Make a blank volume of that choice, fill it, and mount it; call it from device code.

    Raises:
        ConfigError: there is no such part.
        NotMeasurable: these do not go together; says which and why.
    """
    driver, bus = _driver(board, clock, setup)
    name = setup.file_system or _usual_file_system(driver.part)
    device = WearingDevice(driver)
    if name == "FAT":
        fs, sizes, settings = _fat(driver, setup)
    else:
        fs, sizes, settings = _littlefs(driver, setup)
    try:
        fs.reformat(device)
    except StorageError as error:
        raise NotMeasurable(error.message, hint=error.hint) from error
    volume = Volume(
        fs,
        device,
        driver,
        {
            "part": driver.part.name,
            "timing": setup.timing,
            "bus": bus,
            "bus_Hz": getattr(driver, "frequency", None),
            "file_system": name,
            "volume_B": driver.size,
            "fill_percent": setup.fill_percent,
            **settings,
        },
        sizes,
    )
    if setup.fill_percent:
        fill(volume.fs, device, setup.fill_percent)
    device.wear.clear()
    return volume


def _driver(board: Bench, clock: Clock, setup: VolumeSetup) -> tuple[MediumDevice, Bus]:
    row = board.info
    part = part_of(row.storage_part if setup.part is None else setup.part)
    own = part.name == row.storage_part
    usual: Bus = "internal" if part.kind == "internal" else "QSPI" if own and row.storage == "QSPIF" else "SPI"
    bus = setup.bus or usual
    if (part.kind, bus) not in _DRIVERS:
        raise NotMeasurable(f"{part.name} ({part.kind}) is not reached over {bus}", hint=f"it is over {usual}")
    options: dict[str, Any] = {
        "clock": clock, "part": part, "seed": board.seed, "timing": setup.timing, "mcu": mcu(row.mcu, row.core_clock),
    }  # fmt: skip
    if setup.bus_Hz is not None:
        if bus == "internal":
            raise NotMeasurable(f"{part.name} is a microcontroller's own flash, on no bus", hint="bus_Hz=None")
        options["frequency"] = setup.bus_Hz
    capacity = _capacity(part)
    size = setup.volume_B or (row.storage_size if own or part.kind == "sd" else capacity)
    if size > capacity:
        raise NotMeasurable(f"a volume of {size} B is larger than {part.name}, which has {capacity} B")
    if own and size == board.media.storage.size:
        medium = board.media.storage
    else:
        blank = 0 if part.kind == "sd" else 0xFF
        medium = Medium(size, erase_value=part["erase_value"] if "erase_value" in part else blank)  # noqa: SIM401
    try:
        driver = _DRIVERS[part.kind, bus](medium, **options)
    except (ConfigError, StorageError) as error:
        raise NotMeasurable(error.message, hint=error.hint) from error
    if setup.volume_B not in (None, driver.size):
        raise NotMeasurable(
            f"{part.name} makes {driver.size} B of {size} B", hint=f"volume_B of {driver.size}, or None"
        )
    return driver, bus


def _capacity(part: Part) -> int:
    return sum(count * size for count, size in part.sectors) or part["capacity"]


def _fat(driver: MediumDevice, setup: VolumeSetup) -> tuple[FileSystem, dict[str, int], dict[str, int | None]]:
    for name in _SIZES:
        if getattr(setup, name) is not None:
            raise NotMeasurable(f"FAT has no {name[:-2]}: its only buffer is one sector", hint=f"{name}=None with FAT")
    sector = max(FAT_SECTORS[0], driver.erase_size)
    if sector not in FAT_SECTORS:
        raise NotMeasurable(
            f"FAT cannot use {driver.part.name}, which erases {driver.erase_size} B at a time: its sectors are "
            "512, 1024, 2048 or 4096 B",
            hint="use LFS there",
        )
    return FATFileSystem("fs"), {"sector": sector}, dict.fromkeys(_SIZES) | {"block_size_B": sector}


def _littlefs(driver: MediumDevice, setup: VolumeSetup) -> tuple[FileSystem, dict[str, int], dict[str, int | None]]:
    """Check littlefs's sizes as its own asserts would, which end the program instead of saying why."""

    def require(name: str, size: int, multiple: int, of: str) -> None:
        if size % multiple:
            raise NotMeasurable(f"{name} of {size} B is no multiple of {of}, {multiple} B", hint=_MULTIPLES)

    unit = driver.erase_size
    read, prog = setup.read_size_B or driver.read_size, setup.prog_size_B or driver.program_size
    block = setup.block_size_B or max(_DEFAULT_BLOCK, unit)
    cache = setup.cache_size_B or max(_DEFAULT_CACHE, prog, read)
    lookahead = setup.lookahead_size_B or _DEFAULT_LOOKAHEAD
    require("read_size", read, driver.read_size, "what the part reads")
    require("prog_size", prog, driver.program_size, "what the part programs")
    if block < unit:
        raise NotMeasurable(
            f"block_size of {block} B is below the {unit} B that {driver.part.name} erases: Mbed OS would raise it",
            hint=f"block_size_B of {unit}, a multiple of it, or None",
        )
    require("block_size", block, unit, "what the part erases")
    require("cache_size", cache, read, "read_size")
    require("cache_size", cache, prog, "prog_size")
    require("block_size", block, cache, "cache_size")
    require("lookahead_size", lookahead, 8, "8 bits a byte")
    if driver.size // block < 2:
        raise NotMeasurable(f"{driver.size} B are fewer than two blocks of {block} B", hint="a larger volume_B")
    most = most_lookahead(driver.size, block)
    if lookahead > most:
        if setup.lookahead_size_B is not None:
            raise NotMeasurable(
                f"lookahead_size of {lookahead} B is more than {driver.size // block} blocks need: Mbed OS lowers it",
                hint=f"lookahead_size_B of {most} or less, or None",
            )
        lookahead = most
    fs = LittleFileSystem2(
        "fs", read_size=read, prog_size=prog, block_size=block, cache_size=cache, lookahead_size=lookahead
    )
    return (
        fs,
        {"cache_size": cache, "lookahead_size": lookahead},
        dict(zip(_SIZES, (read, prog, block, cache, lookahead), strict=True)),
    )


def most_lookahead(volume_B: int, block_B: int) -> int:
    """Return the lookahead that has a bit for each block (B), to which mount() of LittleFileSystem2.cpp lowers it."""
    return 8 * ((volume_B // block_B + 63) // 64)


def _usual_file_system(part: Part) -> FileSystemName:
    """What Mbed OS and its examples put there: FAT on cards, which people take out; littlefs on what is soldered."""
    return "FAT" if part.kind == "sd" else "LFS"
