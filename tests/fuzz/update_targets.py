"""The parsers of what an update brings: manifests, headers, patches and packages. Nothing mutated is ever installed."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import ManifestRejected
from pdmlab.update import suit
from pdmlab.update.checks import Acceptance, check
from pdmlab.update.hub_checks import check_v1
from pdmlab.update.manifest import SignedManifest
from pdmlab.update.suit.envelope import seal
from pdmlab.update.suit.manifest import SuitManifest
from pdmlab.update.version import Version
from tests.fuzz.target import Target
from tests.update.wrong import BOARD as HUB
from tests.update.wrong import sealed, sealed_v1

KEY = ec.derive_private_key(7, ec.SECP256R1())
IMAGE = b"an image " * 200
DIGEST = hashlib.sha256(IMAGE).digest()
VENDOR, CLASS = bytes(range(16)), bytes(range(16, 32))
BOARD = Acceptance(KEY.public_key(), VENDOR, CLASS, {"MAIN": Version(1, 2, 3)}, storage_size=1 << 20)


class _Encoded(SuitManifest):
    """A manifest of any bytes at all, for its signature to be right."""

    data: bytes

    def encode(self) -> bytes:
        """Return the bytes."""
        return self.data


_FRAME = suit.for_image(IMAGE, version="1.2.4", uri="coap://127.0.0.1/fw", vendor_id=VENDOR, class_id=CLASS)


def check_suit(data: bytes) -> None:
    """Read an envelope as it comes; accept it only with its signature, and then only the image that was signed."""
    try:
        envelope = suit.Envelope.parse(data)
    except ManifestRejected as error:
        assert 21 <= error.result <= 49
    else:
        assert suit.SuitManifest.decode(envelope.manifest.encode()).components == envelope.manifest.components
    try:
        accepted = suit.accept(data, BOARD)
    except ManifestRejected as error:
        assert 21 <= error.result <= 49
    else:
        assert accepted.payload_digest == DIGEST and accepted.version == "1.2.4"


def check_suit_manifest(data: bytes) -> None:
    """Run a manifest whose signature is right, whatever its bytes are: a result, or one image of a known size."""
    frame = _Encoded(**vars(_FRAME))
    object.__setattr__(frame, "data", data)
    try:
        accepted = suit.accept(seal(frame, KEY), BOARD)
    except ManifestRejected as error:
        assert 21 <= error.result <= 49
        return
    assert 0 <= accepted.payload_size <= BOARD.storage_size and len(accepted.payload_digest) == 32


def check_manifest_v3(data: bytes) -> None:
    """Read a manifest as it comes; accept it only with its signature."""
    try:
        SignedManifest.parse(data)
    except ManifestRejected as error:
        assert 21 <= error.result <= 49
    try:
        accepted = check(data, BOARD).manifest
    except ManifestRejected as error:
        assert 21 <= error.result <= 49
    else:
        assert accepted.payload_digest == DIGEST and accepted.version == "1.2.4"


def check_manifest_v3_fields(data: bytes) -> None:
    """Read fields whose signature is right, whatever their bytes are: a result, or an update that fits the board."""
    try:
        accepted = check(sealed(data, key=KEY), BOARD).manifest
    except ManifestRejected as error:
        assert 21 <= error.result <= 49
    else:
        assert (accepted.vendor_id, accepted.class_id, accepted.component) == (VENDOR, CLASS, "MAIN")
        assert accepted.installed_size <= BOARD.storage_size and Version.parse(accepted.version) > Version(1, 2, 3)


def check_manifest_v1(data: bytes) -> None:
    """Read a manifest v1 as it comes, and its fields with a signature that is right: a number of the update hub."""
    for manifest in (data, sealed_v1(data)):
        try:
            accepted = check_v1(manifest, HUB)
        except ManifestRejected as error:
            assert 200 <= error.result <= 230 or error.result == 307
        else:
            assert manifest is not data  # nothing mutated has its signature
            assert accepted.vendor_id == HUB.vendor_id and accepted.class_id in (b"", HUB.class_id)
            assert accepted.timestamp > HUB.version and len(accepted.payload_digest) == 32


UPDATE_TARGETS = (
    Target("suit", check_suit),
    Target("suit-manifests", check_suit_manifest, weight=0.3),  # each is signed first
    Target("manifests-v3", check_manifest_v3),
    Target("manifests-v3-fields", check_manifest_v3_fields, weight=0.3),
    Target("manifests-v1", check_manifest_v1, weight=0.3),
)
