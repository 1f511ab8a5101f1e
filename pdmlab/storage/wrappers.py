"""Block devices over block devices: a slice, a buffer, a counter."""

from __future__ import annotations

from pdmlab.errors import StorageError
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR, BlockDevice


class Wrapper(BlockDevice):
    """A device that hands everything to the one below; subclasses change what they must."""

    def __init__(self, device: BlockDevice) -> None:
        super().__init__(device.clock)
        self.device = device

    def init(self) -> None:
        """Initialise the device below."""
        self.device.init()

    def deinit(self) -> None:
        """Undo one init of the device below."""
        self.device.deinit()

    def sync(self) -> None:
        """Sync the device below."""
        self.device.sync()

    def read(self, address: int, size: int) -> bytes:
        """Read from the device below."""
        return self.device.read(address, size)

    def program(self, address: int, data: bytes) -> None:
        """Program the device below."""
        self.device.program(address, data)

    def erase(self, address: int, size: int) -> None:
        """Erase on the device below."""
        self.device.erase(address, size)

    def trim(self, address: int, size: int) -> None:
        """Trim on the device below."""
        self.device.trim(address, size)

    @property
    def read_size(self) -> int:
        """Smallest readable unit (B)."""
        return self.device.read_size

    @property
    def program_size(self) -> int:
        """Smallest programmable unit (B)."""
        return self.device.program_size

    @property
    def erase_size(self) -> int:
        """Erase unit (B)."""
        return self.device.erase_size

    def get_erase_size(self, address: int) -> int:
        """Return the size (B) of the erase unit at address."""
        return self.device.get_erase_size(address)

    @property
    def erase_value(self) -> int:
        """Value of erased bytes, or -1 where it is unknown."""
        return self.device.erase_value

    @property
    def size(self) -> int:
        """Size of the device (B)."""
        return self.device.size

    def __repr__(self) -> str:
        return f"<{self.type} of {self.device!r}>"


class SlicingBlockDevice(Wrapper):
    """The stretch [start, stop) of a device; a negative start, or a stop of 0 or less, counts from the end."""

    type = "SLICE"

    def __init__(self, device: BlockDevice, start: int, stop: int = 0) -> None:
        super().__init__(device)
        self.start = start if start >= 0 else device.size + start
        self.stop = stop if stop > 0 else device.size + stop
        good = 0 <= self.start < self.stop <= device.size
        if good:
            good = self.start % device.get_erase_size(self.start) == 0 and (
                self.stop == device.size or self.stop % device.get_erase_size(self.stop) == 0
            )
        if not good:
            raise StorageError(
                f"cannot slice {start}..{stop} out of {device!r} (BD_ERROR_DEVICE_ERROR, {BD_ERROR_DEVICE_ERROR})",
                code=BD_ERROR_DEVICE_ERROR,
                hint="slices begin and end at edges of erase units",
            )

    @property
    def size(self) -> int:
        """Size of the slice (B)."""
        return self.stop - self.start

    @property
    def erase_size(self) -> int:
        """Erase unit (B) where the slice begins."""
        return self.device.get_erase_size(self.start)

    def get_erase_size(self, address: int) -> int:
        """Return the size (B) of the erase unit at address."""
        return self.device.get_erase_size(self.start + address)

    def read(self, address: int, size: int) -> bytes:
        """Read from the slice."""
        self._require(self.is_valid_read(address, size), "read", address, size)
        return self.device.read(self.start + address, size)

    def program(self, address: int, data: bytes) -> None:
        """Program the slice."""
        self._require(self.is_valid_program(address, len(data)), "program", address, len(data))
        self.device.program(self.start + address, data)

    def erase(self, address: int, size: int) -> None:
        """Erase units of the slice."""
        self._require(self._inside(address, size), "erase", address, size)
        self.device.erase(self.start + address, size)

    def trim(self, address: int, size: int) -> None:
        """Trim a stretch of the slice."""
        self._require(self._inside(address, size), "trim", address, size)
        self.device.trim(self.start + address, size)

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether this stretch begins and ends at edges of erase units inside the slice."""
        return self._inside(address, size) and self.device.is_valid_erase(self.start + address, size)


class BufferedBlockDevice(Wrapper):
    """Bytes to read and program, over a device with larger units; one program unit is kept back.

    It is written out when another unit is programmed, and by sync and deinit; the device below is synced
    after each full unit, as in Mbed.
    """

    type = "BUFFERED"

    def __init__(self, device: BlockDevice) -> None:
        super().__init__(device)
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

    def sync(self) -> None:
        """Write the kept unit out and sync the device below."""
        self._flush()
        self.device.sync()

    def deinit(self) -> None:
        """Write the kept unit out and undo one init."""
        self.sync()
        self.device.deinit()

    def read(self, address: int, size: int) -> bytes:
        """Read bytes, the kept ones included; the device below is read in whole read units."""
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
        self._require(self.is_valid_program(address, len(data)), "program", address, len(data))
        size = self.device.program_size
        if address // size * size != self._unit:
            self._flush()
        start = 0
        while start < len(data):
            offset = (address + start) % size
            whole = (len(data) - start) // size * size
            if offset == 0 and whole:
                self._unit, self._buffer = -1, bytearray()
                self.device.program(address + start, data[start : start + whole])
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
        self._forget(address, size)
        self.device.erase(address, size)

    def trim(self, address: int, size: int) -> None:
        """Trim a stretch; what is kept of it is forgotten."""
        self._forget(address, size)
        self.device.trim(address, size)

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether the device below can erase this stretch."""
        return self.device.is_valid_erase(address, size)

    def _load(self, unit: int) -> None:
        if self._unit != unit:
            self._flush()
            self._buffer = bytearray(self.device.read(unit, self.device.program_size))
            self._unit = unit

    def _flush(self) -> None:
        if self._unit >= 0:
            unit, self._unit = self._unit, -1
            data, self._buffer = bytes(self._buffer), bytearray()
            self.device.program(unit, data)

    def _forget(self, address: int, size: int) -> None:
        if address <= self._unit < address + size:
            self._unit, self._buffer = -1, bytearray()


class ProfilingBlockDevice(Wrapper):
    """Counts operations and bytes that succeeded on the device below."""

    type = "PROFILING"

    def __init__(self, device: BlockDevice) -> None:
        super().__init__(device)
        self.reset()

    def reset(self) -> None:
        """Begin to count at zero."""
        self.reads = self.programs = self.erases = 0
        self.read_bytes = self.programmed_bytes = self.erased_bytes = 0

    def snapshot(self) -> dict[str, int]:
        """Return the counts by their names."""
        return {
            "reads": self.reads,
            "programs": self.programs,
            "erases": self.erases,
            "read_bytes": self.read_bytes,
            "programmed_bytes": self.programmed_bytes,
            "erased_bytes": self.erased_bytes,
        }

    def read(self, address: int, size: int) -> bytes:
        """Read, and count."""
        data = self.device.read(address, size)
        self.reads += 1
        self.read_bytes += size
        return data

    def program(self, address: int, data: bytes) -> None:
        """Program, and count."""
        self.device.program(address, data)
        self.programs += 1
        self.programmed_bytes += len(data)

    def erase(self, address: int, size: int) -> None:
        """Erase, and count."""
        self.device.erase(address, size)
        self.erases += 1
        self.erased_bytes += size

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether the device below can erase this stretch."""
        return self.device.is_valid_erase(address, size)
