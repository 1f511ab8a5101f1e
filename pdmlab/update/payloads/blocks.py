"""Encrypted blocks: how payloads come over the line, and candidates lie in their slot, that nobody else may read.

    cipher = BlockCipher(key)
    blocks = [cipher.seal(index, image[at : at + BLOCK_DATA]) for index, at in enumerate(range(0, size, BLOCK_DATA))]

A block is an 8-byte tag and up to 1016 bytes of AES-128-CCM without further data; the nonce is the block's number
as a 64-bit little-endian counter (mbed-cloud-client 4.13, fota_crypto.c and fota_candidate.c). Two ways to a key:

* one of the candidate's own, which lies beside it, wrapped under a key that is derived from the device's. The
  counter begins at 1. This is the stock default, and the only way for payloads that a service has encrypted.
* the device's, derived in another way; the counter begins at 0. The vendor calls it deprecated and vulnerable:
  all candidates are encrypted with the same key and the same nonces.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.update.header import WrappedKey

KEY_SIZE = 16
TAG_SIZE = 8
BLOCK_SIZE = 1024
"""A block with its tag (B); the last one of an image may be shorter."""
BLOCK_DATA = BLOCK_SIZE - TAG_SIZE

# NIST SP 800-108 in counter mode: counter, label, 0, context, length; cut off after 16 bytes, as the stock client does.
_ONE_TIME = b"\x01FOTA\x00" + bytes.fromhex("563be98a94fd0dc06580")
_DEVICE = b"01FOTA00563be98a"  # the same in hexadecimal digits, by the stock client's mistake


class BlockCipher:
    """Seals and opens the blocks of one image under one key; first: what the counter of block 0 is.

    A key must not serve two images: equal nonces would show where they differ.
    """

    def __init__(self, key: bytes, *, first: int = 1) -> None:
        if len(key) != KEY_SIZE:
            raise ConfigError(f"blocks are encrypted with keys of {KEY_SIZE} bytes, not {len(key)}")
        self._ccm = AESCCM(key, tag_length=TAG_SIZE)
        self._first = first

    @classmethod
    def of_device(cls, device_key: bytes) -> BlockCipher:
        """Return the cipher of the deprecated way, where the device's own key (16 B) encrypts."""
        return cls(_derive(device_key, _DEVICE), first=0)

    def __repr__(self) -> str:
        return f"<BlockCipher: AES-128-CCM-{TAG_SIZE}, counter from {self._first}>"

    def seal(self, index: int, data: bytes) -> bytes:
        """Return block number `index`, from 0: tag and encrypted data."""
        sealed = self._ccm.encrypt(self._nonce(index), data, None)
        return sealed[-TAG_SIZE:] + sealed[:-TAG_SIZE]

    def open(self, index: int, block: bytes) -> bytes:
        """Return the data of block number `index`.

        Raises:
            ImageRejected: it was encrypted under another key or as another block, or it has changed.
        """
        try:
            return self._ccm.decrypt(self._nonce(index), block[TAG_SIZE:] + block[:TAG_SIZE], None)
        except (InvalidTag, ValueError) as error:  # ValueError: shorter than a tag
            raise ImageRejected(
                f"block {index} of {len(block)} B does not open: its tag does not fit the key and the data",
                hint="it was encrypted under another key, or it has changed",
            ) from error

    def _nonce(self, index: int) -> bytes:
        return (self._first + index).to_bytes(8, "little")


def wrap_key(key: bytes, device_key: bytes, iv: int) -> WrappedKey:
    """Encrypt a candidate's key for its header; iv is a random number of 64 bits, new each time."""
    block = BlockCipher(_derive(device_key, _ONE_TIME), first=iv).seal(0, key)
    return WrappedKey(block[TAG_SIZE:], block[:TAG_SIZE], iv)


def unwrap_key(wrapped: WrappedKey, device_key: bytes) -> bytes:
    """Return a candidate's key; raise ImageRejected where another device has wrapped it, or it has changed."""
    return BlockCipher(_derive(device_key, _ONE_TIME), first=wrapped.iv).open(0, wrapped.tag + wrapped.key)


def sealed_size(size: int) -> int:
    """Return how long `size` bytes are as encrypted blocks (B)."""
    return size + -(-size // BLOCK_DATA) * TAG_SIZE


def _derive(device_key: bytes, context: bytes) -> bytes:
    if len(device_key) != KEY_SIZE:
        raise ConfigError(f"device keys have {KEY_SIZE} bytes, not {len(device_key)}")
    return hmac.new(device_key, context, hashlib.sha256).digest()[:KEY_SIZE]
