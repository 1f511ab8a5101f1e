"""pcapng files, written packet by packet: what Wireshark opens (draft-ietf-opsawg-pcapng)."""

from __future__ import annotations

import contextlib
import os
import struct
from errno import EDQUOT, ENOSPC
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO, Literal

from pdmlab.capture.files import opened, set_aside
from pdmlab.errors import NetworkError

Direction = Literal["in", "out"]
LINKTYPE_ETHERNET, LINKTYPE_RAW = 1, 101  # www.tcpdump.org/linktypes.html
SECTION_HEADER, INTERFACE, ENHANCED_PACKET = 0x0A0D0D0A, 1, 6  # §4.1, §4.2, §4.3
BYTE_ORDER_MAGIC = 0x1A2B3C4D
COMMENT, HARDWARE, SYSTEM, APPLICATION = 1, 2, 3, 4  # §3.5, §4.1
IF_NAME, IF_DESCRIPTION, IF_TSRESOL = 2, 3, 9  # §4.2
EPB_FLAGS = 2  # §4.3
NANOSECONDS = b"\x09"  # ten to the minus nine


class PcapngFile:
    """A pcapng file that grows by a packet at a time; times in ns."""

    def __init__(self, path: Path | str, *, link_type: int, name: str, hardware: str, comment: str) -> None:
        self.path = Path(path)
        self.packets = self.size_B = 0
        try:
            self._file: BinaryIO = os.fdopen(opened(self.path, anew=True), "wb")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._interfaces = 0
        section = struct.pack("<IHHq", BYTE_ORDER_MAGIC, 1, 0, -1)  # version 1.0, length not known
        about = _text(COMMENT, comment) + _text(HARDWARE, hardware) + _text(APPLICATION, "pdmlab")
        try:
            self._write(_block(SECTION_HEADER, section, about + _END))
            self.interface(link_type, name, comment)
            self._file.flush()
        except (OSError, NetworkError) as error:
            self.drop()
            raise error if isinstance(error, NetworkError) else _unwritable(self.path, error) from error

    def __repr__(self) -> str:
        return f"<PcapngFile {self.path}, {self.packets} packets>"

    def interface(self, link_type: int, name: str, comment: str) -> int:
        """Add an interface, and return its number for `add`.

        Raises:
            NetworkError: it cannot be written.
        """
        fixed = struct.pack("<HHI", link_type, 0, 0)  # no limit to a packet's length
        named = _text(IF_NAME, name) + _text(IF_DESCRIPTION, comment) + _option(IF_TSRESOL, NANOSECONDS)
        self._write(_block(INTERFACE, fixed, named + _END))
        self._interfaces += 1
        return self._interfaces - 1

    def add(
        self,
        time_ns: int,
        data: bytes,
        direction: Direction,
        comment: str = "",
        *,
        whole: int | None = None,
        interface: int = 0,
    ) -> None:
        """Write a packet that was sent or received at that time (ns); `whole` is its length if not all of it is here.

        Raises:
            NetworkError: it cannot be written: the disk is full, say.
        """
        options = _option(EPB_FLAGS, struct.pack("<I", 1 if direction == "in" else 2))
        if comment:
            options += _text(COMMENT, comment)
        length = len(data) if whole is None else whole
        fixed = struct.pack("<IIIII", interface, time_ns >> 32, time_ns & 0xFFFFFFFF, len(data), length)
        self._write(_block(ENHANCED_PACKET, fixed + _padded(data), options + _END))
        self.packets += 1

    def set_aside(self) -> None:
        """Close the file and rename it to its name and `.1`.

        Raises:
            NetworkError: it cannot be written, or renamed.
        """
        self.close()
        try:
            set_aside(self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def flush(self) -> None:
        """Write what is still in memory: whoever follows the file sees it.

        Raises:
            NetworkError: it cannot be written.
        """
        try:
            self._file.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Write what is still in memory, and close the file.

        Raises:
            NetworkError: it cannot be written.
        """
        try:
            self._file.close()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def drop(self) -> int:
        """Close the file, whether or not all of it can be written, cut what is in it in part; return its packets."""
        with contextlib.suppress(OSError):
            self._file.close()
        if self.path.is_file():
            with contextlib.suppress(OSError), self.path.open("r+b") as file:
                self.packets, whole = _whole_blocks(file)
                file.truncate(whole)
        return self.packets

    def _write(self, block: bytes) -> None:
        try:
            self._file.write(block)
            self.size_B += len(block)
        except OSError as error:
            raise _unwritable(self.path, error) from error


def _whole_blocks(file: BinaryIO) -> tuple[int, int]:
    """Return how many packets a file holds whole, and where the last whole block ends (B)."""
    packets = end = 0
    size = file.seek(0, SEEK_END)
    while end + 12 <= size:
        file.seek(end)
        kind, length = struct.unpack("<II", file.read(8))
        if length < 12 or end + length > size:
            break
        end += length
        packets += kind == ENHANCED_PACKET
    return packets, end


def _unwritable(path: Path, error: OSError) -> NetworkError:
    if isinstance(error, FileNotFoundError):
        hint = f"there is no folder {path.parent}: make it first"
    elif isinstance(error, IsADirectoryError):
        hint = f"that is a folder: name a file in it, such as {path / 'board.pcapng'}"
    elif isinstance(error, PermissionError | NotADirectoryError):
        hint = "choose a place where you may write"
    elif error.errno in (ENOSPC, EDQUOT):
        hint = "the disk is full; the packets before are kept"
    else:
        hint = "may you write there? The packets before are kept"
    return NetworkError(f"the capture {path} could not be written: {error.strerror or error}", hint=hint)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _text(code: int, text: str) -> bytes:
    return _option(code, text.encode()[:0xFFFC])


_END = struct.pack("<HH", 0, 0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _block(kind: int, fixed: bytes, options: bytes) -> bytes:
    length = 12 + len(fixed) + len(options)
    return struct.pack("<II", kind, length) + fixed + options + struct.pack("<I", length)
