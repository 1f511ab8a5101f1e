"""An image's bytes on their way into the service: counted, and encrypted for devices where that is wanted.

Only the encrypted bytes are kept then, with the key, which goes to devices alone: behind their signed manifest.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from pdmlab.update.payloads.blocks import KEY_SIZE
from pdmlab.update.payloads.encrypted import Encryptor


@dataclass(frozen=True)
class Content:
    """What there is to know of an image's bytes: size (B) and SHA-256 in hex; of the encrypted ones too, if it is."""

    size: int
    checksum: str
    encrypted_size: int | None = None
    encrypted_checksum: str | None = None
    key: bytes | None = field(default=None, repr=False)

    @property
    def is_encrypted(self) -> bool:
        """Whether what is kept are the encrypted bytes."""
        return self.key is not None


class Incoming:
    """One image that comes in parts; encrypt: under a new key, which serves no other."""

    def __init__(self, *, encrypt: bool = False) -> None:
        self._key = secrets.token_bytes(KEY_SIZE) if encrypt else None
        self._encryptor = None if self._key is None else Encryptor(self._key)
        self._digest = hashlib.sha256()
        self.size = 0

    def __repr__(self) -> str:
        return f"<Incoming: {self.size} B{', encrypted' if self._encryptor else ''}>"

    @property
    def kept(self) -> int:
        """How many bytes there are to keep so far."""
        return self.size if self._encryptor is None else self._encryptor.size

    def take(self, part: bytes) -> bytes:
        """Take the image's next bytes; return those that are to be kept."""
        self._digest.update(part)
        self.size += len(part)
        return part if self._encryptor is None else self._encryptor.feed(part)

    def finish(self) -> tuple[bytes, Content]:
        """Return the last bytes to keep, and what there is to know of all."""
        if self._encryptor is None:
            return b"", Content(self.size, self._digest.hexdigest())
        last = self._encryptor.finish()
        encrypted = self._encryptor.size, self._encryptor.digest.hexdigest()
        return last, Content(self.size, self._digest.hexdigest(), *encrypted, self._key)
