"""Signing and verifying update manifests, against the same ECDSA with cryptography alone over the same bytes."""

from __future__ import annotations

import datetime
import hashlib
import timeit
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from benchmarks.table import Table
from pdmlab.update.developer import update_certificate
from pdmlab.update.manifest import Manifest, SignedManifest
from pdmlab.update.manifest_v1 import ManifestV1, SignedManifestV1

TARGET = 1.2
"""How many times the bare operation ours may take."""
ROUNDS, CALLS = 200, 25
IDS = {"vendor_id": bytes(range(16)), "class_id": bytes(range(16, 32))}
URI = "http://127.0.0.1:8080/fw/0123456789abcdef.bin"

INCLUDES = """\
Ours: the fields are checked and encoded, signed, and put into the envelope; the manifest is decoded, its signature
verified, and its fields are read. Bare: cryptography's key.sign and key.verify over the bytes that are signed. Both
in turn, 25 calls each, 200 times; the times are the shortest, as what else runs here only ever adds to them."""


def bench() -> None:
    """Print the times of both, and their ratio, for manifests v3, v1, and a v3 manifest of an image of 1 MiB."""
    table = Table(
        "Manifests: ours against bare ECDSA (P-256, SHA-256)",
        {"what": "", "bare (us)": ".1f", "ours (us)": ".1f", "ratio": ".2f"},
        text_width=24,
    )
    for name, bare, ours, held in cases():
        bare_s, ours_s = compared(bare, ours)
        table.row(name, bare_s * 1e6, ours_s * 1e6, ours_s / bare_s)
        if held:
            print(f"  target {TARGET}: {'reached' if ours_s <= TARGET * bare_s else 'NOT reached'}")
    print(INCLUDES)


def cases() -> list[tuple[str, Callable[[], object], Callable[[], object], bool]]:
    """Return names, the bare operation, ours, and whether the target is for it."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    image = bytes(1 << 20)
    manifest = Manifest.for_image(image, version="1.2.3", uri=URI, **IDS)
    der = manifest.sign(key)
    signed = SignedManifest.parse(der).signed
    signature = key.sign(signed, ec.ECDSA(SHA256()))
    certificate = update_certificate(key, "company.com", datetime.datetime.now(datetime.UTC))
    v1 = ManifestV1.for_image(image, timestamp=1_700_000_000, uri=URI, **IDS)
    der_v1 = v1.sign(key, certificate)
    parsed_v1 = SignedManifestV1.parse(der_v1)

    def bare_image() -> bytes:
        return key.sign(signed + hashlib.sha256(image).digest(), ec.ECDSA(SHA256()))

    def bare_v1() -> None:
        x509.load_der_x509_certificate(certificate).public_key()
        public.verify(parsed_v1.signatures[0].signature, parsed_v1.signed, ec.ECDSA(SHA256()))

    return [
        ("sign v3", lambda: key.sign(signed, ec.ECDSA(SHA256())), lambda: manifest.sign(key), True),
        (
            "verify v3",
            lambda: public.verify(signature, signed, ec.ECDSA(SHA256())),
            lambda: SignedManifest.parse(der, public),
            True,
        ),
        ("sign v1", lambda: key.sign(parsed_v1.signed, ec.ECDSA(SHA256())), lambda: v1.sign(key, certificate), False),
        ("verify v1, certificate", bare_v1, lambda: SignedManifestV1.parse(der_v1).verify(certificate), False),
        (
            "sign v3 of 1 MiB, hashed",
            bare_image,
            lambda: Manifest.for_image(image, version="1.2.3", uri=URI, **IDS).sign(key),
            False,
        ),
    ]


def compared(bare: Callable[[], object], ours: Callable[[], object]) -> tuple[float, float]:
    """Return the shortest time of each (s)."""
    pairs = [(timed(bare), timed(ours)) for _ in range(ROUNDS)]
    return min(first for first, _ in pairs), min(second for _, second in pairs)


def timed(call: Callable[[], object]) -> float:
    """Return how long one call takes (s), of several; the collector of garbage rests meanwhile."""
    return timeit.timeit(call, number=CALLS) / CALLS
