"""Stand-in for an image's code: bytes that differ between two builds of an application as compiled code does.

An application's name makes its functions. A build changes the ends of a few of them, and the length of some, so
that what comes after moves; and every call between places that have moved apart has another distance. So builds
of one application share most bytes, and a delta between them is small; two applications share none.
"""

from __future__ import annotations

import functools
import hashlib
import struct

CHANGED = 1 / 50
"""The part of its functions that a build has otherwise than all others."""

_SIZES = 64, 960  # of functions (B), in steps of 4
_TAIL = 48  # bytes at a changed function's end that are new
_CALL_EVERY = 64  # bytes of a function to one call
_NEAR = 16  # functions to either side, among which half of the calls go
_CALL = struct.Struct("<i")


@functools.lru_cache(4)  # each point of a sweep has a board of its own, with the same image
def code(application: str, version: str, build: str, size: int) -> bytes:
    """Return size bytes that stand for this build's code; the same names give the same bytes."""
    sizes = _sizes(application, size)
    growth = _changes(f"{application}/{version}/{build}", len(sizes))
    starts, end = [], 0
    for index, length in enumerate(sizes):
        starts.append(end)
        end += length + growth.get(index, 0)
    written = bytearray()
    for index, length in enumerate(sizes):
        function = bytearray(_draw(f"{application}/{index}", length))
        for at in range(_CALL_EVERY // 2, length - _TAIL, _CALL_EVERY):
            (drawn,) = _CALL.unpack_from(function, at)
            callee = drawn if drawn < 0 else index + drawn % (2 * _NEAR) - _NEAR
            _CALL.pack_into(function, at, starts[callee % len(sizes)] - starts[index] - at)
        if index in growth:
            function[-_TAIL:] = _draw(f"{application}/{version}/{build}/{index}", _TAIL + growth[index])
        written += function
    return bytes(written[:size])


def _sizes(application: str, size: int) -> list[int]:
    """List how long each function is, for size bytes of them at least (B)."""
    least, most = _SIZES
    drawn = struct.iter_unpack("<H", _draw(f"{application}/sizes", 2 * (size // least + 1)))
    sizes: list[int] = []
    total = 0
    while total < size:
        sizes.append(least + next(drawn)[0] % (most - least) // 4 * 4)
        total += sizes[-1]
    return sizes


def _changes(build: str, count: int) -> dict[int, int]:
    """Return which functions a build changes, and by how much each of them is longer (B): half of them are not."""
    drawn = struct.iter_unpack("<IHH", _draw(build, 8 * (int(count * CHANGED) + 1)))
    return {which % count: how * 4 % 128 if chance & 1 else 0 for which, chance, how in drawn}


def _draw(name: str, size: int) -> bytes:
    return hashlib.shake_256(name.encode()).digest(size)
