"""A network in memory that loses, repeats and reorders datagrams by a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from pdmlab.coap.transport import Address, Opener


class Lossy:
    """Datagrams between addresses; `loss` and `copies` are shares, `delay` the shortest and longest (s)."""

    def __init__(
        self, seed: int, loss: float = 0, copies: float = 0, delay: tuple[float, float] = (0.005, 0.005)
    ) -> None:
        self.random = random.Random(seed)
        self.loss, self.copies, self.delay = loss, copies, delay
        self.sockets: dict[Address, Callable[[bytes, Address], None]] = {}

    def opener(self, address: Address) -> Opener:
        """Return the opener of a socket at an address."""

        async def open_(on_datagram: Callable[[bytes, Address], None]) -> _Socket:
            self.sockets[address] = on_datagram
            return _Socket(self, address)

        return open_

    def carry(self, data: bytes, source: Address, target: Address) -> None:
        """Bring a datagram to its target, or not, or twice."""
        loop = asyncio.get_running_loop()
        for _ in range(2 if self.random.random() < self.copies else 1):
            if self.random.random() >= self.loss:
                loop.call_later(self.random.uniform(*self.delay), self._arrive, data, source, target)

    def _arrive(self, data: bytes, source: Address, target: Address) -> None:
        if target in self.sockets:
            self.sockets[target](data, source)


class _Socket:
    def __init__(self, network: Lossy, address: Address) -> None:
        self.network, self.address = network, address

    def send(self, data: bytes, address: Address) -> None:
        self.network.carry(data, self.address, address)

    def close(self) -> None:
        self.network.sockets.pop(self.address, None)
