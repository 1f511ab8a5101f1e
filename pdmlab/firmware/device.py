"""What an application sees of the board that it runs on."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NoReturn, Protocol, TypeAlias

from pdmlab.clock import DeviceClock

if TYPE_CHECKING:
    from pdmlab.firmware.image import ImageInfo
    from pdmlab.network.interface import NetworkInterface
    from pdmlab.storage.blockdevice import BlockDevice
    from pdmlab.storage.filesystem import FileSystem
    from pdmlab.storage.kv.nvstore import NVStore
    from pdmlab.update.bootloaders.interface import Bootloader
    from pdmlab.update.candidate import CandidateSlot
    from pdmlab.update.candidate_v2 import UpdateStorage
    from pdmlab.update.layout import FlashLayout

ResetReason = Literal["power-on", "pin", "software"]
"""Mbed's RESET_REASON_POWER_ON, _PIN_RESET and _SOFTWARE."""


class Uart(Protocol):
    """The serial line to the host, as the application uses it (115200 baud, 8N1)."""

    def write(self, text: str) -> None:
        r"""Print text as it is; the caller ends lines with \r\n, as a stock board does."""
        ...

    def readline(self, timeout_s: float | None = None) -> str | None:
        """Wait for a line from the host and return it without its end; None after timeout_s of device time.

        The host is outside the simulation: while it is waited for, a virtual clock keeps pace with the wall.
        """
        ...


class Device(Protocol):
    """A running board, from the inside."""

    @property
    def target(self) -> str:
        """Mbed's target name, such as K64F."""
        ...

    @property
    def simulated(self) -> bool:
        """Whether the board is virtual."""
        ...

    @property
    def clock(self) -> DeviceClock:
        """The board's clock."""
        ...

    @property
    def uart(self) -> Uart:
        """The serial line to the host."""
        ...

    @property
    def image(self) -> ImageInfo:
        """What the installed image says of itself, with the credentials compiled into it."""
        ...

    @property
    def network(self) -> NetworkInterface:
        """The default network interface; also NetworkInterface.get_default_instance()."""
        ...

    @property
    def block_device(self) -> BlockDevice:
        """The file systems' part of the storage part; also BlockDevice.get_default_instance()."""
        ...

    @property
    def block_device_name(self) -> str:
        """What the seed's case names call the storage part: SD, QSPIF, SPIF or FLASHIAP."""
        ...

    @property
    def flash(self) -> BlockDevice:
        """The whole internal flash; addresses count from the flash base."""
        ...

    @property
    def nvstore(self) -> NVStore:
        """The store in the last two flash sectors, where the root of trust lives."""
        ...

    @property
    def candidate(self) -> CandidateSlot | UpdateStorage:
        """Where a downloaded firmware waits for the bootloader."""
        ...

    @property
    def bootloader(self) -> Bootloader:
        """What has started this application, and will start the next."""
        ...

    @property
    def boot_log(self) -> str:
        """What the bootloader printed at this start."""
        ...

    @property
    def layout(self) -> FlashLayout:
        """Where what lies in flash."""
        ...

    @property
    def reset_reason(self) -> ResetReason:
        """Why the board last started."""
        ...

    def make_file_system(self, name: str = "fs") -> FileSystem:
        """Make, without mounting it, the file system that this board's configuration names."""
        ...

    def random_bytes(self, n: int) -> bytes:
        """Return n bytes of the board's TRNG (seeded on a virtual board)."""
        ...

    def reset(self) -> NoReturn:
        """Restart the board at once, as NVIC_SystemReset does; never returns."""
        ...


Application: TypeAlias = Callable[[Device], object]

current_device: contextvars.ContextVar[Device] = contextvars.ContextVar("current_device")
"""The board that the running device thread belongs to; set by whoever boots it."""
