from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.network.fabric import Fabric
from pdmlab.network.fileserver import serve_files
from pdmlab.network.interfaces import EthernetInterface
from pdmlab.network.link import Link

T = TypeVar("T")
FILE = bytes(i * 7 % 251 for i in range(100_000))


@pytest.fixture
def clock() -> Iterator[DeviceClock]:
    with DeviceClock() as clock:
        yield clock


@pytest.fixture
def fabric(clock: DeviceClock) -> Fabric:
    return Fabric(clock, seed=1)


class Desk:
    """A board's interface, a server with a file, and the fabric between them."""

    content = FILE

    def __init__(self, clock: DeviceClock, link: Link, seed: int = 1) -> None:
        self.clock = clock
        self.fabric = Fabric(clock, seed)
        self.server = self.fabric.host("downloads.pdmlab")
        serve_files(self.server, {"/file": FILE})
        self.net = EthernetInterface(clock, fabric=self.fabric, link=link, seed=seed)
        self.transcript: list[str] = []
        self.fabric.tap = lambda packet, arrived: self.transcript.append(f"{packet.sent} {packet} {arrived}")

    def run(self, work: Callable[[], T]) -> T:
        """Run device code on the connected board."""

        def main() -> T:
            self.net.connect()
            return work()

        return self.clock.call(main)


@pytest.fixture
def desk(clock: DeviceClock) -> Callable[..., Desk]:
    return lambda link=None, seed=1: Desk(clock, link or Link.of("ethernet", jitter=0), seed)
