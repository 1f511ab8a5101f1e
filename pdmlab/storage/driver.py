"""What the drivers of real media share: counted init, Mbed's mutex, busy times that vary, codes for what goes wrong.

A busy time is drawn evenly from a tenth below to a tenth above the part's typical figure, and never above its
maximum: data sheets give typical and maximum, and no distribution. The generator is seeded, so that a seed means
the same run everywhere; `timing="maximum"` charges every maximum and draws nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import chain
from tomllib import loads
from typing import ClassVar

from pdmlab.clock import Clock
from pdmlab.errors import ConfigError, StorageError, WornOut
from pdmlab.prng import SplitMix64
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR, BlockDevice
from pdmlab.storage.figures import Kind
from pdmlab.storage.mcu import Mcu, mcu_named
from pdmlab.storage.medium import Medium, MediumFault
from pdmlab.storage.parts import Part, Timing
from pdmlab.storage.parts import part as find_part

SPREAD = 0.1
"""Of a typical busy time, to either side: an estimate."""

_HINTS = {
    "not seated": "put the card back in: board.faults.seat_card() on a virtual board",
    "no answer": "the part does not drive its data line: check supply, chip select and wiring",
    "stuck busy": "switch its supply off and on; if it stays busy, it is broken",
    "write protected": "the part takes no writes any more: use another, or lift its protection",
    "worn out": "the part's life is over there: slice the device around it, or use another part",
}


class MediumDevice(BlockDevice):
    """A driver over a medium: subclasses give sizes, codes and what each operation costs.

    part: a row of parts.toml by name, or a Part. seed: of what varies. timing: the part's typical times, which
    vary, or its maxima. mcu: the microcontroller's row, by name or as it is (pdmlab.storage.mcu).
    """

    kind: ClassVar[Kind]
    figures: tuple[str, ...] = ()
    """The part's figures that become time."""
    cycles: tuple[str, ...] = ("call", "lock", "byte", "dividers", "divided", "file")
    """The microcontroller's figures that become time."""
    not_ready: ClassVar[int] = BD_ERROR_DEVICE_ERROR
    """What is answered before init()."""

    def __init__(
        self, medium: Medium, part: str | Part, clock: Clock | None, *, seed: int, timing: Timing, mcu: str | Mcu
    ) -> None:
        super().__init__(clock)
        if type(seed) is not int:
            raise ConfigError(f"{self.type}: a seed of {seed!r} is none", hint="a whole number")
        self.medium = medium
        self.part = find_part(part, self.kind).at(timing)
        self._check_medium()
        self.mcu = mcu if isinstance(mcu, Mcu) else mcu_named(mcu)
        self.timing = timing
        self._random = SplitMix64(seed).split(self.type) if timing == "typical" else None
        self._chances = chain.from_iterable(_draws_of_16_bits(self._random or SplitMix64()))
        self._call = self.mcu.ns("call", "lock")
        self._mutex = self.clock.mutex()
        self._users = 0
        medium.clock = self.clock

    def _check_medium(self) -> None:
        """Refuse a medium that is no part of this kind: a chip clears bits, and a card overwrites."""
        medium, row = self.medium, self.part
        if not isinstance(medium, Medium):
            raise ConfigError(f"{self.type}: {medium!r} is no medium", hint="Medium(size)")
        blank = row["erase_value"] if "erase_value" in row else 0xFF  # noqa: SIM401  # a Part is no dict
        if self.kind == "sd" and medium.erase_value == 0xFF:
            raise ConfigError(
                f"{self.type} ({row.name}): a card overwrites, and this medium only clears bits, as flash does",
                hint="Medium(size, erase_value=0)",
            )
        if self.kind != "sd" and medium.erase_value != blank:
            raise ConfigError(
                f"{self.type} ({row.name}): erased bytes of the chip are 0x{blank:02x}, of this medium "
                f"{medium.erase_value}: it is a card's",
                hint=f"Medium(size, erase_value=0x{blank:02X})",
            )

    def _check_size(self, unit: int, most: int) -> None:
        """Refuse a medium that is not whole units (B), or larger than the part (B).

        Raises:
            ConfigError: it is.
        """
        size = self.medium.size
        if size % unit or size > most:
            raise ConfigError(
                f"{self.type} ({self.part.name}): a medium of {size} B is none of its",
                hint=f"whole units of {unit} B, at most {most} B",
            )

    @property
    def size(self) -> int:
        """Size of the device (B)."""
        return self.medium.size

    @property
    def is_initialized(self) -> bool:
        """Whether init() was called more often than deinit()."""
        return self._users > 0

    @property
    def unsourced(self) -> str:
        """The estimates that this driver's times are made of, such as "SDHC: program; MK64F: byte"; "" for none."""
        estimates = []
        for name, used, unsourced in (
            (self.part.name, self.figures, self.part.unsourced),
            (self.mcu.name, self.cycles, self.mcu.unsourced),
        ):
            listed = [figure for figure in used if figure in unsourced]
            if listed:
                estimates.append(f"{name}: {', '.join(listed)}")
        return "; ".join(estimates)

    def init(self) -> None:
        """Set the part up at the first call; counted."""
        with self._mutex:
            if self._users == 0:
                self._set_up()
            self._users += 1

    def deinit(self) -> None:
        """Undo one init."""
        with self._mutex:
            self._users = max(self._users - 1, 0)

    def sync(self) -> None:
        """Return when all that was programmed is on the medium, which it is when program() returns."""
        self.medium.sync()

    def _set_up(self) -> None:
        self.clock.charge(self._call)

    def _range(self, figure: str) -> tuple[int, int]:
        """Return the least of a busy time and by how much it varies (ns)."""
        typical = self.part[figure]
        if self._random is None:
            return typical, 0
        spread = round(typical * SPREAD)
        return typical - spread, min(2 * spread, max(self.part.maximum(figure) - typical, 0) + spread)

    def _draw(self, between: tuple[int, int]) -> int:
        """Draw a busy time (ns)."""
        least, width = between
        return least + (width * next(self._chances) >> 16) if width else least

    def _refuse(self, code: int, what: str, hint: str | None = None) -> StorageError:
        return StorageError(
            f"{self.type} ({self.part.name}): {what} ({code_name(code, self.type)}, {code})", code=code, hint=hint
        )

    def _refuse_fault(self, fault: MediumFault, code: int) -> StorageError:
        """Return what the driver answers to a fault of the part."""
        what = {
            "not seated": "no card answers",
            "no answer": "the part does not answer",
            "stuck busy": "the part stays busy",
            "worn out": f"the block at 0x{fault.offset:x} is worn out",
            "write protected": "the part is write-protected",
        }.get(fault.kind, f"{fault.kind} at 0x{fault.offset:x}")
        kind = WornOut if fault.kind == "worn out" else StorageError
        return kind(
            f"{self.type} ({self.part.name}): {what} ({code_name(code, self.type)}, {code})",
            code=code,
            hint=_HINTS.get(fault.kind, "use another part, or mark the block bad"),
        )

    def _refuse_before_init(self, what: str) -> StorageError:
        return self._refuse(self.not_ready, f"cannot {what} before init()", "call init(), or mount a file system")

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.part.name}>"


def _draws_of_16_bits(random: SplitMix64) -> Iterator[tuple[int, int, int, int]]:
    """Give numbers of 16 bits, four at a time: a draw of the generator is enough for four busy times."""
    while True:
        bits = random.next()
        yield bits & 0xFFFF, bits >> 16 & 0xFFFF, bits >> 32 & 0xFFFF, bits >> 48


@cache
def code_names() -> dict[int, str]:
    """Return the names of the block devices' codes, those of SPI flash as SPIFBlockDevice spells them."""
    rows = loads((files(__package__) / "codes.toml").read_text(encoding="utf-8"))
    return {row["code"]: name for name, row in reversed(rows.items()) if row["code"] <= -1000}


def code_name(code: int, device_type: str = "") -> str:
    """Return the code's name; SPI flash drivers share numbers below -4001 under names of their own."""
    name = code_names()[code]
    return f"Q{name}" if device_type == "QSPIF" and name.startswith("SPIF_") else name
