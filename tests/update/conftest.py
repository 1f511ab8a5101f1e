"""Flash whose supply can be cut at any operation, and a developer's keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.clock import PowerLost
from pdmlab.storage.blockdevice import HeapBlockDevice


class CuttableFlash(HeapBlockDevice):
    """Flash that counts programs and erases, and loses power at one of them, before, within or after it.

    keeps_old_data: as SD cards do, which forget nothing when erased; otherwise erased bytes read 0xFF,
    and programming what is not erased fails the test, as flash would.
    """

    def __init__(self, size: int, read: int, program: int, erase: int, *, keeps_old_data: bool = False) -> None:
        super().__init__(size, read, program, erase)
        self.init()
        self.keeps_old_data = keeps_old_data
        self.operations = 0
        self.cut_at: int | None = None
        self.torn = 0.0  # the part of the operation that still happens
        if not keeps_old_data:
            super().program(0, b"\xff" * size)

    def program(self, addr: int, data: bytes) -> None:
        if not self.keeps_old_data:
            assert self.read(addr, len(data)) == b"\xff" * len(data), f"program at 0x{addr:x} without erase"
        if self._is_cut():
            self._overwrite(addr, data[: int(len(data) * self.torn)])
            raise PowerLost
        super().program(addr, data)

    def erase(self, addr: int, size: int) -> None:
        cut = self._is_cut()
        super().erase(addr, size)
        if not self.keeps_old_data:
            self._overwrite(addr, b"\xff" * (int(size * self.torn) if cut else size))
        if cut:
            raise PowerLost

    def contents(self) -> bytes:
        return self.read(0, self.size)

    def restore(self, contents: bytes) -> None:
        """Put the supply back, and the medium into an earlier state."""
        self.cut_at, self.operations = None, 0
        super().program(0, contents)

    def _is_cut(self) -> bool:
        self.operations += 1
        return self.cut_at is not None and self.operations > self.cut_at

    def _overwrite(self, addr: int, data: bytes) -> None:
        unit = self.program_size
        end = addr + len(data)
        whole = -(-end // unit) * unit
        super().program(addr, data + self.read(addr, whole - addr)[len(data) :])


MEDIA: dict[str, tuple[int, int, int]] = {"SD": (512, 512, 512), "QSPIF": (1, 1, 4096), "FLASHIAP": (1, 8, 4096)}


def make_medium(name: str, size: int) -> CuttableFlash:
    return CuttableFlash(size, *MEDIA[name], keeps_old_data=name == "SD")


@pytest.fixture
def medium() -> Callable[[str, int], CuttableFlash]:
    return make_medium


@pytest.fixture(scope="session")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
