"""Updates that are wrong in one thing each, and the result that the stock clients report: the FOTA client, and the hub.

case = WRONG["vendor"]
check(case.v3(), DEVICE)      # ManifestRejected with case.result
check_v1(case.v1(), BOARD)    # … with case.hub
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.update import der, hub, hub_checks
from pdmlab.update.checks import Acceptance
from pdmlab.update.developer import update_certificate
from pdmlab.update.hub_checks import HubAcceptance
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata, _written
from pdmlab.update.manifest_v1 import ManifestV1
from pdmlab.update.manifest_v1_der import written
from pdmlab.update.results import FotaResult
from pdmlab.update.version import Version

KEY, STRANGERS_KEY = (ec.derive_private_key(number, ec.SECP256R1()) for number in (0x5EED, 0xBAD))
_NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
CERTIFICATE, STRANGERS = (update_certificate(key, "company.com", _NOW) for key in (KEY, STRANGERS_KEY))
VENDOR, CLASS = bytes(range(16)), bytes(range(16, 32))
OLD, IMAGE = b"the old image " * 100, b"the new image " * 100
URI = "http://127.0.0.1/fw"

DEVICE = Acceptance(
    KEY.public_key(), VENDOR, CLASS, {"MAIN": Version(1, 2, 2)}, storage_size=4096,
    formats=frozenset({PayloadFormat.RAW, PayloadFormat.DELTA}), digests={"MAIN": hashlib.sha256(OLD).digest()},
)  # fmt: skip
"""What a device with the FOTA client takes, which runs 1.2.2."""

BOARD = HubAcceptance(CERTIFICATE, VENDOR, CLASS, 1_700_000_000, hashlib.sha256(OLD).digest())
"""What a board with the update hub takes."""

RIGHT = Manifest.for_image(IMAGE, version="1.2.3", uri=URI, vendor_id=VENDOR, class_id=CLASS)
RIGHT_V1 = ManifestV1.for_image(IMAGE, timestamp=1_700_000_001, uri=URI, vendor_id=VENDOR, class_id=CLASS)
DELTA = PayloadMetadata(len(IMAGE), hashlib.sha256(IMAGE).digest(), hashlib.sha256(b"another image").digest())


@dataclass(frozen=True)
class Wrong:
    """A manifest that is wrong in one thing; without v1 and hub there is nothing of the kind for the update hub."""

    v3: Callable[[], bytes]
    result: FotaResult
    v1: Callable[[], bytes] | None = None
    hub: int | None = None


def sealed(inner: bytes, version: int = 3, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """Sign any bytes as a manifest v3, whatever their fields say."""
    signature = der.octets(der.raw_signature(der.sign(key, inner)))
    return der.sequence(der.enumerated(version) + inner + signature)


def v3(**fields: Any) -> Callable[[], bytes]:
    """Make a manifest v3 with these fields, allowed or not, under a signature that is right."""
    return lambda: sealed(_written(replace(RIGHT, **fields)))


def v1(**fields: Any) -> Callable[[], bytes]:
    """Make a manifest v1 with these fields, allowed or not, under a signature that is right."""
    return lambda: sealed_v1(written(replace(RIGHT_V1, **fields)))


def sealed_v1(resource: bytes, certificate: bytes = CERTIFICATE, key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """Sign any bytes as a manifest v1, whatever their fields say."""
    reference = der.sequence(der.octets(hashlib.sha256(certificate).digest()) + der.utf8(""))
    block = der.sequence(der.octets(der.sign(key, resource)) + der.sequence(reference))
    return der.sequence(resource + der.sequence(der.octets(hashlib.sha256(resource).digest()) + der.sequence(block)))


def _delta_v1() -> bytes:
    return RIGHT_V1.of_delta(DELTA).sign(KEY, CERTIFICATE)


def _v1_of_format(number: int) -> bytes:
    return sealed_v1(written(replace(RIGHT_V1, format=number)))


def _flipped() -> bytes:
    signed = RIGHT.sign(KEY)
    return signed[:-1] + bytes([signed[-1] ^ 1])


WRONG: dict[str, Wrong] = {
    "key": Wrong(
        lambda: RIGHT.sign(STRANGERS_KEY),
        FotaResult.MANIFEST_SIGNATURE,
        lambda: RIGHT_V1.sign(STRANGERS_KEY, STRANGERS),
        hub_checks.NO_CERTIFICATE,
    ),
    "signature": Wrong(
        lambda: RIGHT.sign(KEY).replace(b"1.2.3", b"1.2.4"),
        FotaResult.MANIFEST_SIGNATURE,
        lambda: RIGHT_V1.sign(STRANGERS_KEY, CERTIFICATE),
        hub_checks.BAD_SIGNATURE,
    ),
    "hash": Wrong(
        lambda: RIGHT.sign(KEY).replace(b"127.0.0.1", b"127.0.0.2"),
        FotaResult.MANIFEST_SIGNATURE,
        lambda: RIGHT_V1.sign(KEY, CERTIFICATE).replace(b"127.0.0.1", b"127.0.0.2"),
        hub_checks.INTEGRITY,
    ),
    "schema": Wrong(
        lambda: sealed(_written(RIGHT), version=1),
        FotaResult.SCHEMA_UNSUPPORTED,
        lambda: sealed_v1(written(RIGHT_V1).replace(der.enumerated(1), der.enumerated(2), 1)),
        hub_checks.WRONG_VERSION,
    ),
    "vendor": Wrong(
        v3(vendor_id=bytes(16)),
        FotaResult.VENDOR_MISMATCH,
        v1(vendor_id=bytes(16)),
        hub_checks.WRONG_VENDOR,
    ),
    "vendor of 15 bytes": Wrong(
        v3(vendor_id=VENDOR[:15]),
        FotaResult.VENDOR_MISMATCH,
        v1(vendor_id=VENDOR[:15]),
        hub_checks.WRONG_VENDOR,
    ),
    "class": Wrong(v3(class_id=bytes(16)), FotaResult.CLASS_MISMATCH, v1(class_id=bytes(16)), hub_checks.WRONG_CLASS),
    "component": Wrong(v3(component="METER"), FotaResult.UNKNOWN_COMPONENT),
    "component without a name": Wrong(v3(component=""), FotaResult.MANIFEST_MALFORMED),
    "version that runs": Wrong(
        v3(version="1.2.2"), FotaResult.VERSION_TOO_OLD, v1(timestamp=1_700_000_000), hub.ROLLBACK
    ),
    "version before": Wrong(v3(version="0.999.999"), FotaResult.VERSION_TOO_OLD, v1(timestamp=1), hub.ROLLBACK),
    "version in words": Wrong(v3(version="new"), FotaResult.MANIFEST_MALFORMED),
    "precursor": Wrong(
        lambda: replace(RIGHT, format=PayloadFormat.DELTA, metadata=DELTA).sign(KEY),
        FotaResult.PRECURSOR_MISMATCH,
        _delta_v1,
        hub_checks.WRONG_PRECURSOR,
    ),
    "delta of nothing": Wrong(
        v3(format=PayloadFormat.DELTA, metadata=replace(DELTA, precursor_digest=None)),
        FotaResult.MANIFEST_MALFORMED,
        lambda: _v1_of_format(5),
        hub_checks.MALFORMED,
    ),
    "digest of 31 bytes": Wrong(
        v3(payload_digest=RIGHT.payload_digest[:31]),
        FotaResult.CRYPTO,
        v1(payload_digest=RIGHT.payload_digest[:31]),
        hub_checks.MALFORMED,
    ),
    "size of nothing": Wrong(
        v3(payload_size=0),
        FotaResult.MANIFEST_MALFORMED,
        v1(payload_size=0),
        hub_checks.MALFORMED,
    ),
    "image for a larger board": Wrong(v3(payload_size=4097), FotaResult.NO_STORAGE),
    "no URI": Wrong(v3(uri=""), FotaResult.BAD_URI, v1(uri=""), hub_checks.BAD_URI),
    "long URI": Wrong(
        v3(uri="http://" + "x" * 249), FotaResult.BAD_URI, v1(uri="http://" + "x" * 249), hub_checks.BAD_URI
    ),
    "format that nobody has": Wrong(
        lambda: sealed(_written(RIGHT).replace(der.enumerated(1), der.enumerated(2))),
        FotaResult.FORMAT_UNSUPPORTED,
        lambda: _v1_of_format(2),
        hub_checks.MALFORMED,
    ),
    "format that the device has not": Wrong(
        v3(format=PayloadFormat.COMBINED, metadata=replace(DELTA, precursor_digest=None)), FotaResult.FORMAT_UNSUPPORTED
    ),
    "security": Wrong(
        _flipped,
        FotaResult.MANIFEST_SIGNATURE,
        v1(security=6),
        hub_checks.WRONG_SECURITY,
    ),
    "vendor data": Wrong(v3(vendor_data=b"x"), FotaResult.VENDOR_DATA_TOO_BIG),
    "truncated manifest": Wrong(
        lambda: RIGHT.sign(KEY)[:-1],
        FotaResult.MANIFEST_MALFORMED,
        lambda: RIGHT_V1.sign(KEY, CERTIFICATE)[:-1],
        hub_checks.MALFORMED,
    ),
    "oversized manifest": Wrong(
        lambda: RIGHT.sign(KEY) + bytes(4096),
        FotaResult.MANIFEST_MALFORMED,
        lambda: RIGHT_V1.sign(KEY, CERTIFICATE) + bytes(4096),
        hub_checks.WRONG_SIZE,
    ),
    "the other client's manifest": Wrong(
        lambda: RIGHT_V1.sign(KEY, CERTIFICATE),
        FotaResult.MANIFEST_MALFORMED,
        lambda: RIGHT.sign(KEY),
        hub_checks.MALFORMED,
    ),
}
"""By name; nothing is fetched for any of them."""
