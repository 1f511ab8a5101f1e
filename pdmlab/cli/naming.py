"""Which version a file says it is: an image that names itself, one behind its firmware header, or a SUIT envelope."""

from __future__ import annotations

from pdmlab.errors import ImageRejected, ManifestRejected

SUIT = b"\xd8\x6b"
"""The first bytes of a SUIT envelope; no DER begins so."""


def named_version(data: bytes) -> str | None:
    """Return the version that a payload names; None if it names none, or is of a kind that nobody here knows."""
    from pdmlab.firmware.image import read_image
    from pdmlab.update.header import MAX_HEADER_SIZE, FirmwareHeader
    from pdmlab.update.packages import HEADER_START
    from pdmlab.update.suit import Envelope

    try:
        if data.startswith(SUIT):
            return Envelope.parse(data).manifest.version
        if data.startswith(HEADER_START):
            return str(FirmwareHeader.parse(data[:MAX_HEADER_SIZE]).version)
        return read_image(data).version
    except (ImageRejected, ManifestRejected):
        return None
