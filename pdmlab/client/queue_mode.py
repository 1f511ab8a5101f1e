"""Queue mode: a device that hears only for a while after it has sent something, as over UDP the radio sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pdmlab.client.server import PARAMETERS
from pdmlab.coap.transport import Address, ConnectionSocket, DatagramSocket, Identity, Opener
from pdmlab.errors import NetworkError

AWAKE = PARAMETERS.max_transmit_wait
"""How long it listens after each message that it has sent (s): all its retransmissions, as builds without a
connection ID do; those with one stop after one and a half round trips."""


def sleepy(opener: Opener, on_change: Callable[[bool], None] | None = None, *, awake: float = AWAKE) -> Opener:
    """Return an opener of sockets that hear nothing but for `awake` seconds after they have sent.

    on_change hears of each time that the device falls asleep (False) or wakes up (True).
    """

    async def open_(on_message: Callable[[bytes, Address], None]) -> DatagramSocket:
        nap = _Nap(on_message, on_change, awake)
        inner = await opener(nap.deliver)
        return _SleepyConnection(inner, nap) if isinstance(inner, ConnectionSocket) else _SleepySocket(inner, nap)

    return open_


class _Nap:
    """Whether the device listens; it is awake when it begins."""

    def __init__(
        self, on_message: Callable[[bytes, Address], None], on_change: Callable[[bool], None] | None, awake: float
    ) -> None:
        self._on_message = on_message
        self._on_change = on_change
        self._awake = awake
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.sent()

    def sent(self) -> None:
        """Listen for a while from now on."""
        if self._timer is None:
            self._tell(True)
        else:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._awake, self._sleep)

    def deliver(self, data: bytes, address: Address) -> None:
        """Hand a message on, or lose it: nobody listens."""
        if self._timer is not None:
            self._on_message(data, address)

    def stop(self) -> None:
        """Be no longer there."""
        if self._timer is not None:
            self._timer.cancel()

    def _sleep(self) -> None:
        self._timer = None
        self._tell(False)

    def _tell(self, awake: bool) -> None:
        if self._on_change is not None:
            self._on_change(awake)


class _SleepySocket:
    """Datagrams without connections."""

    def __init__(self, inner: DatagramSocket, nap: _Nap) -> None:
        self._inner = inner
        self._nap = nap

    @property
    def address(self) -> Address:
        return self._inner.address

    def send(self, data: bytes, address: Address) -> None:
        self._nap.sent()
        self._inner.send(data, address)

    def close(self) -> None:
        self._nap.stop()
        self._inner.close()


class _SleepyConnection(ConnectionSocket):
    """A DTLS association, which stays while the device sleeps."""

    def __init__(self, inner: ConnectionSocket, nap: _Nap) -> None:
        self._inner = inner
        self._nap = nap
        inner.on_lost = self._lost

    def _lost(self, address: Address, why: NetworkError) -> None:
        if self.on_lost is not None:
            self.on_lost(address, why)

    @property
    def address(self) -> Address:
        return self._inner.address

    def send(self, data: bytes, address: Address) -> None:
        self._nap.sent()
        self._inner.send(data, address)

    def connected(self, address: Address) -> bool:
        return self._inner.connected(address)

    def identity(self, address: Address) -> Identity | None:
        return self._inner.identity(address)

    def part(self, identity: Identity, why: str) -> None:
        self._inner.part(identity, why)

    def close(self) -> None:
        self._nap.stop()
        self._inner.close()
