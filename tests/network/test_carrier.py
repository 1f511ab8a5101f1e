"""A carrier that goes away in the middle of anything, and comes back or does not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pdmlab.clock import MS, SECOND, DeviceClock
from pdmlab.errors import NetworkError, TimedOut, Unreachable
from pdmlab.network.download import download
from pdmlab.network.fabric import Fabric
from pdmlab.network.interfaces import CellularInterface, EthernetInterface
from pdmlab.network.link import Link
from pdmlab.network.shaped import ShapedStream
from pdmlab.network.sockets import TCPSocket, UDPSocket
from pdmlab.network.stacks import TcpStack

MakeDesk = Callable[..., Any]  # the desk fixture of conftest.py
SLOW = Link.of("ethernet", latency=50 * MS)


def get(desk: Any) -> Any:
    return download(desk.net, "downloads.pdmlab", "/file", 1024)


def test_a_download_goes_on_by_retransmission_when_the_carrier_is_back_in_time(desk: MakeDesk) -> None:
    board = desk(SLOW)
    quiet: list[int] = []

    def main() -> Any:
        started = board.clock.now()
        work = board.clock.spawn(get, board)
        board.clock.sleep(SECOND)
        board.net.carrier = False
        board.clock.sleep(SECOND // 2)  # what was under way is lost by now
        before = board.net.host.down.packets
        board.clock.sleep(10 * SECOND)
        quiet.append(board.net.host.down.packets - before)
        assert work.alive
        board.net.carrier = True
        return work.join(), board.clock.now() - started

    got, took = board.run(main)
    assert got.content == board.content and quiet == [0]
    assert took > 12 * SECOND and board.server.traffic.retransmissions > 0


def test_a_download_that_the_server_has_given_up_ends_in_a_time_out(desk: MakeDesk) -> None:
    board = desk(SLOW)

    def main() -> None:
        work = board.clock.spawn(get, board)
        board.clock.sleep(SECOND)
        board.net.carrier = False
        work.join()

    with pytest.raises(TimedOut, match=r"nothing came for 1800 s, after \d+ of 100000 B.*NSAPI_ERROR_TIMEOUT"):
        board.run(main)
    assert board.server.traffic.retransmissions == TcpStack.of("linux").data_tries
    assert not board.server._streams


def test_a_board_that_sends_without_a_carrier_gives_up_after_the_stacks_retries(desk: MakeDesk) -> None:
    board = desk(SLOW)

    def main() -> int:
        with TCPSocket(board.net) as tcp:
            tcp.connect("downloads.pdmlab", 80)
            board.net.carrier = False
            before = board.net.host.traffic.retransmissions
            tcp.send(b"GET /file HTTP/1.1\r\n\r\n")
            with pytest.raises(TimedOut, match="no longer answers; 7 tries"):
                tcp.recv(100)
            return int(board.net.host.traffic.retransmissions) - before

    assert board.run(main) == TcpStack.of("lwip").data_tries == 6


def test_the_status_follows_the_carrier_as_lwips_link_callback_does(clock: DeviceClock, fabric: Fabric) -> None:
    net = EthernetInterface(clock, fabric=fabric)
    states: list[str] = []

    def seen(status: Any) -> None:
        clock.sleep(MS)  # in a device thread, so that it may wait
        states.append(status.name.removeprefix("NSAPI_STATUS_"))

    def main() -> None:
        net.connect()
        net.attach(seen)
        net.carrier = False
        with pytest.raises(NetworkError, match="NSAPI_ERROR_BUSY"):
            net.connect()
        with pytest.raises(Unreachable, match="has no carrier just now"):
            net.gethostbyname("anybody")
        assert net.get_ip_address() is None
        clock.sleep(5 * SECOND)
        assert states == ["CONNECTING"]
        net.carrier = True
        clock.sleep(2 * SECOND - MS)
        assert states == ["CONNECTING"]  # the two ends negotiate
        net.carrier = False
        net.carrier = True
        clock.sleep(2 * SECOND + 2 * MS)
        assert states == ["CONNECTING", "GLOBAL_UP"] and net.get_ip_address()
        net.carrier = False
        net.disconnect()
        net.carrier = True
        clock.sleep(10 * SECOND)

    clock.call(main)
    assert states == ["CONNECTING", "GLOBAL_UP", "CONNECTING", "DISCONNECTED"]
    assert net.get_connection_status().name == "NSAPI_STATUS_DISCONNECTED" and net.get_ip_address() is None


def test_a_modem_says_that_it_is_disconnected_and_dials_again(clock: DeviceClock, fabric: Fabric) -> None:
    net = CellularInterface(clock, fabric=fabric)
    states: list[str] = []
    clock.call(net.connect)
    net.attach(lambda status: states.append(status.name))
    net.carrier = False  # from outside, as from a notebook
    net.carrier = True
    clock.call(lambda: clock.sleep(11 * SECOND))
    assert states == ["NSAPI_STATUS_DISCONNECTED", "NSAPI_STATUS_GLOBAL_UP"]


def test_datagrams_are_lost_both_ways_while_there_is_no_carrier(clock: DeviceClock, fabric: Fabric) -> None:
    net = EthernetInterface(clock, fabric=fabric)
    heard: list[bytes] = []
    peer = fabric.host("peer").open_datagram(lambda data, _: heard.append(data), 7)

    def main() -> list[bytes]:
        net.connect()
        got: list[bytes] = []
        mine = clock.run(net.opener(peer.address)(lambda data, _: got.append(data)))
        for carrier in (True, False, True):
            net.carrier = carrier
            clock.sleep(3 * SECOND)
            mine.send(f"to {carrier}".encode(), peer.address)
            peer.send(f"from {carrier}".encode(), mine.address)  # type: ignore[arg-type]
            clock.sleep(SECOND)
        return got

    assert clock.call(main) == [b"from True"] * 2 and heard == [b"to True"] * 2


# -- real sockets --------------------------------------------------------------------------------------------

LIVE = Link.of("ethernet", latency=MS, attach=(), stack="linux")


@pytest.fixture
def echo() -> Iterator[int]:
    """A real TCP server that sends back what it hears; the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            while data := connection.recv(4096):
                connection.sendall(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    thread.join(60)
    listener.close()


def test_a_real_connection_is_silent_without_a_carrier_and_goes_on_with_it(clock: DeviceClock, echo: int) -> None:
    net = EthernetInterface(clock, link=LIVE)

    def main() -> bytes:
        net.connect()
        with TCPSocket(net) as tcp:
            tcp.connect("127.0.0.1", echo)
            tcp.send(b"before ")
            got = tcp.recv(100)
            net.carrier = False
            tcp.send(b"meanwhile ")
            tcp.set_timeout(20)
            with pytest.raises(NetworkError, match="NSAPI_ERROR_WOULD_BLOCK"):
                tcp.recv(100)
            tcp.set_timeout(5000)
            net.carrier = True
            tcp.send(b"after")
            while len(got) < 22:
                got += tcp.recv(100)
            return got

    assert clock.call(main) == b"before meanwhile after"


def test_a_real_connection_is_lost_when_its_sender_has_given_up(
    clock: DeviceClock, echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TcpStack, "gives_up_after", lambda self, round_trip: 5 * MS)
    net = EthernetInterface(clock, link=LIVE)

    def main() -> None:
        net.connect()
        with TCPSocket(net) as tcp:
            tcp.connect("127.0.0.1", echo)
            net.carrier = False
            tcp.send(b"into the void")
            tcp.recv(100)

    with pytest.raises(TimedOut, match=r"after 16 tries without a carrier.*NSAPI_ERROR_CONNECTION_TIMEOUT"):
        clock.call(main)


def test_a_tcp_stack_gives_up_after_its_retries_each_twice_as_late() -> None:
    lwip = TcpStack.of("lwip")
    assert lwip.gives_up_after(0) == sum(1500 * MS << tries for tries in range(7))
    assert [lwip.next_try(passed, 0) for passed in (0, 1500 * MS, 1501 * MS, 5 * SECOND)] == [
        1500 * MS, 1500 * MS, 4500 * MS, 10_500 * MS,
    ]  # fmt: skip


def test_a_real_datagram_is_lost_without_a_carrier(clock: DeviceClock) -> None:
    net = EthernetInterface(clock, link=LIVE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)
        address = peer.getsockname()

        def main() -> list[bytes]:
            net.connect()
            with UDPSocket(net) as udp:
                udp.sendto(*address, b"first")
                (mine,) = udp._sockets.values()
                net.carrier = False
                mine.send(b"lost", address)
                clock.sleep(5 * MS)
                net.carrier = True
                clock.sleep(5 * MS)
                mine.send(b"second", address)
                clock.sleep(10 * MS)
            return [peer.recv(10), peer.recv(10)]

        assert clock.call(main) == [b"first", b"second"]


def test_a_stream_that_ends_holds_nothing_more(clock: DeviceClock, echo: int) -> None:
    net = EthernetInterface(clock, link=LIVE)

    def main() -> ShapedStream:
        net.connect()
        tcp = TCPSocket(net)
        tcp.connect("127.0.0.1", echo)
        stream = tcp._stream
        assert isinstance(stream, ShapedStream)
        net.carrier = False
        tcp.send(b"held")
        clock.sleep(5 * MS)
        assert any(way.held for way in stream._ways.values())
        net.disconnect()
        return stream

    assert not any(way.held or way.end or way.timer for way in clock.call(main)._ways.values())
