"""A counter over a block device."""

from __future__ import annotations

from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.wrappers.wrapper import Wrapper


class ProfilingBlockDevice(Wrapper):
    """Counts operations and bytes that succeeded on the device below."""

    type = "PROFILING"

    def __init__(self, device: BlockDevice) -> None:
        super().__init__(device)
        self._read, self._program, self._erase = device.read, device.program, device.erase
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
        data = self._read(address, size)
        self.reads += 1
        self.read_bytes += size
        return data

    def program(self, address: int, data: bytes) -> None:
        """Program, and count."""
        self._program(address, data)
        self.programs += 1
        self.programmed_bytes += len(data)

    def erase(self, address: int, size: int) -> None:
        """Erase, and count."""
        self._erase(address, size)
        self.erases += 1
        self.erased_bytes += size
