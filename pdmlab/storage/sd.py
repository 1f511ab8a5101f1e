"""An SD card on an SPI bus, as Mbed's SDBlockDevice drives it."""

from __future__ import annotations

from pdmlab.clock import Clock
from pdmlab.errors import StorageError
from pdmlab.storage.driver import MediumDevice, bus_time
from pdmlab.storage.medium import Medium
from pdmlab.storage.parts import part as find_part

BLOCK = 512
PARAMETER, NO_INIT, NO_DEVICE, WRITE_PROTECTED, WRITE = -5003, -5004, -5005, -5006, -5011
_NO_CARD = "put the card back in: board.faults.seat_card() on a virtual board"


class SDBlockDevice(MediumDevice):
    """Blocks of 512 B to read, program and erase; erase does nothing, trim erases (CMD32, CMD33, CMD38).

    frequency: SPI clock for transfers (Hz), 1 MHz as in Mbed; initialisation runs at 100 kHz.
    """

    type = "SD"
    not_ready = NO_INIT
    worn = WRITE

    def __init__(
        self, medium: Medium, *, clock: Clock | None = None, part: str = "SDHC", frequency: int = 1_000_000
    ) -> None:
        super().__init__(medium, find_part(part, "sd"), clock)
        medium.erase_block = BLOCK
        if not 0 < frequency <= 25_000_000:
            raise StorageError(
                f"an SD card cannot be clocked at {frequency} Hz (SD_BLOCK_DEVICE_ERROR_PARAMETER, {PARAMETER})",
                code=PARAMETER,
                hint="25 MHz is the most",
            )
        self.frequency = frequency
        self._byte_time = bus_time(8, frequency)

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
        with self._busy(self.is_valid_read, "read", address, size):
            self._need_card()
            blocks = size // BLOCK
            access = self._polled(self.part["read_access"])  # ends with the start token
            block = access + self._bytes(BLOCK) + self._single(self.part["crc"])
            self.clock.charge(self.part["call"] + self._command(deselect=False) + blocks * block + self._single(1))
            if blocks > 1:  # CMD12: no wait before it, a stuff byte and a wait after it
                self.clock.charge(self._command(deselect=False) + self._single(2))
            return self.medium.read(address, size)

    def program(self, address: int, data: bytes) -> None:
        """Program blocks: CMD24 for one, CMD55, ACMD23, CMD25 and a stop token for more."""
        with self._busy(self.is_valid_program, "program", address, len(data)):
            self._need_card()
            if self.medium.write_protected:
                raise self._refuse(WRITE_PROTECTED, "the card is locked", "move the lock at the card's side")
            many = len(data) > BLOCK
            spent = self.part["call"] + self._command(deselect=False)
            if many:
                spent += self._command() + self._single(self._command_bytes - 1)  # CMD55 under the same select
            around = self._single(self.part["token"] + self.part["crc"] + self.part["response"]) + self._bytes(BLOCK)
            for start in range(0, len(data), BLOCK):
                busy = self.part["program_next" if start else "program"]
                self.clock.charge(spent + around + self._polled(busy))
                spent = 0
                self._need_card()
                self._refuse_worn(address + start, BLOCK)
                self.medium.program(address + start, data[start : start + BLOCK])
            self.clock.charge(self._single(2 if many else 1))  # stop token, and a byte to deselect

    def erase(self, address: int, size: int) -> None:
        """Check the stretch and do nothing else, as Mbed's driver: cards overwrite."""
        with self._busy(self.is_valid_erase, "erase", address, size):
            pass

    def trim(self, address: int, size: int) -> None:
        """Let the card erase a stretch."""
        with self._busy(self.is_valid_erase, "trim", address, size):
            self._need_card()
            self.clock.charge(self.part["call"] + 3 * self._command() + self._polled(self.part["program"]))
            self._refuse_worn(address, size)
            for start in range(address, address + size, BLOCK):
                self.medium.erase(start, BLOCK)

    def _set_up(self) -> None:
        # CMD0, CMD8, CMD58, ACMD41 until the card is ready, CMD9, CMD16, all at 100 kHz.
        self.clock.charge(bus_time(8 * self.part["init_bytes"], self.part["init_clock"]))
        self._need_card()
        self.clock.charge(self.part["init_wait"])

    def _need_card(self) -> None:
        if not self.medium.seated:
            raise self._refuse(NO_DEVICE, "no card answers", _NO_CARD)

    def _require(self, valid: bool, what: str, address: int, size: int) -> None:
        if not valid:
            raise self._refuse(
                PARAMETER, f"cannot {what} {size} B at 0x{address:x} of 0x{self.size:x}", f"blocks are {BLOCK} B"
            )

    @property
    def _command_bytes(self) -> int:
        """Bytes of a command: one to wait until the card is ready, the packet, polls up to its R1."""
        return 1 + self.part["command"] + self.part["ncr"] + self.part["response"]

    def _command(self, *, deselect: bool = True) -> int:
        """Time of a command, with the byte that Mbed clocks before it selects the card (ns)."""
        return self._single(1 + self._command_bytes + deselect)

    def _bytes(self, count: int) -> int:
        """Time of count bytes in one transfer (ns): bits, and the MCU's gap after each byte."""
        return count * (self._byte_time + self.part["gap"])

    def _single(self, count: int) -> int:
        """Time of count bytes, each a call of SPI::write(int) of its own (ns)."""
        return count * (self._byte_time + self.part["gap_single"])

    def _polled(self, busy: int) -> int:
        """Time of reading bytes until the card is no longer busy (ns): whole bytes, at least one."""
        byte = self._single(1)
        return max(-(-busy // byte), 1) * byte
