"""Combined packages: several images in one payload, installed together or not at all.

    package = make_package([SubImage("radio", radio, b"rev 2"), SubImage("screen", screen)])
    parts = Package.read(reader, size, names=["radio", "screen"])

A tar file without compression: the file `_desc_` says which images there are (`pdmlab.update.payloads.descriptor`),
and each image is a file of its sub-component's name. The stock client unpacks it with the program tar. This reader
takes nothing but files: no links, folders or devices, no names from pax headers, no file that is not described.
"""

from __future__ import annotations

import html
import io
import re
import tarfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from pdmlab.errors import ConfigError
from pdmlab.update.payloads.descriptor import MAX_IMAGES, MAX_NAME, MAX_VENDOR_DATA, Described, decode, encode
from pdmlab.update.results import FotaResult, rejected

DESCRIPTOR = "_desc_"
MAX_DESCRIPTOR = 32 * 1024

_BLOCK = 512
_MAX_PAX = 4096  # bytes of a pax header: manifest-package-tool writes one with each file's time
_NAME = re.compile(r"[0-9A-Za-z_.-]{1,8}")
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_MALFORMED = FotaResult.COMBINED_PACKAGE

Read = Callable[[int, int], bytes]
"""Reads the package: position and size (B) to bytes."""


@dataclass(frozen=True)
class SubImage:
    """One image to put into a package: its sub-component, its bytes, and what its installer is to be told."""

    name: str
    data: bytes = field(repr=False)
    vendor_data: bytes = b""


@dataclass(frozen=True)
class PackedImage:
    """One image in a package: where its bytes are (B from the package's beginning)."""

    name: str
    offset: int
    size: int
    vendor_data: bytes = b""


@dataclass(frozen=True)
class Package:
    """What a package holds, in its descriptor's order."""

    images: tuple[PackedImage, ...]

    @classmethod
    def read(
        cls, read: Read, size: int, *, names: Collection[str] | None = None, max_vendor_data: int = MAX_VENDOR_DATA
    ) -> Package:
        """Read a package for a device that has sub-components of these names, or for any; its images stay there.

        Raises:
            ManifestRejected: it is no package (46), has more or fewer images than the device has sub-components
                (47), an image's name (48) or vendor data (49) are too long, or its images are for others (41).
        """
        files = _files(read, size)
        if DESCRIPTOR not in files:
            _refuse(f"no file {DESCRIPTOR} in the package")
        at, length = files.pop(DESCRIPTOR)
        if length > MAX_DESCRIPTOR:
            _refuse(f"a descriptor of {length} B; at most {MAX_DESCRIPTOR} B are read")
        images = []
        count = None if names is None else len(names)
        for image in decode(_exactly(read, at, length), count=count, max_vendor_data=max_vendor_data):
            if image.name not in files:
                _refuse(
                    f"the descriptor names the image {image.name!r}, which is not in the package, or names it twice"
                )
            offset, found = files.pop(image.name)
            if found != image.size:
                _refuse(f"the image {image.name!r} has {found} B, its descriptor says {image.size}")
            images.append(PackedImage(image.name, offset, found, image.vendor_data))
        if files:
            _refuse(f"the package has files that its descriptor does not name: {', '.join(map(repr, sorted(files)))}")
        if names is not None and (strangers := [image.name for image in images if image.name not in names]):
            raise rejected(
                FotaResult.INTERNAL, f"images for {', '.join(strangers)}; the device has {', '.join(sorted(names))}"
            )
        return cls(tuple(images))

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(image.name)}</td><td>{image.size}</td><td>{image.vendor_data.hex()}</td></tr>"
            for image in self.images
        )
        head = "<tr><th>sub-component</th><th>size (B)</th><th>vendor data</th></tr>"
        return f"<table><caption>Combined package</caption>{head}{rows}</table>"


def make_package(images: Sequence[SubImage]) -> bytes:
    """Return the package of these images; the same ones give the same bytes.

    Raises:
        ConfigError: there is none, or a name or vendor data are not what the format allows.
    """
    names = [image.name for image in images]
    if not 1 <= len(set(names)) == len(names) <= MAX_IMAGES:
        raise ConfigError(f"a package has 1 to {MAX_IMAGES} images, each of another sub-component; these are {names}")
    for image in images:
        if not _NAME.fullmatch(image.name) or image.name == DESCRIPTOR:
            raise ConfigError(
                f"{image.name!r} is no sub-component's name",
                hint=f"1 to {MAX_NAME} letters, digits and . - _ make one",
            )
        if len(image.vendor_data) > MAX_VENDOR_DATA:
            raise ConfigError(f"{len(image.vendor_data)} B of vendor data for {image.name}, room for {MAX_VENDOR_DATA}")
    described = encode([Described(image.name, len(image.data), image.vendor_data) for image in images])
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in [(DESCRIPTOR, described), *((image.name, image.data) for image in images)]:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return written.getvalue()


def _files(read: Read, size: int) -> dict[str, tuple[int, int]]:
    """Walk a tar file's headers; return where each file is and how long (B)."""
    files: dict[str, tuple[int, int]] = {}
    at = 0
    while True:
        header = _exactly(read, at, _BLOCK) if at + _BLOCK <= size else b""
        if not header.strip(b"\0"):
            break  # the end, or what is left of the last block
        name, kind, length = _header(header)
        at += _BLOCK
        if length > size - at:
            _refuse(f"the file {name!r} of {length} B goes beyond the package's {size} B")
        if kind in (b"x", b"g"):
            _check_pax(_exactly(read, at, length) if length <= _MAX_PAX else b"path=")
        elif name in files or len(files) > MAX_IMAGES:
            _refuse(f"the file {name!r} comes twice, or there are more than {MAX_IMAGES + 1} files")
        else:
            files[name] = at, length
        at += -(-length // _BLOCK) * _BLOCK
    for start in range(at, size, _BLOCK):
        if _exactly(read, start, min(_BLOCK, size - start)).strip(b"\0"):
            _refuse(f"something follows the package's last file, at {start} B")
    return files


def _header(header: bytes) -> tuple[str, bytes, int]:
    """Read a file's header (POSIX.1-1988 ustar): its name, its kind and its size (B)."""
    checksum, length = _octal(header[148:156]), _octal(header[124:136])
    if checksum != sum(header) - sum(header[148:156]) + 8 * ord(" ") or length is None:
        _refuse("a file's header in the package has no size, or another checksum than its bytes")
    name = header[:100].split(b"\0", 1)[0].decode("ascii", "replace")
    kind = header[156:157]
    if kind not in (b"0", b"\0", b"x", b"g") or (header[257:262] == b"ustar" and header[345:346] != b"\0"):
        _refuse(f"{name!r} in the package is no plain file of a sub-component (kind {kind!r})")
    return name, kind, length


def _octal(digits: bytes) -> int | None:
    match = _OCTAL.fullmatch(digits)
    return int(match[1], 8) if match else None


def _check_pax(records: bytes) -> None:
    """Refuse pax records that say something else than the header after them: another name, size or target."""
    if re.search(rb"(?:path|size|sparse|hdrcharset)[^\n]*=", records, re.IGNORECASE):
        _refuse("a pax header in the package gives a file another name or size, or is too long")


def _exactly(read: Read, at: int, size: int) -> bytes:
    data = read(at, size)
    if len(data) != size:
        _refuse(f"the package ends at {at + len(data)} B, in the middle")
    return data


def _refuse(reason: str) -> NoReturn:
    raise rejected(_MALFORMED, reason)
