"""The version that an image's own bytes say, at a fixed place in them: what signs the image signs that too.

A firmware header is not under the signature. Whoever has one old signed release could write any version before it, and
raise a counter against downgrade for ever; MCUboot signs its whole header for this reason (docs/design.md).
"""

from __future__ import annotations

import struct

from pdmlab.errors import ConfigError
from pdmlab.update.version import Version

OFFSET = 0x1E8
"""Where in an image the word lies (B), behind the vectors and before what names the image (firmware/image.py)."""
END = OFFSET + 8
_WORD = struct.Struct("<Q")


def pack(version: Version) -> bytes:
    """Return the word: the number that headers have, u64, little endian."""
    return _WORD.pack(version.number)


def version_in(head: bytes) -> Version | None:
    """Return the version that an image says by itself, from its first bytes; None if it says none."""
    if len(head) < END:
        return None
    try:
        return Version.from_number(_WORD.unpack_from(head, OFFSET)[0])
    except ConfigError:
        return None


def disagreement(head: bytes, number: int, text: str) -> str:
    """Say why an image is not of the version that its header or manifest says; nothing if it is.

    head: its first bytes. number, text: that version.
    """
    own = version_in(head)
    if own is None:
        return "what was signed does not say of which version it is"
    return "" if own.number == number else f"its header says {text}, what was signed {own}"
