"""NOR flash chips on SPI and QSPI buses, as Mbed's SPIFBlockDevice and QSPIFBlockDevice drive them."""

from __future__ import annotations

from typing import ClassVar

from pdmlab.clock import Clock
from pdmlab.errors import ConfigError
from pdmlab.storage.driver import MediumDevice, bus_time
from pdmlab.storage.medium import Medium
from pdmlab.storage.parts import part as find_part

INVALID_ERASE = -4005
_THREE_BYTE_LIMIT = 16 << 20


class SPIFBlockDevice(MediumDevice):
    """Bytes to read and program (in pages inside), sectors to erase; erased bytes are 0xFF.

    frequency: bus clock (Hz), 40 MHz as in Mbed.
    """

    type = "SPIF"
    lines: ClassVar[int] = 1

    def __init__(
        self, medium: Medium, *, clock: Clock | None = None, part: str = "MX25R6435F", frequency: int = 40_000_000
    ) -> None:
        super().__init__(medium, find_part(part, "nor"), clock)
        medium.erase_block = self.part["sector"]
        if not 0 < frequency <= self.part["max_clock"]:
            raise ConfigError(
                f"a {part} cannot be clocked at {frequency} Hz", hint=f"at most {self.part['max_clock']} Hz"
            )
        self.frequency = frequency

    @property
    def erase_size(self) -> int:
        """A sector (B)."""
        return self.part["sector"]

    @property
    def erase_value(self) -> int:
        """0xFF."""
        return 0xFF

    def read(self, address: int, size: int) -> bytes:
        """Read bytes in one command."""
        with self._busy(self.is_valid_read, "read", address, size):
            self.clock.charge(self.part["call"] + self._command(self.part["dummy"]) + self._data(size))
            return self.medium.read(address, size)

    def program(self, address: int, data: bytes) -> None:
        """Program bytes page by page: write enable, page program, wait until ready."""
        with self._busy(self.is_valid_program, "program", address, len(data)):
            self.clock.charge(self.part["call"])
            page, start = self.part["page"], 0
            first, each = self.part["program_byte"], self.part["program"] - self.part["program_byte"]
            while start < len(data):
                n = min(page - (address + start) % page, len(data) - start)
                self.clock.charge(
                    self._command() + self._data(n) + self._until_ready(first + each * (n - 1) // (page - 1))
                )
                self._refuse_worn(address + start, n)
                self.medium.program(address + start, data[start : start + n])
                start += n

    def erase(self, address: int, size: int) -> None:
        """Erase sectors one by one."""
        with self._busy(self.is_valid_erase, "erase", address, size):
            self.clock.charge(self.part["call"])
            for start in range(address, address + size, self.erase_size):
                self.clock.charge(self._command() + self._until_ready(self.part["erase"]))
                self._refuse_worn(start, self.erase_size)
                self.medium.erase(start, self.erase_size)

    def _require(self, valid: bool, what: str, address: int, size: int) -> None:
        if not valid and what == "erase":
            raise self._refuse(
                INVALID_ERASE, f"cannot erase {size} B at 0x{address:x}", f"sectors are {self.erase_size} B"
            )
        super()._require(valid, what, address, size)

    def _command(self, dummy: int = 0) -> int:
        """Time of instruction, address and dummy bytes, on one line as Mbed sends them (ns)."""
        address = 4 if self.size > _THREE_BYTE_LIMIT else 3
        return bus_time(8 * (1 + address + dummy), self.frequency)

    def _data(self, size: int) -> int:
        return bus_time(-(-8 * size // self.lines), self.frequency)

    def _until_ready(self, busy: int) -> int:
        """Write enable before, and polls of the status register until the chip is done (ns)."""
        polls = 1 + busy // 1_000_000  # Mbed polls once a millisecond
        return bus_time(8, self.frequency) + busy + polls * self.part["poll"]


class QSPIFBlockDevice(SPIFBlockDevice):
    """The same chips on four data lines."""

    type = "QSPIF"
    lines = 4
