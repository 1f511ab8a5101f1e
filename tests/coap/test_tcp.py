"""CoAP over plain TCP: both framings on one port, in bytes; what hostile peers get; and the in-memory network."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.clock import DeviceClock
from pdmlab.coap.admission import Admission, StreamParameters
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.framing import Lengths, Records
from pdmlab.coap.reliable import Reliable
from pdmlab.coap.tcp import tcp, tcp_to
from pdmlab.coap.transport import Connection
from pdmlab.errors import ConfigError, NetworkError, TimedOut, Unreachable
from pdmlab.network.fabric import Fabric
from tests.coap.peers import Ear, Raw, echo, run

# A GET of /rd, confirmable, message ID 1, token 7f.
GET, GET_8323 = "41 01 0001 7f b2 7264", "31 01 7f b2 7264"
CSM = "40 e1 22 0480 20"


# -- two framings, one port --------------------------------------------------------------------------


def test_stock_client_and_rfc_8323_share_a_port() -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp())
        stock, other = await Raw.to(server.address), await Raw.to(server.address)
        stock.send("00000008" + GET)
        message, peer = await ear.heard()
        assert message.hex(" ") == "41 01 00 01 7f b2 72 64"
        assert isinstance(peer, Connection) and (peer.scheme, peer.serial) == ("coap+tcp", 1)
        assert tuple(peer) == stock.writer.get_extra_info("sockname")
        server.send(bytes.fromhex("61 45 0001 7f ff 6f6b"), peer)
        await stock.read("00000008 61 45 0001 7f ff 6f6b")

        other.send("00e1" + GET_8323)
        await other.read(CSM)
        message, second = await ear.heard()
        assert message.hex(" ") == "41 01 00 01 7f b2 72 64"
        assert second != peer
        server.send(bytes.fromhex("61 45 0001 7f ff 6f6b"), second)
        await other.read("31 45 7f ff 6f6b")
        server.close()
        assert await stock.ended() == b""
        assert await other.ended() == bytes.fromhex("00e4")  # a Release
        await stock.close()
        await other.close()

    run(story)


def test_endpoint_answers_and_asks_both() -> None:
    async def story() -> None:
        server = await Endpoint.open(tcp(), echo)
        for way in ("length", "rfc8323"):
            client = await Endpoint.open(tcp_to(server.address, framing=way), echo)  # type: ignore[arg-type]
            to = Connection(*server.address, "coap+tcp")
            got = await client.request(Message(code=codes.GET, uri_path=("a", "b"), payload=b"hi"), to)
            assert got.payload == b"a/b|hi"
            got = await client.request(Message(code=codes.GET, uri_path=("large",)), to)
            assert got.payload == bytes(range(256)) * 16
            got = await client.request(Message(code=codes.PUT, uri_path=("up",), payload=bytes(5000)), to)
            assert got.payload == b"up|" + bytes(200)
            back = next(iter(server._peers._peers))  # the server asks its client, by the connection that it has
            assert server.connected(back)
            got = await server.request(Message(code=codes.GET, uri_path=("back",)), back)
            assert got.payload == b"back|"
            assert server.malformed == client.malformed == 0
            await client.close()
            server._peers.drop(back)
        await server.close()

    run(story)


def test_observation_over_rfc_8323_does_not_go_by_the_numbers() -> None:
    """RFC 8323 section 7.1: the stream keeps the order, and the option may be empty each time."""

    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp())
        client = await Endpoint.open(tcp_to(server.address, framing="rfc8323"))
        to = Connection(*server.address, "coap+tcp")
        got: list[bytes] = []
        observing = asyncio.ensure_future(
            client.observe(Message(code=codes.GET, uri_path=("rd",)), to, lambda m: got.append(m.payload))
        )
        message, peer = await ear.heard()
        token = message[4 : 4 + (message[0] & 15)]
        mid = message[2:4]
        for n in range(4):
            head = bytes((0x60 | len(token), 0x45)) + mid if n == 0 else bytes((0x50 | len(token), 0x45, 9, n))
            server.send(head + token + b"\x60\xff" + b"%d" % n, peer)
        observation = await observing
        while len(got) < 3:
            await asyncio.sleep(0)
        assert (observation.first.payload, got) == (b"0", [b"1", b"2", b"3"])
        await client.close()
        server.close()

    run(story)


def test_separate_answers_and_notifications_are_not_sent_twice() -> None:
    async def story() -> None:
        async def slow(message: Message, peer: object) -> Message:
            await asyncio.sleep(0.15)  # longer than ack_delay
            return Message(code=codes.CONTENT, payload=b"late")

        server = await Endpoint.open(tcp(), slow)
        raw = await Raw.to(server.address)
        raw.send("00e1" + GET_8323)
        await raw.read(CSM + "51 45 7f ff 6c617465")
        peer = next(iter(server._peers._peers))
        outcomes: list[str] = []
        server.notify(peer, Message(code=codes.CONTENT, payload=b"n", observe=7), b"\x7f", on_result=outcomes.append)
        await raw.read("41 45 7f 61 07 ff 6e")
        while not outcomes:
            await asyncio.sleep(0)
        assert outcomes == ["acknowledged"]
        assert not server._transmissions
        await server.close()
        assert await raw.ended() == bytes.fromhex("00e4")
        await raw.close()

    run(story)


def test_one_frame_is_one_write_and_nothing_waits_for_more() -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp())
        client = await ear.open(tcp_to(server.address))
        for end in (client._link, next(iter(server._all))):
            assert end.transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert end.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        writes: list[bytes] = []
        client._link.transport.write = writes.append  # type: ignore[method-assign]
        client.send(bytes.fromhex(GET), client.name)
        assert [each.hex() for each in writes] == [("00000008" + GET).replace(" ", "")]
        client.close()
        server.close()

    run(story)


# -- how connections end -----------------------------------------------------------------------------


def test_stock_client_never_gets_more_than_512_bytes_of_payload() -> None:
    """docs/wire.md 1.2 and 1.9: it reads 1152 B at once, and takes blocks of 512 B; RFC 8323 has its CSM."""

    async def story() -> None:
        async def handler(message: Message, peer: object) -> Message:
            if "error" in message.opt.uri_path:
                return Message(code=codes.BAD_REQUEST, payload=b"e" * 3000)
            if "options" in message.opt.uri_path:
                return Message(code=codes.CREATED, location_path=("x" * 250,) * 5)
            return Message(code=codes.CONTENT, payload=bytes(3000))

        server = await Endpoint.open(tcp(), handler)
        stock, other = await Raw.to(server.address), await Raw.to(server.address)
        stock.send("00000006 40010001 b1 61")
        head = await stock.reader.readexactly(4)
        answer = await stock.reader.readexactly(int.from_bytes(head, "big"))
        assert len(answer.split(b"\xff", 1)[1]) == 512
        stock.send("0000000a 40010002 b5 6572726f72")  # an error's text is cut, and not told in blocks
        head = await stock.reader.readexactly(4)
        answer = await stock.reader.readexactly(int.from_bytes(head, "big"))
        assert answer.split(b"\xff", 1)[1] == b"e" * 512
        stock.send("0000000c 40010003 b7 6f7074696f6e73")  # what does not fit at all becomes an error that does
        head = await stock.reader.readexactly(4)
        answer = await stock.reader.readexactly(int.from_bytes(head, "big"))
        assert answer[1] == 0xA0 and b"longer than the 1152 B" in answer

        other.send("20 e1 21 ff" + "20 01 b1 61")  # takes 255 B: blocks of 64 B leave room for options
        await other.read(CSM)
        head = await other.reader.readexactly(3)
        answer = await other.reader.readexactly(head[1] + 13)
        assert len(answer.split(b"\xff", 1)[1]) == 64

        back = next(peer for peer in server._peers._peers if server.block_size(peer) == 512)
        asking = asyncio.ensure_future(server.request(Message(code=codes.PUT, payload=bytes(1000)), back))
        head = await stock.reader.readexactly(4)
        block = await stock.reader.readexactly(int.from_bytes(head, "big"))
        behind_token = block[4 + block[0] % 16 :]  # which may have any byte in it
        assert len(behind_token.split(b"\xff", 1)[1]) == 512
        asking.cancel()
        assert [Reliable().block_size, Lengths().block_size, Records().block_size] == [1024, 512, 512]
        await server.close()
        await stock.close()
        await other.close()

    run(story)


def test_lost_connection_fails_what_waits_and_is_told_once() -> None:
    async def story() -> None:
        async def never(message: Message, peer: object) -> None:
            await asyncio.sleep(3600)

        server = await Endpoint.open(tcp(), never)
        client = await Endpoint.open(tcp_to(server.address))
        to = Connection(*server.address, "coap+tcp")
        told: list[tuple[object, NetworkError]] = []
        client.on_lost = lambda peer, why: told.append((peer, why))
        asking = asyncio.ensure_future(client.request(Message(code=codes.GET), to))
        while not server._tasks:
            await asyncio.sleep(0)
        assert client.connected(to)
        await server.close()
        with pytest.raises(Unreachable, match="closed the connection"):
            await asking
        assert [peer for peer, _ in told] == [to]
        assert not client.connected(to)
        with pytest.raises(Unreachable, match="no connection"):
            await client.request(Message(code=codes.GET), to)
        await client.close()

    run(story)


def test_client_is_told_that_nobody_listens() -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp())
        where = server.address
        server.close()
        with pytest.raises(Unreachable, match=f"{where[1]}: Connect"):
            await ear.open(tcp_to(where))
        taken = await ear.open(tcp())
        with pytest.raises(Unreachable, match="cannot bind TCP"):
            await ear.open(tcp(port=taken.address[1]))
        taken.close()

    run(story)


@pytest.mark.parametrize(
    ("sent", "why", "last"),
    [
        ("47455420 2f20", "it spoke HTTP", ""),
        ("16030102 00010001fc", "it spoke TLS", ""),
        ("0000000c 16030102", "behind a length comes no CoAP message", ""),
        ("ffffffff ffff", "something that is not CoAP", ""),
        ("00000004 40000001 7fffffff", "a length of 2147483647 B", ""),
        ("00e1 f0 7fffffff 01", "16384 B at most", "e5"),
        ("00e1 d002e5ff 6e6f206d6f7265206d656d6f7279", "aborted the connection: no more memory", ""),
        ("00e1 00e4", "the peer released the connection", "e4"),
    ],
)
def test_peer_that_cannot_be_understood_is_dropped_with_a_reason(sent: str, why: str, last: str) -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp())
        raw = await Raw.to(server.address)
        raw.send(sent)
        peer, error = await ear.lost()
        assert why in str(error)
        assert last in (await raw.ended()).hex()
        assert not server.connected(peer)
        assert server.admission.connections == 0
        with pytest.raises(Unreachable):
            server.send(b"\x40\0\0\1", peer)
        server.close()
        await raw.close()

    run(story)


@pytest.mark.parametrize(
    ("sent", "limit", "why"),
    [
        ("", "first_timeout", "said nothing in 0.05 s"),
        ("00", "first_timeout", "said nothing in 0.05 s"),
        ("0000000c 40010001", "message_timeout", "did not finish a message in 0.05 s"),
        ("00e1 d020 01", "message_timeout", "did not finish a message in 0.05 s"),
    ],
)
def test_peer_that_never_finishes_is_dropped_in_time(sent: str, limit: str, why: str) -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp(parameters=StreamParameters(**{limit: 0.05})))
        raw = await Raw.to(server.address)
        raw.send(sent)
        _, error = await ear.lost()
        assert isinstance(error, TimedOut) and why in str(error)
        await raw.ended()
        await raw.close()
        server.close()

    run(story)


def test_dribbling_a_message_does_not_buy_time_but_whole_ones_do() -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp(parameters=StreamParameters(message_timeout=0.2)))
        raw = await Raw.to(server.address)
        raw.send("00000004 40000001 00000100")
        for _ in range(200):
            raw.send("41")
            await asyncio.sleep(0.002)
            if not ear.losses.empty():
                break
        _, error = await ear.lost()
        assert "did not finish" in str(error)
        await raw.close()
        server.close()

    run(story)


def test_peer_that_reads_nothing_is_dropped_when_too_much_waits_for_it() -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp(parameters=StreamParameters(max_unsent=64 << 10)))
        raw = await Raw.to(server.address)
        raw.writer.transport.pause_reading()
        raw.send("00000004 40000001")
        _, peer = await ear.heard()
        with pytest.raises(Unreachable, match="takes nothing"):
            for _ in range(100_000):
                server.send(bytes(1000), peer)
        _, error = await ear.lost()
        assert "B wait for it" in str(error)
        assert not server.connected(peer) and server.admission.connections == 0
        server.close()
        await raw.close()

    run(story)


def test_peer_that_stops_reading_is_dropped_in_time() -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp(parameters=StreamParameters(write_timeout=0.05, frame_gap=0)))
        raw = await Raw.to(server.address)
        raw.writer.transport.pause_reading()
        raw.send("00000004 40000001")
        _, peer = await ear.heard()
        link = server.find(peer)
        while link._stall is None:
            server.send(bytes(1000), peer)
        _, error = await ear.lost()
        assert isinstance(error, TimedOut) and "took nothing for 0.05 s" in str(error)
        server.close()
        await raw.close()

    run(story)


def test_frames_to_a_stock_client_come_one_by_one() -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp())
        raw = await Raw.to(server.address)
        raw.send("00000004 40000001")
        _, peer = await ear.heard()
        for each in range(3):
            server.send(bytes([each] * 4), peer)
        assert server.find(peer).unsent == 16, "the first one is out, and two wait"
        for each in range(3):
            assert await raw.reader.read(4096) == bytes([0, 0, 0, 4]) + bytes([each] * 4)
        raw.send("00000004 40000002")
        await ear.heard()
        server.send(b"read", peer)
        assert server.find(peer).unsent == 0, "it has said something, and so has read what came before"
        assert await raw.reader.read(4096) == b"\0\0\0\4read"
        raw.send("00000004 40000003")
        await ear.heard()
        server.send(b"last", peer)
        server.send(b"more", peer)
        server.close()
        assert await raw.reader.read() == b"\0\0\0\4last\0\0\0\4more", "what waits goes out before the end"
        await raw.close()

    run(story)


def test_more_than_its_share_a_host_does_not_get() -> None:
    async def story() -> None:
        ear = Ear()
        server = await ear.open(tcp(parameters=StreamParameters(max_connections_per_host=2)))
        raws = [await Raw.to(server.address) for _ in range(2)]
        for raw in raws:
            raw.send("00000004 40000001")
            await ear.heard()
        third = await Raw.to(server.address)
        assert await third.ended() == b""
        await raws[0].close()
        await ear.lost()
        again = await Raw.to(server.address)
        again.send("00000004 40000001")
        await ear.heard()
        server.close()
        for raw in (*raws[1:], third, again):
            await raw.close()

    run(story)


def test_admission_leaves_files_and_other_hosts_their_room() -> None:
    few = Admission(StreamParameters(), files=1024)
    assert (few.max_connections, few.max_connections_per_host) == (768, 576)
    assert [few.connect("192.0.2.1") for _ in range(577)].count(True) == 576
    assert few.connect("192.0.2.2")
    many = Admission(StreamParameters(), files=1 << 20)
    assert (many.max_connections, many.max_connections_per_host) == (20_000, 10_000)
    with pytest.raises(ConfigError):
        StreamParameters(max_unsent=100)


def test_server_may_have_as_many_files_open_as_it_is_granted() -> None:
    script = (
        "import resource; _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))\n"
        "from pdmlab.coap.admission import open_files\n"
        "got = open_files()\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard), hard\n"
        "assert got == (None if hard == resource.RLIM_INFINITY else hard)\n"
    )
    pytest.importorskip("resource")
    subprocess.run([sys.executable, "-c", script], check=True)


def test_silent_connections_make_way_oldest_first() -> None:
    admission = Admission(StreamParameters(max_connections=4, max_connections_per_host=3))
    gone: list[str] = []

    def silent(host: str, name: str) -> None:
        def leave() -> None:
            gone.append(name)
            admission.heard_hello(host, leave)
            admission.disconnect(host)

        admission.await_hello(host, leave)

    for name in ("a1", "a2", "a3"):
        assert admission.connect("a")
        silent("a", name)
    assert admission.connect("a") and gone == ["a1"]  # the host's limit
    assert admission.connect("b")
    assert admission.connect("c") and gone == ["a1", "a2"]  # the limit of all: who has most of them pays
    assert admission.connect("b") and gone == ["a1", "a2", "a3"]
    assert not admission._silent
    assert not admission.connect("b")  # nobody is silent any more
    assert admission.connections == 4
    with pytest.raises(ConfigError):
        StreamParameters(messages_a_turn=0)


def test_handshakes_wait_by_host_and_each_host_gets_its_turn() -> None:
    admission = Admission(StreamParameters(max_handshakes=4, max_handshakes_per_host=2))
    begun: list[str] = []

    def start(name: str, still: bool = True) -> Callable[[], bool]:
        return lambda: bool(still and (begun.append(name), True))

    for name in ("a1", "a2", "a3", "a4", "a5"):
        admission.begin("a", start(name, still=name != "a3"))
    admission.begin("b", start("b1"))
    assert begun == ["a1", "a2", "b1"]  # b does not wait behind a
    assert (admission.handshakes, admission.waiting) == (3, 3)
    admission.begin("c", start("c1"))
    admission.begin("d", start("d1"))  # one too many in all
    assert begun == ["a1", "a2", "b1", "c1"]
    admission.end("b")
    assert begun[-1] == "d1"  # a has its two
    admission.end("a")
    assert begun[-1] == "a4"  # a3 has gone meanwhile
    for host in "acda":
        admission.end(host)
    assert begun[-1] == "a5"
    admission.end("a")
    assert (admission.handshakes, admission.waiting) == (0, 0)
    assert admission._handshakes == {} and not admission._waiting


# -- the in-memory network ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["length", "rfc8323"])
async def test_over_the_fabric_in_virtual_time(clock: DeviceClock, way: str) -> None:
    fabric = Fabric(clock)
    cloud, board = fabric.host("cloud"), fabric.host("board")
    server = await Endpoint.open(tcp(accept=cloud.acceptor(5683)), echo)
    assert server.address == (cloud.address, 5683)
    client = await Endpoint.open(tcp_to(server.address, connect=board.connect, framing=way))  # type: ignore[arg-type]
    lost: list[str] = []
    client.on_lost = lambda peer, why: lost.append(str(why))
    to = Connection(*server.address, "coap+tcp")
    answer = await client.request(Message(code=codes.GET, uri_path=("large",)), to)
    assert answer.payload == bytes(range(256)) * 16
    await server.close()
    await asyncio.sleep(1)
    assert len(lost) == 1
    with pytest.raises(Unreachable):
        await Endpoint.open(tcp_to(server.address, connect=board.connect))
    await client.close()


async def test_board_that_is_reset_loses_its_connection_without_a_word(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    cloud, board = fabric.host("cloud"), fabric.host("board")
    server = await Endpoint.open(tcp(accept=cloud.acceptor(5683)), echo)
    client = await Endpoint.open(tcp_to(server.address, connect=board.connect))
    lost: list[NetworkError] = []
    client.on_lost = lambda peer, why: lost.append(why)
    board.forget()
    await asyncio.sleep(1)
    assert "went down with its interface" in str(lost[0])
    await client.close()
    await server.close()


async def test_defect_above_a_connection_ends_that_connection_only(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    cloud, board = fabric.host("cloud"), fabric.host("board")
    problems: list[str] = []
    clock.loop.set_exception_handler(lambda _, context: problems.append(context["message"]))

    def defect(data: bytes, peer: object) -> None:
        raise RuntimeError("a defect")

    server = await tcp(accept=cloud.acceptor(5683))(defect)
    ears = Ear(), Ear()
    clients = [await ear.open(tcp_to(server.address, connect=board.connect)) for ear in ears]
    clients[0].send(b"\x40\x00\x00\x01", clients[0].name)
    _, why = await ears[0].lost()
    assert "reset the connection" in str(why)
    assert problems == ["a connection's protocol failed"]
    assert clients[1].connected(clients[1].name)
    for each in (*clients, server):
        each.close()
    await asyncio.sleep(1)


async def test_large_writes_through_a_small_window(clock: DeviceClock) -> None:
    from pdmlab.network.link import Link

    fabric = Fabric(clock)
    cloud = fabric.host("cloud")
    board = fabric.host("board", Link(receive_buffer=600, send_buffer=500))
    ear = Ear()
    server = await ear.open(tcp(accept=cloud.acceptor(5683)))
    client = await ear.open(tcp_to(server.address, connect=board.connect))
    body = bytes(range(200)) * 5
    for _ in range(20):
        client.send(b"\x40\x02\x00\x01\xff" + body, client.name)
    for _ in range(20):
        message, peer = await ear.heard()
        assert message[5:] == body
    for _ in range(20):
        server.send(b"\x40\x02\x00\x01\xff" + body, peer)
    for _ in range(20):
        assert (await ear.heard())[0][5:] == body
    client.close()
    server.close()
    await asyncio.sleep(1)
