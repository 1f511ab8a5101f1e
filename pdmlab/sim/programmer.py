"""What a programmer does with a virtual board: build images, write them into its flash, read what is there."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pdmlab.client.download_protocol import DownloadProtocol
from pdmlab.client.transport import Transport
from pdmlab.errors import FlashFailed, ImageRejected, PdmlabError
from pdmlab.firmware.image import ImageInfo, build_image, descriptor_size, read_image
from pdmlab.sim.board_layout import move_sotp
from pdmlab.sim.compiled_in import bootloader_options, compiled_in
from pdmlab.sim.image_keys import ImageKeys
from pdmlab.sim.machine import IMAGE_HEAD
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.trial import key as trial_key
from pdmlab.update.candidate_form import OPTION, CandidateForm
from pdmlab.update.credentials import Credentials, UpdateResources
from pdmlab.update.der import sign_digest
from pdmlab.update.layout import FlashLayout
from pdmlab.update.version import Version

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from pdmlab.storage.medium import Medium

BOOTLOADER_SIZE = 8 * 1024
"""Size of the bytes that stand for a bootloader (B); a real one has at most 32 KiB."""


class Programmer:
    """The programmer of one board, at its flash; the board should have no power meanwhile."""

    def __init__(
        self,
        target: str,
        layout: FlashLayout,
        flash: Medium,
        transport: Transport | None = None,
        download_protocol: DownloadProtocol | None = None,
        keys: ImageKeys | None = None,
    ) -> None:
        """Program boards of that target; the protocols are those of its images' clients, else mbed_app.json's.

        keys: who signs, for a bootloader that starts signed images only.
        """
        self._keys = keys or ImageKeys(None)
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
        found = compiled_in(self._target, credentials)
        CandidateForm.of_image(found.options).require_whole_units(self._layout.candidate_unit)
        credentials = found.credentials
        update_resources = update_resources or found.update_resources
        info = ImageInfo(
            application,
            version,
            build,
            credentials=credentials.to_mapping() if credentials is not None else None,
            update_resources=update_resources.to_mapping() if update_resources is not None else None,
            transport=self._transport or found.transport,
            download_protocol=self._download_protocol or found.download_protocol,
            options=found.options,
        )
        return build_image(info, load_address=self._layout.address(self._layout.application))

    def build_blank(self) -> bytes:
        """Build what a board has on it when it leaves the factory."""
        return build_image(ImageInfo("idle"), load_address=self._layout.address(self._layout.application))

    def bootloader(self) -> ImageInfo:
        """Return what the bootloader's bytes say of themselves: its kind is the application's name.

        Raises:
            ImageRejected: they name no bootloader.
        """
        info = read_image(self._flash.peek(0, descriptor_size(self._flash.peek(0, IMAGE_HEAD))))
        if info.application not in bootloaders.KINDS:
            raise ImageRejected(f"{info.application!r} lies where the bootloader goes", hint="flash a bootloader")
        return info

    def options_for(self, kind: bootloaders.Kind, options: Mapping[str, object] | None = None) -> dict[str, object]:
        """Return what a bootloader is built with: the options, what mbed_app.json says, and the key that it may need.

        Raises:
            ConfigError: it has no such option.
        """
        chosen = {**bootloader_options(self._target, kind), **(options or {})}
        if kind == "trial":
            chosen.setdefault(trial_key.OPTION, trial_key.as_option(self._keys.present.public_key()))
        bootloaders.check_options(kind, chosen)
        return chosen

    def write_bootloader(self, kind: bootloaders.Kind, options: Mapping[str, object] | None = None) -> None:
        """Write a bootloader, and give the application that is there the header which that one reads.

        Raises:
            ConfigError: it has no such option.
            FlashFailed: it starts signed images only, and the key for it is not here.
        """
        chosen, installed, key = self.options_for(kind, options), self._installed_bytes(), None
        if kind == "trial":
            key = self._keys.of(trial_key.point_of(chosen))
            if key is None:
                raise FlashFailed(
                    "the bootloader is to start what is signed by a key that is not here",
                    hint="leave the key out: the present project's is compiled in, or the bench's own",
                )
        self._write_bootloader(kind, chosen)
        if installed is not None:
            self.write(installed, key)

    def move_from(self, before: FlashLayout) -> None:
        """Bring what a board of another layout has to where this one's has it: another mbed_app.json was built.

        The candidate is gone, and so is an application that does not fit any more.
        """
        old = Programmer(self._target, before, self._flash, keys=self._keys)
        installed = old._installed_bytes()
        move_sotp(self._flash, before, self._layout)
        area, header = self._layout.application, self._layout.header
        self._flash.poke(header.offset, b"\xff" * (area.end - header.offset))
        if installed is not None and len(installed) <= area.size:
            self.write(installed)

    def _write_bootloader(self, kind: bootloaders.Kind, options: Mapping[str, object]) -> None:
        info = ImageInfo(kind, options=options)
        image = build_image(info, size=BOOTLOADER_SIZE, load_address=self._layout.address(self._layout.bootloader))
        self._flash.poke(0, image)

    def flash_image(self) -> bytes:
        """Return the whole flash, from its start to its end."""
        return self._flash.peek(0, self._layout.geometry.size)

    def load_flash(self, data: bytes) -> None:
        """Write a whole flash; of another program's bootloader nothing is written, as the board could not run it.

        Raises:
            FlashFailed: it is not as long as the flash.
        """
        self.check_flash(data)
        start = 0 if names_bootloader(data) else self._layout.bootloader.end
        self._flash.poke(start, data[start:])

    def check_flash(self, data: bytes) -> None:
        """Refuse what is no image of the whole flash.

        Raises:
            FlashFailed: it is not as long as the flash, or no bytes.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise FlashFailed(
                f"{type(data).__name__} is no image of a flash",
                hint="give bytes: what flash_image() returns, or Path(file).read_bytes()",
            )
        if len(data) != self._layout.geometry.size:
            raise FlashFailed(
                f"an image of {len(data)} B is no image of a flash of {self._layout.geometry.size} B",
                hint="give what flash_image() or a programmer's read-out of the whole flash has",
            )

    def has_bootloader(self) -> bool:
        """Whether anything was ever flashed where the bootloader goes."""
        return self._flash.peek(0, 8) != b"\xff" * 8

    def _installed_bytes(self) -> bytes | None:
        if self.is_blank() or not self.has_bootloader():
            return None
        header = self._header()
        return None if header is None else self._flash.peek(self._layout.app_offset, header.size)

    def _header(self) -> bootloaders.ImageHeader | None:
        kind = bootloaders.kind(self.bootloader().application)
        assert kind is not None
        try:
            return bootloaders.header_of(kind, self._flash.peek(self._layout.header_offset, self._layout.header.size))
        except ImageRejected:
            return None

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

    def write(self, image: bytes, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        """Write an image and its header; whether the bytes name anything shows when the board boots.

        key: signs it, for a bootloader that starts signed images only; the present one if left out.

        Raises:
            FlashFailed: it does not fit.
        """
        self.check(image)
        try:
            info = read_image(image)
            version = Version.parse(info.version)
        except PdmlabError:
            info, version = ImageInfo("nothing"), Version.parse("0.0.0")
        kind = bootloaders.kind(self.bootloader().application)
        assert kind is not None
        if kind == "fota":
            self._agree_on_encryption(info)
        sign = None
        if kind == "trial":
            sign = functools.partial(sign_digest, key or self._present_key())
        # A programmer erases whole sectors: behind a short image nothing of a longer one is left in its last sector.
        end = self._layout.app_offset + len(image)
        behind = next(edge for edge in self._layout.geometry.bounds() if edge >= end)
        self._flash.poke(end, b"\xff" * (min(behind, self._layout.application.end) - end))
        for at, data in bootloaders.programmed(kind, self._layout, image, version, sign=sign):
            self._flash.poke(at, data)

    def sign(self, image: bytes) -> bytes:
        """Return the signature (r and s, 64 B) of an image by the key that is used here."""
        return sign_digest(self._keys.present, hashlib.sha256(image).digest())

    def _agree_on_encryption(self, image: ImageInfo) -> None:
        """Let the bootloader read candidates as the image's client writes them: a build has them both from one file."""
        if OPTION not in image.options:
            return
        options = dict(self.bootloader().options)
        encrypted = CandidateForm.of_image(image.options).encryption is not None
        if bool(options.get("encrypted")) != encrypted:
            self._write_bootloader("fota", {**options, "encrypted": encrypted})

    def _present_key(self) -> ec.EllipticCurvePrivateKey:
        """Return the key to sign by, and make it the one that the bootloader knows.

        A build writes bootloader and application together: the bootloader knows the key that the build has.
        """
        key = self._keys.present
        wanted = trial_key.as_option(key.public_key())
        if self.bootloader().options.get(trial_key.OPTION) != wanted:
            self._write_bootloader("trial", {trial_key.OPTION: wanted})
        return key

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


def names_bootloader(data: bytes) -> bool:
    """Whether a flash begins with one of the bootloaders that a virtual board runs."""
    try:
        return read_image(data[: descriptor_size(data[:IMAGE_HEAD])]).application in bootloaders.KINDS
    except ImageRejected:
        return False
