"""A second reader of a board's flash, which shares nothing with the bootloaders: what would run, and may it?

Written from the layouts of the stock clients' headers alone, so that a bootloader which reads a header wrongly is not
believed by its own parser.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

V3_MAGIC, V2_MAGIC = 0x5C0253A3, 0x5A51B3D4


class Found(NamedTuple):
    """What a header says: size (B), SHA-256 and signature of the image behind it; whether that image is whole."""

    size: int
    digest: bytes
    signature: bytes
    whole: bool


def read_active(flash: bytes, header_offset: int, app_offset: int, *, signed: bool) -> Found | None:
    """Read the header in a flash's bytes and look at the image behind it; None if there is no header.

    signed: whether headers v3 are in the form with a signature, as their bootloader was built.
    """
    head = flash[header_offset:app_offset]
    signature = b""
    if struct.unpack_from("<I", head)[0] == V3_MAGIC:
        (size,) = struct.unpack_from("<I", head, 4)
        signature = head[16:80] if signed else b""
        digest = head[80:112] if signed else head[16:48]
    elif struct.unpack_from(">II", head) == (V2_MAGIC, 2):
        (size,) = struct.unpack_from(">Q", head, 16)
        digest = head[24:56]
    else:
        return None
    image = flash[app_offset : app_offset + size]
    return Found(size, digest, signature, len(image) == size > 0 and hashlib.sha256(image).digest() == digest)


def signed_by(found: Found, key: ec.EllipticCurvePublicKey) -> bool:
    """Whether a key's owner has signed what a header names."""
    if len(found.signature) != 64:
        return False
    r, s = (int.from_bytes(half, "big") for half in (found.signature[:32], found.signature[32:]))
    try:
        key.verify(utils.encode_dss_signature(r, s), found.digest, ec.ECDSA(utils.Prehashed(SHA256())))
    except InvalidSignature:
        return False
    return True
