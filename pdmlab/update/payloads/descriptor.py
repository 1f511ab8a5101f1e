"""The descriptor of a combined package: which images it holds, for whom, and how long they are.

    Descriptor ::= SEQUENCE { num-of-images INTEGER, descriptors-array SEQUENCE OF ImgDescriptor }
    ImgDescriptor ::= SEQUENCE {
        id UTF8String, vendor-data OCTET STRING, vendor-data-size INTEGER, image-size INTEGER }

In DER. Devices ignore what follows the fields that they know, here and in each image (mbed-cloud-client 4.13,
fota_combined_package.c); so it is read as they read it, value after value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pdmlab.update.der import OCTETS, UTF8, Reader, integer, octets, sequence, utf8
from pdmlab.update.results import FotaResult, rejected

MAX_NAME = 8
MAX_IMAGES = 255
MAX_VENDOR_DATA = 32
"""Bytes of an image's vendor data, unless a client is built with more."""
_MAX_INTEGER = 0x7FFF_FFFF  # as the stock client reads them


@dataclass(frozen=True)
class Described:
    """One image: its sub-component, its size (B), and what its installer is to be told."""

    name: str
    size: int
    vendor_data: bytes = b""


def encode(images: Sequence[Described]) -> bytes:
    """Return the descriptor of these images."""
    described = [
        sequence(utf8(image.name) + octets(image.vendor_data) + integer(len(image.vendor_data)) + integer(image.size))
        for image in images
    ]
    return sequence(integer(len(images)) + sequence(b"".join(described)))


def decode(der: bytes, *, count: int | None = None, max_vendor_data: int = MAX_VENDOR_DATA) -> list[Described]:
    """Read a descriptor for a device with `count` sub-components, or any, checked in the stock client's order.

    Raises:
        ManifestRejected: it is none (46), describes another number of images (47), or an image's name (48) or
            vendor data (49) are too long.
    """
    try:
        whole = Reader(der).sequence()
        images, allowed = whole.number(), range(MAX_IMAGES + 1) if count is None else (count,)
        if images not in allowed:
            most = f"at most {MAX_IMAGES} can be" if count is None else f"the device has {count} sub-components"
            raise rejected(FotaResult.COMBINED_COUNT, f"{images} images; {most}")
        array = whole.sequence()
        return [_image(array.sequence(), max_vendor_data) for _ in range(images)]
    except ValueError as error:
        raise rejected(FotaResult.COMBINED_PACKAGE, f"the package's descriptor: {error}") from error


def _image(fields: Reader, max_vendor_data: int) -> Described:
    name = fields.value(UTF8)
    if len(name) > MAX_NAME:
        raise rejected(FotaResult.COMBINED_NAME, f"the image's name {name[:40]!r} has more than {MAX_NAME} B")
    vendor_data = fields.value(OCTETS)
    if len(vendor_data) > max_vendor_data:
        raise rejected(
            FotaResult.COMBINED_VENDOR_DATA, f"{len(vendor_data)} B of vendor data, room for {max_vendor_data}"
        )
    if (told := fields.number()) != len(vendor_data):
        raise ValueError(f"{len(vendor_data)} B of vendor data, where their size is said to be {told}")
    if not 0 <= (size := fields.number()) <= _MAX_INTEGER:
        raise ValueError(f"an image of {size} B")
    return Described(name.decode(), size, vendor_data)
