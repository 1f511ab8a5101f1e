"""A driver whose operations are noted, and what is needed to play them again: a clock that adds up, a blank medium."""

from __future__ import annotations

import contextlib
from typing import Literal

from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.medium import Medium
from pdmlab.storage.wrappers import Wrapper

Kind = Literal["read", "program", "erase", "begin", "end"]
Step = tuple[int, Kind, int, int]
"""Time since the step before (ns), what is done, address and size (B)."""


class Traced(Wrapper):
    """Notes every operation, and the time between them that is not the device's."""

    def __init__(self, device: BlockDevice, steps: list[Step]) -> None:
        super().__init__(device)
        self._steps = steps
        self._last = self.clock.now()

    def note(self, kind: Kind, address: int = 0, size: int = 0) -> None:
        """Note what is done now."""
        now = self.clock.now()
        self._steps.append((now - self._last, kind, address, size))
        self._last = now

    def read(self, address: int, size: int) -> bytes:
        """Read, and note it."""
        self.note("read", address, size)
        data = self.device.read(address, size)
        self._last = self.clock.now()
        return data

    def program(self, address: int, data: bytes) -> None:
        """Program, and note it."""
        self.note("program", address, len(data))
        self.device.program(address, data)
        self._last = self.clock.now()

    def erase(self, address: int, size: int) -> None:
        """Erase, and note it."""
        self.note("erase", address, size)
        self.device.erase(address, size)
        self._last = self.clock.now()


class Counting:
    """A clock that only adds up."""

    name: Literal["device"] = "device"

    def __init__(self) -> None:
        self.time = 0

    def now(self) -> int:
        return self.time

    def charge(self, ns: int) -> None:
        self.time += ns

    sleep = charge

    def mutex(self) -> Nobodys:
        return Nobodys(self)


class Nobodys(contextlib.nullcontext[None]):
    """A mutex that nobody else wants."""

    def __init__(self, clock: Counting) -> None:
        super().__init__()
        self._clock = clock

    def acquire(self) -> None:
        pass

    release = acquire

    def charge_alone(self, ns: int) -> bool:
        self._clock.charge(ns)
        return True


class Blank(Medium):
    """A part of which nothing is wanted but its time."""

    def read(self, offset: int, size: int) -> bytes:
        """Return nothing."""
        return b""

    def program(self, offset: int, data: bytes) -> None:
        """Take nothing."""

    def erase(self, offset: int, size: int) -> None:
        """Do nothing."""
