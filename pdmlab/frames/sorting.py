"""Lines of text in order, however many: sorted pieces on disk, merged."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

IN_MEMORY = 2 << 20
"""Characters that are sorted at once; more go to temporary files."""


def sorted_lines(lines: Iterable[str], folder: Path | None = None) -> Iterator[str]:
    """Give lines in the order of their characters; no line may hold a newline.

    folder: where the temporary files are made, which nobody else sees.
    """
    with ExitStack() as files:
        pieces: list[TextIO] = []
        held: list[str] = []
        size = 0
        for line in lines:
            held.append(line)
            size += len(line)
            if size >= IN_MEMORY:
                piece = files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder))
                piece.writelines(f"{one}\n" for one in sorted(held))
                piece.seek(0)
                pieces.append(piece)
                held, size = [], 0
        held.sort()
        if not pieces:
            yield from held
            return
        yield from heapq.merge(held, *(_lines_of(piece) for piece in pieces))


def _lines_of(piece: TextIO) -> Iterator[str]:
    for line in piece:
        yield line[:-1]
