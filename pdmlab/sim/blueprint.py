"""What it takes to make boards like one that is open, in this process or in another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pdmlab.network.link import Link

if TYPE_CHECKING:
    from pdmlab.sim.board import VirtualBoard


@dataclass(frozen=True)
class Blueprint:
    """A kind of board and the link on its desk; unlike the board itself, it can be sent to another process."""

    target: str
    id: str
    link: Link

    @contextlib.contextmanager
    def scratch(self, *, seed: int) -> Iterator[VirtualBoard]:
        """Give a fresh board of that kind and link with blank media in memory, and end it afterwards."""
        from pdmlab.sim.board import VirtualBoard

        with VirtualBoard(self.target, id=f"{self.id}-scratch", seed=seed, memory=True, power=False) as board:
            board.network.link = self.link
            yield board
