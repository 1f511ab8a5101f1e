"""What a device with the older update hub checks of a manifest v1, in its order, and the number that it reports.

Version and security mode come before the signature, which says how that is to be checked; then hash, certificate,
signature, class and vendor, format, delta, version, precursor (update-client-hub 1.4.1: arm_uc_mmInsertManifest.c,
update_client_hub_state_machine.c; the numbers: update_client_hub_error_handler.c).
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass

from pdmlab.errors import ConfigError, ManifestRejected
from pdmlab.update import der, hub
from pdmlab.update.manifest import MAX_MANIFEST
from pdmlab.update.manifest_v1 import FormatV1, ManifestV1, SecurityV1, SignedManifestV1, certified_key
from pdmlab.update.results import FotaResult

NO_VENDOR, INTEGRITY, NO_CERTIFICATE, BAD_CERTIFICATE, BAD_SIGNATURE = 200, 207, 208, 209, 210
WRONG_VERSION, WRONG_VENDOR, WRONG_CLASS, WRONG_SIZE, MALFORMED, WRONG_SECURITY = 214, 215, 216, 217, 218, 219
WRONG_PRECURSOR, BAD_URI = 229, 307


@dataclass(frozen=True)
class HubAcceptance:
    """What a device with the update hub accepts.

    certificate     the update certificate (DER), found by its fingerprint
    version         the number of the firmware that runs, as its header has it
    digest          SHA-256 of that firmware, which a delta applies to
    """

    certificate: bytes
    vendor_id: bytes
    class_id: bytes
    version: int
    digest: bytes
    formats: frozenset[int] = frozenset({FormatV1.RAW, FormatV1.DELTA})
    max_size: int = MAX_MANIFEST


def check_v1(data: bytes, device: HubAcceptance) -> ManifestV1:
    """Return the manifest if the device accepts it.

    Raises:
        ManifestRejected: it does not, with the update hub's number (200 to 229, or 307 for its URI).
    """
    if len(data) > device.max_size:
        raise _rejected(WRONG_SIZE, f"{len(data)} B are more than the {device.max_size} B that there is room for")
    try:
        signed = SignedManifestV1.parse(data)
    except ManifestRejected as error:
        is_other = error.result == FotaResult.SCHEMA_UNSUPPORTED
        raise _rejected(WRONG_VERSION if is_other else MALFORMED, error.message) from error
    manifest = signed.manifest
    if not SecurityV1.ECC_AES_128_CTR <= manifest.security <= SecurityV1.PSK_AES_128_CCM:
        raise _rejected(WRONG_SECURITY, f"there is no security mode {manifest.security}")
    if not signed.is_whole:
        raise _rejected(INTEGRITY, "the manifest has not the hash that was signed")
    _check_signatures(signed, device)
    _check_ids(manifest, device)
    _check_payload(manifest, device)
    return manifest


def _check_signatures(signed: SignedManifestV1, device: HubAcceptance) -> None:
    if signed.manifest.security not in (SecurityV1.ECC, SecurityV1.ECC_AES_128_CTR) or not signed.signatures:
        raise _rejected(MALFORMED, f"in security mode {signed.manifest.security} there is no signature to check")
    fingerprint = hashlib.sha256(device.certificate).digest()
    for each in signed.signatures:
        if each.fingerprint != fingerprint:
            raise _rejected(NO_CERTIFICATE, f"the device has no certificate {each.fingerprint.hex()[:64]}")
        try:
            key = certified_key(device.certificate)
        except ConfigError as error:
            raise _rejected(BAD_CERTIFICATE, error.message) from error
        if not der.is_signature(key, each.signature, signed.signed):
            raise _rejected(BAD_SIGNATURE, "the signature does not fit the manifest and the key")
    if signed.manifest.security != SecurityV1.ECC:
        # The stock hub goes on, looks for a key that no tool sends, and stands still.
        raise _rejected(WRONG_SECURITY, "the payload is encrypted")


def _check_ids(manifest: ManifestV1, device: HubAcceptance) -> None:
    # The vendor's word is the last: of two ids that are wrong, the vendor id is reported.
    if manifest.vendor_id not in (b"", device.vendor_id):
        raise _rejected(WRONG_VENDOR, f"it is for vendor {manifest.vendor_id.hex()[:64]}, not {device.vendor_id.hex()}")
    if manifest.class_id not in (b"", device.class_id):  # a manifest without one is for the vendor's every device
        raise _rejected(WRONG_CLASS, f"it is for class {manifest.class_id.hex()[:64]}, not {device.class_id.hex()}")
    if manifest.vendor_id == b"":
        raise _rejected(NO_VENDOR, "it names no vendor")


def _check_payload(manifest: ManifestV1, device: HubAcceptance) -> None:
    if manifest.format not in device.formats:
        raise _rejected(MALFORMED, f"the payload is of format {manifest.format}")
    delta = manifest.format == FormatV1.DELTA
    if delta and (manifest.precursor_digest is None or manifest.installed_size is None):
        raise _rejected(MALFORMED, "it is a delta, and does not say what of, or what it makes")
    # Of the class id and the URI the hub has words of its own.
    for fault in dataclasses.replace(manifest, class_id=device.class_id, uri="/").faults():
        raise _rejected(MALFORMED, fault)
    if manifest.timestamp <= device.version:
        raise _rejected(hub.ROLLBACK, f"it brings {manifest.timestamp}, the device runs {device.version}")
    if delta and manifest.precursor_digest != device.digest:
        raise _rejected(
            WRONG_PRECURSOR, f"it applies to {(manifest.precursor_digest or b'').hex()}, not to {device.digest.hex()}"
        )
    if not manifest.has_uri:
        raise _rejected(BAD_URI, f"the URI has {len(manifest.uri.encode())} bytes")


def _rejected(number: int, detail: str) -> ManifestRejected:
    meaning, advice = hub.explain(number)
    return ManifestRejected(f"manifest rejected with result {number} ({meaning}): {detail}", result=number, hint=advice)
