"""A stretch of a block device as a device of its own."""

from __future__ import annotations

from pdmlab.errors import StorageError
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR, BlockDevice
from pdmlab.storage.wrappers.wrapper import Wrapper


class SlicingBlockDevice(Wrapper):
    """The stretch [start, stop) of a device; a negative start, or a stop of 0 or less, counts from the end.

    A device whose size is known only after its init (an MBRBlockDevice, say) is sliced then, as Mbed does with all.
    """

    type = "SLICE"

    def __init__(self, device: BlockDevice, start: int, stop: int = 0) -> None:
        super().__init__(device)
        self._asked = start, stop
        self._read, self._program, self._erase = device.read, device.program, device.erase
        self._read_unit = self._program_unit = 1
        self.start = self.stop = self._size = 0
        if start == stop:
            raise self._refuse("it would be empty")
        if device.size:
            self._cut()

    def init(self) -> None:
        """Initialise the device below, and find the slice in it.

        Raises:
            StorageError: the slice does not fit the device, -4001.
        """
        self.device.init()
        if not self.stop:
            self._cut()

    def _cut(self) -> None:
        device, (start, stop) = self.device, self._asked
        size = device.size
        start = start if start >= 0 else size + start
        stop = stop if stop > 0 else size + stop
        if not 0 <= start < stop <= size:
            raise self._refuse(f"that is {start:#x} to {stop:#x} of {size:#x}")
        for edge in (start, stop):
            unit = device.get_erase_size(min(edge, size - 1))
            if edge != size and edge % unit:
                raise self._refuse(f"0x{edge:x} lies inside an erase unit of {unit} B")
        self.start, self.stop, self._size = start, stop, stop - start
        self._read_unit, self._program_unit = device.read_size, device.program_size

    def _refuse(self, why: str) -> StorageError:
        start, stop = self._asked
        return StorageError(
            f"cannot slice {start}..{stop} out of {self.device!r}: {why} "
            f"(BD_ERROR_DEVICE_ERROR, {BD_ERROR_DEVICE_ERROR})",
            code=BD_ERROR_DEVICE_ERROR,
            hint="slices begin and end at edges of erase units, inside the device",
        )

    @property
    def size(self) -> int:
        """Size of the slice (B)."""
        return self._size

    @property
    def erase_size(self) -> int:
        """Erase unit (B) where the slice begins."""
        return self.device.get_erase_size(self.start)

    def get_erase_size(self, address: int) -> int:
        """Return the size (B) of the erase unit at address."""
        return self.device.get_erase_size(self.start + address)

    def read(self, address: int, size: int) -> bytes:
        """Read from the slice."""
        unit = self._read_unit
        if not 0 <= address <= address + size <= self._size or (unit != 1 and (address % unit or size % unit)):
            self._require(False, "read", address, size)
        return self._read(self.start + address, size)

    def program(self, address: int, data: bytes) -> None:
        """Program the slice."""
        size, unit = len(data), self._program_unit
        if not 0 <= address <= address + size <= self._size or (unit != 1 and (address % unit or size % unit)):
            self._require(False, "program", address, size)
        self._program(self.start + address, data)

    def erase(self, address: int, size: int) -> None:
        """Erase units of the slice."""
        self._require(self.is_valid_erase(address, size), "erase", address, size)
        self._erase(self.start + address, size)

    def is_valid_read(self, address: int, size: int) -> bool:
        """Whether this stretch lies inside the slice, and the device below can read it."""
        return self._inside(address, size) and self.device.is_valid_read(self.start + address, size)

    def is_valid_program(self, address: int, size: int) -> bool:
        """Whether this stretch lies inside the slice, and the device below can program it."""
        return self._inside(address, size) and self.device.is_valid_program(self.start + address, size)

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether this stretch begins and ends at edges of erase units inside the slice."""
        return self._inside(address, size) and self.device.is_valid_erase(self.start + address, size)
