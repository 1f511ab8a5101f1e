"""What the drivers of real media share: counted init, a mutex as Mbed has, and refusals that name their code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from tomllib import loads

from pdmlab.clock import SECOND, Clock
from pdmlab.errors import StorageError, WornOut
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR, BlockDevice
from pdmlab.storage.medium import Medium
from pdmlab.storage.parts import Part


class MediumDevice(BlockDevice):
    """A driver over a medium: subclasses give sizes, codes and what each operation costs."""

    not_ready = BD_ERROR_DEVICE_ERROR
    worn = BD_ERROR_DEVICE_ERROR

    def __init__(self, medium: Medium, part: Part, clock: Clock | None) -> None:
        super().__init__(clock)
        self.medium = medium
        medium.clock = self.clock
        self.part = part
        self._mutex = self.clock.mutex()
        self._users = 0

    @property
    def size(self) -> int:
        """Size of the device (B)."""
        return self.medium.size

    @property
    def is_initialized(self) -> bool:
        """Whether init() was called more often than deinit()."""
        return self._users > 0

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
        """Return at once: a program has ended when program() returns; a part with a cache hears of it."""
        self.medium.sync()

    def _set_up(self) -> None:
        self.clock.charge(self.part["call"])

    def _refuse(self, code: int, what: str, hint: str | None = None) -> StorageError:
        kind = WornOut if code == self.worn and hint is _WORN else StorageError
        return kind(
            f"{self.type} ({self.part.name}): {what} ({code_name(code, self.type)}, {code})", code=code, hint=hint
        )

    @contextmanager
    def _busy(self, valid: Callable[[int, int], bool], what: str, address: int, size: int) -> Iterator[None]:
        """Hold the driver for one operation, after the checks that Mbed's drivers make."""
        with self._mutex:
            if not self._users:
                raise self._refuse(
                    self.not_ready, f"cannot {what} before init()", "call init(), or mount a file system"
                )
            self._require(valid(address, size), what, address, size)
            yield

    def _refuse_worn(self, address: int, size: int) -> None:
        if self.medium.is_worn(address, size):
            raise self._refuse(self.worn, f"the block at 0x{address:x} is worn out", _WORN)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.part.name}>"


_WORN = "the part's life is over there: slice the device around it, or use another part"


def bus_time(bits: int, frequency: int) -> int:
    """Return how long bits take at that clock (ns)."""
    return -(-bits * SECOND // frequency)


@cache
def code_names() -> dict[int, str]:
    """Return the names of the block devices' codes, those of SPI flash as SPIFBlockDevice spells them."""
    rows = loads((files(__package__) / "codes.toml").read_text(encoding="utf-8"))
    return {row["code"]: name for name, row in reversed(rows.items()) if row["code"] <= -1000}


def code_name(code: int, device_type: str = "") -> str:
    """Return the code's name; SPI flash drivers share numbers below -4001 under names of their own."""
    name = code_names()[code]
    return f"Q{name}" if device_type == "QSPIF" and name.startswith("SPIF_") else name
