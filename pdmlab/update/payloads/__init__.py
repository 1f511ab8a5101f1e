"""Payloads: how the bytes that a device fetches become the image that it installs."""

from __future__ import annotations

from pdmlab.update.manifest import PayloadFormat, SignedManifest
from pdmlab.update.payloads.delta import DeltaUnpacker
from pdmlab.update.payloads.interface import Raw, ReadActive, Unpacker
from pdmlab.update.results import FotaResult, rejected

__all__ = ["unpacker"]


def unpacker(signed: SignedManifest, read_active: ReadActive) -> Unpacker:
    """Return what turns the manifest's payload into its image; read_active reads the running image.

    Raises:
        ManifestRejected: the payload has a format that is not known here (result 25).
    """
    manifest = signed.manifest
    if manifest.format is PayloadFormat.RAW:
        return Raw()
    if manifest.format is PayloadFormat.DELTA:
        return DeltaUnpacker(read_active, manifest.installed_size)
    raise rejected(FotaResult.FORMAT_UNSUPPORTED, f"the payload is {manifest.format.name} ({int(manifest.format)})")
