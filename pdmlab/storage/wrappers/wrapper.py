"""What wrappers share: they hand to the device below what they do not change."""

from __future__ import annotations

from pdmlab.errors import StorageError
from pdmlab.storage.blockdevice import BD_ERROR_DEVICE_ERROR, BlockDevice, require_device


class Wrapper(BlockDevice):
    """A device that hands everything to the one below; subclasses change what they must."""

    def __init__(self, device: BlockDevice) -> None:
        require_device(device, self.type)
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
        """Do nothing: of Mbed's wrappers, only BufferedBlockDevice hands trims down."""

    def is_valid_read(self, address: int, size: int) -> bool:
        """Whether the device below can read this stretch."""
        return self.device.is_valid_read(address, size)

    def is_valid_program(self, address: int, size: int) -> bool:
        """Whether the device below can program this stretch."""
        return self.device.is_valid_program(address, size)

    def is_valid_erase(self, address: int, size: int) -> bool:
        """Whether the device below can erase this stretch."""
        return self.device.is_valid_erase(address, size)

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


class CountedInits:
    """How often init() was called more than deinit(), for wrappers that refuse everything before the first."""

    def __init__(self, device_type: str) -> None:
        self._type = device_type
        self.users = 0

    def need(self, what: str) -> None:
        """Refuse an operation before init(), as Mbed does.

        Raises:
            StorageError: BD_ERROR_DEVICE_ERROR, -4001.
        """
        if not self.users:
            raise StorageError(
                f"{self._type}: cannot {what} before init() (BD_ERROR_DEVICE_ERROR, {BD_ERROR_DEVICE_ERROR})",
                code=BD_ERROR_DEVICE_ERROR,
                hint="call init(), or mount a file system",
            )
