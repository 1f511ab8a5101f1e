"""Firmware packages as OMA's firmware object takes them, of several kinds: each is known by its first bytes.

    firmware = open_package(package, (HeadedImage(), BareImage(names)))
    for piece in firmware.image(): ...

A package lies on a medium while it is looked at, and is never held in RAM as a whole. Further kinds are classes with
the same two methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pdmlab.errors import ConfigError, ImageRejected, UpdateError
from pdmlab.update import signed_version
from pdmlab.update.header import FIRMWARE_MAGIC, FLAG_ENCRYPTED, MAX_HEADER_SIZE, FirmwareHeader
from pdmlab.update.object5 import Result
from pdmlab.update.version import Version

CHUNK = 16 * 1024  # B
HEADER_START = FIRMWARE_MAGIC.to_bytes(4, "little")
"""How an image behind its firmware header begins."""


class PackageRejected(UpdateError):
    """A package cannot be used; `result` is what the device reports on /5/0/5."""

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(reason, hint=result.advice)
        self.result = result


class Package(Protocol):
    """The bytes of a package, where they lie."""

    @property
    def size(self) -> int:
        """Its size (B)."""
        ...

    def read(self, position: int, size: int) -> bytes:
        """Return bytes from a position on; fewer at the end."""
        ...


@dataclass(frozen=True)
class Firmware:
    """What a package brings: an image of `size` B and its SHA-256; `image` reads it piece by piece.

    name, version  as /5/0/6 and /5/0/7 show them
    signature      r and s over the digest (64 B), for bootloaders that check one; empty without
    """

    name: str
    version: Version
    size: int
    digest: bytes
    image: Callable[[], Iterator[bytes]] = field(repr=False, compare=False)
    signature: bytes = b""


class PackageKind(Protocol):
    """One kind of package."""

    def is_mine(self, package: Package) -> bool:
        """Whether a package is of this kind, by its first bytes."""
        ...

    def open(self, package: Package) -> Firmware:
        """Return what a package brings, with all checked that can be checked before it is installed.

        Raises:
            PackageRejected: it is damaged, or not for this device.
        """
        ...


def open_package(package: Package, kinds: Sequence[PackageKind]) -> Firmware:
    """Return what a package brings.

    Raises:
        PackageRejected: it is of none of these kinds (6), or as its kind has it.
    """
    for kind in kinds:
        if kind.is_mine(package):
            return kind.open(package)
    raise PackageRejected(Result.PACKAGE_TYPE, f"a package of {package.size} B that begins with {_start(package)}")


class HeadedImage:
    """An image behind its firmware header v3, which says version, size and SHA-256, and may have its signature."""

    def is_mine(self, package: Package) -> bool:
        """See PackageKind."""
        return package.read(0, len(HEADER_START)) == HEADER_START

    def open(self, package: Package) -> Firmware:
        """See PackageKind."""
        try:
            header = FirmwareHeader.parse(package.read(0, min(MAX_HEADER_SIZE, package.size)))
        except ImageRejected as error:
            raise PackageRejected(Result.INTEGRITY, error.message) from error
        if header.flags & FLAG_ENCRYPTED or header.wrapped_key is not None:
            raise PackageRejected(Result.PACKAGE_TYPE, "the package's image is encrypted")
        if header.length + header.size != package.size:
            raise PackageRejected(
                Result.INTEGRITY,
                f"the package has {package.size} B, its header speaks of {header.length} and {header.size}",
            )
        image = pieces(package, header.length)
        found = _digest(image)
        if found != header.digest:
            raise PackageRejected(
                Result.INTEGRITY, f"the image's SHA-256 is {found.hex()}, its header's {header.digest.hex()}"
            )
        return Firmware("MAIN", header.version, header.size, header.digest, image, header.signature)


class BareImage:
    """An image and nothing else, which names itself; `names` returns its name and version, None if it has none.

    Whether all of it has come nobody can tell who does not know its digest.
    """

    def __init__(self, names: Callable[[Package], tuple[str, str] | None]) -> None:
        self._names = names

    def is_mine(self, package: Package) -> bool:
        """See PackageKind."""
        return self._names(package) is not None

    def open(self, package: Package) -> Firmware:
        """See PackageKind."""
        name, text = self._names(package) or ("", "")
        try:
            version = Version.parse(text)
        except ConfigError as error:
            raise PackageRejected(Result.PACKAGE_TYPE, f"the image {name}: {error.message}") from error
        image = pieces(package, 0)
        return Firmware(name, version, package.size, _digest(image), image)


def pack_image(image: bytes, version: str, *, sign: Callable[[bytes], bytes] | None = None) -> bytes:
    """Return the package of an image: its header v3, then the image; sign: of its SHA-256, r and s (64 B).

    Raises:
        ConfigError: the version is none, or the image is empty; what is to be signed says another version by itself.
    """
    own = signed_version.version_in(image)
    if sign is not None and own is not None and str(own) != version:
        raise ConfigError(f"the image is signed as {own}, it cannot be packed as {version}", hint=f"pack it as {own}")
    digest = hashlib.sha256(image).digest()
    signature = b"" if sign is None else sign(digest)
    return FirmwareHeader(len(image), Version.parse(version), digest, signature=signature).pack() + image


def pieces(package: Package, start: int) -> Callable[[], Iterator[bytes]]:
    """Return what reads a package from a position on, piece by piece."""
    return lambda: (package.read(at, min(CHUNK, package.size - at)) for at in range(start, package.size, CHUNK))


def _digest(image: Callable[[], Iterator[bytes]]) -> bytes:
    digest = hashlib.sha256()
    for piece in image():
        digest.update(piece)
    return digest.digest()


def _start(package: Package) -> str:
    return package.read(0, min(8, package.size)).hex(" ") or "nothing"
