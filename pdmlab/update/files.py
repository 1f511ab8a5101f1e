"""Files as people name them: read with a bound that fits what they are, and written whole, secret ones to their owner.

image = read_file(path, MAX_IMAGE, "image")
write_secret(path, image)
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from pdmlab.errors import ConfigError

MAX_IMAGE = 256 << 20
"""Bytes of an image, a patch or a package: what a service takes."""
MAX_MANIFEST = 64 << 10
"""Bytes of a signed manifest of any kind, without a payload in it."""
MAX_TEXT = 1 << 20
"""Bytes of a configuration, or of C source that holds credentials."""
MAX_KEY = 64 << 10
"""Bytes of a key or a certificate, or of vendor data."""

SECRET, PUBLIC = 0o600, 0o644


def read_file(path: Path | str, most: int, what: str, *, longer: tuple[bytes, int] | None = None) -> bytes:
    """Read a whole file of at most `most` bytes; `what` it should be is for the error.

    longer: what a file that may have more begins with, and how much that may have (B).

    Raises:
        ConfigError: it cannot be read, or has more, as /dev/zero has.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
            if longer is not None and len(data) > most and data.startswith(longer[0]):
                most = longer[1]
                data += file.read(most + 1 - len(data))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > most:
        raise ConfigError(f"{path} has more than {most:,} B", hint=f"name a file that is {what}")
    return data


def read_text(path: Path | str, most: int, what: str) -> str:
    """Read a whole text file of at most `most` bytes, UTF-8, whatever ends its lines.

    Raises:
        ConfigError: as `read_file` does, or it is no UTF-8.
    """
    try:
        text = read_file(path, most, what).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint=f"name a file that is {what}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Put a file in place whole or not at all, readable by its owner alone from the first byte on; make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _put(path, data, mode)


def write_secret(path: Path, data: bytes) -> None:
    """Put a file in place for its owner alone, whatever mode one of that name has; a link keeps leading to it.

    What is no regular file, such as a pipe, a terminal or /dev/stdout, gets the bytes as it is.

    Raises:
        OSError: it cannot be written.
    """
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            with open(path, "wb") as opened:
                opened.write(data)
            return
    _put(Path(os.path.realpath(path)), data, SECRET)


def _put(path: Path, data: bytes, mode: int) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.")  # 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
