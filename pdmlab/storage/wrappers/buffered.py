"""Bytes to read and program, over a block device with larger units."""

from __future__ import annotations

from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.wrappers.wrapper import CountedInits, Wrapper


class BufferedBlockDevice(Wrapper):
    """Bytes to read and program, over a device with larger units; one program unit is kept back.

    It is written out when another unit is programmed, and by sync and deinit; the device below is synced
    after each full unit. All as in Mbed, its flaw too: an erase also forgets a unit that begins where it ends.
    """

    type = "BUFFERED"

    def __init__(self, device: BlockDevice) -> None:
        super().__init__(device)
        self._inits = CountedInits(self.type)
        self._unit = -1  # address of the unit in the buffer; -1 for none
        self._buffer = bytearray()

    @property
    def read_size(self) -> int:
        """1 B."""
        return 1

    @property
    def program_size(self) -> int:
        """1 B."""
        return 1

    @property
    def size(self) -> int:
        """Size of the device (B); 0 before init()."""
        return self.device.size if self._inits.users else 0

    def init(self) -> None:
        """Initialise the device below at the first call; counted."""
        if not self._inits.users:
            self.device.init()
            self._drop()
        self._inits.users += 1

    def deinit(self) -> None:
        """Write the kept unit out and undo one init; the last one is also the device's below."""
        if not self._inits.users:
            return
        self.sync()
        self._inits.users -= 1
        if not self._inits.users:
            self.device.deinit()

    def sync(self) -> None:
        """Write the kept unit out and sync the device below."""
        self._inits.need("sync")
        self._flush()
        self.device.sync()

    def read(self, address: int, size: int) -> bytes:
        """Read bytes, the kept ones included; the device below is read in whole read units."""
        self._inits.need("read")
        self._require(self.is_valid_read(address, size), "read", address, size)
        unit = self.device.read_size
        out = bytearray()
        while size:
            offset = address % unit
            if self._unit <= address < self._unit + len(self._buffer):
                start = address - self._unit
                piece = bytes(self._buffer[start : start + size])
            else:
                # As far as the kept unit, which is newer than what lies below it.
                n = min(size, self._unit - address) if address < self._unit else size
                if offset or n < unit:
                    piece = self.device.read(address - offset, unit)[offset : offset + n]
                else:
                    piece = self.device.read(address, n // unit * unit)
            out += piece
            address, size = address + len(piece), size - len(piece)
        return bytes(out)

    def program(self, address: int, data: bytes) -> None:
        """Program bytes: whole units at once, the rest through the buffer; sync the device after whole units."""
        self._inits.need("program")
        self._require(self.is_valid_program(address, len(data)), "program", address, len(data))
        size = self.device.program_size
        if address // size * size != self._unit:
            self._flush()
        start = 0
        while start < len(data):
            offset = (address + start) % size
            whole = (len(data) - start) // size * size
            if offset == 0 and whole:
                self.device.program(address + start, data[start : start + whole])
                self._drop()
                self.device.sync()
                start += whole
                continue
            n = min(size - offset, len(data) - start)
            self._load(address + start - offset)
            self._buffer[offset : offset + n] = data[start : start + n]
            start += n
            if offset + n == size:
                self.sync()

    def erase(self, address: int, size: int) -> None:
        """Erase units; what is kept of them is forgotten."""
        self._forget("erase", address, size)
        self.device.erase(address, size)

    def trim(self, address: int, size: int) -> None:
        """Trim a stretch; what is kept of it is forgotten."""
        self._forget("trim", address, size)
        self.device.trim(address, size)

    def is_valid_read(self, address: int, size: int) -> bool:
        """Whether this stretch lies inside the device."""
        return self._inside(address, size)

    is_valid_program = is_valid_read

    def _load(self, unit: int) -> None:
        if self._unit != unit:
            self._buffer = bytearray(self.device.read(unit, self.device.program_size))
            self._unit = unit

    def _flush(self) -> None:
        if self._unit >= 0:
            self.device.program(self._unit, bytes(self._buffer))  # kept if it fails
            self._drop()

    def _drop(self) -> None:
        self._unit, self._buffer = -1, bytearray()

    def _forget(self, what: str, address: int, size: int) -> None:
        self._inits.need(what)
        self._require(self.is_valid_erase(address, size), what, address, size)
        if address <= self._unit <= address + size:
            self._drop()
