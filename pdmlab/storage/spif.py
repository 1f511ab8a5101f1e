"""NOR flash chips on SPI and QSPI buses, as Mbed's SPIFBlockDevice and QSPIFBlockDevice drive them.

Facts of the two .cpp files: the driver sleeps to the next RTOS tick (1 ms) before every look at the status register,
once after each write enable and at least once after each program or erase, so that no page takes less than two
ticks. SPIF sends and receives every byte of data by an SPI::write(int) of its own, with command 03h for reads; QSPIF
reads on four lines and does all else on one. An erase takes the largest command that fits address and rest.
"""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar
from weakref import WeakKeyDictionary

from pdmlab.clock import Clock
from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR
from pdmlab.storage.driver import MediumDevice
from pdmlab.storage.figures import Kind
from pdmlab.storage.mcu import TICK, Mcu, SpiBus, bus_time, next_tick
from pdmlab.storage.medium import Medium, MediumFault
from pdmlab.storage.parts import Part, Timing

PARSING, READY, WREN, INVALID_ERASE, NOT_UNIQUE, TOO_MANY = -4002, -4003, -4004, -4005, -4006, -4007
POLLS = 10_000
"""How often the drivers look whether the chip is ready, a tick apart, before they give up."""
_ERASES = ("erase_4k", "erase_32k", "erase_64k", "erase_256k")
_SFDP = 5 + 16 + 80
"""Bytes of reading the SFDP: instruction, address and dummy, the headers, the basic table."""
CHIP_SELECTS = 10
"""How many QSPIFBlockDevice objects Mbed allows (QSPIF_MAX_ACTIVE_FLASH_DEVICES)."""


class SPIFBlockDevice(MediumDevice):
    """Bytes to read and program (in pages inside), blocks of the smallest erase to erase; erased bytes are 0xFF.

    frequency: bus clock (Hz), 40 MHz as in Mbed.
    """

    type = "SPIF"
    kind: ClassVar[Kind] = "nor"
    figures: tuple[str, ...] = ("command", "address_bytes", "program", "program_byte", *_ERASES)
    max_clock: ClassVar[str] = "max_clock"
    busy_at_init: ClassVar[int] = BD_ERROR_DEVICE_ERROR
    busy_at_erase: ClassVar[int] = READY
    _looks_at_init: ClassVar[int] = 2

    def __init__(
        self,
        medium: Medium,
        *,
        clock: Clock | None = None,
        part: str | Part = "MX25R6435F",
        frequency: int = 40_000_000,
        seed: int = 0,
        timing: Timing = "typical",
        mcu: str | Mcu = "generic",
    ) -> None:
        super().__init__(medium, part, clock, seed=seed, timing=timing, mcu=mcu)
        most = self.part[self.max_clock]
        if not 0 < frequency <= most:
            raise ConfigError(f"a {self.part.name} cannot be clocked at {frequency} Hz", hint=f"at most {most} Hz")
        self.frequency = frequency
        self._erases = [(size, self._range(figure)) for size, figure in self.part.erases.items()][::-1]
        self._erase_size = self._erases[-1][0]
        self._check_size(self._erase_size, self.part["capacity"])
        medium.erase_block = self._erase_size
        self._page = self.part["page"]
        self._whole_page, self._one_byte = self._range("program"), self.part["program_byte"]
        self._end = medium.size
        self._use_bus()
        # Sizes are few, and asked for again and again.
        self._read_time = lru_cache(64)(lambda size: self._call + self._head_in + self._data_in(size))
        self._one_program = lru_cache(64)(self._plan_program)

    def _use_bus(self) -> None:
        """Work out once what the bus makes of every command (ns)."""
        self.bus = SpiBus(self.mcu, self.frequency)
        byte = self.bus.single
        head = (self.part["command"] + self.part["address_bytes"]) * byte
        self._head_in = self._head_out = self._head_erase = head
        self._byte_in = self._byte_out = byte
        self._enable, self._status = byte, byte + self.bus.stream
        self._identify = _SFDP * byte

    def _data_in(self, size: int) -> int:
        return size * self._byte_in

    def _data_out(self, size: int) -> int:
        return size * self._byte_out

    @property
    def erase_size(self) -> int:
        """The smallest block that can be erased (B)."""
        return self._erase_size

    @property
    def erase_value(self) -> int:
        """0xFF."""
        return 0xFF

    def read(self, address: int, size: int) -> bytes:
        """Read bytes in one command; of a chip that does not answer or is busy, zeros, which nobody notices."""
        if not (self._users and 0 <= address <= address + size <= self._end):
            self._check("read", address, size)
        spent, medium = self._read_time(size), self.medium
        if medium.sound and self._mutex.charge_alone(spent):
            return medium.read(address, size)
        with self._mutex:
            self.clock.charge(spent)
            try:
                return self.medium.read(address, size)
            except MediumFault as fault:
                if fault.kind == "read error":
                    raise self._refuse_fault(fault, BD_ERROR_DEVICE_ERROR) from fault
                return bytes(size)

    def program(self, address: int, data: bytes) -> None:
        """Program bytes page by page: write enable, a tick, page program, ticks until ready."""
        size, page = len(data), self._page
        if not (self._users and 0 <= address <= address + size <= self._end):
            self._check("program", address, size)
        if not size:
            return
        n = page - address % page
        if n > size:
            n = size
        busy = self._draw(self._whole_page)
        if n < page:
            busy = self._one_byte + (busy - self._one_byte) * (n - 1) // (page - 1)
        if n == size and self.medium.sound:  # as below, in one step if nobody can come between
            enable, slack, least = self._one_program(n)
            looks = (busy - slack + TICK - 1) // TICK if busy > slack else 0
            now = self.clock.now()
            if looks < POLLS and self._mutex.charge_alone(least + looks * TICK - (now + enable) % TICK):
                self.medium.program(address, data)
                return
        with self._mutex:
            start, spent = 0, self._call
            while True:
                self._write(spent + self._enable, self._head_out + self._data_out(n), busy, WREN)
                try:
                    self.medium.program(address + start, data[start : start + n])
                except MediumFault as fault:
                    raise self._failed(fault) from fault
                start, spent = start + n, 0
                if start == size:
                    return
                n = min(page, size - start)
                busy = self._one_byte + (self._draw(self._whole_page) - self._one_byte) * (n - 1) // (page - 1)

    def erase(self, address: int, size: int) -> None:
        """Erase with the largest command that fits, again and again."""
        self._check("erase", address, size)
        with self._mutex:
            spent = self._call
            while size:
                block, between = next(fits for fits in self._erases if address % fits[0] == 0 and size >= fits[0])
                self._write(spent + self._enable, self._head_erase, self._draw(between), self.busy_at_erase)
                try:
                    for start in range(address, address + block, self._erase_size):
                        self.medium.erase(start, self._erase_size)
                except MediumFault as fault:
                    raise self._failed(fault) from fault
                address, size, spent = address + block, size - block, 0

    # -- what is checked -----------------------------------------------------------------------------

    def _check(self, what: str, address: int, size: int) -> None:
        if not self._users:
            raise self._refuse_before_init(what)
        end = address + size
        if what == "erase" and (address % self._erase_size or end % self._erase_size):
            raise self._refuse(
                INVALID_ERASE, f"cannot erase {size} B at 0x{address:x}", f"blocks are {self._erase_size} B"
            )
        # Mbed checks the end of an erase only: it lets a read or program past the end wrap around to the start.
        if address < 0 or size < 0 or end > self.medium.size:
            raise self._refuse(
                INVALID_ERASE if what == "erase" else BD_ERROR_DEVICE_ERROR,
                f"cannot {what} {size} B at 0x{address:x} of 0x{self.size:x}",
                "on a board a read or program past the end wraps around to the start, unnoticed",
            )

    # -- what is spent, and what goes wrong ----------------------------------------------------------

    def _write(self, enable: int, command: int, busy: int, failure: int) -> None:
        """Spend a write enable, a command that leaves the chip busy, and the looks at its status.

        Raises:
            StorageError: the chip did not take the write enable (`failure`), or stays busy.
        """
        now = self.clock.now()
        try:
            self.medium.require_answer()
        except MediumFault as fault:
            self._wait_for_chip(fault, enable, failure)
            now, enable = self.clock.now(), self._enable
        looks, spent = self._until_ready(now, enable, command, busy)
        self.clock.charge(spent)
        if looks >= POLLS:
            raise self._refuse(READY, f"the chip is busy for longer than {POLLS} looks, a tick apart")

    def _until_ready(self, now: int, enable: int, command: int, busy: int) -> tuple[int, int]:
        """Return after how many looks that find it busy, and after how long (ns), the chip is found ready."""
        slack, least = self._plan(enable, command)
        looks = (busy - slack + TICK - 1) // TICK if busy > slack else 0
        spent = least + looks * TICK - (now + enable) % TICK
        return looks, spent if looks < POLLS else spent - self._status - (looks - POLLS) * TICK

    def _plan(self, enable: int, command: int) -> tuple[int, int]:
        """Return how long the chip may be busy without being found so, and what a write takes then (ns).

        That begins at a tick: to the next one, two looks (for busy, then for the enable latch), the command, and a
        look at the tick after it.
        """
        sent = 2 * self._status + command
        look = sent - sent % TICK + TICK
        return look + self._status - sent, enable + TICK + look + self._status

    def _plan_program(self, size: int) -> tuple[int, int, int]:
        """Return write enable, slack and time of a program inside a page, by the driver's first command (ns)."""
        enable = self._call + self._enable
        return enable, *self._plan(enable, self._head_out + self._data_out(size))

    def _wait_for_chip(self, fault: MediumFault, enable: int, failure: int) -> None:
        """Look at the status of a chip that is busy, or is not there: then it reads 0, ready and not enabled."""
        if fault.kind == "stuck busy" and fault.busy_ns is not None and fault.busy_ns < POLLS * TICK:
            self.clock.charge(enable + fault.busy_ns)
            try:
                self.medium.require_answer()
            except MediumFault as still:
                self._wait_for_chip(still, 0, failure)
            return
        self.clock.charge(enable + (POLLS if fault.kind == "stuck busy" else 1) * TICK + 2 * self._status)
        raise self._refuse_fault(fault, failure) from fault

    def _failed(self, fault: MediumFault) -> StorageError:
        if fault.kind != "stuck busy":
            return self._refuse_fault(fault, BD_ERROR_DEVICE_ERROR)
        self.clock.charge(POLLS * TICK)
        return self._refuse_fault(fault, READY)

    def _set_up(self) -> None:
        # Reset and identification: looks at the status a tick apart, the SFDP, a few commands of a byte or four.
        looks = self._looks_at_init
        try:
            self.medium.require_answer()
        except MediumFault as fault:
            if fault.kind == "stuck busy":
                self._wait_for_chip(fault, self._call, self.busy_at_init)
            else:
                self.clock.charge(self._call + looks * TICK + self._identify)
                raise self._refuse_fault(fault, PARSING) from fault
        now = self.clock.now()
        self.clock.charge(next_tick(now + self._call, looks) - now + looks * self._status + self._identify)


class QSPIFBlockDevice(SPIFBlockDevice):
    """The same chips on four data lines: reads send the instruction on one, address and data on four (1-4-4).

    csel: name of the chip select pin; two devices of one clock may not share it. Left out, it is not checked.
    """

    type = "QSPIF"
    figures: tuple[str, ...] = (*SPIFBlockDevice.figures, "dummy_quad")
    cycles: tuple[str, ...] = ("call", "lock", "qspi", "dividers", "file")
    max_clock = "max_clock_quad"
    busy_at_init = READY
    busy_at_erase = WREN
    _looks_at_init = 6
    _selected: ClassVar[WeakKeyDictionary[Clock, set[str]]] = WeakKeyDictionary()

    def __init__(
        self,
        medium: Medium,
        *,
        clock: Clock | None = None,
        part: str | Part = "MX25R6435F",
        frequency: int = 40_000_000,
        seed: int = 0,
        timing: Timing = "typical",
        mcu: str | Mcu = "generic",
        csel: str | None = None,
    ) -> None:
        super().__init__(medium, clock=clock, part=part, frequency=frequency, seed=seed, timing=timing, mcu=mcu)
        self.csel = csel
        others = self._selected.setdefault(self.clock, set())
        self._barred = 0
        if csel is not None and len(others) >= CHIP_SELECTS:
            self._barred = TOO_MANY
        elif csel in others:
            self._barred = NOT_UNIQUE
        elif csel is not None:
            others.add(csel)

    def deinit(self) -> None:
        """Undo one init; the last gives the chip select free."""
        super().deinit()
        if not self._users and self.csel is not None and not self._barred:
            self._selected[self.clock].discard(self.csel)

    def _set_up(self) -> None:
        if self._barred:
            raise self._refuse(
                self._barred,
                f"the chip select {self.csel} is another device's"
                if self._barred == NOT_UNIQUE
                else f"there are {CHIP_SELECTS} devices already",
                "use one device object for a chip, and as many chips as Mbed allows",
            )
        super()._set_up()

    def _use_bus(self) -> None:
        self._clock_hz = self.mcu.qspi_clock(self.frequency)
        command = self.mcu.ns("qspi")
        address, dummy = 8 * self.part["address_bytes"], self.part["dummy_quad"]
        instruction = 8 * self.part["command"]
        # configure_format before and after a read is MCU work too, and small beside the command's.
        self._head_in = command + bus_time(instruction + address // 4 + dummy, self._clock_hz)
        self._head_out = self._head_erase = command + bus_time(instruction + address, self._clock_hz)
        self._enable, self._status = (command + bus_time(bits, self._clock_hz) for bits in (8, 16))
        self._identify = 3 * command + bus_time(8 * _SFDP, self._clock_hz)

    def _data_in(self, size: int) -> int:
        return bus_time(2 * size, self._clock_hz)

    def _data_out(self, size: int) -> int:
        return bus_time(8 * size, self._clock_hz)
