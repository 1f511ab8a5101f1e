from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import NetworkError, TimedOut, Unreachable, WouldBlock
from pdmlab.network import interface
from pdmlab.network.download import download
from pdmlab.network.fabric import Fabric
from pdmlab.network.interfaces import EthernetInterface
from pdmlab.network.link import Link
from pdmlab.network.nsapi import NsapiError, nsapi_error
from pdmlab.network.sockets import UDP_QUEUE, TCPSocket, UDPSocket
from pdmlab.network.stream import Stream

MS = 1_000_000
MakeDesk = Callable[..., Any]  # the desk fixture of conftest.py


def test_every_nsapi_code_has_a_name_a_meaning_and_advice() -> None:
    table = tomllib.loads(files("pdmlab.network").joinpath("codes.toml").read_text())
    assert {int(code): row["name"] for code, row in table.items()} == {
        code.value: f"NSAPI_ERROR_{code.name}" for code in NsapiError
    }
    for code in NsapiError:
        error = nsapi_error(code, "it broke")
        assert f"NSAPI_ERROR_{code.name}, {code.value}" in str(error) and error.hint and error.code == code


def test_a_socket_says_what_it_lacks(desk: MakeDesk) -> None:
    board = desk()

    def main() -> list[int]:
        codes = []
        for call in (
            lambda: TCPSocket().recv(1),
            lambda: TCPSocket(board.net).recv(1),
            lambda: TCPSocket(board.net).connect("downloads.pdmlab", 81),
            lambda: TCPSocket(board.net).connect("downlaods.pdmlab", 80),
            lambda: TCPSocket(board.net).connect("198.51.100.7", 80),
            lambda: TCPSocket(board.net).open(board.net),
            lambda: TCPSocket(board.net).set_receive_buffer(0),
        ):
            with pytest.raises(NetworkError) as error:
                call()
            codes.append(error.value.code)
        return codes

    assert board.run(main) == [-3005, -3004, -3004, -3009, -3004, -3003, -3003]
    assert board.clock.pace == "virtual"


def test_addresses_of_this_machine_are_no_world_beyond_it() -> None:
    assert interface._is_ours("127.0.0.1") and interface._is_ours("::1")
    for other in ("198.51.100.7", "2001:db8::7", "224.0.0.1", "255.255.255.255"):
        assert not interface._is_ours(other)


def test_a_simulated_board_may_not_reach_beyond_loopback_and_is_told_how_it_could(desk: MakeDesk) -> None:
    board = desk()
    with pytest.raises(Unreachable, match=r"may not send to 198.51.100.7") as error:
        board.run(lambda: TCPSocket(board.net).connect("198.51.100.7", 80))
    assert "beyond_loopback=True" in str(error.value)


def test_a_non_blocking_socket_raises_would_block_until_sigio(desk: MakeDesk) -> None:
    board = desk(Link.of("ethernet", latency=100 * MS, jitter=0))

    def main() -> tuple[bytes, list[int]]:
        socket, signals = TCPSocket(board.net), []
        socket.connect("downloads.pdmlab", 80)
        socket.sigio(lambda: signals.append(board.clock.now()))
        socket.set_blocking(False)
        socket.send(b"GET /file HTTP/1.1\n\n")
        sent = board.clock.now()
        with pytest.raises(WouldBlock, match="NSAPI_ERROR_WOULD_BLOCK, -3001"):
            socket.recv(8)
        board.clock.sleep(1 * SECOND)
        data = socket.recv(8)
        socket.close()
        return data, [signal - sent for signal in signals]

    data, signals = board.run(main)
    assert data == b"HTTP/1.1"
    assert signals[0] >= 199 * MS


def test_a_timeout_ends_a_recv_on_the_device_clock(desk: MakeDesk) -> None:
    board = desk()

    def main() -> int:
        with TCPSocket(board.net) as socket:
            socket.connect("downloads.pdmlab", 80)
            socket.set_timeout(2500)
            start = board.clock.now()
            with pytest.raises(WouldBlock, match=r"in 2.5 s"):
                socket.recv(1)
            return int(board.clock.now() - start)

    assert board.run(main) == pytest.approx(2.5 * SECOND, rel=0.01)


def test_a_full_send_buffer_makes_a_blocking_send_wait_and_a_non_blocking_one_send_less(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    heard: list[Stream] = []
    fabric.host("sink").listen(9, heard.append)
    net = EthernetInterface(clock, fabric=fabric, link=Link.of("ethernet", latency=50 * MS, send_buffer=1000))

    def main() -> tuple[int, int, int]:
        net.connect()
        socket = TCPSocket(net)
        socket.connect("sink", 9)
        start = clock.now()
        whole = socket.send(bytes(5000))
        waited = clock.now() - start
        socket.set_blocking(False)
        with pytest.raises(WouldBlock, match="no room to send just now"):
            socket.send(b"x")
        clock.sleep(SECOND)
        return whole, waited, socket.send(bytes(5000))

    whole, waited, part = clock.call(main)
    assert whole == 5000 and waited >= 4 * 100 * MS  # four buffers had to be acknowledged first
    assert part == 1000


def echo_host(fabric: Fabric) -> None:
    host = fabric.host("echo")
    socket = host.open_datagram(lambda data, source: socket.send(data.upper(), source), port=7)


def test_datagrams_come_back_with_their_sender(clock: DeviceClock, fabric: Fabric) -> None:
    echo_host(fabric)
    net = EthernetInterface(clock, fabric=fabric)

    def main() -> tuple[bytes, tuple[str, int]]:
        net.connect()
        with UDPSocket(net) as socket:
            assert socket.sendto("echo", 7, b"hello") == 5
            return socket.recvfrom(100)

    assert clock.call(main) == (b"HELLO", (fabric.host("echo").address, 7))


def test_an_oversize_datagram_is_fragmented_on_ethernet_and_refused_on_6lowpan(
    clock: DeviceClock, fabric: Fabric
) -> None:
    echo_host(fabric)
    ethernet = EthernetInterface(clock, fabric=fabric, name="one")
    mesh = EthernetInterface(clock, fabric=fabric, name="two", link=Link.of("6lowpan", loss=0, attach=()))

    def main() -> int:
        ethernet.connect()
        mesh.connect()
        with UDPSocket(ethernet) as socket:
            socket.sendto("echo", 7, bytes(3000))
            assert len(socket.recvfrom(4000)[0]) == 3000
            with pytest.raises(NetworkError, match="carries 65507 B"):
                socket.sendto("echo", 7, bytes(70_000))
        with UDPSocket(mesh) as socket:
            socket.sendto("echo", 7, bytes(1232))  # 1280 less 40 and 8 B of headers
            with pytest.raises(NetworkError, match=r"1233 B is too large for 6lowpan.*NSAPI_ERROR_PARAMETER") as error:
                socket.sendto("echo", 7, bytes(1233))
            return error.value.code

    assert clock.call(main) == -3003


def test_datagrams_that_nobody_reads_fill_the_queue_and_then_are_lost(clock: DeviceClock, fabric: Fabric) -> None:
    echo_host(fabric)
    net = EthernetInterface(clock, fabric=fabric)

    def main() -> int:
        net.connect()
        with UDPSocket(net) as socket:
            socket.set_timeout(1000)
            for _ in range(UDP_QUEUE + 5):
                socket.sendto("echo", 7, b"x")
            clock.sleep(SECOND)
            for count in range(UDP_QUEUE + 5):
                try:
                    socket.recvfrom(10)
                except WouldBlock:
                    return count
        return -1

    assert clock.call(main) == UDP_QUEUE


# -- the interface -------------------------------------------------------------------------------------------


def test_dns_is_asked_again_and_fails_on_a_link_that_carries_nothing(desk: MakeDesk) -> None:
    board = desk(Link.of("ethernet", loss=1.0))
    with pytest.raises(TimedOut, match=r"no answer from DNS about 'downloads.pdmlab' in 15 s") as error:
        board.run(lambda: board.net.gethostbyname("downloads.pdmlab"))
    assert error.value.code == -3009


# -- downloads -----------------------------------------------------------------------------------------------


def transcript(make: Callable[[DeviceClock, Link, int], Any], seed: int) -> list[str]:
    with DeviceClock() as clock:
        board = make(clock, Link.of("wifi", loss=0.02, retries=0), seed)
        board.run(lambda: (download(board.net, "downloads.pdmlab", "/file", 1024), clock.sleep(60 * SECOND)))
        return board.transcript


def test_the_same_seed_gives_the_same_transcript_and_another_seed_another(desk: MakeDesk) -> None:
    make = type(desk())
    first, again, other = (transcript(make, seed) for seed in (7, 7, 8))
    assert first == again and first != other and len(first) > 300


def test_a_download_measures_calls_and_waits(desk: MakeDesk) -> None:
    board = desk(Link.of("ethernet", latency=50 * MS, jitter=0))
    got = board.run(lambda: download(board.net, "downloads.pdmlab", "/file", 256, window=256))
    assert got.bytes == len(board.content)
    assert got.first == pytest.approx(100 * MS, rel=0.01)
    assert got.calls >= got.bytes / 256
    assert got.latency(50) == pytest.approx(100 * MS, rel=0.01)
    assert got.latency(0) <= got.latency(50) <= got.latency(100) <= got.duration


def test_a_file_that_is_not_there_is_said_so(desk: MakeDesk) -> None:
    board = desk()
    with pytest.raises(NetworkError, match=r"http://downloads.pdmlab/nothing was answered by 'HTTP/1.1 404 Not Found'"):
        board.run(lambda: download(board.net, "downloads.pdmlab", "/nothing", 512))


def test_a_server_that_hangs_up_early_is_said_so(desk: MakeDesk) -> None:
    board = desk()

    def hang_up(stream: Stream) -> None:
        def answer() -> None:
            if stream.read_now(1000):
                stream.write_now(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                stream.close()

        stream.on_event = answer

    board.server.listen(8080, hang_up)
    with pytest.raises(Unreachable, match="ended after 4 of 10 B"):
        board.run(lambda: download(board.net, "downloads.pdmlab", "/file", 512, port=8080))
