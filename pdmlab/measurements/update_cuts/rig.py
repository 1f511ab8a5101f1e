"""A board's update in memory: its drivers, candidate slot and bootloader over traced media; no application runs.

rig = UpdateRig(setup("K64F-SD"), "trial")
rig.take("download")
rig.take("boot")
rig.running           # "2.0.0", on trial
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import BootFailed, StorageError
from pdmlab.measurements.update_cuts.drivers import DRIVERS, QuickStore, Untimed, UntimedFlash
from pdmlab.measurements.update_cuts.filling import counter, fill_with_live, fill_with_old
from pdmlab.measurements.update_cuts.media import Trace, TracedMedium
from pdmlab.measurements.update_cuts.mishaps import MISHAPS, pull_card
from pdmlab.measurements.update_cuts.reader import Found, read_active, signed_by
from pdmlab.measurements.update_cuts.setups import IMAGE_B, UpdateSetup
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.storage.kv.sotp import SotpType
from pdmlab.update import bootloaders, signed_version
from pdmlab.update.bootloaders.interface import Bootloader, Hardware, Kind, ResetReason, TrialStarts
from pdmlab.update.bootloaders.trial import key as trial_key
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.candidate_v2 import StorageLocation, UpdateStorage
from pdmlab.update.der import sign_digest
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.header_v2 import FirmwareHeaderV2
from pdmlab.update.layout import INTERNAL
from pdmlab.update.manifest import Manifest
from pdmlab.update.version import Version

OLDER, OLD, NEW, NEWER = "0.9.0", "1.0.0", "2.0.0", "3.0.0"
FORGED = "999.999.999"
"""The version that a header claims for the old release 0.9.0, whose own signature is genuine."""
NOTHING = "nothing"
BLOCK = 1024
"""What one block of a download carries (B), as with Block2 of 1024."""
ROOT_OF_TRUST = bytes(range(0x40, 0x50))
_HIGHEST = Version.parse(NEWER).number
Build = Callable[[Hardware, Mapping[str, Any]], Bootloader]
"""Makes a bootloader for one start, from its options."""


@cache
def project_key() -> ec.EllipticCurvePrivateKey:
    """Return the key that the rig's images are signed by; nothing is secret about it."""
    return ec.derive_private_key(0x7D6F_5E4D_3C2B, ec.SECP256R1())


@cache
def _is_signed(found: Found) -> bool:
    return signed_by(found, project_key().public_key())


@cache
def image_of(version: str, size: int) -> bytes:
    """Return an image of a version: bytes that have nothing in common with another version's, and say which it is."""
    image = bytearray(hashlib.shake_256(f"update rig {version}".encode()).digest(size))
    image[signed_version.OFFSET : signed_version.END] = signed_version.pack(Version.parse(version))
    return bytes(image)


class UpdateRig:
    """One board's media, and what runs on it.

    options, build: of the bootloader; build makes another one than `kind` names, over its media and headers.
    running: the version that runs, or "nothing". trial: whether it runs on trial. said: what the last start printed.
    confirmed, offered: the versions that were confirmed and downloaded last.
    nvstore: the board's store, as the last start has opened it. fill_nvstore: it is full of old records. room: it is
    full of an application's live records, up to so many bytes (a multiple of 8) after each collection.
    """

    def __init__(
        self,
        setup: UpdateSetup,
        kind: Kind,
        *,
        image_B: int = IMAGE_B,
        options: Mapping[str, Any] | None = None,
        build: Build | None = None,
        fill_nvstore: bool = False,
        room: int | None = None,
    ) -> None:
        self.setup, self.kind, self.layout = setup, kind, setup.layout
        self.options = dict(options or {})
        if kind == "trial":
            self.options.setdefault(trial_key.OPTION, trial_key.as_option(project_key().public_key()))
        self._build: Build = build or (lambda hardware, given: bootloaders.build(kind, hardware, given))
        self.image_B = image_B
        self.images = {version: image_of(version, image_B) for version in (OLDER, OLD, NEW, NEWER)}
        self._named = {hashlib.sha256(image).digest(): version for version, image in self.images.items()}
        self.trace = Trace()
        self.retained: dict[str, int] = {}
        self.running, self.trial, self.said = OLD, False, ""
        self.confirmed = self.offered = OLD
        self.room = room
        self._set_up(fill_nvstore)

    def _set_up(self, fill_nvstore: bool) -> None:
        geometry, setup = self.layout.geometry, self.setup
        self.flash = TracedMedium(geometry.size, trace=self.trace, name="flash", program=geometry.program_size)
        clock = Untimed()
        self.flash_device = UntimedFlash(
            self.flash,
            clock=clock,
            part=setup.flash_part,
            sectors=geometry.sectors,
            program_size=geometry.program_size,
        )
        self.storage = self.flash
        self.storage_device: BlockDevice = self.flash_device
        if setup.storage != INTERNAL:
            card = setup.storage == "SD"
            self.storage = TracedMedium(
                setup.storage_size, trace=self.trace, name=setup.storage, program=512 if card else 1, card=card
            )
            driver = DRIVERS[setup.storage]
            self.storage_device = driver(self.storage, clock=clock, part=setup.storage_part, timing="maximum")
        self.nvstore = nvstore = self._open_nvstore()
        nvstore.set_once(SotpType.ROT, ROOT_OF_TRUST)
        if fill_nvstore:
            fill_with_old(nvstore, self.layout.sotp[0].size)
        for at, data in bootloaders.programmed(
            self.kind, self.layout, self.images[OLD], Version.parse(OLD), sign=self.signature
        ):
            self.flash.poke(at, data)
        self.trace.pull = lambda: pull_card(self)
        self.take("boot")
        if self.room is not None:
            fill_with_live(self._open_nvstore(), self.room)
        self.trace.take()

    # -- what it is made of ----------------------------------------------------------------------------

    def _open_nvstore(self) -> NVStore:
        return QuickStore(self.flash_device, [(area.offset, area.size) for area in self.layout.sotp])

    @property
    def hardware(self) -> Hardware:
        """What a bootloader works on, at one start."""
        return Hardware(self.layout, self.flash_device, self.storage_device, self.nvstore, self.retained)

    @property
    def media(self) -> list[TracedMedium]:
        """The flash, and the storage if it is another part."""
        return [self.flash] if self.storage is self.flash else [self.flash, self.storage]

    def bootloader(self) -> Bootloader:
        """Make the bootloader of one start."""
        return self._build(self.hardware, self.options)

    def signature(self, digest: bytes) -> bytes:
        """Sign an image by its SHA-256."""
        return sign_digest(project_key(), digest)

    def found(self) -> Found | None:
        """Look into the flash with the second reader."""
        start, app = self.layout.header_offset, self.layout.app_offset
        area = self.flash.peek(start, app + self.image_B - start)
        return read_active(area, 0, app - start, signed=self.kind == "trial")

    # -- steps -----------------------------------------------------------------------------------------

    def take(self, step: str) -> str:
        """Take a step, and say what came of it.

        Raises:
            PowerLost: the trace's cut was in it. ConfigError: there is no such step here. StorageError: the medium.
        """
        return STEPS[step](self)

    def start(self, reason: ResetReason = "power-on") -> str:
        """Start the board."""
        self.running, self.trial, self.said = NOTHING, False, ""
        if reason == "power-on":
            self.retained.clear()
        self.nvstore = self._open_nvstore()
        self._power_up_storage()
        try:
            result = self.bootloader().boot(self._print, reason)
        except BootFailed as error:
            return error.message
        finally:
            self.trace.said = ""
        self.running, self.trial = self.name_of(result.active.digest), result.trial
        return str(result)

    def _print(self, text: str) -> None:
        self.said += text
        self.trace.said = text.strip()

    def _power_up_storage(self) -> None:
        if self.storage is self.flash:
            return
        self.storage_device.deinit()
        if self.storage.seated:
            self.storage_device.init()

    def _download(self, version: str = NEW, *, signed: bool = True, claimed: str | None = None) -> str:
        """Download a version; claimed: what its header says instead, though the image's signature is genuine."""
        if self.running == NOTHING:
            return "nothing runs that could download"
        if self.running == version:
            return f"{version} runs already"
        self._power_up_storage()
        image, digest = self.images[version], hashlib.sha256(self.images[version]).digest()
        bootloader = self.bootloader()
        if isinstance(bootloader, TrialStarts):
            bootloader.allow_again(digest)  # as the client does, for a manifest that was sent anew
        slot = bootloaders.candidate_slot(self.kind, self.hardware)
        start = 0
        location: CandidateSlot | StorageLocation
        if isinstance(slot, UpdateStorage):
            location = slot.location("")
            location.begin(
                FirmwareHeaderV2(len(image), bootloaders.timestamp_of(Version.parse(claimed or version)), digest)
            )
        else:
            location = slot
            start = self._resume(slot, claimed or version, digest, signed=signed and self.kind == "trial")
        for at in range(start, len(image), BLOCK):
            location.write(at, image[at : at + BLOCK])
        location.finish()
        if claimed is None:
            self.offered = version
        return f"whole, from {start} B on" if start else "whole"

    def _resume(self, slot: CandidateSlot, version: str, digest: bytes, *, signed: bool) -> int:
        manifest = Manifest(
            bytes(16), bytes(16), version, digest, self.image_B, "/fw", installed_signature=self.signature(digest)
        )
        running = hashlib.sha256(self.images.get(self.running, b"")).digest()
        return slot.resume(manifest, precursor=running, signed=signed)

    def _confirm(self) -> str:
        if self.running == NOTHING:
            return "nothing runs that could confirm"
        try:
            self.bootloader().confirm()
        except StorageError as error:
            return f"{self.running} cannot be confirmed: {error.message}"
        if not self.trial:
            return "there is nothing to confirm"
        self.trial, self.confirmed = False, self.running
        return f"{self.running} is confirmed"

    # -- looking at it -----------------------------------------------------------------------------------

    def name_of(self, digest: bytes) -> str:
        """Return the version of the image that has this SHA-256."""
        return self._named.get(digest, "unknown")

    def candidate(self) -> str:
        """Return the version that lies whole in the candidate slot, or none."""
        slot = bootloaders.candidate_slot(self.kind, self.hardware)
        try:
            if isinstance(slot, UpdateStorage):
                header = slot.location("").header()
                return self.name_of(header.digest) if header is not None else "none"
            ready = slot.read()
        except StorageError:
            return "none"
        return self.name_of(ready.header.digest) if ready is not None else "none"

    def candidate_at(self) -> tuple[int, int]:
        """Return where on its medium a candidate's image lies: offset and size (B)."""
        slot = bootloaders.candidate_slot(self.kind, self.hardware)
        digest = hashlib.sha256(self.images[NEW]).digest()
        if isinstance(slot, UpdateStorage):
            region = slot.location("").image_region(FirmwareHeaderV2(self.image_B, 0, digest))
        else:
            signature = self.signature(digest) if self.kind == "trial" else b""
            region = slot.image_region(FirmwareHeader(self.image_B, Version.parse(NEW), digest, signature=signature))
        return region.offset, self.image_B

    def fault(self) -> str:
        """Say what is wrong with the board as it runs now; nothing if all is well.

        What runs must be a whole image, and signed where the bootloader checks that; the identity must be there.
        """
        if self.running != NOTHING:
            found = self.found()
            if found is None or not found.whole or found.digest not in self._named:
                return "an image was started that is not whole"
            if self.kind == "trial" and not _is_signed(found):
                return "an image was started that nobody has signed"
            if self.kind == "trial" and found.number != found.own:
                return "an image was started whose header says another version than was signed"
        try:
            identity = self._open_nvstore().get(SotpType.ROT)
        except StorageError as error:
            return f"the identity is lost: {error.message}"
        if identity != ROOT_OF_TRUST:
            return "the identity is another one"
        spoiled = self.kind == "trial" and counter(self._open_nvstore()) > _HIGHEST
        return "the counter is beyond every version that was signed" if spoiled else ""


STEPS: dict[str, Callable[[UpdateRig], str]] = {
    "download": lambda rig: rig._download(),
    "download-newer": lambda rig: rig._download(NEWER),
    "download-older": lambda rig: rig._download(OLDER),
    "download-forged": lambda rig: rig._download(OLDER, claimed=FORGED),
    "download-unsigned": lambda rig: rig._download(signed=False),
    "boot": lambda rig: rig.start(),
    "reset": lambda rig: rig.start("software"),
    "confirm": UpdateRig._confirm,
    **MISHAPS,
}
"""What a story is made of; the module power_cuts says what each does."""
