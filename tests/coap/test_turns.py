"""Who sends much gets its turns, and no more: other connections are served in between, and nothing is lost."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from pdmlab.coap.admission import StreamParameters
from pdmlab.coap.framing import Lengths
from pdmlab.coap.link import Link
from pdmlab.coap.reliable import Reliable
from pdmlab.coap.tcp import tcp
from pdmlab.coap.tls import tls
from pdmlab.coap.transport import Address, Opener
from pdmlab.errors import Unreachable
from tests.coap.peers import Ear, Raw, run
from tests.coap.test_tls import SERVER, Device

TURN, MANY = 4, 150
LIMITS = StreamParameters(messages_a_turn=TURN)
PING = bytes.fromhex("00e2")


def message(number: int) -> bytes:
    return bytes((0x52, 1)) + number.to_bytes(2, "big") + number.to_bytes(2, "big")


def frame(number: int) -> bytes:
    """Return the same for RFC 8323."""
    return bytes((0x02, 0x01)) + number.to_bytes(2, "big")


class Peer:
    """One that writes all it has to say at once."""

    def __init__(self, way: str, raw: Raw, device: Device | None) -> None:
        self.way, self.raw, self.device = way, raw, device

    @classmethod
    async def to(cls, way: str, address: Address) -> Peer:
        if not way.startswith("tls"):
            return cls(way, await Raw.to(address), None)
        device = await Device.to(address)
        return cls(way, device.raw, device)

    def say(self, numbers: range) -> None:
        if self.way == "tcp length":
            self.raw.writer.write(b"".join(b"\0\0\0\6" + message(each) for each in numbers))
        elif self.device is None:
            self.raw.writer.write(b"\0\xe1" + b"".join(map(frame, numbers)))
        elif self.way == "tls record":
            self.raw.writer.write(self.device.seal(*map(message, numbers)))
        else:
            self.raw.writer.write(self.device.seal(b"\0\xe1", b"".join(map(frame, numbers))))


class Turns(Ear):
    """An ear that counts the loop's turns."""

    def __init__(self) -> None:
        super().__init__()
        self.heard_in: list[tuple[int, bytes, Address]] = []
        self._turn = 0
        self._loop = asyncio.get_running_loop()
        self._ticks = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._turn += 1
        self._ticks = self._loop.call_soon(self._tick)

    def stop(self) -> None:
        self._ticks.cancel()

    async def open(self, opener: Opener) -> Any:
        def on_message(data: bytes, peer: Address) -> None:
            self.heard_in.append((self._turn, data, peer))
            self.messages.put_nowait((data, peer))

        socket = await opener(on_message)
        socket.on_lost = lambda peer, why: self.losses.put_nowait((peer, why))
        return socket


def opener(way: str) -> Opener:
    if way.startswith("tls"):
        return tls("127.0.0.1", 0, SERVER, parameters=LIMITS)
    return tcp(parameters=LIMITS)


WAYS = pytest.mark.parametrize("way", ["tcp length", "tcp rfc8323", "tls record", "tls rfc8323"])


@WAYS
def test_many_messages_at_once_are_taken_in_turns_and_in_order(way: str) -> None:
    async def story() -> None:
        ear = Turns()
        server = await ear.open(opener(way))
        flood, other = await Peer.to(way, server.address), await Peer.to(way, server.address)
        flood.say(range(MANY))
        other.say(range(1))
        flood.raw.writer.write_eof()
        lost, _ = await ear.lost()  # not before all that came before it
        theirs = [(turn, data[-2:]) for turn, data, peer in ear.heard_in if peer == lost]
        assert [number for _, number in theirs] == [each.to_bytes(2, "big") for each in range(MANY)]
        turns = [len(list(group)) for _, group in itertools.groupby(turn for turn, _ in theirs)]
        assert max(turns) == TURN
        (at,) = (at for at, (_, _, peer) in enumerate(ear.heard_in) if peer != lost)
        assert at < MANY - 1, "the other was served in between"
        ear.stop()
        server.close()
        await flood.raw.close()
        await other.raw.close()

    run(story)


@WAYS
def test_connection_that_breaks_loses_nothing_that_came_and_is_not_written_to(way: str) -> None:
    async def story() -> None:
        ear = Turns()
        server = await ear.open(opener(way))
        peer = await Peer.to(way, server.address)
        peer.say(range(MANY))
        _, name = await ear.heard()
        assert len(ear.heard_in) < MANY
        link: Link = server.find(name)
        link.transport.abort()
        with pytest.raises(Unreachable):
            server.send(message(1), name)
        await ear.lost()
        assert [data[-2:] for _, data, _ in ear.heard_in] == [each.to_bytes(2, "big") for each in range(MANY)]
        assert ear.losses.empty() and server.admission.connections == 0
        ear.stop()
        server.close()
        await peer.raw.close()

    run(story)


@WAYS
def test_closing_ends_what_was_put_off(way: str) -> None:
    async def story() -> None:
        ear = Turns()
        server = await ear.open(opener(way))
        peer = await Peer.to(way, server.address)
        peer.say(range(MANY))
        await ear.heard()
        server.close()
        heard = len(ear.heard_in)
        await peer.raw.ended()
        assert len(ear.heard_in) == heard < MANY
        ear.stop()
        await peer.raw.close()

    run(story)


@WAYS
def test_defect_in_a_later_turn_ends_the_connection(way: str) -> None:
    async def story() -> None:
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        heard: list[bytes] = []

        def on_message(data: bytes, peer: Address) -> None:
            heard.append(data)
            if len(heard) > TURN:
                raise ZeroDivisionError

        server = await opener(way)(on_message)
        losses: asyncio.Queue[object] = asyncio.Queue()
        server.on_lost = lambda peer, why: losses.put_nowait(why)  # type: ignore[attr-defined]
        peer = await Peer.to(way, server.address)
        peer.say(range(MANY))
        await peer.raw.ended()
        await losses.get()
        assert len(heard) == TURN + 1 and losses.empty()
        assert [type(problem["exception"]) for problem in problems] == [ZeroDivisionError]
        server.close()
        await peer.raw.close()

    run(story)


def test_framings_leave_what_is_more() -> None:
    lengths = Lengths()
    assert lengths.receive(b"".join(b"\0\0\0\6" + message(each) for each in range(3)) + b"\0", 2) == [
        message(0),
        message(1),
    ]
    assert lengths.more
    assert lengths.receive(b"", 2) == [message(2)]
    assert lengths.unfinished and not lengths.more
    assert lengths.receive(b"\0\0\6" + message(3), 1) == [message(3)]
    assert not lengths.unfinished and not lengths.more

    reliable = Reliable()
    assert reliable.receive(PING * 5 + frame(7), 3) == []
    assert reliable.more and len(reliable.take_back()) == 3 * len(PING)
    assert len(reliable.receive(b"", 3)) == 1
    assert not reliable.more and len(reliable.take_back()) == 2 * len(PING)


def test_release_waits_for_the_requests_behind_it() -> None:
    async def story() -> None:
        ear = Turns()
        server = await ear.open(tcp(parameters=LIMITS))
        peer = await Raw.to(server.address)
        peer.writer.write(b"\0\xe1" + bytes.fromhex("00e4") + b"".join(map(frame, range(MANY))))
        await ear.heard()
        assert len(ear.heard_in) < MANY
        while len(ear.heard_in) < MANY:
            data, name = await ear.heard()
        for _, data, name in ear.heard_in:
            server.send(bytes((0x62, 0x45)) + data[2:6], name)
        await ear.lost()
        assert (await peer.ended()).count(b"\x02\x45") == MANY
        ear.stop()
        server.close()
        await peer.close()

    run(story)
