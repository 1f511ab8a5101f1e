"""The parsers of payloads: patches, packages, encrypted blocks. What they give is bounded, or what was meant."""

from __future__ import annotations

import hashlib

from pdmlab.errors import ManifestRejected
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata
from pdmlab.update.payloads import descriptor
from pdmlab.update.payloads.blocks import sealed_size
from pdmlab.update.payloads.combined import Package
from pdmlab.update.payloads.delta import DeltaUnpacker
from pdmlab.update.payloads.encrypted import EncryptedUnpacker, encrypt
from pdmlab.update.payloads.interface import Unpacker
from pdmlab.update.results import FotaResult
from tests.fuzz.target import Target

OLD = bytes(range(256)) * 6
SIZE = 1000
"""Of the image that patches make (B)."""
KEY = bytes(range(16))
IMAGE = hashlib.shake_256(b"image").digest(700)
PAYLOAD = encrypt(IMAGE, KEY)
NAMES = ("radio", "screen")


def _unpack(unpacked: Unpacker, data: bytes, results: tuple[FotaResult, ...], most: int, step: int) -> bytes | None:
    """Feed a payload in pieces; return the image, or None if it was refused with one of these results."""
    image = bytearray()
    try:
        for at in range(0, len(data), step):
            for piece in unpacked.feed(data[at : at + step]):
                image += piece
                assert len(image) <= most
        for piece in unpacked.finish():
            image += piece
    except ManifestRejected as error:
        assert error.result in results
        return None
    assert len(image) <= most
    return bytes(image)


def check_patch(data: bytes) -> None:
    """Apply a patch: refused, or an image of the size that was signed; the same in whatever pieces it comes."""
    reads: list[int] = []

    def read(at: int, size: int) -> bytes:
        reads.append(size)
        assert at >= 0 and size <= 16 * 1024
        return OLD[at : at + size]

    results = FotaResult.DELTA, FotaResult.PAYLOAD_CORRUPTED
    whole = _unpack(DeltaUnpacker(read, SIZE), data, results, SIZE, max(len(data), 1))
    assert sum(reads) <= SIZE + 16 * 1024
    assert whole is None or len(whole) == SIZE
    assert whole == _unpack(DeltaUnpacker(read, SIZE), data, results, SIZE, 7)


def check_encrypted(data: bytes) -> None:
    """Open blocks: only the payload that the manifest names gives an image."""
    digest = hashlib.sha256(PAYLOAD).digest()
    metadata = PayloadMetadata(len(IMAGE), hashlib.sha256(IMAGE).digest())
    manifest = Manifest(
        bytes(16), bytes(16), "1.0.1", digest, sealed_size(len(IMAGE)), "/fw",
        format=PayloadFormat.ENCRYPTED_RAW, metadata=metadata,
    )  # fmt: skip
    results = FotaResult.CRYPTO, FotaResult.PAYLOAD_CORRUPTED
    image = _unpack(EncryptedUnpacker(manifest, KEY), data, results, len(IMAGE), 100)
    assert (image is not None) == (data == PAYLOAD)
    assert image in (None, IMAGE)


def check_package(data: bytes) -> None:
    """Take a package apart: its images lie within it, one for each sub-component."""

    def read(at: int, size: int) -> bytes:
        assert at >= 0 and size <= 32 * 1024
        return data[at : at + size]

    try:
        parts = Package.read(read, len(data), names=NAMES)
    except ManifestRejected as error:
        assert error.result in range(FotaResult.COMBINED_PACKAGE, 50) or error.result == FotaResult.INTERNAL
        return
    assert sorted(image.name for image in parts.images) == sorted(NAMES)
    assert all(image.offset > 0 and 0 <= image.size <= len(data) - image.offset for image in parts.images)


def check_descriptor(data: bytes) -> None:
    """Read a package's descriptor: as many images as the device has sub-components, within the limits."""
    try:
        images = descriptor.decode(data, count=len(NAMES))
    except ManifestRejected as error:
        assert error.result in range(FotaResult.COMBINED_PACKAGE, 50)
        return
    assert len(images) == len(NAMES)
    for image in images:
        assert len(image.name.encode()) <= 8 and len(image.vendor_data) <= 32 and 0 <= image.size < 1 << 31
    assert descriptor.decode(descriptor.encode(images), count=len(NAMES)) == images


PAYLOAD_TARGETS = (
    Target("patches", check_patch, weight=0.5),
    Target("encrypted", check_encrypted, weight=0.5),
    Target("packages", check_package, longest=4096),
    Target("descriptors", check_descriptor),
)
