"""Whether an image is what its header says, and signed: asked of every image before it is started or copied."""

from __future__ import annotations

import hashlib

from pdmlab.update import signed_version
from pdmlab.update.bootloaders.interface import Hardware
from pdmlab.update.bootloaders.trial.copying import Read
from pdmlab.update.bootloaders.trial.key import ECDSA_VERIFY_NS, is_signed
from pdmlab.update.header import FirmwareHeader
from pdmlab.update.region import CHUNK


class Verifier:
    """Checks images by SHA-256 and signature, at the cost that a microcontroller has.

    point: the public key. room: the largest image that the application's place holds (B).
    """

    def __init__(self, hardware: Hardware, point: bytes, room: int) -> None:
        self._point = point
        self._room = room
        self._clock = hardware.flash.clock
        self._hash_rate = hardware.hash_rate

    def fault(self, header: FirmwareHeader, read: Read) -> str:
        """Say what is wrong with an image; nothing if it is whole, signed, and of the version that its header says.

        Raises:
            StorageError: it cannot be read.
        """
        if header.size > self._room:
            return f"it has {header.size} B, there is room for {self._room}"
        if not header.signature:
            return "it is not signed"
        if self.digest(read, header.size) != header.digest:
            return "it is not whole: its SHA-256 is another"
        self._clock.charge(ECDSA_VERIFY_NS)
        if not is_signed(self._point, header.signature, header.digest):
            return "it is signed by another key than this bootloader's"
        # The header is not under the signature: nobody knows who has written its version.
        head = read(0, min(header.size, signed_version.END))
        return signed_version.disagreement(head, header.version_number, str(header.version))

    def digest(self, read: Read, size: int) -> bytes:
        """Return the SHA-256 of size bytes."""
        digest = hashlib.sha256()
        for at in range(0, size, CHUNK):
            piece = read(at, min(CHUNK, size - at))
            digest.update(piece)
            self._clock.charge(self._hash_rate.cost(len(piece)))
        return digest.digest()
