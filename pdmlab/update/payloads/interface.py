"""What a download asks of a payload's format: bytes as they are fetched go in, bytes of the image come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

ReadActive = Callable[[int, int], bytes]
"""Reads the running image: position and size (B) to bytes; what a delta takes over."""


class Unpacker(Protocol):
    """Unpacks one payload, in the memory that a board has for it.

    resumes_at: from which position of the payload (B) fetching can go on so that the image goes on at `position`;
    None where it cannot, and everything is fetched anew.
    """

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take the next bytes of the payload, in pieces of any size; yield what there is of the image now.

        Raises:
            ManifestRejected: the payload is not what its format says (result 26, 42 or 43).
        """
        ...

    def finish(self) -> Iterator[bytes]:
        """Say that the payload has ended; yield the rest of the image.

        Raises:
            ManifestRejected: it has ended in the middle.
        """
        ...

    def resumes_at(self, position: int) -> int | None:
        """Say from where in the payload to fetch on, for an image of which `position` bytes are kept.

        It is asked before anything is fed; what is fed then begins there.
        """
        ...


class Raw:
    """The payload is the image."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Pass the bytes on."""
        yield data

    def finish(self) -> Iterator[bytes]:
        """Nothing is held back."""
        return iter(())

    def resumes_at(self, position: int) -> int | None:
        """Go on where the image does."""
        return position
