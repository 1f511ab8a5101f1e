"""Mutations of inputs by a seed, where nothing guides them by what they reach."""

from __future__ import annotations

import random

_INTERESTING = (0, 1, 4, 7, 8, 12, 13, 14, 15, 16, 32, 64, 127, 128, 129, 192, 208, 224, 240, 252, 253, 254, 255)


class Mutator:
    """Makes inputs of at most `longest` (B) out of others: the same seed and corpus make the same ones."""

    def __init__(self, corpus: list[bytes], seed: int, longest: int = 1024) -> None:
        self._longest = longest
        self._corpus = corpus
        self._random = random.Random(seed)

    def next(self) -> bytes:
        """Return an input of the corpus with one to six changes."""
        draw = self._random
        data = bytearray(draw.choice(self._corpus))
        for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 6))):
            self._change(data)
        return bytes(data[: self._longest])

    def _change(self, data: bytearray) -> None:
        draw = self._random
        at = draw.randrange(len(data) + 1)
        how = draw.randrange(8)
        if how == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif how == 1 and at < len(data):
            data[at] = draw.choice(_INTERESTING)
        elif how == 2:
            data[at:at] = draw.randbytes(draw.choice((1, 1, 2, 4, 9)))
        elif how == 3:
            del data[at : at + draw.choice((1, 1, 2, 4, 16))]
        elif how == 4:  # a piece again, or many times: nesting, repetition
            piece = data[at : at + draw.choice((1, 2, 3, 8, 32))]
            data[at:at] = piece * draw.choice((1, 1, 2, 40))
        elif how == 5:  # the end of another input
            other = draw.choice(self._corpus)
            data[at:] = other[draw.randrange(len(other) + 1) :]
        elif how == 6:
            width = draw.choice((1, 2, 3, 4, 8))
            data[at : at + width] = draw.choice((bytes(width), b"\xff" * width, draw.randbytes(width)))
        else:
            del data[at:]
