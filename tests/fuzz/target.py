"""What a fuzzed parser is to a run: its check, its bounds, and the corpus that mutation starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as File

CORPUS = File(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """A parser, how long an input is at most (B) and may take (s of the thread's time), and its share of a run's."""

    name: str
    check: Callable[[bytes], None]
    longest: int = 1024
    seconds: float = 0.25
    weight: float = 1.0

    def corpus(self) -> list[bytes]:
        """Return the inputs to start from."""
        return list(read_corpus((CORPUS / f"{self.name}.txt").read_text(encoding="utf-8")))


def read_corpus(text: str) -> Iterator[bytes]:
    """Yield the inputs of a corpus: lines in hex ("x ..."), or as they are ("t ..."); # begins a remark."""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "x":
            yield bytes.fromhex(rest.partition("#")[0])
        elif kind == "t":
            yield rest.encode()
