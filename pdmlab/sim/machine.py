"""A running board: boots what the installed bytes name, and is the `Device` that the application sees."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from pdmlab.client.platform import current_platform
from pdmlab.clock import DeviceClock, DeviceThread, PowerLost
from pdmlab.errors import BootFailed, ImageRejected, StorageError
from pdmlab.firmware import device as seen
from pdmlab.firmware.device import ResetReason
from pdmlab.firmware.image import ImageInfo, descriptor_size, read_image
from pdmlab.network import interface as network_interface
from pdmlab.sim import fault_handler
from pdmlab.storage import blockdevice
from pdmlab.storage.kv import paths
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import Hardware

if TYPE_CHECKING:
    from pdmlab.network.interface import NetworkInterface
    from pdmlab.sim.board import VirtualBoard
    from pdmlab.sim.media import BoardStorage
    from pdmlab.sim.runs import Runs
    from pdmlab.storage.blockdevice import BlockDevice
    from pdmlab.storage.filesystem import FileSystem
    from pdmlab.storage.kv.nvstore import NVStore
    from pdmlab.update.bootloaders import Bootloader, BootResult, CandidatePlace
    from pdmlab.update.layout import FlashLayout
    from pdmlab.update.packages import Package

IMAGE_HEAD = 0x210
"""Bytes of an image that say how long its descriptor is (B)."""


class BootStep(NamedTuple):
    """A step of a start: when it began after the reset, and how long it took (ns, device clock)."""

    name: str
    start_ns: int
    duration_ns: int


class Machine:
    """One start of a virtual board, from reset to the next; runs on the board's clock.

    It is the application's `Device`: see pdmlab/firmware/device.py for what each member means.
    """

    def __init__(
        self, board: VirtualBoard, storage: BoardStorage, reason: ResetReason, runs: Runs, retained: dict[str, int]
    ) -> None:
        self._board = board
        self._runs = runs
        self.storage = storage
        self.reset_reason: ResetReason = reason
        hardware = Hardware(board.layout, storage.flash, storage.candidate_device, storage.nvstore, retained)
        compiled = board.bootloader_image()
        kind = bootloaders.kind(compiled.application) or bootloaders.DEFAULT
        self.bootloader: Bootloader = bootloaders.build(kind, hardware, compiled.options)
        self.candidate: CandidatePlace = bootloaders.candidate_slot(kind, hardware)
        self.boot_result: BootResult | None = None
        self.boot_log = ""
        self.image = ImageInfo("nothing", "0.0.0", "none")
        self.started_ns = board.clock.now()
        self.boot_steps: list[BootStep] = []
        self.thread: DeviceThread[object] | None = None
        self._random = random.Random(f"{board.seed} {board.id} {board.boots}")

    def start(self) -> None:
        """Start executing from the reset vector; call it on the board's loop."""
        self.thread = self._board.clock.spawn(self._main, name="main")

    def _main(self) -> None:
        seen.current_device.set(self)
        current_platform.set(self)
        blockdevice.default_block_device.set(lambda: self.block_device)
        paths.kv_map.set(paths.KVMap())
        network_interface.default_interface.set(lambda: self.network)
        try:
            with self._step("bootloader sets up the update storage"), contextlib.suppress(StorageError):
                self.storage.device.init()  # without it the bootloader says that it has no update storage
            with self._step("bootloader checks what may start, and starts it"):
                self.boot_result = self.bootloader.boot(self._say, self.reset_reason)
            self.storage.device.deinit()
            with self._step("the image says what it is"):
                self.image = self._read_image()
        except BootFailed as error:
            self._runs.ended(self, None, error)
            return
        except ImageRejected as error:
            # What a processor does with bytes that are no program.
            self.uart.write(fault_handler.hard_fault(self.flash.read(self.layout.app_offset, 8)))
            self._runs.ended(self, None, error)
            return
        self._run_application()

    def _say(self, text: str) -> None:
        self.boot_log += text
        self.uart.write(text)

    def _run_application(self) -> None:
        try:
            result = self._runs.find(self.image.application)(self)
        except PowerLost:
            raise
        except BaseException as error:
            self.uart.write(
                fault_handler.error_info(
                    fault_handler.UNKNOWN_ERROR_STATUS,
                    " ".join(f"{type(error).__name__}: {error}".splitlines()[:1]),
                    location=self.layout.geometry.start + self.layout.app_offset,
                )
            )
            self._runs.ended(self, None, error)
        else:
            self._runs.ended(self, result, None)

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[None]:
        start = self.clock.now()
        try:
            yield
        finally:
            self.boot_steps.append(BootStep(name, start - self.started_ns, self.clock.now() - start))

    def _read_image(self) -> ImageInfo:
        start = self.layout.app_offset
        size = descriptor_size(self.flash.read(start, IMAGE_HEAD))
        return read_image(self.flash.read(start, size))

    # -- what the application sees ---------------------------------------------------------------------

    @property
    def target(self) -> str:
        return self._board.target

    @property
    def simulated(self) -> bool:
        return self._board.simulated

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
    def layout(self) -> FlashLayout:
        return self._board.layout

    def make_file_system(self, name: str = "fs") -> FileSystem:
        return self.storage.make_file_system(name)

    def names_of(self, package: Package) -> tuple[str, str] | None:
        """Return the application and the version that an image names; None if the bytes name none."""
        try:
            found = read_image(package.read(0, descriptor_size(package.read(0, IMAGE_HEAD))))
        except ImageRejected:
            return None
        return found.application, found.version

    def random_bytes(self, n: int) -> bytes:
        return self._random.randbytes(n)

    def reset(self) -> NoReturn:
        self._board.restart_from_inside()
        raise AssertionError("a reset does not return")
