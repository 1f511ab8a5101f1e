"""What a board, its programmer and its application ask of a bootloader, whichever it is."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.update.layout import FlashLayout

Kind = Literal["fota", "mbed", "trial"]
"""fota: the 4.x clients' bootloader, header v3. mbed: mbed-bootloader, header v2. trial: pdmlab's own."""
KINDS: tuple[Kind, ...] = ("fota", "mbed", "trial")
DEFAULT: Kind = "fota"
ResetReason = Literal["power-on", "pin", "software"]
Print = Callable[[str], None]
"""Takes the console's text, lines that end in \\r\\n."""
SlotState = Literal["empty", "incomplete", "whole", "corrupt", "unreadable"]


def kind(name: str | None) -> Kind | None:
    """Return a bootloader's name, checked.

    Raises:
        ConfigError: there is no such bootloader.
    """
    if name is None:
        return None
    for known in KINDS:
        if name == known:
            return known
    raise ConfigError(f"there is no bootloader {str(name)[:40]!r}", hint=f"use one of {', '.join(KINDS)}")


class ImageHeader(Protocol):
    """What every firmware header says of its image, in whichever layout."""

    @property
    def size(self) -> int:
        """The image's size (B)."""
        ...

    @property
    def digest(self) -> bytes:
        """The image's SHA-256."""
        ...

    @property
    def version_number(self) -> int:
        """The 64-bit number that bootloaders compare."""
        ...

    @property
    def version_text(self) -> str:
        """The version as people read it: a.b.c, or a manifest's timestamp."""
        ...


@dataclass(frozen=True)
class HashRate:
    """How fast a microcontroller computes SHA-256 (B/s), and where the figure is from."""

    bytes_per_second: int
    source: str

    def cost(self, size: int) -> int:
        """Return the device time to hash size bytes (ns)."""
        return size * 1_000_000_000 // self.bytes_per_second


CORTEX_M4_SHA256 = HashRate(2_000_000, "unsourced: of the order of 60 cycles/B in software at 120 MHz")


@dataclass
class Hardware:
    """What a bootloader works on: one start's drivers over the board's media.

    flash     the whole internal flash, from its start on
    storage   the device that the candidate slot lies on (the flash itself, if it lies there)
    nvstore   where the root of trust and the versions allowed are kept
    retained  RAM that a soft reset leaves as it is; empty after a power-on. Values are whole numbers
    """

    layout: FlashLayout
    flash: BlockDevice
    storage: BlockDevice
    nvstore: NVStore
    retained: MutableMapping[str, int] = field(default_factory=dict)
    hash_rate: HashRate = CORTEX_M4_SHA256

    def sha256(self, pieces: Iterable[bytes]) -> bytes:
        """Return the SHA-256 of what an image is read in, which costs the device its time."""
        digest = hashlib.sha256()
        for piece in pieces:
            digest.update(piece)
            self.flash.clock.charge(self.hash_rate.cost(len(piece)))
        return digest.digest()

    @contextlib.contextmanager
    def storage_in_use(self) -> Iterator[None]:
        """Keep the update storage initialised meanwhile: the application that runs may never have opened it."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(StorageError):  # whoever reads it then hears why
                self.storage.init()
                stack.callback(self.storage.deinit)
            yield


@dataclass(frozen=True)
class BootResult:
    """What starts: the header of the active image.

    installed  whether this start put it there
    refused    why the candidate in the slot was not installed, or None if there was none to refuse
    trial      whether the image is on trial: unless the application confirms it, the next start reverts it
    reverted   whether this start put the old image back
    """

    active: ImageHeader
    installed: bool
    refused: str | None
    trial: bool = False
    reverted: bool = False

    def __str__(self) -> str:
        how = "put back" if self.reverted else "newly installed" if self.installed else "as before"
        on_trial = ", on trial" if self.trial else ""
        why = f"; candidate refused: {self.refused}" if self.refused else ""
        return f"boots {self.active.version_text} ({how}{on_trial}){why}"


@dataclass(frozen=True)
class Slot:
    """A place where an image lies, as found on the medium.

    medium: FLASHIAP, SD, SPIF or QSPIF; offset and size there (B). header: None if none can be read.
    detail: what is wrong with it, or what it waits for, in words.
    """

    name: str
    medium: str
    offset: int
    size: int
    state: SlotState
    header: ImageHeader | None = None
    detail: str = ""


class Bootloader(Protocol):
    """One start's bootloader, over the hardware that it was made for."""

    @property
    def kind(self) -> Kind:
        """Which one it is."""
        ...

    def boot(self, write: Print, reason: ResetReason = "power-on") -> BootResult:
        """Choose what starts, installing first if there is something better; write gets the console's text.

        Raises:
            BootFailed: nothing may start.
        """
        ...

    def active(self) -> ImageHeader | None:
        """Return the header of the active image if the image is whole, as the application asks for it too."""
        ...

    def slots(self) -> Sequence[Slot]:
        """Look at every place where an image lies, and say what is there."""
        ...

    def confirm(self) -> None:
        """Hear an application's word that it has come up: a trial has ended well, counted starts are forgotten."""
        ...


@runtime_checkable
class TrialStarts(Bootloader, Protocol):
    """What a bootloader that starts signed images only, each new one on trial, can be asked besides."""

    @property
    def image_key(self) -> bytes:
        """The public key that images must be signed by: its point on P-256, not compressed (65 B)."""
        ...

    def rejected(self, digest: bytes) -> str | None:
        """Say why the image of this SHA-256, which was installed, does not run any more; None if that is not so."""
        ...

    def allow_again(self, digest: bytes) -> None:
        """Let an image that was not confirmed have another trial: someone has asked for it anew."""
        ...
