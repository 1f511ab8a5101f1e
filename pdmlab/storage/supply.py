"""What feeds media: it can be made to fail in the middle of one of their programs or erases."""

from __future__ import annotations

from collections.abc import Callable

from pdmlab.clock import PowerLost


def _lose_power() -> None:
    raise PowerLost


class Supply:
    """Counts the programs and erases of all media on it, and fails at one of them, of which a part takes effect.

    operations: how many there were. last: in what, of which medium, it failed, such as "erase flash".
    writes_left: how many still succeed before it fails, once; None: it is sound.
    cut: what its failing does, beyond the operation; on a board it takes the power away.
    """

    def __init__(self, cut: Callable[[], None] = _lose_power) -> None:
        self.operations = 0
        self.last = ""
        self.writes_left: int | None = None
        self.cut = cut

    def fails(self, operation: str) -> bool:
        """Count one program or erase; whether the supply fails in the middle of it."""
        self.operations += 1
        if self.writes_left is None:
            return False
        self.writes_left -= 1
        if self.writes_left >= 0:
            return False
        self.writes_left, self.last = None, operation
        return True

    def __repr__(self) -> str:
        state = "sound" if self.writes_left is None else f"fails after {self.writes_left} more"
        return f"<supply: {self.operations} programs and erases, {state}>"
