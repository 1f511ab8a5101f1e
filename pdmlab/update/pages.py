"""How an image lies in a candidate slot: at once, in pages with a checksum, or in encrypted pages.

A page has a fixed size and says whether it is whole, so that a download that was cut off goes on behind the last good
one, and a page that was torn is passed over (mbed-cloud-client 4.13, fota.c and fota_candidate.c). The header in the
slot tells which it is: flags 0, FLAG_RESUME, or FLAG_ENCRYPTED with or without FLAG_RESUME.
"""

from __future__ import annotations

import struct
from typing import Protocol

from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.update.header import FLAG_ENCRYPTED, FLAG_RESUME, FirmwareHeader, HeaderFields, WrappedKey
from pdmlab.update.payloads.blocks import TAG_SIZE, BlockCipher, unwrap_key

PAGE_SIZE = 1024
"""MBED_CLOUD_CLIENT_FOTA_CANDIDATE_BLOCK_SIZE unless a build says otherwise (B)."""
_CHECKSUM = struct.Struct("<H")
CHECKSUM_SIZE = _CHECKSUM.size


class Pages(Protocol):
    """One image's pages of page_size B, of which `room` are data; flags and wrapped_key go into its header."""

    @property
    def flags(self) -> int:
        """The header's flags."""
        ...

    @property
    def page_size(self) -> int:
        """A page's size on the medium (B)."""
        ...

    @property
    def room(self) -> int:
        """How many of them are data (B)."""
        ...

    @property
    def wrapped_key(self) -> WrappedKey | None:
        """The image's own key, as its header has it."""
        ...

    def seal(self, index: int, data: bytes) -> bytes:
        """Make page number `index`, from 0, of up to `room` bytes."""
        ...

    def open(self, index: int, page: bytes) -> bytes:
        """Return the data of a page; raise ImageRejected if it is not whole, or not that page."""
        ...


class ChecksummedPages:
    """The byte sum of the data, modulo 65536, before them: what a build with full resume and no encryption writes."""

    flags = FLAG_RESUME
    wrapped_key = None

    def __init__(self, page_size: int = PAGE_SIZE) -> None:
        self.page_size = _checked(page_size, _CHECKSUM.size)
        self.room = page_size - _CHECKSUM.size

    def __repr__(self) -> str:
        return f"<pages of {self.page_size} B with a checksum>"

    def seal(self, index: int, data: bytes) -> bytes:
        """Put the checksum before the data."""
        return _CHECKSUM.pack(sum(data) & 0xFFFF) + data

    def open(self, index: int, page: bytes) -> bytes:
        """Return the data of a page; raise ImageRejected if the checksum is another's."""
        data = page[_CHECKSUM.size :]
        if len(page) < _CHECKSUM.size or _CHECKSUM.unpack_from(page)[0] != sum(data) & 0xFFFF:
            raise ImageRejected(f"page {index} has another checksum than its data")
        return data


class EncryptedPages:
    """A tag before the encrypted data; the number of a page goes into its nonce, so that pages do not change places."""

    def __init__(
        self,
        cipher: BlockCipher,
        *,
        wrapped_key: WrappedKey | None = None,
        page_size: int = PAGE_SIZE,
        resume: bool = True,
    ) -> None:
        self.flags = FLAG_ENCRYPTED | (FLAG_RESUME if resume else 0)
        self.wrapped_key = wrapped_key
        self.page_size = _checked(page_size, TAG_SIZE)
        self.room = page_size - TAG_SIZE
        self._cipher = cipher

    def __repr__(self) -> str:
        return f"<encrypted pages of {self.page_size} B>"

    def seal(self, index: int, data: bytes) -> bytes:
        """Encrypt the data."""
        return self._cipher.seal(index, data)

    def open(self, index: int, page: bytes) -> bytes:
        """Decrypt a page; raise ImageRejected if it is no such page under this key."""
        return self._cipher.open(index, page)


def pages_of(header: FirmwareHeader | HeaderFields, device_key: bytes | None) -> Pages | None:
    """Return how the image under a header lies, None: at once; device_key is the device's root of trust (16 B).

    Raises:
        ImageRejected: it is encrypted, and there is no device key or it was encrypted by another device.
    """
    if header.flags & FLAG_ENCRYPTED:
        if device_key is None:
            raise ImageRejected("the candidate is encrypted, and the device has no key")
        wrapped = header.wrapped_key
        cipher = BlockCipher.of_device(device_key) if wrapped is None else BlockCipher(unwrap_key(wrapped, device_key))
        resume = bool(header.flags & FLAG_RESUME)
        return EncryptedPages(cipher, wrapped_key=wrapped, page_size=_told(header, TAG_SIZE), resume=resume)
    if header.flags & FLAG_RESUME:
        return ChecksummedPages(_told(header, _CHECKSUM.size))
    return None


def _told(header: FirmwareHeader | HeaderFields, overhead: int) -> int:
    if header.block_size <= overhead:
        raise ImageRejected(f"a firmware header with pages of {header.block_size} B")
    return header.block_size


def _checked(page_size: int, overhead: int) -> int:
    if not overhead < page_size <= 0xFFFF:
        raise ConfigError(f"a candidate's pages cannot have {page_size} B", hint="fota.candidate-block-size is 1024")
    return page_size
