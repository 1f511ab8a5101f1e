"""Encrypted payloads: an image, or a combined package, in blocks that only the manifest's receiver can open.

A service encrypts what was uploaded, block by block (`pdmlab.update.payloads.blocks`), and puts the key behind the
signed manifest when it sends that to a device. The manifest's payload digest and size are those of the blocks; its
installed digest and size those of the image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pdmlab.errors import ImageRejected
from pdmlab.update.manifest import Manifest
from pdmlab.update.payloads.blocks import BLOCK_DATA, BLOCK_SIZE, BlockCipher, sealed_size
from pdmlab.update.results import FotaResult, rejected


def with_key(signed: bytes, key: bytes) -> bytes:
    """Return a signed manifest with the key (16 B) of its payload behind it: context tag 1, not signed."""
    return signed + bytes((0x81, len(key))) + key


class Encryptor:
    """Encrypts an image that comes in pieces of any size, under a key of 16 bytes that serves no other one.

    size    bytes of the payload so far
    digest  the SHA-256 of these
    """

    def __init__(self, key: bytes) -> None:
        self._cipher = BlockCipher(key)
        self._waiting = bytearray()
        self._index = 0
        self.size = 0
        self.digest = hashlib.sha256()

    def __repr__(self) -> str:
        return f"<Encryptor: {self.size} B>"

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the image; return the blocks that are full."""
        self._waiting += data
        full = len(self._waiting) // BLOCK_DATA * BLOCK_DATA
        blocks = b"".join(self._seal(at, at + BLOCK_DATA) for at in range(0, full, BLOCK_DATA))
        del self._waiting[:full]
        return self._count(blocks)

    def finish(self) -> bytes:
        """Return the last block, which may be none."""
        return self._count(self._seal(0, len(self._waiting)) if self._waiting else b"")

    def _seal(self, start: int, stop: int) -> bytes:
        self._index += 1
        return self._cipher.seal(self._index - 1, bytes(self._waiting[start:stop]))

    def _count(self, blocks: bytes) -> bytes:
        self.digest.update(blocks)
        self.size += len(blocks)
        return blocks


def encrypt(image: bytes, key: bytes) -> bytes:
    """Return the payload of a whole image."""
    encryptor = Encryptor(key)
    return encryptor.feed(image) + encryptor.finish()


class EncryptedUnpacker:
    """Opens the blocks of an encrypted payload as they come, one at a time.

    A block that does not open gives no more of the image, and the verdict at the end, as with the stock client: the
    payload is another one than the manifest's (26), or it is the same and the key another (43). After a resumption,
    when the payload was not seen as a whole, it is 43.
    """

    def __init__(self, manifest: Manifest, key: bytes) -> None:
        self._cipher = BlockCipher(key)
        self._manifest = manifest
        self._digest: hashlib._Hash | None = hashlib.sha256()
        self._waiting = bytearray()
        self._index = 0
        self._skip = 0
        self._broken: ImageRejected | None = None
        if (size := sealed_size(manifest.installed_size)) != manifest.payload_size:
            raise rejected(
                FotaResult.PAYLOAD_CORRUPTED,
                f"an image of {manifest.installed_size} B has {size} B encrypted, not {manifest.payload_size}",
            )

    def __repr__(self) -> str:
        return f"<EncryptedUnpacker: {self._index} of {-(-self._manifest.payload_size // BLOCK_SIZE)} blocks>"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes of the payload; yield what of the image is in whole blocks."""
        if self._digest is not None:
            self._digest.update(data)
        if self._broken is not None:
            return
        self._waiting += data
        while len(self._waiting) >= BLOCK_SIZE and self._broken is None:
            block = bytes(self._waiting[:BLOCK_SIZE])
            del self._waiting[:BLOCK_SIZE]
            yield from self._open(block)

    def finish(self) -> Iterator[bytes]:
        """Open the last block.

        Raises:
            ManifestRejected: a block did not open, or blocks are missing (26, 43).
        """
        if self._waiting and self._broken is None:
            yield from self._open(bytes(self._waiting))
        self._waiting.clear()
        whole = -(-self._manifest.payload_size // BLOCK_SIZE)
        if self._broken is None and self._index == whole:
            return
        reason = self._broken.message if self._broken else f"{self._index} of {whole} blocks came"
        if self._digest is not None and self._digest.digest() == self._manifest.payload_digest:
            raise rejected(FotaResult.CRYPTO, f"{reason}; the payload is the manifest's, so the key is not its own")
        result = FotaResult.PAYLOAD_CORRUPTED if self._digest is not None else FotaResult.CRYPTO
        raise rejected(result, reason)

    def resumes_at(self, position: int) -> int | None:
        """Go on with the block that holds this position of the image; what is kept of it is not yielded again."""
        if position:
            self._index, self._skip = divmod(position, BLOCK_DATA)
            self._digest = None
        return self._index * BLOCK_SIZE

    def _open(self, block: bytes) -> Iterator[bytes]:
        try:
            data = self._cipher.open(self._index, block)
        except ImageRejected as error:
            self._broken = error
            self._waiting.clear()
            return
        self._index += 1
        if fresh := data[self._skip :]:
            yield fresh
        self._skip = 0
