"""The text that the suites write, read back and download: 128 KiB, the same bytes everywhere.

It is made by `corpus()` from a list of words and SHAKE-256, so that no copy of it needs to be shipped; its SHA-256
stands here, and is checked whenever it is made.
"""

from __future__ import annotations

import hashlib
from functools import cache

SIZE = 128 * 1024
SHA256 = "ce4f5ceb52885a87fc2f149c2ef004bba310267cda34f04a1ab859a0e3521fa0"

_TEXT = (
    "a address and arrives at bank battery before bit blank block board boots bridge buffer bus byte cable cache card "
    "cell channel chip clock coil cold copies counts current cycle delay device digit drains drives edge empty erases "
    "every fades fails file fills finds first flash for from full gate green grows hears heat holds idle in into is "
    "keeps key lamp last leaves line lists log long loop low map mark meter moves never new node of old on one opens "
    "or packet page part path pin port power probe pulse quiet radio reads red rests returns rises sector sends sensor "
    "series shows signal sleeps slow small speaks spins starts steady step stops store table talks the then three "
    "tick time to token tracks two under unit until voltage waits wakes warm while wire with words writes zero"
)
_WORDS = _TEXT.split()


@cache
def corpus() -> bytes:
    """Return the text: ASCII, sentences of 4 to 11 words in lines of at most 78 characters."""
    stream = hashlib.shake_256(b"pdmlab corpus 1").digest(SIZE)
    lines: list[str] = []
    line, left, capital = "", 0, True
    length = position = 0
    while length <= SIZE:
        if left == 0:
            left, capital = 4 + stream[position] % 8, True
            position += 1
        word = _WORDS[int.from_bytes(stream[position : position + 2], "big") % len(_WORDS)]
        position += 2
        left -= 1
        text = (word.capitalize() if capital else word) + ("" if left else ".")
        capital = False
        if len(line) + 1 + len(text) > 78:
            lines.append(line)
            length += len(line) + 1
            line = text
        else:
            line = f"{line} {text}" if line else text
    text = "\n".join(lines)[: SIZE - 1] + "\n"
    data = text.encode("ascii")
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise AssertionError("the corpus is not the one whose SHA-256 is published")
    return data


def text_of(size: int) -> bytes:
    """Return size bytes of the corpus, again from its beginning where it ends."""
    whole = corpus()
    return (whole * -(-size // len(whole)))[:size]
