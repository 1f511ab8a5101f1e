"""CoAP over TLS: records as the stock client has them, resumption, renegotiation, limits, and the in-memory network."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from OpenSSL import SSL

from pdmlab.clock import DeviceClock
from pdmlab.coap import psk
from pdmlab.coap.admission import StreamParameters
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.handshake import Handshake
from pdmlab.coap.hello import is_whole
from pdmlab.coap.openssl import client_context, connection, resumed
from pdmlab.coap.security import HandshakeStep, Security
from pdmlab.coap.tls import tls, tls_to
from pdmlab.coap.transport import Address, Connection
from pdmlab.errors import HandshakeFailed, NetworkError, Unreachable
from pdmlab.network.fabric import Fabric, Packet
from pdmlab.network.link import Link
from tests.coap.certificates import ALWAYS, Authority
from tests.coap.peers import SOON, Ear, Raw, echo, run

CA = Authority("Lab CA")
SERVER, CLIENT = CA.security("server"), CA.security("board-1")
PSK = Security(psk_of={b"board-1": b"secret-key-of-16"}.get)
GET = bytes.fromhex("41 01 0001 7f b2 7264")
ANSWER = bytes.fromhex("61 45 0001 7f ff 6f6b")


class Device:
    """A TLS client in bytes, over OpenSSL that pdmlab's links do not drive: each record is looked at."""

    def __init__(self, raw: Raw, end: SSL.Connection) -> None:
        self.raw, self.end = raw, end
        self._rest = b""

    @classmethod
    async def to(cls, address: Address, security: Security = CLIENT, *, shake: bool = True) -> Device:
        device = cls(await Raw.to(address), connection(client_context(security), Handshake(server=False)))
        if shake:
            await device.shake()
        return device

    async def shake(self) -> None:
        while True:
            try:
                self.end.do_handshake()
            except SSL.WantReadError:
                self.flush()
                self.end.bio_write(await self.record())
            else:
                self.flush()
                return

    @classmethod
    async def greeting(cls, address: Address) -> Device:
        """Connect, say hello, and say no more."""
        device = await cls.to(address, shake=False)
        with pytest.raises(SSL.WantReadError):
            device.end.do_handshake()
        device.flush()
        return device

    def flush(self) -> bytes:
        try:
            out = self.end.bio_read(65536)
        except SSL.WantReadError:
            return b""
        self.raw.writer.write(out)
        return out

    def seal(self, *messages: bytes) -> bytes:
        """Return messages as they would go on the wire, each in a record of its own."""
        for message in messages:
            self.end.send(message)
        return self.end.bio_read(65536)

    async def record(self) -> bytes:
        """Return the next record as it came."""
        async with asyncio.timeout(SOON):
            head = await self.raw.reader.readexactly(5)
            return head + await self.raw.reader.readexactly(int.from_bytes(head[3:], "big"))

    async def read(self) -> bytes:
        """Return what the next record holds: a message."""
        record = await self.record()
        assert record[0] == 23
        self.end.bio_write(record)
        return self.end.recv(20000)


Story = Callable[[Ear, Any], Awaitable[None]]


def served(
    story: Callable[..., Awaitable[None]], security: Security = SERVER, **limits: float
) -> list[HandshakeFailed]:
    """Run a story with a server's ear and socket; return the failures that the server named."""
    failures: list[HandshakeFailed] = []

    async def play() -> None:
        ear = Ear()
        named = replace(security, names_failure=lambda peer, why: failures.append(why))
        server = await ear.open(tls("127.0.0.1", 0, named, parameters=StreamParameters(**limits)))  # type: ignore[arg-type]
        await story(ear, server)
        server.close()
        assert server.admission.handshakes == 0 and server.admission.connections == 0

    run(play)
    return failures


# -- records -----------------------------------------------------------------------------------------


def test_one_message_is_one_record_both_ways() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.to(server.address)
        device.raw.writer.write(device.seal(GET))
        message, peer = await ear.heard()
        assert message == GET
        assert isinstance(peer, Connection) and peer.scheme == "coaps+tcp"
        known = server.identity(peer)
        assert (known.kind, known.name, known.certificates) == ("certificate", "board-1", CLIENT.certificates)
        for message in (ANSWER, ANSWER * 2, b"\x40" + bytes(1151)):
            server.send(message, peer)
        assert [await device.read() for _ in range(3)] == [ANSWER, ANSWER * 2, b"\x40" + bytes(1151)]
        with pytest.raises(NetworkError, match="1153 B is longer than the 1152 B"):
            server.send(bytes(1153), peer)
        await device.raw.close()

    assert served(story) == []


def test_records_arrive_joined_and_split_anyhow() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.to(server.address)
        sent = [GET, GET + b"\xff" + bytes(700), GET + b"\xff1", GET + b"\xff22"]
        stream = device.seal(*sent)
        device.raw.writer.write(stream)
        assert [(await ear.heard())[0] for _ in sent] == sent
        stream = device.seal(*sent)
        for at in range(0, len(stream), 7):
            device.raw.writer.write(stream[at : at + 7])
            await asyncio.sleep(0)
        assert [(await ear.heard())[0] for _ in sent] == sent
        await device.raw.close()

    served(story)


def test_rfc_8323_is_told_apart_by_the_first_record() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.to(server.address)
        device.raw.writer.write(device.seal(bytes.fromhex("00e1"), bytes.fromhex("31 01 7f b2 7264")))
        assert (await device.read()).hex(" ") == "40 e1 22 04 80 20"
        message, peer = await ear.heard()
        assert message == GET
        server.send(ANSWER, peer)
        assert (await device.read()).hex(" ") == "31 45 7f ff 6f 6b"
        await device.raw.close()

    served(story)


def test_message_in_the_same_segment_as_the_end_of_the_handshake_is_not_lost() -> None:
    async def story(ear: Ear, server: Any) -> None:
        kept: list[bytes] = []
        socket = await Ear().open(tls_to(server.address, CLIENT, on_session=kept.append))
        socket.close()
        await ear.lost()
        device = await Device.to(server.address, shake=False)
        psk.resume(device.end, kept[0])
        with pytest.raises(SSL.WantReadError):
            device.end.do_handshake()
        device.flush()
        for _ in range(3):  # ServerHello, ChangeCipherSpec, Finished
            device.end.bio_write(await device.record())
        device.end.do_handshake()
        finished = device.end.bio_read(65536)
        device.raw.writer.write(finished + device.seal(GET))
        assert (await ear.heard())[0] == GET
        await device.raw.close()

    served(story)


def test_endpoint_answers_and_asks_both_kinds_of_client() -> None:
    async def story() -> None:
        server = await Endpoint.open(tls("127.0.0.1", 0, SERVER), echo)
        for way in ("record", "rfc8323"):
            lost: list[Address] = []
            server.on_lost = lambda peer, why, lost=lost: lost.append(peer)  # type: ignore[misc]
            client = await Endpoint.open(tls_to(server.address, CLIENT, framing=way), echo)  # type: ignore[arg-type]
            to = Connection(*server.address, "coaps+tcp")
            identity = client.identity(to)
            assert identity is not None and identity.name == "server"
            got = await client.request(Message(code=codes.GET, uri_path=("a",), payload=b"hi"), to)
            assert got.payload == b"a|hi"
            got = await client.request(Message(code=codes.GET, uri_path=("large",)), to)
            assert got.payload == bytes(range(256)) * 16
            got = await client.request(Message(code=codes.PUT, uri_path=("up",), payload=bytes(5000)), to)
            assert got.payload == b"up|" + bytes(200)
            back = next(peer for peer in server._peers._peers if server.connected(peer))
            known = server.identity(back)
            assert known is not None and known.name == "board-1"
            got = await server.request(Message(code=codes.GET, uri_path=("large",)), back)
            assert len(got.payload) == 4096
            assert server.malformed == client.malformed == 0
            await client.close()
            while not lost:
                await asyncio.sleep(0.001)
            assert lost == [back]
        await server.close()

    run(story)


# -- handshakes --------------------------------------------------------------------------------------


def test_renegotiation_that_the_client_begins_loses_no_message() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.to(server.address)
        device.raw.writer.write(device.seal(GET))
        _, peer = await ear.heard()
        device.end.renegotiate()
        with pytest.raises(SSL.WantReadError):
            device.end.do_handshake()
        device.flush()
        device.end.bio_write(await device.record())  # ServerHello: the server is in mid-handshake
        for n in range(3):
            server.send(ANSWER + bytes([n]), peer)
        with pytest.raises(SSL.WantReadError):
            device.end.do_handshake()
        await device.shake()
        assert [await device.read() for _ in range(3)] == [ANSWER + bytes([n]) for n in range(3)]
        device.raw.writer.write(device.seal(GET))
        assert await ear.heard() == (GET, peer)
        await device.raw.close()

    served(story)


def test_renegotiating_for_ever_is_not_allowed() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.to(server.address)
        device.raw.writer.write(device.seal(GET))
        await ear.heard()
        for _ in range(2):
            device.end.renegotiate()
            await device.shake()
        device.end.renegotiate()
        with pytest.raises((SSL.Error, asyncio.IncompleteReadError)):
            await device.shake()
        _, why = await ear.lost()
        assert "renegotiated 3 times" in str(why)
        await device.raw.close()

    served(story, max_renegotiations=2)


def test_renegotiation_that_fails_ends_the_connection_for_all_to_hear() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.to(server.address)
        device.raw.writer.write(device.seal(GET))
        _, peer = await ear.heard()
        device.end.renegotiate()
        with pytest.raises(SSL.WantReadError):
            device.end.do_handshake()
        device.flush()
        device.raw.writer.write(bytes.fromhex("1603030020") + bytes(32))
        lost, why = await ear.lost()
        assert lost == peer and isinstance(why, HandshakeFailed)
        assert not server.connected(peer)
        await device.raw.ended()
        await device.raw.close()

    (failure,) = served(story)
    assert failure.reason == "wrong key"


def test_nobody_becomes_another_in_a_renegotiation() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.to(server.address)
        device.raw.writer.write(device.seal(GET))
        _, peer = await ear.heard()
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import load_der_private_key

        other, key = CA.issue("board-2")
        device.end.use_certificate(x509.load_der_x509_certificate(other))
        device.end.use_privatekey(load_der_private_key(key, None))  # type: ignore[arg-type]
        device.end.renegotiate()
        await device.shake()
        await device.raw.ended()
        _, why = await ear.lost()
        assert "was board-1 and now says that it is board-2" in str(why)
        assert not server.connected(peer)
        await device.raw.close()

    served(story)


class DeviceTime:
    """A device's clock, that nobody has told the time yet."""

    def __init__(self, seconds: int = 0, *, trusted: bool = False) -> None:
        self.seconds, self.trusted = seconds, trusted

    def now(self) -> int:
        return self.seconds

    def told(self, seconds: int) -> None:
        self.seconds = seconds


@pytest.mark.parametrize(
    ("valid", "clock", "handshakes", "reason"),
    [
        (2020, DeviceTime(), 2, None),  # a first boot: docs/wire.md 1.5
        (2020, DeviceTime(1_700_000_000), 1, None),
        (1970, DeviceTime(), 1, None),
        (2100, DeviceTime(), 1, "certificate in the future"),  # by the server's time too
    ],
)
def test_device_of_1970_takes_the_servers_time_and_renegotiates(
    valid: int, clock: DeviceTime, handshakes: int, reason: str | None
) -> None:
    """The stock client's way, in one connection: what the server's end sees is a renegotiation."""
    steps: list[HandshakeStep] = []

    async def story(ear: Ear, server: Any) -> None:
        mine = replace(CLIENT, clock=clock)
        if reason is not None:
            with pytest.raises(HandshakeFailed) as raised:
                await Ear().open(tls_to(server.address, mine))
            assert raised.value.reason == reason
            while server.admission.connections:
                await asyncio.sleep(0.001)
            return
        client = await Ear().open(tls_to(server.address, mine))
        assert abs(clock.seconds - time.time()) < 60
        client.send(GET, client.name)
        _, peer = await ear.heard()
        server.send(ANSWER, peer)
        client.close()
        await ear.lost()

    since = datetime(valid, 1, 1, tzinfo=UTC), ALWAYS[1]
    told = replace(CA.security("server", since), tells=lambda peer, step: steps.append(step))
    failures = served(story, told)
    assert len([step for step in steps if step.what == "completed"]) == handshakes
    assert [failure.reason for failure in failures] == ([] if reason is None else ["bad certificate"])


def test_session_is_resumed_by_a_client_that_kept_it_over_its_reset() -> None:
    async def story() -> None:
        steps: list[HandshakeStep] = []
        told = replace(SERVER, tells=lambda peer, step: steps.append(step))
        server = await Endpoint.open(tls("127.0.0.1", 0, told), echo)
        kept: list[bytes] = []
        for n in range(3):
            session = kept[0] if n else None
            opener = tls_to(server.address, CLIENT, session=session, on_session=kept.append)
            client = await Endpoint.open(opener, echo)
            got = await client.request(Message(code=codes.GET), Connection(*server.address, "coaps+tcp"))
            assert got.payload == b"|"
            await client.close()
        await server.close()
        # A server that knows nothing of it shakes hands anew.
        again = await Endpoint.open(tls("127.0.0.1", 0, told), echo)
        client = await Endpoint.open(tls_to(again.address, CLIENT, session=kept[0]))
        await client.request(Message(code=codes.GET), Connection(*again.address, "coaps+tcp"))
        await client.close()
        await again.close()
        done = [step for step in steps if step.what == "completed"]
        assert [step.resumed for step in done] == [False, True, True, False]
        assert {step.identity.name for step in done if step.identity} == {"board-1"}
        assert {step.suite for step in done} == {"ECDHE-ECDSA-AES128-CCM8"}

    run(story)


def test_session_of_a_device_that_lost_its_power_is_resumed_but_not_one_that_broke() -> None:
    async def story(ear: Ear, server: Any) -> None:
        for end, resumes in (("power", True), ("garbage", False)):
            device = await Device.to(server.address)
            session = psk.session_bytes(device.end)
            device.raw.writer.write(device.seal(GET))
            await ear.heard()
            if end == "power":
                device.raw.writer.transport.abort()
            else:
                device.raw.writer.write(bytes.fromhex("1703030020") + bytes(32))
            await ear.lost()
            await device.raw.close()
            again = await Device.to(server.address, shake=False)
            psk.resume(again.end, session)
            await again.shake()
            assert resumed(again.end) is resumes
            await again.raw.close()

    served(story)


def test_what_is_no_session_is_not_resumed() -> None:
    async def story(ear: Ear, server: Any) -> None:
        socket = await Ear().open(tls_to(server.address, CLIENT, session=b"no session"))
        socket.close()

    served(story)


def test_pre_shared_keys() -> None:
    async def story(ear: Ear, server: Any) -> None:
        client = await Ear().open(tls_to(server.address, Security(psk=(b"board-1", b"secret-key-of-16"))))
        client.send(GET, client.name)
        _, peer = await ear.heard()
        known = server.identity(peer)
        assert (known.kind, known.name) == ("psk", "board-1")
        client.close()

    served(story, PSK)


STRANGER = Authority("Somebody Else's CA")
EXPIRED = ALWAYS[0], datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("server", "client", "reason", "at_server"),
    [
        (SERVER, replace(STRANGER.security("x"), trust=(CA.der,)), "unknown CA", "unknown CA"),
        (SERVER, replace(CLIENT, trust=(STRANGER.der,)), "unknown CA", "unknown CA"),
        (SERVER, CA.security("x", EXPIRED), "certificate expired", "certificate expired"),
        (SERVER, Security(psk=(b"board-1", b"secret-key-of-16")), "no common suite", "no common suite"),
        (PSK, Security(psk=(b"board-1", b"another-key-of16")), "wrong key", "wrong key"),
        (PSK, Security(psk=(b"board-2", b"secret-key-of-16")), "unknown identity", "unknown identity"),
    ],
)
def test_who_may_not_come_in_learns_why_and_so_does_the_server(
    server: Security, client: Security, reason: str, at_server: str
) -> None:
    async def story(ear: Ear, there: Any) -> None:
        with pytest.raises(HandshakeFailed) as raised:
            await Ear().open(tls_to(there.address, client))
        assert raised.value.reason == reason
        assert "coaps+tcp://127.0.0.1:" in raised.value.message
        while there.admission.connections:
            await asyncio.sleep(0.001)
        assert ear.messages.empty() and ear.losses.empty()  # the endpoint hears nothing of it

    assert [failure.reason for failure in served(story, server)] == [at_server]


@pytest.mark.parametrize(
    ("sent", "reason", "words"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "not TLS", "HTTP"),
        (bytes.fromhex("0000000741020001b27264"), "not TLS", "CoAP without TLS"),
        (bytes.fromhex("160301000402000000"), "other", ""),
        (bytes.fromhex("16030300050100000000"), "other", ""),
        (bytes.fromhex("1503030002022a"), "other", ""),
        (bytes.fromhex("17030300050100000000"), "not TLS", ""),
        (bytes(range(1, 255)), "not TLS", ""),
    ],
)
def test_garbage_is_refused_and_named(sent: bytes, reason: str, words: str) -> None:
    async def story(ear: Ear, server: Any) -> None:
        raw = await Raw.to(server.address)
        raw.writer.write(sent)
        await raw.ended()
        await raw.close()

    failure, *more = served(story)
    assert not more
    assert failure.reason == reason
    assert words in failure.message


def test_garbage_in_an_established_connection_ends_it_with_a_reason() -> None:
    async def story(ear: Ear, server: Any) -> None:
        for garbage, what in (
            (b"GET / HTTP/1.1\r\n\r\n", "what came is no TLS record"),
            (bytes.fromhex("1703030020") + bytes(32), "what it sends does not decrypt"),
        ):
            device = await Device.to(server.address)
            device.raw.writer.write(device.seal(GET) + garbage)
            _, peer = await ear.heard()
            lost, why = await ear.lost()
            assert lost == peer and not isinstance(why, HandshakeFailed)
            assert what in str(why)
            await device.raw.ended()
            await device.raw.close()

    assert served(story) == []


def test_peer_that_leaves_in_mid_handshake_is_named() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.greeting(server.address)
        await device.record()
        await device.raw.close()
        while server.admission.connections:
            await asyncio.sleep(0.001)

    (failure,) = served(story)
    assert failure.reason == "closed"


def test_client_says_what_it_met_instead_of_a_tls_server() -> None:
    async def story() -> None:
        async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            writer.close()

        async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        for how, reason in ((http, "not TLS"), (closes, "closed")):
            other = await asyncio.start_server(how, "127.0.0.1", 0)
            with pytest.raises(HandshakeFailed) as raised:
                await Ear().open(tls_to(other.sockets[0].getsockname(), CLIENT))
            assert raised.value.reason == reason
            other.close()
            await other.wait_closed()

    run(story)


@pytest.mark.parametrize("limit", ["hello_timeout", "handshake_timeout"])
@pytest.mark.parametrize("sent", ["", "16", "1603010200", "1603010200 01"])
def test_hello_that_does_not_end_is_ended(sent: str, limit: str) -> None:
    async def story(ear: Ear, server: Any) -> None:
        raw = await Raw.to(server.address)
        raw.send(sent)
        await raw.ended()
        await raw.close()

    (failure,) = served(story, **{limit: 0.05})
    assert failure.reason == "timed out"


def test_handshake_that_does_not_end_is_ended() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.greeting(server.address)
        await device.raw.ended()
        await device.raw.close()

    (failure,) = served(story, handshake_timeout=0.05)
    assert failure.reason == "timed out" and "it was not complete" in failure.message


def test_client_does_not_wait_for_ever_either() -> None:
    async def story() -> None:
        other = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)  # says nothing
        with pytest.raises(HandshakeFailed) as raised:
            limits = StreamParameters(handshake_timeout=0.05)
            await Ear().open(tls_to(other.sockets[0].getsockname(), CLIENT, parameters=limits))
        assert (raised.value.reason, "nothing came" in raised.value.message) == ("timed out", True)
        opening = asyncio.ensure_future(Ear().open(tls_to(other.sockets[0].getsockname(), CLIENT)))
        await asyncio.sleep(0.01)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        other.close()
        await other.wait_closed()

    run(story)


def test_record_that_never_ends_and_message_that_never_comes_are_waited_for_so_long() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.to(server.address)
        device.raw.writer.write(device.seal(GET))
        await ear.heard()
        device.raw.writer.write(device.seal(GET)[:-3])
        _, why = await ear.lost()
        assert "did not finish a record in 0.05 s" in str(why)
        await device.raw.close()

    async def silence(ear: Ear, server: Any) -> None:
        silent = await Device.to(server.address)
        await silent.raw.ended()
        _, why = await ear.lost()
        assert "said nothing in 0.05 s" in str(why)
        await silent.raw.close()

    served(story, message_timeout=0.05)
    served(silence, first_timeout=0.05)


# -- floods ------------------------------------------------------------------------------------------


def test_flood_of_handshakes_waits_its_turn_and_others_come_through() -> None:
    """64 connections that never finish, from one address; another address has its handshake at once."""

    async def story(ear: Ear, server: Any) -> None:
        flood = [(await Device.greeting(server.address)).raw for _ in range(64)]
        while server.admission.waiting < 56:
            await asyncio.sleep(0.001)
        assert server.admission.handshakes == 8
        reader, writer = await asyncio.open_connection(*server.address, local_addr=("127.0.0.2", 0))
        other = Device(Raw(reader, writer), connection(client_context(CLIENT), Handshake(server=False)))
        await other.shake()
        other.raw.writer.write(other.seal(GET))
        assert (await ear.heard())[1][0] == "127.0.0.2"
        mine = asyncio.ensure_future(Device.to(server.address))
        for raw in flood[8:]:  # those that wait give up before their turn
            await raw.close()
        for raw in flood[:8]:
            await raw.close()
        await (await mine).raw.close()
        await other.raw.close()

    failures = served(story, max_handshakes_per_host=8)
    assert {failure.reason for failure in failures} <= {"closed", "timed out"}


def test_waiting_for_a_handshake_ends_too() -> None:
    async def story(ear: Ear, server: Any) -> None:
        first = await Device.greeting(server.address)
        while not server.admission.handshakes:
            await asyncio.sleep(0.001)
        second = await Device.greeting(server.address)
        await second.raw.ended()
        for device in (first, second):
            await device.raw.close()
        while server.admission.connections:
            await asyncio.sleep(0.001)

    waited, *_ = served(story, max_handshakes_per_host=1, first_timeout=0.05)
    assert "others of its host were under way" in waited.message


@pytest.mark.parametrize("sent", ["", "16030100ff0100"])
def test_who_says_no_hello_keeps_nobody_out(sent: str) -> None:
    async def story(ear: Ear, server: Any) -> None:
        silent = [await Raw.to(server.address) for _ in range(8)]
        for raw in silent:
            raw.send(sent)
        device = await Device.to(server.address)
        device.raw.writer.write(device.seal(GET))
        assert (await ear.heard())[0] == GET
        assert (server.admission.connections, server.admission.handshakes, server.admission.waiting) == (9, 0, 0)
        for raw in (*silent, device.raw):
            await raw.close()
        while server.admission.connections:
            await asyncio.sleep(0.001)
        assert not server.admission._silent

    failures = served(story, max_handshakes_per_host=1)
    assert [failure.reason for failure in failures] == ["closed"] * 8


def test_longest_silent_connection_makes_way() -> None:
    async def story(ear: Ear, server: Any) -> None:
        silent = []
        for some in range(1, 4):  # one by one: which is the oldest is known
            silent.append(await Raw.to(server.address))
            while server.admission.connections < some:
                await asyncio.sleep(0.001)
        device = await Device.to(server.address)
        assert await silent[0].ended() == b""
        assert server.admission.connections == 3
        for raw in (*silent, device.raw):
            await raw.close()
        while server.admission.connections:
            await asyncio.sleep(0.001)

    first, *_ = served(story, max_connections_per_host=3)
    assert "no ClientHello came of it" in first.message


def test_much_instead_of_a_hello_is_not_kept_until_its_turn() -> None:
    async def story(ear: Ear, server: Any) -> None:
        first = await Device.greeting(server.address)
        while not server.admission.handshakes:
            await asyncio.sleep(0.001)
        second = await Raw.to(server.address)
        second.writer.write(bytes.fromhex("1603014000 01003ffc") + bytes(16_000))
        assert await second.ended() == b""
        for raw in (first.raw, second):
            await raw.close()
        while server.admission.connections:
            await asyncio.sleep(0.001)

    much, _ = served(story, max_handshakes_per_host=1)
    assert "B and no ClientHello" in much.message


def test_hello_is_told_when_it_is_whole() -> None:
    end = connection(client_context(CLIENT), Handshake(server=False))
    with pytest.raises(SSL.WantReadError):
        end.do_handshake()
    hello = end.bio_read(4096)
    assert [is_whole(hello[:cut]) for cut in range(len(hello) + 1)] == [False] * len(hello) + [True]
    body = hello[5:]
    halves = b"".join(hello[:3] + len(part).to_bytes(2, "big") + part for part in (body[:3], body[3:]))
    assert [is_whole(halves[:cut]) for cut in range(len(halves) + 1)] == [False] * len(halves) + [True]
    for other in (
        "47",
        "1601",
        "1602",
        "160301000102",
        "1603010000",
        "160301ffff",
        "1603010001 01" * 9,
    ):
        assert is_whole(bytes.fromhex(other)), other  # OpenSSL says what is wrong
    assert not is_whole(bytes.fromhex("1603010001 01" * 7))
    assert is_whole(bytes.fromhex("1603011000 01000ffc") + bytes(4200))


def test_many_connections_at_once_from_one_address_all_come_in() -> None:
    async def story(ear: Ear, server: Any) -> None:
        sockets = await asyncio.gather(*(Ear().open(tls_to(server.address, CLIENT)) for _ in range(100)))
        for socket in sockets:
            socket.send(GET, socket.name)
        peers = {(await ear.heard())[1] for _ in sockets}
        assert len(peers) == 100
        for socket in sockets:
            socket.close()

    assert served(story, max_handshakes_per_host=4) == []


def test_peer_that_reads_nothing_is_dropped() -> None:
    async def story(ear: Ear, server: Any) -> None:
        device = await Device.to(server.address)
        device.raw.writer.write(device.seal(GET))
        _, peer = await ear.heard()
        device.raw.writer.transport.pause_reading()
        with pytest.raises(Unreachable, match="takes nothing"):
            for _ in range(100_000):
                server.send(bytes(1100), peer)
        _, why = await ear.lost()
        assert "B wait for it" in str(why)
        await device.raw.close()

    served(story)


# -- the in-memory network ---------------------------------------------------------------------------


async def conversation(clock: DeviceClock) -> list[Packet]:
    """Play a handshake, a block-wise GET and the end over a new fabric; return its packets."""
    fabric = Fabric(clock)
    cloud, board = fabric.host("cloud"), fabric.host("board", Link(latency=20_000_000))
    packets: list[Packet] = []
    began = fabric.now()
    fabric.tap = lambda packet, arrived: packets.append(replace(packet, sent=packet.sent - began))
    server = await Endpoint.open(tls("", 0, SERVER, accept=cloud.acceptor(5684)), echo, seed=1)
    client = await Endpoint.open(tls_to(server.address, CLIENT, connect=board.connect), seed=2)
    answer = await client.request(
        Message(code=codes.GET, uri_path=("large",)), Connection(*server.address, "coaps+tcp")
    )
    assert len(answer.payload) == 4096
    lost: list[NetworkError] = []
    client.on_lost = lambda peer, why: lost.append(why)
    await server.close()
    await asyncio.sleep(10)
    assert "closed the connection" in str(lost[0])
    await client.close()
    return packets


async def test_over_the_fabric_in_virtual_time(clock: DeviceClock) -> None:
    """The same packets at the same times each run, though OpenSSL's random numbers are not seeded.

    Only the signatures, in DER, are of 70 to 72 B.
    """
    once, again = await conversation(clock), await conversation(clock)
    assert [round(packet.sent, -3) for packet in once] == [round(packet.sent, -3) for packet in again]
    assert all(abs(a.size - b.size) <= 4 for a, b in zip(once, again, strict=True))


async def test_board_behind_the_fabric_is_told_why_it_may_not_come_in(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    cloud, board = fabric.host("cloud"), fabric.host("board")
    server = await Endpoint.open(tls("", 0, SERVER, accept=cloud.acceptor(5684)), echo)
    with pytest.raises(HandshakeFailed) as raised:
        await Endpoint.open(tls_to(server.address, replace(CLIENT, trust=(STRANGER.der,)), connect=board.connect))
    assert raised.value.reason == "unknown CA"
    await server.close()
