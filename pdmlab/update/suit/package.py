"""SUIT envelopes as packages of OMA's firmware object: signed, with the image in them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from pdmlab.errors import ManifestRejected
from pdmlab.update.checks import Acceptance
from pdmlab.update.object5 import Result
from pdmlab.update.packages import CHUNK, Firmware, Package, PackageRejected
from pdmlab.update.results import FotaResult
from pdmlab.update.suit.accepting import accept_envelope
from pdmlab.update.suit.envelope import Envelope
from pdmlab.update.suit.members import MARK, members
from pdmlab.update.version import Version

_RESULTS = {
    FotaResult.MANIFEST_MALFORMED: Result.PACKAGE_TYPE,
    FotaResult.MANIFEST_SIGNATURE: Result.INTEGRITY,
    FotaResult.PAYLOAD_CORRUPTED: Result.INTEGRITY,
    FotaResult.NO_STORAGE: Result.NO_STORAGE,
    FotaResult.BAD_URI: Result.BAD_URI,
}


@dataclass(frozen=True)
class SuitPackage:
    """Envelopes that a device accepts (packages.PackageKind); running: the active image's SHA-256, if there is one."""

    device: Acceptance
    running: bytes | None = None

    def is_mine(self, package: Package) -> bool:
        """See PackageKind."""
        return package.read(0, len(MARK)) == MARK

    def open(self, package: Package) -> Firmware:
        """See PackageKind; of the image no more than a piece is in RAM at a time."""
        try:
            found = members(package.read, package.size)
            envelope = Envelope.of(found, package.read, self.device.public_key)
            accepted = accept_envelope(envelope, self.device, running=self.running)
        except ManifestRejected as error:
            raise PackageRejected(_RESULTS.get(FotaResult(error.result), Result.FAILED), error.message) from error
        place = next((member for member in found if member.key == accepted.uri), None)
        if place is None:
            raise PackageRejected(Result.BAD_URI, f"the image {accepted.uri} does not come in the envelope")

        def image() -> Iterator[bytes]:
            for at in range(0, place.size, CHUNK):
                yield package.read(place.offset + at, min(CHUNK, place.size - at))

        digest = hashlib.sha256()
        for piece in image():
            digest.update(piece)
        if place.size != accepted.payload_size or digest.digest() != accepted.payload_digest:
            raise PackageRejected(
                Result.INTEGRITY,
                f"the image has {place.size} B and SHA-256 {digest.hexdigest()}, "
                f"the manifest says {accepted.payload_size} B and {accepted.payload_digest.hex()}",
            )
        version = Version.parse(accepted.version)
        return Firmware(accepted.component, version, place.size, accepted.payload_digest, image)
