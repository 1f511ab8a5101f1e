"""A medium that loses its power before a program or erase."""

from __future__ import annotations

from pdmlab.clock import PowerLost
from pdmlab.storage.medium import Medium


class CutMedium(Medium):
    """left: how many programs and erases still happen; the next one does not."""

    left = 1 << 30

    def program(self, offset: int, data: bytes) -> None:
        self._count()
        super().program(offset, data)

    def erase(self, offset: int, size: int) -> None:
        self._count()
        super().erase(offset, size)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise PowerLost
