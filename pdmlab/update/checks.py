"""What a device checks before it fetches anything, in the order of the stock client.

Schema and signature come before any field is read. Each field is looked at as it is read, in the order of the DER:
vendor, class, the form of the others, the payload's format, so of two faults the first there is told; then the image's
signature, metadata, vendor data and the key behind the manifest; then whether the device has the component, in an
older version, and for a delta in the very image that it was made from (mbed-cloud-client 4.13.4, fota_manifest_v3.c
and fota.c). Whether the image fits the candidate storage shows only when the application has allowed the download.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import ConfigError, UpdateError
from pdmlab.update.manifest import MAX_IMAGE, Manifest, PayloadFormat, SignedManifest, field_faults
from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.version import Version

SUPPORTED_FORMATS = frozenset(PayloadFormat)
COMBINED = frozenset({PayloadFormat.COMBINED, PayloadFormat.ENCRYPTED_COMBINED})
ENCRYPTED = frozenset({PayloadFormat.ENCRYPTED_RAW, PayloadFormat.ENCRYPTED_COMBINED})
_NUMBERS = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")


@dataclass(frozen=True)
class Acceptance:
    """What a device accepts: the update key, its ids, its components' versions.

    storage_size     room for an image (B), where it does not depend on how the candidate is written
    formats          payload formats that the build has
    max_vendor_data  0 in stock builds
    digests          SHA-256 of what runs, for the components that take deltas
    parts            components that take combined packages
    signed           whether images must be signed themselves
    """

    public_key: ec.EllipticCurvePublicKey
    vendor_id: bytes
    class_id: bytes
    components: Mapping[str, Version]
    storage_size: int = MAX_IMAGE
    formats: frozenset[PayloadFormat] = SUPPORTED_FORMATS
    max_vendor_data: int = 0
    digests: Mapping[str, bytes] = field(default_factory=dict)
    parts: frozenset[str] = frozenset()
    signed: bool = False


def check(der: bytes, device: Acceptance) -> SignedManifest:
    """Return the manifest if the device accepts it; raise ManifestRejected with its result code otherwise."""
    signed = SignedManifest.parse(der, device.public_key, functools.partial(_look, device))
    manifest = signed.manifest
    if device.signed and len(manifest.installed_signature or b"") != 64:
        raise rejected(FotaResult.MANIFEST_MALFORMED, "this device takes signed images only, and it has no signature")
    for result, fault in manifest.later_faults():
        raise rejected(result, fault)
    if len(manifest.vendor_data or b"") > device.max_vendor_data:
        raise rejected(
            FotaResult.VENDOR_DATA_TOO_BIG,
            f"{len(manifest.vendor_data or b'')} B of vendor data, room for {device.max_vendor_data}",
        )
    if manifest.format in ENCRYPTED and signed.encryption_key is None:
        raise rejected(FotaResult.MANIFEST_MALFORMED, "the payload is encrypted, and no key follows the manifest")
    _check_component(manifest, device)
    check_storage(manifest, device.storage_size)
    return signed


def check_storage(manifest: Manifest, storage_size: int) -> None:
    """Refuse an image that the candidate storage has no room for (33)."""
    if manifest.installed_size > storage_size:
        raise rejected(
            FotaResult.NO_STORAGE,
            f"the image has {manifest.installed_size} B, the candidate storage room for {storage_size} B",
        )


def is_running(der: bytes, device: Acceptance) -> bool:
    """Say whether the device runs what this manifest brought: the sign that an installation succeeded."""
    try:
        manifest = SignedManifest.parse(der, device.public_key).manifest
        return Version.parse(manifest.version) == device.components.get(manifest.component)
    except (ConfigError, UpdateError):
        return False


def _look(device: Acceptance, name: str, value: Any) -> None:  # Any: each field has a type of its own
    """Refuse a field, with the number that the stock client's parser has for it."""
    if name == "vendor_id" and value != device.vendor_id:
        raise rejected(FotaResult.VENDOR_MISMATCH, f"it is for vendor {value.hex()}, not {device.vendor_id.hex()}")
    if name == "class_id" and value != device.class_id:
        raise rejected(FotaResult.CLASS_MISMATCH, f"it is for class {value.hex()}, not {device.class_id.hex()}")
    if name == "version" and _NUMBERS.fullmatch(value) and _is_no_version(value):
        raise rejected(FotaResult.INTERNAL, f"the version {value} has a number above 999")
    if name == "format":
        if value not in device.formats:
            raise rejected(FotaResult.FORMAT_UNSUPPORTED, f"the device has no payload format {_named(value)}")
        return
    for result, fault in field_faults(name, value):
        raise rejected(result, fault)


def _named(number: int) -> str:
    known = next((each for each in PayloadFormat if each == number), None)
    return str(number) if known is None else f"{known.name} ({number})"


def _is_no_version(text: str) -> bool:
    try:
        Version.parse(text)
    except ConfigError:
        return True
    return False


def _check_component(manifest: Manifest, device: Acceptance) -> None:
    name = manifest.component
    current = device.components.get(name)
    if current is None:
        raise rejected(
            FotaResult.UNKNOWN_COMPONENT, f"it is for component {name!r}; the device has {', '.join(device.components)}"
        )
    if Version.parse(manifest.version) <= current:
        raise rejected(FotaResult.VERSION_TOO_OLD, f"it brings {manifest.version}, the device runs {current}")
    if manifest.format in COMBINED and name not in device.parts:
        raise rejected(FotaResult.FORMAT_UNSUPPORTED, f"the component {name} has no parts that a package could bring")
    if manifest.format is not PayloadFormat.DELTA:
        return
    if name not in device.digests:
        raise rejected(FotaResult.FORMAT_UNSUPPORTED, f"the component {name} cannot read what a delta is applied to")
    precursor = manifest.metadata.precursor_digest if manifest.metadata is not None else None
    if precursor != device.digests[name]:
        raise rejected(
            FotaResult.PRECURSOR_MISMATCH,
            f"the delta applies to {(precursor or b'').hex()}, {name} runs {device.digests[name].hex()}",
        )
