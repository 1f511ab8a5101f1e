"""What a programmer does with a virtual board: build images, write them into its flash, read what is there."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pdmlab.client.download_protocol import DownloadProtocol
from pdmlab.client.transport import Transport
from pdmlab.errors import FlashFailed, ImageRejected, PdmlabError
from pdmlab.firmware.image import ImageInfo, build_image, descriptor_size, read_image
from pdmlab.sim.compiled_in import compiled_in
from pdmlab.sim.machine import IMAGE_HEAD
from pdmlab.update.credentials import Credentials, UpdateResources
from pdmlab.update.header import HEADER_SIZE, FirmwareHeader
from pdmlab.update.layout import FlashLayout
from pdmlab.update.version import Version

if TYPE_CHECKING:
    from pdmlab.storage.medium import Medium


class Programmer:
    """The programmer of one board, at its flash; the board should have no power meanwhile."""

    def __init__(
        self,
        target: str,
        layout: FlashLayout,
        flash: Medium,
        transport: Transport | None = None,
        download_protocol: DownloadProtocol | None = None,
    ) -> None:
        """Program boards of that target; the protocols are those of its images' clients, else mbed_app.json's."""
        self._target = target
        self._transport, self._download_protocol = transport, download_protocol
        self._layout = layout
        self._flash = flash

    def build(
        self,
        application: str,
        *,
        version: str = "1.0.0",
        build: str = "0",
        credentials: Credentials | None = None,
        update_resources: UpdateResources | None = None,
    ) -> bytes:
        """Build an image for this board; credentials default to what the project compiles in."""
        found = compiled_in(self._target)
        credentials = credentials or found.credentials
        update_resources = update_resources or found.update_resources
        info = ImageInfo(
            application,
            version,
            build,
            credentials=credentials.to_mapping() if credentials is not None else None,
            update_resources=update_resources.to_mapping() if update_resources is not None else None,
            transport=self._transport or found.transport,
            download_protocol=self._download_protocol or found.download_protocol,
        )
        return build_image(info, load_address=self._layout.address(self._layout.application))

    def build_blank(self) -> bytes:
        """Build what a board has on it when it leaves the factory."""
        return build_image(ImageInfo("idle"), load_address=self._layout.address(self._layout.application))

    def check(self, image: bytes) -> None:
        """Refuse what cannot be written.

        Raises:
            FlashFailed: the image is empty, or does not fit.
        """
        area = self._layout.application
        if not image:
            raise FlashFailed("the image is empty", hint="give the .bin of a build")
        if len(image) > area.size:
            raise FlashFailed(
                f"the image of {len(image)} B does not fit {area} ({area.size} B)", hint="build a smaller one"
            )

    def write(self, image: bytes) -> None:
        """Write an image and its header; whether the bytes name anything shows when the board boots."""
        self.check(image)
        try:
            version = Version.parse(read_image(image).version)
        except PdmlabError:
            version = Version.parse("0.0.0")
        header = FirmwareHeader(len(image), version, hashlib.sha256(image).digest())
        self._flash.poke(self._layout.header_offset, header.pack().ljust(HEADER_SIZE, b"\xff"))
        self._flash.poke(self._layout.application.offset, image)

    def installed(self) -> ImageInfo | None:
        """Return what the installed image says of itself; None if its bytes name nothing."""
        start = self._layout.app_offset
        try:
            return read_image(self._flash.peek(start, descriptor_size(self._flash.peek(start, IMAGE_HEAD))))
        except ImageRejected:
            return None

    def is_blank(self) -> bool:
        """Whether nothing was ever flashed where the application goes."""
        return self._flash.peek(self._layout.app_offset, 8) == b"\xff" * 8
