"""The key that the trial bootloader knows: compiled into it, and the one by which every image must be signed.

An image's signature is ECDSA on P-256 over its SHA-256, r and s in 64 B: what manifest-tool's --sign-image puts into a
manifest, and headers v3 carry.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pdmlab.errors import ConfigError
from pdmlab.update.der import RAW_SIGNATURE, is_digest_signature

OPTION = "key"
"""The bootloader's option: the public key as a point, not compressed, in hex (130 digits)."""
ECDSA_VERIFY_NS = 200_000_000
"""Device time to check one signature: unsourced, of the order of P-256 in portable C on a Cortex-M4 at 120 MHz."""


def as_option(key: ec.EllipticCurvePublicKey) -> str:
    """Return a public key as the bootloader's option has it."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()


def point_of(options: Mapping[str, Any]) -> bytes:
    """Return the key among a bootloader's options, as its point (65 B).

    Raises:
        ConfigError: there is none, or it is no point on P-256.
    """
    value = options.get(OPTION)
    if value is None:
        raise ConfigError(
            "a trial bootloader has no key compiled in", hint="board.flash_bootloader('trial') compiles one in"
        )
    try:
        point = bytes.fromhex(value)
        public_key(point)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the trial bootloader's key {str(value)[:20]!r} is no point on P-256: {error}",
            hint="the public key, not compressed, in hex: 130 digits that begin with 04",
        ) from error
    return point


@lru_cache(maxsize=64)
def public_key(point: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key of a point; raise ValueError if it is none on P-256."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


@lru_cache(maxsize=1024)
def is_signed(point: bytes, signature: bytes, digest: bytes) -> bool:
    """Whether the owner of the key at a point has signed the image of this SHA-256."""
    return len(signature) == RAW_SIGNATURE and is_digest_signature(public_key(point), signature, digest)
