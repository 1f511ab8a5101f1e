"""Real UDP sockets on loopback: bursts, sockets that are full, and closing in the midst of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.coap import transport
from pdmlab.coap.transport import Address, udp
from pdmlab.errors import Unreachable


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 20))  # type: ignore[arg-type]  # a story is a coroutine


def test_a_burst_arrives_whole_in_order_and_leaves_others_their_turn() -> None:
    async def story() -> None:
        came: list[bytes] = []
        turns = 0
        receiver = await udp()(lambda data, peer: came.append(data))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(200):
                sender.sendto(b"%d" % number, receiver.address)
        before = 0
        while len(came) < 200:
            await asyncio.sleep(0)
            turns += len(came) > before
            assert len(came) - before <= transport._BATCH
            before = len(came)
        assert came == [b"%d" % number for number in range(200)]
        assert turns >= 200 / transport._BATCH
        receiver.close()

    run(story)


def test_what_one_datagram_does_wrong_is_reported_and_the_others_arrive() -> None:
    async def story() -> None:
        came: list[bytes] = []
        problems: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: problems.append(context["exception"]))

        def take(data: bytes, peer: Address) -> None:
            if data == b"3":
                raise RuntimeError("defect")
            came.append(data)

        receiver = await udp()(take)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number in range(9):
                sender.sendto(b"%d" % number, receiver.address)
        while len(came) < 8:
            await asyncio.sleep(0)
        assert came == [b"%d" % number for number in range(9) if number != 3]
        assert [type(each) for each in problems] == [RuntimeError]
        receiver.close()

    run(story)


def test_a_socket_may_be_closed_by_what_it_delivers() -> None:
    async def story() -> None:
        came: list[bytes] = []

        def take(data: bytes, peer: Address) -> None:
            came.append(data)
            if len(came) == 3:
                receiver.close()
                receiver.close()

        receiver = await udp()(take)
        address = receiver.address
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(9):
                sender.sendto(b"x", address)
        while len(came) < 3:
            await asyncio.sleep(0)
        receiver.send(b"nothing", address)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(came) == 3

    run(story)


class Full(socket.socket):
    """A socket whose kernel has no room for the first few datagrams."""

    refusals = 3

    def sendto(self, *args: object) -> int:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        return super().sendto(*args)  # type: ignore[arg-type]


def test_what_the_kernel_has_no_room_for_is_sent_later_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        came: list[bytes] = []
        receiver = await udp()(lambda data, peer: came.append(data))
        monkeypatch.setattr(socket, "socket", Full)
        sender = await udp()(lambda data, peer: None)
        monkeypatch.undo()
        for number in range(5):
            sender.send(b"%d" % number, receiver.address)
        while len(came) < 5:
            await asyncio.sleep(0)
        assert came == [b"0", b"1", b"2", b"3", b"4"]
        sender.close()
        receiver.close()

    run(story)


def test_what_is_too_long_cannot_be_sent() -> None:
    async def story() -> None:
        sender = await udp()(lambda data, peer: None)
        with pytest.raises(Unreachable, match=r"cannot send 70000 B to 127\.0\.0\.1:9"):
            sender.send(bytes(70_000), ("127.0.0.1", 9))
        sender.close()

    run(story)


def test_ipv6_addresses_are_host_and_port_too() -> None:
    async def story() -> None:
        came: list[Address] = []
        try:
            receiver = await udp("::1")(lambda data, peer: came.append(peer))
        except Unreachable:
            pytest.skip("no IPv6 here")
        sender = await udp("::1")(lambda data, peer: None)
        sender.send(b"x", receiver.address)
        while not came:
            await asyncio.sleep(0)
        assert came == [sender.address]
        sender.close()
        receiver.close()

    run(story)


def test_a_clock_that_ends_takes_its_sockets_with_it() -> None:
    async def story() -> object:
        return await udp()(lambda data, peer: None)

    clock = DeviceClock()
    left_open = clock.call_async(story())
    clock.close()
    assert left_open._real.fileno() == -1
