"""What the name of a case says of how it was measured: buffers, threads, block device, file system.

The names are stock firmware's and those of the seed's virtual boards:

>>> case_settings("SD+FAT 1 file, buff   256").buffer(0)
256
>>> case_settings("QSPIF+LFS 3 files, buff 256b/1kb/4kb").buffer(3)
4096
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FILES = re.compile(r"^(\w+)\+(\w+) (\d+) files?, buff\s+(\d+|\d+k?b(?:/\d+k?b)*)$", re.IGNORECASE)
_RECEIVE = re.compile(r"^(\S+)\s+(\d+) buffer$")
_DOWNLOADS = re.compile(r"^(\S+) (\d+) threads?$")
_STRESS = re.compile(r"^(\w+)\+(\w+)\+(\S+) (\d+) threads?, dl, (file seq\.|\d+k?b(?:, \d+k?b)*)$", re.IGNORECASE)
_OTHER = re.compile(r"^(\w+)\+(\w+)\b")

SEQUENTIAL = 1024
"""The write buffer of a stress case that downloads first and writes then (B)."""


@dataclass(frozen=True)
class CaseSettings:
    """What a case's name says; None, or nothing, where it says nothing.

    buffers: the write buffer of each thread that writes a file (B). first_file: the number of the first of them.
    """

    block_device: str | None = None
    file_system: str | None = None
    interface: str | None = None
    threads: int | None = None
    buffers: tuple[int, ...] = ()
    first_file: int = 1
    receive_buffer: int | None = None

    def buffer(self, thread: int) -> int | None:
        """Return the write buffer of a thread (B), by the number in its file's name; None if it is not told."""
        place = max(thread - self.first_file, 0)
        return self.buffers[place] if place < len(self.buffers) else None


def case_settings(case: str) -> CaseSettings:
    """Read a case's name; one that is no suite's of files or downloads says nothing."""
    name = case.strip()
    if found := _FILES.match(name):
        device, file_system, threads, sizes = found.groups()
        count = int(threads)
        buffers = tuple(map(_size, sizes.split("/")))
        if len(buffers) == 1:
            buffers *= count
        return CaseSettings(device, file_system, threads=count, buffers=buffers)
    if found := _STRESS.match(name):
        device, file_system, interface, threads, sizes = found.groups()
        if sizes.lower() == "file seq.":  # the download is thread 1, and over before thread 2 writes
            return CaseSettings(device, file_system, interface, int(threads), (SEQUENTIAL,), first_file=2)
        buffers = tuple(map(_size, sizes.split(", ")))
        return CaseSettings(device, file_system, interface, int(threads), buffers)
    if found := _RECEIVE.match(name):
        return CaseSettings(interface=found[1], threads=1, receive_buffer=int(found[2]))
    if found := _DOWNLOADS.match(name):
        return CaseSettings(interface=found[1], threads=int(found[2]))
    if found := _OTHER.match(name):
        return CaseSettings(found[1], found[2])
    return CaseSettings()


def _size(text: str) -> int:
    """Return a size as case names write it (B): 256, 4b, 1kb."""
    number = re.match(r"\d+", text)
    assert number is not None  # the patterns let nothing else in
    return int(number[0]) * (1024 if "k" in text.lower() else 1)
