"""Delta payloads: the new image as differences to the running one, applied while they are fetched.

    unpacker = DeltaUnpacker(read_active, installed_size=manifest.installed_size)
    for data in fetched:
        for piece in unpacker.feed(data):
            slot.write(slot.position, piece)

Layout (mbed-cloud-client 4.13.4, fota/bspatch/bspatch.c; manifest-tool 2.6.2 makes the same):

| bytes | what |
|---|---|
| 16 | `PELION/BSDIFF001` |
| 8, 8, 8 | size of the new image; most bytes of a frame, unpacked and packed (sign and magnitude, LE) |
| records | varint d, varint e, signed varint s; frames of d bytes to add to the old image; frames of e new bytes |

After a record the old image is read s bytes further on (or back). A frame is a varint n and n bytes of an LZ4
block. Varints have 7 bits to a byte, the least significant first; the lowest bit of a signed one is its sign.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import NoReturn

from pdmlab.errors import StorageError
from pdmlab.update.payloads.interface import ReadActive
from pdmlab.update.results import FotaResult, rejected

MAGIC = b"PELION/BSDIFF001"
HEADER_SIZE = len(MAGIC) + 24
MAX_VARINT = 7  # bytes; the stock client takes an eighth for a broken patch
MIN_FRAME = 64  # the smallest that the stock client accepts in a header (B)
MAX_FRAME = 16 * 1024
"""The largest frame that is taken (B): a board keeps two of them in RAM, and has 256 KiB for everything."""

Steps = Generator[bytes | None, None, None]
"""Pieces of the image, and None wherever more of the payload is needed."""


class DeltaUnpacker:
    """Applies one patch to the running image, in the memory of two frames.

    Stricter than the stock client where that one notices only by the image's digest, at the end: a frame that
    holds more than its record says, and bytes after the last record, are refused at once.
    """

    def __init__(self, read_active: ReadActive, installed_size: int, *, max_frame: int = MAX_FRAME) -> None:
        self._read_active = read_active
        self._installed_size = installed_size
        self._max_frame = max_frame
        self._old = 0
        self._new = 0
        self._waiting = bytearray()
        self._steps = self._apply()

    def __repr__(self) -> str:
        return f"<DeltaUnpacker: {self._new} of {self._installed_size} B>"

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes of the patch; yield what there is of the new image.

        Raises:
            ManifestRejected: result 42 for what is no patch of this image, 26 for a patch of another size.
        """
        self._waiting += data
        for piece in self._steps:
            if piece is None:
                break
            yield piece

    def finish(self) -> Iterator[bytes]:
        """Raise ManifestRejected (42) unless the whole image was made; nothing is held back."""
        if self._new != self._installed_size:
            _refuse(f"the patch ends after {self._new} of the image's {self._installed_size} B")
        return iter(())

    def resumes_at(self, position: int) -> int | None:
        """Begin anew, as the stock client does: where in the patch an image's byte comes from, only reading tells."""
        return None

    def _apply(self) -> Steps:
        frame_size = self._header((yield from self._take(HEADER_SIZE)))
        while self._new < self._installed_size:
            changed = yield from self._varint()
            fresh = yield from self._varint()
            seek = yield from self._varint()
            if changed + fresh > self._installed_size - self._new:
                _refuse(f"a record of {changed} + {fresh} B does not fit the {self._installed_size - self._new} B left")
            yield from self._frames(changed, frame_size, self._add_old)
            yield from self._frames(fresh, frame_size, lambda frame: frame)
            self._old += -(seek >> 1) if seek & 1 else seek >> 1
        while True:
            if self._waiting:
                _refuse("the patch goes on after the image's end")
            yield None

    def _header(self, header: bytes) -> int:
        """Check the header; return the most bytes that a frame may have."""
        if not header.startswith(MAGIC):
            _refuse(f"the payload begins with {header[: len(MAGIC)]!r}, not {MAGIC!r}")
        size = _signed_magnitude(header[16:24])
        # The stock client reads this field for the packed frames' limit too, and never the next.
        frame_size = _signed_magnitude(header[24:32])
        if not MIN_FRAME <= frame_size <= self._max_frame:
            _refuse(f"frames of {frame_size} B are outside {MIN_FRAME} to {self._max_frame} B")
        if size != self._installed_size:
            raise rejected(
                FotaResult.PAYLOAD_CORRUPTED,
                f"the patch makes an image of {size} B, the manifest says {self._installed_size}",
            )
        return frame_size

    def _frames(self, size: int, frame_size: int, use: Callable[[bytes], bytes]) -> Steps:
        """Unpack frames until they have given size bytes."""
        while size:
            length = yield from self._varint()
            if not 1 <= length <= frame_size:
                _refuse(f"a packed frame of {length} B, with frames of up to {frame_size} B")
            frame = _unpack((yield from self._take(length)), frame_size)
            if len(frame) > size:
                _refuse(f"a frame of {len(frame)} B where its record has {size} B left")
            size -= len(frame)
            piece = use(frame)
            self._new += len(piece)
            yield piece

    def _add_old(self, difference: bytes) -> bytes:
        """Add the old image's next bytes to a frame, each modulo 256."""
        size = len(difference)
        try:
            old = self._read_active(self._old, size) if self._old >= 0 else b""
        except StorageError as error:
            _refuse(f"the running image cannot be read at {self._old} B: {error.message}")
        if len(old) != size:
            _refuse(f"the patch reads {size} B at {self._old} B, which is outside the running image")
        self._old += size
        if not difference.strip(b"\0"):
            return bytes(old)
        # All bytes at once in one integer: the low seven bits are added without a carry into the next byte.
        low = int.from_bytes(b"\x7f" * size, "little")
        a, b = int.from_bytes(old, "little"), int.from_bytes(difference, "little")
        return (((a & low) + (b & low)) ^ ((a ^ b) & ~low)).to_bytes(size, "little")

    def _varint(self) -> Generator[None, None, int]:
        value = 0
        for index in range(MAX_VARINT):
            byte = (yield from self._take(1))[0]
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value
        _refuse(f"a number of more than {MAX_VARINT} bytes")

    def _take(self, size: int) -> Generator[None, None, bytes]:
        """Wait until size bytes of the patch have come, and take them."""
        while len(self._waiting) < size:
            yield None
        taken = bytes(self._waiting[:size])
        del self._waiting[:size]
        return taken


def _unpack(frame: bytes, most: int) -> bytes:
    import lz4.block

    try:
        plain = bytes(lz4.block.decompress(frame, uncompressed_size=most))
    except (lz4.block.LZ4BlockError, ValueError) as error:
        raise rejected(FotaResult.DELTA, f"a frame of {len(frame)} B is no LZ4 block of up to {most} B") from error
    if not plain:
        _refuse("a frame that holds nothing")
    return plain


def _signed_magnitude(data: bytes) -> int:
    value = int.from_bytes(data, "little")
    return value if value < 1 << 63 else -(value & ((1 << 63) - 1))


def _refuse(reason: str) -> NoReturn:
    raise rejected(FotaResult.DELTA, reason)
