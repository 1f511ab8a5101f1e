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
    """What a header says: size (B), SHA-256 and signature of the image behind it; whether that image is whole.

    number: the version's, as the header has it. own: as the image has it itself, at 0x1e8; 0 if it is shorter.
    """

    size: int
    digest: bytes
    signature: bytes
    whole: bool
    number: int
    own: int


def read_active(flash: bytes, header_offset: int, app_offset: int, *, signed: bool) -> Found | None:
    """Read the header in a flash's bytes and look at the image behind it; None if there is no header.

    signed: whether headers v3 are in the form with a signature, as their bootloader was built.
    """
    head = flash[header_offset:app_offset]
    signature = b""
    if struct.unpack_from("<I", head)[0] == V3_MAGIC:
        size, number = struct.unpack_from("<IQ", head, 4)
        signature = head[16:80] if signed else b""
        digest = head[80:112] if signed else head[16:48]
    elif struct.unpack_from(">II", head) == (V2_MAGIC, 2):
        number, size = struct.unpack_from(">QQ", head, 8)
        digest = head[24:56]
    else:
        return None
    image = flash[app_offset : app_offset + size]
    whole = len(image) == size > 0 and hashlib.sha256(image).digest() == digest
    own = int.from_bytes(image[0x1E8:0x1F0], "little") if len(image) >= 0x1F0 else 0
    return Found(size, digest, signature, whole, number, own)


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
