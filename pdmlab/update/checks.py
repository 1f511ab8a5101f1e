"""What a device checks before it fetches anything, in the order of the stock client.

Schema and signature come before any field is read; then vendor, class, component, version, format, URI,
vendor data, storage (mbed-cloud-client 4.13.4, fota.c and fota_manifest_v3.c).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import ConfigError, UpdateError
from pdmlab.update.manifest import PayloadFormat, SignedManifest
from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.version import Version

SUPPORTED_FORMATS = frozenset({PayloadFormat.RAW})


@dataclass(frozen=True)
class Acceptance:
    """What a device accepts: the update key, its ids, its components' versions, its candidate storage (B).

    max_vendor_data is 0 in stock builds.
    """

    public_key: ec.EllipticCurvePublicKey
    vendor_id: bytes
    class_id: bytes
    components: Mapping[str, Version]
    storage_size: int
    formats: frozenset[PayloadFormat] = SUPPORTED_FORMATS
    max_vendor_data: int = 0


def check(der: bytes, device: Acceptance) -> SignedManifest:
    """Return the manifest if the device accepts it; raise ManifestRejected with its result code otherwise."""
    signed = SignedManifest.parse(der, device.public_key)
    manifest = signed.manifest
    faults = dict(reversed(list(manifest.faults())))  # of several of a kind, the first
    if FotaResult.MANIFEST_MALFORMED in faults:
        raise rejected(FotaResult.MANIFEST_MALFORMED, faults[FotaResult.MANIFEST_MALFORMED])
    if manifest.vendor_id != device.vendor_id:
        raise rejected(
            FotaResult.VENDOR_MISMATCH, f"it is for vendor {manifest.vendor_id.hex()}, not {device.vendor_id.hex()}"
        )
    if manifest.class_id != device.class_id:
        raise rejected(
            FotaResult.CLASS_MISMATCH, f"it is for class {manifest.class_id.hex()}, not {device.class_id.hex()}"
        )
    current = device.components.get(manifest.component)
    if current is None:
        raise rejected(
            FotaResult.UNKNOWN_COMPONENT,
            f"it is for component {manifest.component!r}; the device has {', '.join(device.components)}",
        )
    if Version.parse(manifest.version) <= current:
        raise rejected(FotaResult.VERSION_TOO_OLD, f"it brings {manifest.version}, the device runs {current}")
    if manifest.format not in device.formats:
        raise rejected(FotaResult.FORMAT_UNSUPPORTED, f"the payload is {manifest.format.name} ({int(manifest.format)})")
    if FotaResult.BAD_URI in faults:
        raise rejected(FotaResult.BAD_URI, faults[FotaResult.BAD_URI])
    if len(manifest.vendor_data or b"") > device.max_vendor_data:
        raise rejected(
            FotaResult.VENDOR_DATA_TOO_BIG,
            f"{len(manifest.vendor_data or b'')} B of vendor data, room for {device.max_vendor_data}",
        )
    if max(manifest.payload_size, manifest.installed_size) > device.storage_size:
        raise rejected(
            FotaResult.NO_STORAGE,
            f"the image has {manifest.payload_size} B, the candidate storage {device.storage_size} B",
        )
    return signed


def is_running(der: bytes, device: Acceptance) -> bool:
    """Say whether the device runs what this manifest brought: the sign that an installation succeeded."""
    try:
        manifest = SignedManifest.parse(der, device.public_key).manifest
        return Version.parse(manifest.version) == device.components.get(manifest.component)
    except (ConfigError, UpdateError):
        return False
