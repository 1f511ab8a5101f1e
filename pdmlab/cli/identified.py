"""What a file of an update is: an image, a package, a whole flash, a manifest, a SUIT envelope; in lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pdmlab.errors import ConfigError, ImageRejected, PdmlabError

_FLASH = 4 << 20
"""Of a file, what is looked at for headers (B): no part here has more flash."""
_HEAD = 0x210
"""Of an image, what says how long its description is (B)."""
_STEP = 1024
"""Where a header may begin in flash (B): Mbed's are on sectors, the least of which has more."""


def identified(file: Path) -> list[str]:
    """Say what a file is, and what its header says; [] where it is none of these.

    Nothing is verified but what a header says of itself: hashes and signatures are for who installs it.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            data = opened.read(_FLASH)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from error
    try:
        said = list(_image(data)) or list(_package(data, size)) or list(_manifest(data, size))
    except (PdmlabError, ValueError):
        return []
    return ["".join(each if each.isprintable() else "?" for each in line) for line in said]


def _image(data: bytes) -> Iterator[str]:
    from pdmlab.firmware.image import read_image
    from pdmlab.update.bootloaders import KINDS

    try:
        info = read_image(data)
    except ImageRejected:
        return
    if info.application not in KINDS:
        yield f"a board's image: {info.application} {info.version}, build {info.build}"
        return
    headers = list(_headers(data))
    yield f"{'a whole flash, with' if headers else 'nothing but'} the bootloader {info.application}"
    yield from headers


def _headers(flash: bytes) -> Iterator[str]:
    from pdmlab.firmware.image import descriptor_size, read_image
    from pdmlab.update.header import HEADER_SIZE, MAX_HEADER_SIZE, HeaderFields
    from pdmlab.update.header_v2 import FirmwareHeaderV2

    for at in range(0, len(flash) - HEADER_SIZE, _STEP):
        part = flash[at : at + MAX_HEADER_SIZE]
        for kind, parse in (("v3", HeaderFields.parse), ("v2", FirmwareHeaderV2.parse_internal)):
            try:
                yield f"0x{at:x} header {kind}: {parse(part)!r}"
            except ImageRejected:
                continue
        try:
            length = descriptor_size(flash[at : at + _HEAD])
            info = read_image(flash[at : at + length]) if at else None
        except ImageRejected:
            info = None
        if info is not None:
            yield f"0x{at:x} image: {info.application} {info.version}, build {info.build}"


def _package(data: bytes, size: int) -> Iterator[str]:
    from pdmlab.update.header import MAX_HEADER_SIZE, FirmwareHeader
    from pdmlab.update.packages import HEADER_START

    if data.startswith(HEADER_START):
        header = FirmwareHeader.parse(data[:MAX_HEADER_SIZE])
        whole = header.length + header.size
        cut = "" if size == whole else f"; the file has {size} B, its header speaks of {whole}"
        yield f"a package: an image behind its header v3: {header!r}{cut}"


def _manifest(data: bytes, size: int) -> Iterator[str]:
    from pdmlab.cli.naming import SUIT
    from pdmlab.update.files import MAX_MANIFEST
    from pdmlab.update.manifest import SignedManifest
    from pdmlab.update.manifest_v1 import SignedManifestV1, is_v1
    from pdmlab.update.suit import Envelope
    from pdmlab.update.suit.describing import lines

    if data.startswith(SUIT) and size <= _FLASH:
        yield "a SUIT envelope; its signature is not checked"
        yield from (f"  {name:<16} {value}" for name, value in lines(Envelope.parse(data).manifest))
    elif data.startswith(b"\x30") and size <= MAX_MANIFEST:
        v1 = is_v1(data)
        signed = SignedManifestV1.parse(data) if v1 else SignedManifest.parse(data)
        yield f"a manifest v{1 if v1 else 3}; its signature is not checked"
        yield from (f"  {name:<16} {value}" for name, value in signed.manifest.told().items())
