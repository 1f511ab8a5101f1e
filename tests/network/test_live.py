from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
import threading
from collections.abc import Iterator

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.errors import Unreachable
from pdmlab.network.fabric import Fabric
from pdmlab.network.interfaces import EthernetInterface
from pdmlab.network.link import Link
from pdmlab.network.shaped import ShapedStream
from pdmlab.network.sockets import TCPSocket, UDPSocket

CONTENT = hashlib.shake_256(b"live").digest(16_384)
LINK = Link.of("ethernet", latency=1_000_000, jitter=0, attach=())


@pytest.fixture
def server() -> Iterator[int]:
    """A real TCP server that sends CONTENT, then returns what it hears; the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(ConnectionError):
            connection.sendall(CONTENT)
            while data := connection.recv(4096):
                connection.sendall(data.upper())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    thread.join(60)
    listener.close()


def receive(tcp: TCPSocket, size: int, piece: int) -> bytes:
    got = b""
    while len(got) < size:
        got += tcp.recv(piece)
    return got


def test_a_real_connection_makes_the_clock_live_and_passes_through_the_link(clock: DeviceClock, server: int) -> None:
    net = EthernetInterface(clock, fabric=Fabric(clock), link=LINK)
    pieces: list[int] = []

    def main() -> bytes:
        net.connect()
        assert clock.pace == "virtual"
        with TCPSocket(net) as tcp:
            tcp.set_receive_buffer(512)
            before = net._shaper.down.packets
            tcp.connect("127.0.0.1", server)
            assert clock.pace == "live" and clock.name == "host"
            got = receive(tcp, len(CONTENT), 512)
            pieces.append(net._shaper.down.packets - before)
            assert tcp.send(b"thanks") == 6
            return got + receive(tcp, 6, 512)

    assert clock.call(main) == CONTENT + b"THANKS"
    # No more than the window is ever on the way: so the content crossed in windowfuls or less.
    assert pieces[0] >= 1 + len(CONTENT) / 512


def test_the_window_bounds_what_is_read_ahead_of_the_application(clock: DeviceClock, server: int) -> None:
    net = EthernetInterface(clock, link=LINK)

    def main() -> int:
        net.connect()
        with TCPSocket(net) as tcp:
            tcp.set_receive_buffer(1000)
            tcp.connect("localhost", server)
            stream = tcp._stream
            assert isinstance(stream, ShapedStream)
            while len(stream._in) < 1000:
                clock.sleep(1_000_000)
            return len(tcp.recv(len(CONTENT)))

    assert clock.call(main) == 1000


def test_datagrams_to_a_real_peer_pass_through_the_link(clock: DeviceClock) -> None:
    net = EthernetInterface(clock, link=LINK)
    peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))

    def answer() -> None:
        data, source = peer.recvfrom(100)
        peer.sendto(data[::-1], source)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()

    def main() -> tuple[bytes, tuple[str, int]]:
        net.connect()
        with UDPSocket(net) as udp:
            udp.sendto("127.0.0.1", peer.getsockname()[1], b"abc")
            return udp.recvfrom(100)

    assert clock.call(main) == (b"cba", peer.getsockname())
    assert (net._shaper.up.packets, net._shaper.down.packets) == (1, 1)
    thread.join()
    peer.close()


def test_what_a_socket_sent_last_leaves_although_it_is_closed_at_once(clock: DeviceClock) -> None:
    """A DTLS client's alert, which says why it goes away."""
    net = EthernetInterface(clock, link=LINK)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(60)
        address = peer.getsockname()

        heard: list[bytes] = []

        def last_words() -> None:
            net.connect()
            leaving = clock.run(net.opener(address)(lambda data, source: heard.append(data)))
            leaving.send(b"why", address)
            leaving.arrived(b"too late", address)
            leaving.close()
            leaving.close()
            leaving.send(b"later", address)
            assert len(net._shaper._open) == 1

        def lost() -> None:
            assert not net._shaper._open
            dropped = clock.run(net.opener(address)(lambda data, source: heard.append(data)))
            dropped.send(b"lost", address)
            net.disconnect()  # takes with it what is on the link
            assert not net._shaper._open
            clock.sleep(5_000_000)

        clock.call(last_words)
        assert peer.recv(10) == b"why"
        clock.call(lost)
        peer.setblocking(False)
        with pytest.raises(BlockingIOError):
            peer.recv(10)
        assert heard == []


def test_a_lossy_link_loses_real_datagrams_too(clock: DeviceClock) -> None:
    net = EthernetInterface(clock, link=LINK.with_(loss=1.0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.setblocking(False)

        def main() -> None:
            net.connect()
            with UDPSocket(net) as udp:
                udp.sendto("127.0.0.1", peer.getsockname()[1], b"abc")
                clock.sleep(5_000_000)

        clock.call(main)
        assert net._shaper.up.lost == 1
        with pytest.raises(BlockingIOError):
            peer.recv(10)


def test_a_closed_real_port_refuses(clock: DeviceClock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    net = EthernetInterface(clock, link=LINK)

    def main() -> None:
        net.connect()
        TCPSocket(net).connect("127.0.0.1", port)

    with pytest.raises(Unreachable, match=r"refuses the connection.*NSAPI_ERROR_NO_CONNECTION"):
        clock.call(main)


def test_a_reset_board_lets_go_of_its_real_sockets(clock: DeviceClock, server: int) -> None:
    net = EthernetInterface(clock, link=LINK)

    def main() -> None:
        net.connect()
        tcp = TCPSocket(net)
        tcp.connect("127.0.0.1", server)
        receive(tcp, 10, 10)

    clock.call(main)
    assert len(net._shaper._open) == 1
    clock.call_async(_reset(net))
    clock.halt()
    assert not net._shaper._open


async def _reset(net: EthernetInterface) -> None:
    net.reset()
    await asyncio.sleep(0)
