"""Several block devices, one behind the other, as one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR, UNKNOWN_ERASE_VALUE, BlockDevice, require_device
from pdmlab.storage.wrappers.wrapper import CountedInits


class ChainingBlockDevice(BlockDevice):
    """Devices as one, in their order; its units are the largest of theirs, of which the others must be parts.

    Sizes are known, and anything but init() possible, after init().
    """

    type = "CHAINING"

    def __init__(self, devices: Sequence[BlockDevice]) -> None:
        if not devices:
            raise ConfigError("a chain of no devices is none", hint="ChainingBlockDevice([first, second])")
        for device in devices:
            require_device(device, self.type)
        super().__init__(devices[0].clock)
        self.devices = list(devices)
        self._inits = CountedInits(self.type)
        self._forget()

    def init(self) -> None:
        """Initialise all devices at the first call, and take their sizes; counted.

        Raises:
            StorageError: a device's units are no parts or multiples of another's, -4001: where Mbed halts.
        """
        if not self._inits.users:
            for device in self.devices:
                device.init()
            self._read, self._program, self._erase = (
                self._largest(what) for what in ("read_size", "program_size", "erase_size")
            )
            values = {device.erase_value for device in self.devices}
            self._erase_value = values.pop() if len(values) == 1 else UNKNOWN_ERASE_VALUE
            self._ends = list(accumulate(device.size for device in self.devices))
        self._inits.users += 1

    def deinit(self) -> None:
        """Undo one init; the last is also that of all devices."""
        if not self._inits.users:
            return
        self._inits.users -= 1
        if not self._inits.users:
            for device in self.devices:
                device.deinit()

    def _forget(self) -> None:
        self._read = self._program = self._erase = 0
        self._erase_value = UNKNOWN_ERASE_VALUE
        self._ends = [0]

    def _largest(self, what: str) -> int:
        sizes = [int(getattr(device, what)) for device in self.devices]
        largest = max(sizes)
        if any(largest % size for size in sizes):
            raise StorageError(
                f"CHAINING: the devices' {what}s of {', '.join(map(str, sizes))} B do not fit each other "
                f"(BD_ERROR_DEVICE_ERROR, {BD_ERROR_DEVICE_ERROR})",
                code=BD_ERROR_DEVICE_ERROR,
                hint="chain devices whose units divide the largest one; Mbed halts here",
            )
        return largest

    @property
    def read_size(self) -> int:
        """Largest of the devices' (B)."""
        return self._read

    @property
    def program_size(self) -> int:
        """Largest of the devices' (B)."""
        return self._program

    @property
    def erase_size(self) -> int:
        """Largest of the devices' (B)."""
        return self._erase

    def get_erase_size(self, address: int) -> int:
        """Return the size (B) of the erase unit at address, which is that of the device there; 0 before init()."""
        if not self._inits.users:
            return 0
        number = min(bisect_right(self._ends, address), len(self.devices) - 1)
        return self.devices[number].get_erase_size(address - (self._ends[number] - self.devices[number].size))

    @property
    def erase_value(self) -> int:
        """Value of erased bytes if it is the same for all, or -1."""
        return self._erase_value

    @property
    def size(self) -> int:
        """Sum of the devices' (B); 0 before init()."""
        return self._ends[-1]

    def sync(self) -> None:
        """Sync all devices."""
        self._inits.need("sync")
        for device in self.devices:
            device.sync()

    def read(self, address: int, size: int) -> bytes:
        """Read, from one device on into the next."""
        self._inits.need("read")
        self._require(self.is_valid_read(address, size), "read", address, size)
        return b"".join(device.read(start, n) for device, start, n in self._pieces(address, size))

    def program(self, address: int, data: bytes) -> None:
        """Program, from one device on into the next; what was programmed before a failure stays."""
        self._inits.need("program")
        self._require(self.is_valid_program(address, len(data)), "program", address, len(data))
        done = 0
        for device, start, n in self._pieces(address, len(data)):
            device.program(start, data[done : done + n])
            done += n

    def erase(self, address: int, size: int) -> None:
        """Erase, from one device on into the next."""
        self._inits.need("erase")
        self._require(self.is_valid_erase(address, size), "erase", address, size)
        for device, start, n in self._pieces(address, size):
            device.erase(start, n)

    def _pieces(self, address: int, size: int) -> Iterator[tuple[BlockDevice, int, int]]:
        begin = 0
        for device, end in zip(self.devices, self._ends, strict=True):
            start, stop = max(address, begin), min(address + size, end)
            if start < stop:
                yield device, start - begin, stop - start
            begin = end

    def __repr__(self) -> str:
        return f"<{self.type} of {', '.join(map(repr, self.devices))}>"
