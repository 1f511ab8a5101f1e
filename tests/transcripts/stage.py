"""Where transcripts are played: the service with a device of bytes, or the client with servers of bytes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from pdmlab.coap.transport import Address
from pdmlab.network.fabric import Host
from tests.transcripts.script import Bytes, Transcript

PATIENCE = 300.0  # s of device time that an answer may take, unless the transcript says otherwise


class Port:
    """A UDP port of the test's: what came in, and where it goes."""

    def __init__(self, host: Host, number: int, peer: Address | None) -> None:
        self._socket = host.open_datagram(self._arrived, number)
        self.peer = peer
        self.came: deque[bytes] = deque()
        self._news = asyncio.Event()

    def _arrived(self, data: bytes, source: Address) -> None:
        self.peer = source
        self.came.append(data)
        self._news.set()

    def send(self, data: bytes) -> None:
        assert self.peer is not None, "nobody has spoken on this port yet"
        self._socket.send(data, self.peer)

    async def receive(self, seconds: float) -> bytes | None:
        """Return the next datagram; None if there is none in time."""
        try:
            async with asyncio.timeout(seconds):
                while not self.came:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return None
        return self.came.popleft()


async def play(
    transcript: Transcript,
    ports: dict[str, Port],
    known: dict[str, bytes],
    calls: dict[str, Callable[[], Awaitable[None]]],
) -> None:
    """Play all steps; AssertionError says at which line what differs."""
    loop, matcher = asyncio.get_running_loop(), Bytes(known)
    for step in transcript.steps:
        where = f"{transcript.path.name}:{step.line}: {step.port} {step.what} {step.args}"
        if step.what == "do":
            await calls[step.args]()
            continue
        port = ports[step.port]
        if step.what == ">":
            port.send(matcher.write(step.args))
        elif step.what == "=":
            came = await port.receive(float(step.args))
            assert came is None, f"{where}\n  but this came: {came.hex(' ')} ({came!r})"
        elif step.what == "~":
            least, most = map(float, step.args.split())
            begun = loop.time()
            came = await port.receive(most)
            assert came is not None, f"{where}\n  nothing came"
            assert loop.time() - begun >= least, (
                f"{where}\n  this came after {loop.time() - begun:.1f} s: {came.hex(' ')}"
            )
            port.came.appendleft(came)
        else:
            came = await port.receive(PATIENCE)
            assert came is not None, f"{where}\n  nothing came in {PATIENCE:g} s"
            differs = matcher.match(step.args, came)
            assert differs is None, f"{where}\n  came {came.hex(' ')}\n  {differs}"
