"""What a programmer does with a virtual board: bootloader, image, whole flash; each ends with a start."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from pdmlab.boards.board import read_image_file
from pdmlab.errors import FlashFailed
from pdmlab.firmware import registry
from pdmlab.firmware.image import ImageInfo
from pdmlab.sim.power import Power
from pdmlab.sim.programmer import Programmer
from pdmlab.update import bootloaders

if TYPE_CHECKING:
    from pdmlab.update.credentials import Credentials, UpdateResources


class ProgrammedBoard(ABC):
    """A board that is programmed; whoever is one has the programmer and the power."""

    _programmer: Programmer
    _power: Power

    @abstractmethod
    def require_open(self) -> None:
        """Raise BoardError if the board was closed."""

    @abstractmethod
    def power_on(self) -> None:
        """Supply the board: it boots what is installed."""

    def installed(self) -> ImageInfo | None:
        """Return what the installed image says of itself; None if its bytes name nothing."""
        self.require_open()
        return self._programmer.installed()

    @property
    def bootloader(self) -> str:
        """The kind of its bootloader: fota, mbed or trial."""
        return self.bootloader_image().application

    def bootloader_image(self) -> ImageInfo:
        """Return what the bootloader in flash says of itself: its kind is the application's name.

        Raises:
            ImageRejected: the bytes there name none.
        """
        self.require_open()
        return self._programmer.bootloader()

    def sign_image(self, image: bytes) -> bytes:
        """Return the signature (r and s, 64 B) that this board's programmer gives an image.

        It is made with the project's update key, or with the bench's own where there is no project; the bootloader
        `trial` starts nothing else.
        """
        self.require_open()
        return self._programmer.sign(image)

    def flash_bootloader(self, kind: bootloaders.Kind, **options: object) -> None:
        """Write a bootloader, give the application its kind of header, and restart.

        options: what it is built with; each bootloader says which it has.

        Raises:
            ConfigError: there is no such bootloader, or it has no such option.
            FlashFailed: it starts signed images only, and the key for it is not here.
        """
        self.require_open()
        known = bootloaders.kind(str(kind))
        assert known is not None, "it is None for None alone"
        chosen = self._programmer.options_for(known, options)
        self._power.cut(None)
        self._programmer.write_bootloader(known, chosen)
        self.power_on()

    def flash(self, image: bytes | Path | str, *, power: bool = True) -> None:
        """Write an application image with its header, as a programmer does, and restart; SOTP stays untouched.

        The bytes are written as they are: whether they name anything shows when the board boots.
        power: whether it boots then, or stays off.

        Raises:
            FlashFailed: the file cannot be read, or the image does not fit.
        """
        self.require_open()
        data = image if isinstance(image, bytes) else _read(image)
        self._programmer.check(data)
        self._power.cut(None)
        self._programmer.write(data)
        if power:
            self.power_on()

    def flash_image(self) -> bytes:
        """Return the whole internal flash as a programmer reads it out; the board may run meanwhile.

        Bootloader, header, application, SOTP sections, and the candidate if it lies there: secrets are among it.
        """
        self.require_open()
        return self._programmer.flash_image()

    def load_flash(self, data: bytes) -> None:
        """Write a whole internal flash, such as a real board's read-out, and restart.

        A bootloader in it that no virtual board runs is left out: the board keeps its own, which reads what lies there.

        Raises:
            FlashFailed: it is not as long as the flash, or no bytes; the board runs on.
        """
        self.require_open()
        self._programmer.check_flash(data)
        self._power.cut(None)
        self._programmer.load_flash(data)
        self.power_on()

    def flash_application(
        self,
        name: str,
        *,
        version: str = "1.0.0",
        build: str = "0",
        credentials: Credentials | None = None,
        update_resources: UpdateResources | None = None,
        power: bool = True,
    ) -> None:
        """Build an image of an application with its compiled-in credentials, flash it, and restart with power."""
        registry.find(name)
        image = self.build(
            name, version=version, build=build, credentials=credentials, update_resources=update_resources
        )
        self.flash(image, power=power)

    def build(
        self,
        application: str,
        *,
        version: str = "1.0.0",
        build: str = "0",
        credentials: Credentials | None = None,
        update_resources: UpdateResources | None = None,
    ) -> bytes:
        """Build an image for this board without flashing it; credentials default to what the project compiles in."""
        self.require_open()
        return self._programmer.build(
            application, version=version, build=build, credentials=credentials, update_resources=update_resources
        )


_HEX_RECORD = re.compile(rb":(?:[0-9A-Fa-f]{2}){5,}\s*")


def _read(image: Path | str) -> bytes:
    try:
        data = read_image_file(image)
    except FlashFailed as error:
        if str(image) in registry.APPLICATIONS:
            raise FlashFailed(
                error.message, hint=f"board.flash_application({str(image)!r}) builds an image of it and flashes that"
            ) from error
        raise
    if _HEX_RECORD.fullmatch(data.partition(b"\n")[0]):
        raise FlashFailed(
            f"{image} is Intel HEX, and a virtual board's programmer takes bytes",
            hint="arm-none-eabi-objcopy -I ihex -O binary FILE.hex FILE.bin makes them of it",
        )
    return data
