"""A rig's drivers: those of boards, with their times left out where they only cost the host some."""

from __future__ import annotations

from pdmlab.clock import ClockName
from pdmlab.storage import FlashIAPBlockDevice, QSPIFBlockDevice, SDBlockDevice, SPIFBlockDevice
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.storage.medium import MediumFault

DRIVERS: dict[str, type[SDBlockDevice] | type[SPIFBlockDevice] | type[QSPIFBlockDevice]] = {
    "SD": SDBlockDevice,
    "SPIF": SPIFBlockDevice,
    "QSPIF": QSPIFBlockDevice,
}


class Untimed:
    """A clock on which nothing takes any time, for one thread."""

    name: ClockName = "device"

    def now(self) -> int:
        """Return 0."""
        return 0

    def charge(self, ns: int) -> None:
        """Let it pass."""

    def sleep(self, ns: int) -> None:
        """Let it pass."""

    def mutex(self) -> Untimed:
        """Return a lock that nobody else wants."""
        return self

    def acquire(self) -> bool:
        """Take it."""
        return True

    def release(self) -> None:
        """Give it back."""

    def acquire_and_charge(self, ns: int) -> None:
        """Take it."""

    def charge_alone(self, ns: int) -> bool:
        """Return True: nobody comes between."""
        return True

    def __enter__(self) -> Untimed:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class UntimedFlash(FlashIAPBlockDevice):
    """The driver without its times: what it asks of the medium is the same, in the same pieces."""

    def read(self, address: int, size: int) -> bytes:
        return self.medium.read(address, size)

    def program(self, address: int, data: bytes) -> None:
        self._check(self.is_valid_program(address, len(data)), "program", address, len(data))
        for start in range(0, len(data), 256):
            try:
                self.medium.program(address + start, data[start : start + 256])
            except MediumFault as fault:
                raise self._refuse_fault(fault, BD_ERROR_DEVICE_ERROR) from fault


class QuickStore(NVStore):
    """The store, looking for the end of its records in one read instead of one for each 128 B: it finds the same."""

    def _end_of_records(self, area: int) -> int:
        return len(self.flash.read(self.areas[area][0], self._size(area)).rstrip(b"\xff"))
