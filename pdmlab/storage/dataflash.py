"""AT45DB DataFlash on an SPI bus, as Mbed's DataFlashBlockDevice drives it.

Facts of DataFlashBlockDevice.cpp: pages are of 528 B as delivered (264 in small and in 64 Mbit chips) or of a power
of two once configured so; a program loads the chip's SRAM buffer 1 and writes those bytes to the page without erasing
it (02h); erases go page by page (81h); the driver looks at the status at once, and then every 17 ticks of the RTOS.
"""

from __future__ import annotations

from typing import ClassVar

from pdmlab.clock import Clock
from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR
from pdmlab.storage.driver import MediumDevice
from pdmlab.storage.figures import Kind
from pdmlab.storage.mcu import TICK, Mcu, SpiBus, next_tick
from pdmlab.storage.medium import Medium, MediumFault
from pdmlab.storage.parts import Part, Timing

PAUSE = 17
"""Ticks between two looks at the status: the typical time of a page erase and program, in ms."""
LOOKS = 589
"""How often the driver looks before it gives up: 10,000 ms by steps of 17."""
LOW_FREQUENCY = 50_000_000
_COMMAND, _STATUS = 4, 3


class DataFlashBlockDevice(MediumDevice):
    """Bytes to read and program, pages to erase; erased bytes are 0xFF.

    frequency: bus clock (Hz), 40 MHz as in Mbed; above 50 MHz the driver takes 50. binary: pages of a power of two,
    which is what Mbed's dataflash.binary-size configures; False for pages as delivered, of 528 B mostly.
    """

    type = "DATAFLASH"
    kind: ClassVar[Kind] = "dataflash"
    figures: tuple[str, ...] = ("program", "page_erase")

    def __init__(
        self,
        medium: Medium,
        *,
        clock: Clock | None = None,
        part: str | Part = "AT45DB321D",
        frequency: int = 40_000_000,
        binary: bool = True,
        seed: int = 0,
        timing: Timing = "typical",
        mcu: str | Mcu = "generic",
    ) -> None:
        super().__init__(medium, part, clock, seed=seed, timing=timing, mcu=mcu)
        most = self.part["max_clock"]
        if not 0 < frequency <= most:
            raise ConfigError(f"a {self.part.name} cannot be clocked at {frequency} Hz", hint=f"at most {most} Hz")
        self.frequency = min(frequency, LOW_FREQUENCY)
        self.binary = binary
        self.page = self.part["page_binary" if binary else "page"]
        if medium.size < self.page:
            raise ConfigError(
                f"a medium of {medium.size} B has no room for a page of {self.page} B",
                hint=f"Medium({self.page}), or a larger one",
            )
        self._check_size(1, self.part["capacity"] // self.part["page_binary"] * self.page)
        medium.erase_block = self.page
        self._size = medium.size // self.page * self.page
        self.bus = SpiBus(self.mcu, self.frequency)
        self._program, self._erase = self._range("program"), self._range("page_erase")

    @property
    def size(self) -> int:
        """Size of the device (B): whole pages."""
        return self._size

    @property
    def erase_size(self) -> int:
        """A page (B)."""
        return self.page

    @property
    def erase_value(self) -> int:
        """0xFF."""
        return 0xFF

    def read(self, address: int, size: int) -> bytes:
        """Read bytes in one command; of a chip that does not answer, zeros, which nobody notices."""
        self._check(self.is_valid_read(address, size), "read", address, size)
        with self._mutex:
            self.clock.charge(self._call + (_COMMAND + size) * self.bus.single)
            try:
                return self.medium.read(address, size)
            except MediumFault as fault:
                if fault.kind == "read error":
                    raise self._refuse_fault(fault, BD_ERROR_DEVICE_ERROR) from fault
                return bytes(size)

    def program(self, address: int, data: bytes) -> None:
        """Program bytes page by page through the chip's buffer, into pages that were erased."""
        size, page = len(data), self.page
        self._check(self.is_valid_program(address, size), "program", address, size)
        with self._mutex:
            start, spent = 0, self._call + _COMMAND * self.bus.single  # write enable
            while start < size:
                n = min(page - (address + start) % page, size - start)
                self._write(spent + (_COMMAND + n) * self.bus.single, self._draw(self._program))
                try:
                    self.medium.program(address + start, data[start : start + n])
                except MediumFault as fault:
                    raise self._failed(fault) from fault
                start, spent = start + n, 0
            self.clock.charge(_COMMAND * self.bus.single)  # write disable

    def erase(self, address: int, size: int) -> None:
        """Erase pages one by one."""
        self._check(self.is_valid_erase(address, size), "erase", address, size)
        with self._mutex:
            spent = self._call + _COMMAND * self.bus.single
            for page in range(address, address + size, self.page):
                self._write(spent + _COMMAND * self.bus.single, self._draw(self._erase))
                try:
                    self.medium.erase(page, self.page)
                except MediumFault as fault:
                    raise self._failed(fault) from fault
                spent = 0
            self.clock.charge(_COMMAND * self.bus.single)

    def _check(self, valid: bool, what: str, address: int, size: int) -> None:
        if not self._users:
            raise self._refuse_before_init(what)
        self._require(valid, what, address, size)

    def _write(self, command: int, busy: int) -> None:
        """Spend a command that leaves the chip busy, and the looks at its status."""
        try:
            self.medium.require_answer()
        except MediumFault as fault:
            self.clock.charge(command)
            self._wait_for_chip(fault)
            command = 0
        now = self.clock.now()
        look = now + command + _STATUS * self.bus.single
        ready = now + command + busy
        while look < ready:
            look = next_tick(look, PAUSE) + _STATUS * self.bus.single
        self.clock.charge(look - now)

    def _wait_for_chip(self, fault: MediumFault) -> None:
        """Wait for a chip that is busy; one that is not there reads 0, which is busy too."""
        if fault.kind == "stuck busy" and fault.busy_ns is not None and fault.busy_ns < LOOKS * PAUSE * TICK:
            self.clock.charge(fault.busy_ns)
            try:
                self.medium.require_answer()
            except MediumFault as still:
                self._wait_for_chip(still)
            return
        raise self._failed(fault) from fault

    def _failed(self, fault: MediumFault) -> StorageError:
        if fault.kind in ("stuck busy", "no answer", "not seated"):
            self.clock.charge(LOOKS * (PAUSE * TICK + _STATUS * self.bus.single))
        return self._refuse_fault(fault, BD_ERROR_DEVICE_ERROR)

    def _set_up(self) -> None:
        # ID, status, and a write disable; if the page size is not the one configured, a command to change it.
        self.clock.charge(self._call + (2 * _STATUS + _COMMAND) * self.bus.single)
        try:
            self.medium.require_answer()
        except MediumFault as fault:
            raise self._refuse_fault(fault, BD_ERROR_DEVICE_ERROR) from fault
