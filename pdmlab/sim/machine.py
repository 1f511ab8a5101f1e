"""A running board: boots what the installed bytes name, and is the `Device` that the application sees."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from pdmlab.clock import DeviceClock, DeviceThread, power_domain
from pdmlab.errors import BootFailed, ImageRejected
from pdmlab.firmware import device as seen
from pdmlab.firmware.device import ResetReason
from pdmlab.firmware.image import ImageInfo, descriptor_size, read_image
from pdmlab.firmware.registry import find
from pdmlab.network import interface as network_interface
from pdmlab.sim import fault_handler
from pdmlab.storage import blockdevice
from pdmlab.update.bootloader import Bootloader, BootResult

if TYPE_CHECKING:
    from pdmlab.network.interface import NetworkInterface
    from pdmlab.sim.board import VirtualBoard
    from pdmlab.sim.media import BoardStorage
    from pdmlab.storage.blockdevice import BlockDevice
    from pdmlab.storage.filesystem import FileSystem
    from pdmlab.storage.nvstore import NVStore
    from pdmlab.update.candidate import CandidateSlot
    from pdmlab.update.layout import FlashLayout

IMAGE_HEAD = 0x210
"""Bytes of an image that say how long its descriptor is (B)."""


class Machine:
    """One start of a virtual board, from reset to the next; runs on the board's clock.

    It is the application's `Device`: see pdmlab/firmware/device.py for what each member means.
    """

    def __init__(self, board: VirtualBoard, storage: BoardStorage, reason: ResetReason) -> None:
        self._board = board
        self.storage = storage
        self.reset_reason: ResetReason = reason
        self.boot_result: BootResult | None = None
        self.image = ImageInfo("nothing", "0.0.0", "none")
        self.started_ns = board.clock.now()
        self.boot_steps: list[tuple[str, int, int]] = []
        self.thread: DeviceThread[object] | None = None
        self._random = random.Random(f"{board.seed} {board.boots}")

    def start(self) -> None:
        """Start executing from the reset vector; call it on the board's loop."""
        token = power_domain.set(self._board)
        self.thread = self._board.clock.spawn(self._main, name="main")
        power_domain.reset(token)

    def _main(self) -> object:
        seen.current_device.set(self)
        blockdevice.default_block_device.set(lambda: self.block_device)
        network_interface.default_interface.set(lambda: self.network)
        try:
            self._step("bootloader", self._boot)
            self._step("read the image's descriptor", self._read_image)
            application = find(self.image.application)
        except BootFailed as error:
            return self._stop(error)
        except ImageRejected as error:
            # What a processor does with bytes that are no program.
            self.uart.write(fault_handler.hard_fault(self.flash.read(self.layout.app_offset, 8)))
            return self._stop(error)
        try:
            result = application(self)
        except Exception as error:
            self.uart.write(
                fault_handler.error_info(
                    fault_handler.UNKNOWN_ERROR_STATUS,
                    f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                    location=self.layout.geometry.start + self.layout.app_offset,
                )
            )
            return self._stop(error)
        self._board.ended(self, result, None)
        return result

    def _step(self, name: str, work: Callable[[], object]) -> object:
        start = self.clock.now()
        try:
            return work()
        finally:
            self.boot_steps.append((name, start - self.started_ns, self.clock.now() - start))

    def _boot(self) -> None:
        self.boot_result = Bootloader(self.layout, self.flash, self.candidate).boot(self.uart.write)

    def _read_image(self) -> None:
        start = self.layout.app_offset
        size = descriptor_size(self.flash.read(start, IMAGE_HEAD))
        self.image = read_image(self.flash.read(start, size))

    def _stop(self, error: Exception) -> None:
        self._board.ended(self, None, error)

    # -- what the application sees ---------------------------------------------------------------------

    @property
    def target(self) -> str:
        return self._board.target

    @property
    def clock(self) -> DeviceClock:
        return self._board.clock

    @property
    def uart(self) -> seen.Uart:
        return self._board.uart

    @property
    def network(self) -> NetworkInterface:
        return self._board.network

    @property
    def block_device(self) -> BlockDevice:
        return self.storage.file_system_part

    @property
    def block_device_name(self) -> str:
        return self.storage.name

    @property
    def flash(self) -> BlockDevice:
        return self.storage.flash

    @property
    def nvstore(self) -> NVStore:
        return self.storage.nvstore

    @property
    def candidate(self) -> CandidateSlot:
        return self.storage.candidate

    @property
    def layout(self) -> FlashLayout:
        return self._board.layout

    def make_file_system(self, name: str = "fs") -> FileSystem:
        return self.storage.make_file_system(name)

    def random_bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def reset(self) -> NoReturn:
        self._board.restart_from_inside("software")
        raise AssertionError("a reset does not return")
