"""A socket whose other side is a test that speaks in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pdmlab.clock import DeviceClock
from pdmlab.coap.endpoint import Endpoint, Handler, Tap
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address

PEER: Address = ("192.0.2.1", 5683)
OTHER: Address = ("192.0.2.2", 5683)


def x(*parts: str) -> str:
    """Write bytes as the wire fixture tells them: hex without spaces."""
    return "".join(parts).replace(" ", "")


class Sent(str):
    """A message that the endpoint sent, in hex, with the fields of its header."""

    when: float
    to: Address

    @property
    def mid(self) -> str:
        return self[4:8]

    @property
    def token(self) -> str:
        return self[8 : 8 + 2 * int(self[1], 16)]

    @property
    def body(self) -> str:
        """Options and payload."""
        return self[8 + 2 * int(self[1], 16) :]


class Wire:
    """A socket whose other side is the test; times are in seconds since it was made."""

    address: Address = ("192.0.2.100", 5683)

    def __init__(self, clock: DeviceClock) -> None:
        self.clock = clock
        self.sent: list[Sent] = []
        self.problems: list[str] = []
        self.closed = False
        self.refuse: Exception | None = None
        self.endpoints: list[Endpoint] = []

    async def opener(self, on_datagram: Callable[[bytes, Address], None]) -> Wire:
        self.on_datagram = on_datagram
        return self

    async def open(
        self, handler: Handler | None = None, *, seed: int | None = 1, tap: Tap | None = None, **parameters: float
    ) -> Endpoint:
        """Open an endpoint on this wire."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.problems.append(context["message"]))
        endpoint = await Endpoint.open(
            self.opener, handler, parameters=TransmissionParameters(**parameters), seed=seed, tap=tap
        )
        self.endpoints.append(endpoint)
        return endpoint

    # -- the socket ----------------------------------------------------------------------------------

    def send(self, data: bytes, address: Address) -> None:
        if self.refuse is not None:
            raise self.refuse
        sent = Sent(data.hex())
        sent.when, sent.to = round(asyncio.get_running_loop().time(), 6), address
        self.sent.append(sent)

    def close(self) -> None:
        self.closed = True

    # -- the test's side -----------------------------------------------------------------------------

    async def tell(self, *parts: str, peer: Address = PEER) -> list[Sent]:
        """Deliver a datagram, in hex; return what the endpoint sends at once."""
        self.on_datagram(bytes.fromhex("".join(parts)), peer)
        return await self.heard()

    async def heard(self) -> list[Sent]:
        """Return what the endpoint has sent since the last look; time does not pass."""
        for _ in range(10):
            await asyncio.sleep(0)
        heard, self.sent = self.sent, []
        return heard

    async def one(self) -> Sent:
        """Return the one message that the endpoint has sent since the last look."""
        heard = await self.heard()
        assert len(heard) == 1, heard
        return heard[0]

    async def wait(self, seconds: float) -> list[Sent]:
        """Let time pass; return what the endpoint sends meanwhile."""
        await asyncio.sleep(seconds)
        return await self.heard()


def live_timers(loop: asyncio.AbstractEventLoop) -> list[asyncio.TimerHandle]:
    """Return the timers that would still fire."""
    return [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
