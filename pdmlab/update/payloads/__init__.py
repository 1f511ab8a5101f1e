"""Payloads: how the bytes that a device fetches become the image that it installs."""

from __future__ import annotations

from pdmlab.update.manifest import PayloadFormat, SignedManifest
from pdmlab.update.payloads.delta import DeltaUnpacker
from pdmlab.update.payloads.encrypted import EncryptedUnpacker
from pdmlab.update.payloads.interface import Raw, ReadActive, Unpacker
from pdmlab.update.results import FotaResult, rejected

__all__ = ["unpacker"]


def unpacker(signed: SignedManifest, read_active: ReadActive) -> Unpacker:
    """Return what turns the manifest's payload into its image; read_active reads the running image.

    The image of a combined payload is the package: `combined.Package.read` takes it apart when it is installed.

    Raises:
        ManifestRejected: an encrypted payload comes without its key (result 22), or with a size that its image
            cannot have (26), or its key is zeros (41).
    """
    manifest = signed.manifest
    match manifest.format:
        case PayloadFormat.RAW | PayloadFormat.COMBINED:
            return Raw()
        case PayloadFormat.DELTA:
            return DeltaUnpacker(read_active, manifest.installed_size)
        case PayloadFormat.ENCRYPTED_RAW | PayloadFormat.ENCRYPTED_COMBINED:
            if signed.encryption_key is None:
                raise rejected(FotaResult.MANIFEST_MALFORMED, "no key follows the manifest of an encrypted payload")
            if not any(signed.encryption_key):
                raise rejected(FotaResult.INTERNAL, "the payload's key is all zeros")
            return EncryptedUnpacker(manifest, signed.encryption_key)
