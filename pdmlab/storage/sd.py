"""An SD card on an SPI bus, as Mbed's SDBlockDevice drives it, with what it answers when the card does not.

Facts of SDBlockDevice.cpp: every byte outside a block's 512 is an SPI::write(int) of its own; a command is a byte
before the select, polls until the card is ready, six bytes, polls for R1, and is tried three times; CMD0 five times.
Of what goes wrong with the data, only a single block's write is told of: a failure within CMD25 leaves the status OK,
and the status of CMD12 replaces that of the blocks which CMD18 read before it.
"""

from __future__ import annotations

from typing import ClassVar

from pdmlab.clock import MS, SECOND, Clock
from pdmlab.errors import StorageError
from pdmlab.storage.driver import MediumDevice
from pdmlab.storage.figures import Kind
from pdmlab.storage.mcu import Mcu, SpiBus, next_tick
from pdmlab.storage.medium import Medium, MediumFault
from pdmlab.storage.parts import Part, Timing

BLOCK = 512
PARAMETER, NO_DEVICE, NO_RESPONSE, WRITE = -5003, -5005, -5008, -5011
COMMAND_TIMEOUT = 10 * SECOND
"""Mbed's sd.CMD_TIMEOUT: how long a card may be busy."""
TOKEN_TIMEOUT = 300 * MS
RETRIES, IDLE_RETRIES, R1_POLLS = 3, 5, 16
_SILENT = ("not seated", "no answer")
_AGAIN = "initialise it again: deinit() and init(), or unmount() and mount() the file system"


class SDBlockDevice(MediumDevice):
    """Blocks of 512 B to read, program and erase; erase does nothing, trim erases (CMD32, CMD33, CMD38).

    frequency: SPI clock for transfers (Hz), 1 MHz as in Mbed; initialisation runs at 100 kHz.
    Before init() the driver knows no size, so that every address is past the end (-5003).
    """

    type = "SD"
    kind: ClassVar[Kind] = "sd"
    figures: tuple[str, ...] = ("read_access", "program", "program_next", "erase", "stall", "stall_every", "ncr")
    not_ready = PARAMETER

    def __init__(
        self,
        medium: Medium,
        *,
        clock: Clock | None = None,
        part: str | Part = "SDHC",
        frequency: int = 1_000_000,
        seed: int = 0,
        timing: Timing = "typical",
        mcu: str | Mcu = "generic",
    ) -> None:
        super().__init__(medium, part, clock, seed=seed, timing=timing, mcu=mcu)
        if not 0 < frequency <= self.part["max_clock"]:
            raise StorageError(
                f"an SD card cannot be clocked at {frequency} Hz (SD_BLOCK_DEVICE_ERROR_PARAMETER, {PARAMETER})",
                code=PARAMETER,
                hint=f"{self.part['max_clock'] / 1e6:g} MHz is the most; Mbed's init() answers -22 (EINVAL) above it",
            )
        self._check_size(BLOCK, self.part["capacity"])
        medium.erase_block = BLOCK
        self.frequency = frequency
        self._use_bus(SpiBus(self.mcu, frequency))
        typical = self.part["stall"]
        most = 0 if self._random is None else min(typical, self.part.maximum("stall") - typical)
        self._stall = typical - most, 2 * most
        self._until_stall = self._next_stall()
        self._insertion = medium.insertions

    def _use_bus(self, bus: SpiBus) -> None:
        """Work out once what the bus makes of every operation (ns)."""
        self.bus = bus
        byte, part = bus.single, self.part
        packet = part["command"] + part["ncr"] + part["response"]
        self._byte = byte
        self._open = self._call + (1 + 1 + packet) * byte  # preclock, ready, packet; the card stays selected
        self._ask = self._open - self._call + byte  # any other command, with a byte to deselect
        self._ask_app = self._ask + (packet + 1) * byte  # CMD55 before it, under the same select
        self._stop = (1 + packet + 1 + 1 + 1) * byte  # CMD12: a stuff byte, no wait before it, a wait after
        self._unanswered = (1 + 1 + RETRIES * (part["command"] + R1_POLLS) + 1) * byte
        block = BLOCK * bus.stream
        self._block_in = block + part["crc"] * byte
        self._block_out = block + (part["token"] + part["crc"] + part["response"]) * byte
        self._first, self._next = self._range("program"), self._range("program_next")
        self._access = self._range("read_access")

    @property
    def read_size(self) -> int:
        """A block (B)."""
        return BLOCK

    @property
    def program_size(self) -> int:
        """A block (B)."""
        return BLOCK

    @property
    def erase_size(self) -> int:
        """A block (B)."""
        return BLOCK

    def read(self, address: int, size: int) -> bytes:
        """Read blocks: CMD17 for one, CMD18 and CMD12 for more."""
        self._check("read", address, size)
        cost = self._open + self._polled(self._access) + size // BLOCK * self._block_in + self._byte
        if size > BLOCK:  # the card reads on while it sends: each further token is there at the first poll
            cost += (size // BLOCK - 1) * self._byte + self._stop
        if self._is_ready() and self._mutex.charge_alone(cost):
            return self.medium.read(address, size)
        with self._mutex:
            if not self._find_card():
                self.clock.charge(self._open + COMMAND_TIMEOUT)
                return self._read_timed_out(MediumFault("stuck busy", address), address, size)
            self.clock.charge(cost)
            try:
                return self.medium.read(address, size)
            except MediumFault as fault:
                return self._read_timed_out(fault, address, size)

    def program(self, address: int, data: bytes) -> None:
        """Program blocks: CMD24 for one; CMD55, ACMD23, CMD25 and a stop token for more.

        Raises:
            StorageError: the card is not there, or did not take a single block; that it did not take one of
                many is not noticed.
        """
        size = len(data)
        self._check("program", address, size)
        cost = self._open + self._block_out + self._polled(self._first) + self._stalled()
        if size == BLOCK and self._is_ready() and self._mutex.charge_alone(cost + self._byte):
            self.medium.program(address, data)
            return
        with self._mutex:
            if not self._find_card():
                # Before CMD24, or CMD55, ACMD23 and CMD25; and after the first block, which is not taken.
                self.clock.charge(self._open + self._block_out + (2 if size == BLOCK else 4) * COMMAND_TIMEOUT)
                if size == BLOCK:
                    raise self._refuse_fault(MediumFault("stuck busy", address), WRITE)
                return
            if size == BLOCK:
                self.clock.charge(cost + self._byte)
                try:
                    self.medium.program(address, data)
                except MediumFault as fault:
                    raise self._refuse_fault(fault, WRITE) from fault
                return
            cost += self._ask_app
            try:
                for start in range(0, size, BLOCK):
                    self.clock.charge(cost)
                    self.medium.program(address + start, data[start : start + BLOCK])
                    cost = self._block_out + self._polled(self._next) + self._stalled()
            except MediumFault as fault:  # Mbed's loop breaks off, and its status stays OK
                self.clock.charge(COMMAND_TIMEOUT if fault.kind == "stuck busy" else 0)
            self.clock.charge(2 * self._byte)  # stop token, and a byte to deselect

    def erase(self, address: int, size: int) -> None:
        """Check the stretch and do nothing else, as Mbed's driver: cards overwrite."""
        self._check("erase", address, size)

    def trim(self, address: int, size: int) -> None:
        """Let the card erase a stretch; that it did not is not noticed."""
        self._check("trim", address, size)
        with self._mutex:
            if not self._find_card():
                self.clock.charge(self._call + 3 * self._ask + 4 * COMMAND_TIMEOUT)
                return
            self.clock.charge(self._call + 3 * self._ask + self._polled(self._range("erase")))
            try:
                self.medium.erase(address, size)
            except MediumFault:
                return

    # -- what goes wrong -----------------------------------------------------------------------------

    def _check(self, what: str, address: int, size: int) -> None:
        if not self._users:
            raise self._refuse_before_init(what)
        if address % BLOCK or size % BLOCK or address < 0 or size < 0 or address + size > self.medium.size:
            raise self._refuse(
                PARAMETER, f"cannot {what} {size} B at 0x{address:x} of 0x{self.size:x}", f"blocks are {BLOCK} B"
            )

    def _is_ready(self) -> bool:
        return self.medium.sound and self.medium.insertions == self._insertion

    def _find_card(self) -> bool:
        """Wait until the card is ready for a command; return whether it became so in time.

        Busy holds the line low: that passes for an R1 without errors, but never for a token.

        Raises:
            StorageError: no card answers.
        """
        if self.medium.insertions != self._insertion:  # it has power again, and is not in SPI mode yet
            self.clock.charge(self._call + self._unanswered)
            raise self._refuse(NO_DEVICE, "the card was out, and no card answers before it is initialised", _AGAIN)
        try:
            self.medium.require_answer()
        except MediumFault as fault:
            if fault.kind in _SILENT:
                self.clock.charge(self._call + self._unanswered)
                raise self._refuse_fault(fault, NO_DEVICE) from fault
            if fault.busy_ns is None or fault.busy_ns > COMMAND_TIMEOUT:
                return False
            self.clock.charge(fault.busy_ns)
            return self._find_card()
        return True

    def _read_timed_out(self, fault: MediumFault, address: int, size: int) -> bytes:
        """Wait in vain for a start token; of many blocks, CMD12 then says that all is well, if the card is there."""
        self.clock.charge(TOKEN_TIMEOUT)
        if size == BLOCK:
            raise self._refuse_fault(fault, NO_RESPONSE) from fault
        if fault.kind in _SILENT:
            self.clock.charge(self._unanswered)
            raise self._refuse_fault(fault, NO_DEVICE) from fault
        if fault.kind == "stuck busy":
            self.clock.charge(COMMAND_TIMEOUT)
        good = max(fault.offset // BLOCK * BLOCK - address, 0)
        return self.medium.peek(address, good) + bytes(size - good)

    def _set_up(self) -> None:
        # CMD0, CMD8, CMD58, ACMD41 until the card is ready, CMD58, CMD59, CMD9, CMD16, all at 100 kHz.
        slow = SpiBus(self.mcu, self.part["init_clock"]).single
        for _ in range(IDLE_RETRIES):
            try:
                self.medium.require_answer()
                break
            except MediumFault as fault:
                if fault.busy_ns is not None and fault.busy_ns <= COMMAND_TIMEOUT:
                    self.clock.charge(fault.busy_ns)
                    break
                # No answer: three times the packet and its polls. Busy: R1 reads 0, which is not "idle".
                gone = fault.kind in _SILENT
                self.clock.charge(self._unanswered // self._byte * slow if gone else COMMAND_TIMEOUT)
                self.clock.charge(next_tick(self.clock.now()) - self.clock.now())
                last = fault
        else:
            raise self._refuse_fault(last, NO_DEVICE) from last
        self._insertion = self.medium.insertions
        self.clock.charge(self.part["init_bytes"] * slow + self.part["init_wait"])

    # -- what is spent -------------------------------------------------------------------------------

    def _polled(self, between: tuple[int, int]) -> int:
        """Draw a busy time, and return it as whole bytes read until one says ready (ns)."""
        byte = self._byte
        return (self._draw(between) // byte + 1) * byte

    def _stalled(self) -> int:
        """Return for how long the card moves blocks of its own after this one (ns): mostly not at all."""
        self._until_stall -= BLOCK
        if self._until_stall > 0:
            return 0
        self._until_stall = self._next_stall()
        return self._draw(self._stall)

    def _next_stall(self) -> int:
        """Return how much is written until the next stall (B): stall_every, half of it more or less."""
        every = self.part["stall_every"]
        return every if self._random is None else every // 2 + self._random.below(every)
