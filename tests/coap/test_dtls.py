"""DTLS over a network in memory, on a virtual clock: both ends are ours, or the test speaks in bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.clock import DeviceClock
from pdmlab.coap.dtls import STOCK_TIMING, DtlsServer, Limits, MemoryStore, Timing, dtls, dtls_to
from pdmlab.coap.dtls_association import RESERVE, Association
from pdmlab.coap.dtls_record import number_of, split
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Address, Connection, udp
from pdmlab.errors import ConfigError, HandshakeFailed, NetworkError, PdmlabError, TimedOut, Unreachable
from tests.coap.certificates import ALWAYS, Authority
from tests.coap.lossy import Lossy

SERVER: Address = ("192.0.2.1", 5684)
CLIENT: Address = ("192.0.2.9", 40000)
PEER = Connection(*SERVER, "coaps")
CA = Authority()
KEYS = {b"device-1": b"0123456789abcdef", b"device-2": b"another key of 2"}
PSK_SERVER = Security(psk_of=KEYS.get)
PSK_CLIENT = Security(psk=(b"device-1", KEYS[b"device-1"]))
CERTIFIED_SERVER = CA.security("server")
CERTIFIED_CLIENT = CA.security("client")
BOTH = pytest.mark.parametrize(
    ("server", "client"), [(PSK_SERVER, PSK_CLIENT), (CERTIFIED_SERVER, CERTIFIED_CLIENT)], ids=["psk", "certificates"]
)


class Network(Lossy):
    """A network that notes each datagram, and drops those that `drops` says."""

    def __init__(self, seed: int = 1, **how: Any) -> None:
        super().__init__(seed, **how)
        self.log: list[tuple[float, Address, bytes]] = []
        self.drops: Callable[[bytes, Address], bool] = lambda data, source: False

    def carry(self, data: bytes, source: Address, target: Address) -> None:
        self.log.append((round(asyncio.get_running_loop().time(), 6), source, data))
        if not self.drops(data, source):
            super().carry(data, source, target)

    def sent_by(self, source: Address) -> list[bytes]:
        return [data for _, by, data in self.log if by == source]

    def drop_records(self, kind: int, epoch: int, count: int, source: Address) -> None:
        """Drop so many datagrams with such a record in them."""
        left = [count]

        def drops(data: bytes, by: Address) -> bool:
            if by != source or not any(record[0] == kind and number_of(record)[0] == epoch for record in split(data)):
                return False
            left[0] -= 1
            return left[0] >= 0

        self.drops = drops


class Service:
    """An endpoint over DTLS that answers with its question, or with who asks."""

    def __init__(self, network: Network, security: Security = PSK_SERVER) -> None:
        self.network = network
        self.failures: list[tuple[Address, HandshakeFailed]] = []
        self.security = replace(security, names_failure=lambda *failure: self.failures.append(failure))
        self.lost: list[tuple[Address, str]] = []
        self.peers: list[Address] = []

    async def open(self, **options: Any) -> Endpoint:
        opener = dtls(self.network.opener(SERVER), self.security, **options)
        self.endpoint = await Endpoint.open(opener, self.answer, seed=1)
        self.endpoint.on_lost = lambda peer, why: self.lost.append((peer, why.message))
        return self.endpoint

    @property
    def socket(self) -> DtlsServer:
        socket = self.endpoint._socket
        assert isinstance(socket, DtlsServer)
        return socket

    async def answer(self, message: Message, peer: Address) -> Message:
        self.peers.append(peer)
        identity = self.endpoint.identity(peer)
        assert identity is not None
        return Message(code=codes.CONTENT, payload=message.payload or identity.name.encode())


async def connect(
    network: Network, security: Security = PSK_CLIENT, address: Address = CLIENT, seed: int = 2, **options: Any
) -> Endpoint:
    return await Endpoint.open(dtls_to(network.opener(address), SERVER, security, **options), seed=seed)


async def ask(client: Endpoint, payload: bytes = b"") -> bytes:
    message = Message(code=codes.POST if payload else codes.GET, payload=payload)
    answer: bytes = (await client.request(message, PEER)).payload
    return answer


async def settle() -> None:
    """Let what was sent last arrive."""
    await asyncio.sleep(1)


# -- who is there ------------------------------------------------------------------------------------


@BOTH
async def test_both_ends_prove_who_they_are(server: Security, client: Security) -> None:
    service = Service(Network(), server)
    endpoint = await service.open()
    device = await connect(service.network, client)
    kind, name = ("psk", "device-1") if client is PSK_CLIENT else ("certificate", "client")
    assert await ask(device) == name.encode()
    assert await ask(device, bytes(5000)) == bytes(5000)
    assert device.connected(PEER)
    assert not endpoint.connected(PEER)  # a name of another socket's
    (peer,) = set(service.peers)
    assert isinstance(peer, Connection)
    assert (peer[0], peer[1], peer.scheme) == (*CLIENT, "coaps")
    identity, other = endpoint.identity(peer), device.identity(PEER)
    assert identity is not None and other is not None
    assert (identity.kind, identity.name) == (kind, name)
    if kind == "certificate":
        assert other.name == "server"
        assert identity.certificates == client.certificates
    await device.close()
    await settle()
    assert service.lost == [(peer, "the connection to coaps://192.0.2.9:40000 is lost: it closed the connection")]
    assert not endpoint.connected(peer)
    await endpoint.close()


async def test_closing_the_server_tells_its_clients() -> None:
    service = Service(Network())
    await service.open()
    device = await connect(service.network)
    lost: list[str] = []
    device.on_lost = lambda peer, why: lost.append(why.message)
    await service.endpoint.close()
    await settle()
    assert lost == ["the connection to coaps://192.0.2.1:5684 is lost: it closed the connection"]
    with pytest.raises(Unreachable, match="there is no connection"):
        await ask(device)
    await device.close()


async def test_one_socket_serves_many_and_tells_them_apart() -> None:
    service = Service(Network())
    await service.open()
    other = Security(psk=(b"device-2", KEYS[b"device-2"]))
    devices = [await connect(service.network, PSK_CLIENT), await connect(service.network, other, ("192.0.2.8", 40000))]
    assert [await ask(device) for device in devices] == [b"device-1", b"device-2"]
    assert len(set(service.peers)) == 2
    for device in devices:
        await device.close()
    await service.endpoint.close()


@BOTH
def test_both_ends_on_real_sockets(server: Security, client: Security) -> None:
    async def run() -> None:
        async def answer(message: Message, peer: Address) -> Message:
            return Message(code=codes.CONTENT, payload=message.payload)

        endpoint = await Endpoint.open(dtls(udp(), server), answer)
        peer = Connection(*endpoint.address, "coaps")
        device = await Endpoint.open(dtls_to(udp(), endpoint.address, client))
        message = Message(code=codes.POST, payload=bytes(3000))
        assert (await device.request(message, peer)).payload == bytes(3000)
        await device.close()
        await endpoint.close()

    asyncio.run(run())


async def test_both_ends_write_the_key_log_that_wireshark_reads() -> None:
    logs: dict[str, list[str]] = {"server": [], "client": []}
    service = Service(Network(), replace(CERTIFIED_SERVER, keylog=logs["server"].append))
    await service.open()
    device = await connect(service.network, replace(CERTIFIED_CLIENT, keylog=logs["client"].append))
    (line,) = logs["client"]
    assert logs["server"] == [line]
    label, random, secret = line.split()
    hello = service.network.sent_by(CLIENT)[0]
    assert (label, random, len(secret)) == ("CLIENT_RANDOM", hello[27:59].hex(), 96)
    await device.close()
    await service.endpoint.close()


# -- the stock client's first bytes ------------------------------------------------------------------

# docs/wire.md 1.3 and 1.7: DTLS 1.2, suites 0xC0AE and 0x00FF, no session; signature algorithms 0403 and 0303,
# secp256r1, point formats, encrypt-then-mac, extended master secret, session ticket, and connection ID by its
# draft's number 254 (0x00FE), which is empty.
STOCK_RANDOM = "5a" * 32
STOCK_EXTENSIONS = (
    "000d 0006 0004 0403 0303"
    "000a 0004 0002 0017"
    "000b 0002 01 00"
    "00fe 0001 00"
    "0016 0000"
    "0017 0000"
    "0023 0000"
)  # fmt: skip
STOCK_HELLO = (
    "16 fefd 0000000000000000 0063"
    "01 000057 0000 000000 000057"
    "fefd" + STOCK_RANDOM + "00 00 0004 c0ae 00ff 01 00 0029" + STOCK_EXTENSIONS
)  # fmt: skip


async def test_the_stock_clients_hello_is_asked_for_a_cookie_and_then_answered() -> None:
    network = Network()
    service = Service(network, CERTIFIED_SERVER)
    await service.open()
    heard: list[bytes] = []
    stock = await network.opener(CLIENT)(lambda data, source: heard.append(data))
    stock.send(bytes.fromhex(STOCK_HELLO), SERVER)
    await asyncio.sleep(0.1)
    (verify,) = heard
    # HelloVerifyRequest: record 0, message 0, version, and a cookie of 16 B.
    assert verify[:13].hex() == "16feff0000000000000000001f"
    assert verify[13:28].hex() == "030000130000000000000013feff10"
    assert len(verify) == 44
    assert repr(service.socket) == "<DtlsServer with 0 associations and 0 handshakes>"

    heard.clear()
    cookie = verify[28:].hex()
    stock.send(
        bytes.fromhex(
            "16 fefd 0000000000000001 0073"
            "01 000067 0001 000000 000067"
            "fefd" + STOCK_RANDOM + "00 10" + cookie + "0004 c0ae 00ff 01 00 0029" + STOCK_EXTENSIONS
        ),
        SERVER,
    )  # fmt: skip
    await asyncio.sleep(0.1)
    records = [record for datagram in heard for record in split(datagram)]
    hello = records[0]
    assert hello[:3].hex() == "16fefd"
    assert hello[13] == 2  # ServerHello, message 1
    assert hello[17:19].hex() == "0001"
    assert hello[25:27].hex() == "fefd"
    # Its random begins with the time, by which the stock client sets its clock (docs/wire.md 1.5).
    assert abs(int.from_bytes(hello[27:31], "big") - time.time()) < 60
    after = 59 + 1 + hello[59]  # the session id
    assert hello[after : after + 3].hex() == "c0ae00"
    # Certificate, ServerKeyExchange on secp256r1 with ECDSA and SHA-256, CertificateRequest, ServerHelloDone
    assert [record[13] for record in records] == [2, 11, 12, 13, 14]
    assert records[2][25:29].hex() == "03001741"
    assert records[2][29 + 65 : 29 + 67].hex() == "0403"
    # What it asks again is answered at once with the same flight under new numbers.
    count = len(heard)
    again = network.sent_by(CLIENT)[-1]
    stock.send(again, SERVER)
    await asyncio.sleep(0.1)
    repeated = [record for datagram in heard[count:] for record in split(datagram)]
    assert [record[13:] for record in repeated] == [record[13:] for record in records]
    assert min(number_of(record) for record in repeated) > max(number_of(record) for record in records)
    stock.close()
    await service.endpoint.close()


# -- time and loss -----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("seed", range(4))
async def test_handshakes_and_messages_get_through_where_a_third_is_lost(
    server: Security, client: Security, seed: int
) -> None:
    network = Network(seed, loss=0.33, copies=0.2, delay=(0.005, 0.3))
    service = Service(network, server)
    await service.open(timing=Timing(limit=600))
    device = await connect(network, client, timing=Timing(longest=8, limit=600))
    for number in range(5):
        assert await ask(device, b"%d" % number) == b"%d" % number
    assert len(set(service.peers)) == 1
    await device.close()
    await service.endpoint.close()


@pytest.mark.parametrize(
    ("timing", "times"),
    [(Timing(limit=40), [0, 1, 3, 7, 15, 31]), (STOCK_TIMING, [0, 4, 12, 28])],
    ids=["RFC 6347", "stock client"],
)
async def test_a_flight_that_nobody_answers_goes_out_at_growing_intervals(timing: Timing, times: list[float]) -> None:
    network = Network()
    with pytest.raises(HandshakeFailed) as failed:
        await connect(network, timing=timing)
    assert [when for when, _, _ in network.log if when < 60] == times
    assert failed.value.reason == "timed out"
    assert f"nothing came in {timing.limit:g} s" in failed.value.message
    assert network.sockets == {}


@BOTH
async def test_a_server_sends_its_last_flight_again_when_the_client_does(server: Security, client: Security) -> None:
    network = Network()
    service = Service(network, server)
    await service.open()
    network.drop_records(kind=22, epoch=1, count=2, source=SERVER)  # its Finished
    device = await connect(network, client)
    assert await ask(device, b"done") == b"done"
    finished = [r for d in network.sent_by(SERVER) for r in split(d) if r[0] == 22 and number_of(r)[0] == 1]
    assert [number_of(record)[1] for record in finished] == [0, 1, 2]  # none is used twice
    await device.close()
    await service.endpoint.close()


async def test_a_server_does_not_repeat_what_the_client_is_answering() -> None:
    network = Network()
    service = Service(network, CERTIFIED_SERVER)
    await service.open()
    lost = [True]

    def drops(data: bytes, source: Address) -> bool:
        certificate = source == CLIENT and data[0] == 22 and data[13] == 11
        return certificate and bool(lost) and lost.pop()

    network.drops = drops
    device = await connect(network, CERTIFIED_CLIENT, mtu=256)
    hellos = [r for d in network.sent_by(SERVER) for r in split(d) if r[0] == 22 and r[13] == 2 and r[3:5] == b"\0\0"]
    assert len(hellos) == 1
    assert not lost
    await device.close()
    await service.endpoint.close()


async def test_a_large_flight_is_cut_to_the_mtu() -> None:
    network = Network()
    chain = CERTIFIED_SERVER.certificates + tuple(Authority(f"{n} of many").der for n in range(6))
    service = Service(network, replace(CERTIFIED_SERVER, certificates=chain))
    await service.open(mtu=300)
    device = await connect(network, CERTIFIED_CLIENT, mtu=300)
    assert await ask(device) == b"client"
    handshake = [data for _, _, data in network.log if data[0] != 23]
    assert max(map(len, handshake)) <= 300
    assert sum(map(len, handshake)) > 3000
    assert device.identity(PEER).certificates == chain  # type: ignore[union-attr]
    await device.close()
    await service.endpoint.close()


def test_an_mtu_that_no_handshake_fits_is_refused() -> None:
    network = Network()
    for make in (
        lambda mtu: dtls(network.opener(SERVER), PSK_SERVER, mtu=mtu),
        lambda mtu: dtls_to(network.opener(CLIENT), SERVER, PSK_CLIENT, mtu=mtu),
    ):
        make(256)
        with pytest.raises(ConfigError, match="255 B"):
            make(255)


async def test_a_datagram_carries_as_much_of_a_flight_as_fits() -> None:
    network = Network()
    service = Service(network, CERTIFIED_SERVER)
    await service.open()
    await (await connect(network, CERTIFIED_CLIENT)).close()
    # Five messages of the server's, five of the client's: in one datagram each.
    assert [len(list(split(data))) for _, _, data in network.log] == [1, 1, 1, 5, 5, 2, 1]
    await service.endpoint.close()


async def test_a_handshake_that_takes_too_long_is_named_and_forgotten() -> None:
    network = Network()
    service = Service(network, CERTIFIED_SERVER)
    await service.open(timing=Timing(limit=10))
    network.drop_records(kind=22, epoch=1, count=1000, source=CLIENT)
    with pytest.raises(HandshakeFailed):
        await connect(network, CERTIFIED_CLIENT, timing=Timing(limit=20))
    assert [failure.reason for _, failure in service.failures] == ["timed out"]
    assert repr(service.socket) == "<DtlsServer with 0 associations and 0 handshakes>"
    await service.endpoint.close()


async def test_a_client_without_a_way_out_is_told_so_at_once() -> None:
    class Down:
        address = CLIENT
        closed = False

        def send(self, data: bytes, address: Address) -> None:
            raise Unreachable("the interface is down")

        def close(self) -> None:
            self.closed = True

    down = Down()

    async def opener(on_datagram: Callable[[bytes, Address], None]) -> Down:
        return down

    with pytest.raises(HandshakeFailed, match=r"no handshake with .*: the interface is down") as failed:
        await Endpoint.open(dtls_to(opener, SERVER, PSK_CLIENT))
    assert isinstance(failed.value.__cause__, Unreachable)
    assert down.closed
    assert asyncio.get_running_loop().time() == 0


async def test_an_opening_that_is_given_up_leaves_nothing_behind() -> None:
    network = Network()
    opening = asyncio.ensure_future(connect(network))
    await asyncio.sleep(5)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert network.sockets == {}
    count = len(network.log)
    await asyncio.sleep(100)
    assert len(network.log) == count


# -- failures have names -----------------------------------------------------------------------------

PAST = datetime(2001, 1, 1, tzinfo=UTC), datetime(2002, 1, 1, tzinfo=UTC)
SINCE_2020 = datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
FUTURE = datetime(2060, 1, 1, tzinfo=UTC), datetime(2061, 1, 1, tzinfo=UTC)
FAILURES: dict[str, tuple[Security, Security, str, str]] = {
    # server, client, what the server says, what the client says
    "identity": (PSK_SERVER, Security(psk=(b"nobody", b"x" * 16)), "unknown identity", "unknown identity"),
    "key": (PSK_SERVER, Security(psk=(b"device-1", b"x" * 16)), "wrong key", "wrong key"),
    "kind": (PSK_SERVER, CERTIFIED_CLIENT, "no common suite", "no common suite"),
    "client's CA": (CERTIFIED_SERVER, Authority("Another").security("x"), "unknown CA", "unknown CA"),
    "server's CA": (
        CERTIFIED_SERVER,
        replace(CERTIFIED_CLIENT, trust=(Authority("Another").der,)),
        "unknown CA",
        "unknown CA",
    ),
    "client expired": (CERTIFIED_SERVER, CA.security("x", PAST), "certificate expired", "certificate expired"),
    "client in the future": (
        CERTIFIED_SERVER,
        CA.security("x", FUTURE),
        "certificate in the future",
        "bad certificate",
    ),
    "server in the future": (
        CA.security("x", FUTURE),
        CERTIFIED_CLIENT,
        "bad certificate",
        "certificate in the future",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_a_failed_handshake_is_named_on_both_sides(case: str) -> None:
    server, client, servers, clients = FAILURES[case]
    if case == "client's CA":  # it trusts the server, but has its own certificate of another
        client = replace(client, trust=CERTIFIED_CLIENT.trust)
    service = Service(Network(), server)
    await service.open()
    with pytest.raises(HandshakeFailed) as failed:
        await connect(service.network, client)
    await settle()
    ((where, failure),) = service.failures
    assert where == Connection(*CLIENT, "coaps")
    assert (failure.reason, failed.value.reason) == (servers, clients)
    if case.endswith("CA"):  # whoever refuses says what it saw, and the other, whom the alert tells
        told, teller = (failure, failed.value) if case == "server's CA" else (failed.value, failure)
        assert told.alert == teller.alert == 48
        assert "it ended it with alert unknown_ca (48)" in told.message and "not trusted here" in teller.message
    assert service.network.log[-1][0] < 1  # at once, and not by a time-out
    assert failure.message.startswith("no handshake with coaps://192.0.2.9:40000: ")
    assert repr(service.socket) == "<DtlsServer with 0 associations and 0 handshakes>"
    await service.endpoint.close()


def alert(level: int, number: int, description: int = 48) -> bytes:
    """Write an alert that is not protected."""
    return b"\x15\xfe\xfd" + number.to_bytes(8, "big") + bytes((0, 2, level, description))


FORGED: dict[str, tuple[bytes, Address]] = {
    "from another port": (alert(2, 7), (CLIENT[0], CLIENT[1] + 1)),
    "from another host": (alert(2, 7), ("192.0.2.8", CLIENT[1])),
    "the number of the hello": (alert(2, 1), CLIENT),
    "the number of the hello before": (alert(2, 0), CLIENT),
    "a warning": (alert(1, 7), CLIENT),
    "a warning of the end": (alert(1, 7, 0), CLIENT),
    "a level that there is not": (alert(3, 7), CLIENT),
    "epoch 1": (alert(2, 1 << 48), CLIENT),
    "too short": (alert(2, 7)[:11] + b"\0\1\2", CLIENT),
    "too long": (alert(2, 7)[:11] + b"\0\3\2\x30\0", CLIENT),
}


@pytest.mark.parametrize("case", FORGED)
@BOTH
async def test_an_alert_that_is_none_of_the_peers_next_records_ends_no_handshake(
    server: Security, client: Security, case: str
) -> None:
    forged, source = FORGED[case]
    service = Service(Network(), server)
    await service.open()
    opening = asyncio.ensure_future(connect(service.network, client))
    await asyncio.sleep(0.012)  # the hello with its cookie is on its way, and comes first
    for _ in range(10):
        service.network.carry(forged, source, SERVER)
    device = await opening
    assert await ask(device, b"there") == b"there"
    assert service.failures == []
    await device.close()
    await service.endpoint.close()


@BOTH
async def test_a_fatal_alert_ends_a_handshake_at_once_at_either_end(server: Security, client: Security) -> None:
    for target in (SERVER, CLIENT):
        service = Service(Network(), server)
        await service.open(timing=Timing(limit=10))
        service.network.drop_records(kind=22, epoch=1, count=1000, source=CLIENT)
        opening = asyncio.ensure_future(connect(service.network, client, timing=Timing(limit=5)))
        await asyncio.sleep(0.5)
        service.network.carry(alert(2, 100, 80), CLIENT if target == SERVER else SERVER, target)
        await asyncio.sleep(0.1)
        if target == SERVER:
            ((_, failure),) = service.failures
            with pytest.raises(HandshakeFailed):
                await opening
        else:
            assert service.failures == []
            with pytest.raises(HandshakeFailed) as failed:
                await asyncio.wait_for(opening, 0.001)
            failure = failed.value
            await asyncio.sleep(10)
        assert failure.alert == 80
        assert failure.message.endswith(": it ended it with alert internal_error (80)")
        await service.endpoint.close()


class Clock:
    """A device's clock that only its servers set."""

    trusted = False

    def __init__(self) -> None:
        self.time = 0

    def now(self) -> int:
        return self.time

    def told(self, seconds: int) -> None:
        self.time = seconds


@pytest.mark.parametrize(
    ("valid", "hellos"), [(ALWAYS, 2), (SINCE_2020, 4), (FUTURE, 4)], ids=["always", "2020", "2060"]
)
async def test_a_client_in_1970_believes_the_servers_time_but_not_a_certificate_from_its_future(
    valid: tuple[datetime, datetime], hellos: int
) -> None:
    network = Network()
    service = Service(network, CA.security("server", valid))
    await service.open()
    clock, kept = Clock(), []
    security = replace(CERTIFIED_CLIENT, clock=clock)
    if valid == FUTURE:
        with pytest.raises(HandshakeFailed) as failed:
            await connect(network, security, on_session=kept.append)
        assert failed.value.reason == "certificate in the future"
        assert (clock.time, kept) == (0, [])
    else:
        device = await connect(network, security, on_session=kept.append)
        assert await ask(device) == b"client"
        assert abs(clock.time - time.time()) < 60
        assert len(kept) == 1
        await device.close()
    assert sum(data[0] == 22 and data[13] == 1 for data in network.sent_by(CLIENT)) == hellos
    await service.endpoint.close()


async def test_an_identity_that_cannot_be_looked_up_fails_alone() -> None:
    def broken(identity: bytes) -> bytes:
        raise LookupError("the database is away")

    service = Service(Network(), Security(psk_of=broken))
    await service.open()
    with pytest.raises(HandshakeFailed):
        await connect(service.network)
    ((_, failure),) = service.failures
    assert failure.reason == "unknown identity"
    assert isinstance(failure.__cause__, LookupError)
    await service.endpoint.close()


async def test_coap_without_security_is_answered_that_this_port_is_for_coaps() -> None:
    service = Service(Network())
    await service.open()
    client = await Endpoint.open(service.network.opener(CLIENT), seed=3)
    answer = await client.request(Message(code=codes.GET, uri_path=("rd",)), SERVER)
    assert (answer.code, answer.payload) == (codes.BAD_REQUEST, b"this port is for coaps")
    ((where, failure),) = service.failures
    assert (where, failure.reason) == (Connection(*CLIENT, "coaps"), "not DTLS")
    assert "coaps://192.0.2.9:40000" in failure.message
    await client.close()
    await service.endpoint.close()


# -- devices that come back --------------------------------------------------------------------------


class Moving:
    """A way to the network whose source address changes."""

    def __init__(self, network: Network, address: Address = CLIENT) -> None:
        self.network, self.address = network, address

    def opener(self) -> Any:
        async def open_(on_datagram: Callable[[bytes, Address], None]) -> Moving:
            self.on_datagram = on_datagram
            self.move(self.address)
            return self

        return open_

    def move(self, address: Address) -> None:
        self.network.sockets.pop(self.address, None)
        self.address = address
        self.network.sockets[address] = self.on_datagram

    def send(self, data: bytes, address: Address) -> None:
        self.network.carry(data, self.address, address)

    def close(self) -> None:
        self.network.sockets.pop(self.address, None)


@BOTH
async def test_a_client_that_goes_on_from_another_address_keeps_its_name(server: Security, client: Security) -> None:
    service = Service(Network(), server)
    endpoint = await service.open()
    moving = Moving(service.network)
    device = await Endpoint.open(dtls_to(moving.opener(), SERVER, client), seed=2)
    for address in (CLIENT, ("192.0.2.9", 50000), ("198.51.100.7", 1024)):
        moving.move(address)
        service.network.log.clear()
        assert await ask(device, b"here") == b"here"
        assert len(service.network.log) == 2  # a question and an answer: at the first datagram
    (peer,) = set(service.peers)
    assert endpoint.connected(peer)
    told = asyncio.Event()
    endpoint.notify(peer, Message(code=codes.CONTENT, observe=2), b"to", on_result=lambda outcome: told.set())
    await told.wait()
    assert service.network.log[-2][1:2] == (SERVER,)
    await device.close()
    await endpoint.close()


async def test_a_device_that_was_reset_goes_on_from_another_port_without_a_handshake() -> None:
    service = Service(Network())
    await service.open()
    kept: list[bytes] = []
    others = [await connect(service.network, address=("192.0.2.9", 41000 + n), seed=n) for n in range(20)]
    for each in others:
        await ask(each)
    device = await connect(service.network, on_session=kept.append)
    await ask(device)
    device.abort()  # the power goes: nothing more is sent

    service.network.log.clear()
    again = await connect(service.network, address=("192.0.2.9", 40001), seed=3, session=kept[-1])
    assert service.network.log == []
    assert await ask(again, b"back") == b"back"
    assert len(service.network.log) == 2
    assert service.peers[-1] == service.peers[-2]
    assert service.lost == []
    for each in (again, *others):
        await each.close()
    await service.endpoint.close()


async def test_a_session_that_the_server_forgot_is_not_answered_and_a_handshake_mends_it() -> None:
    service = Service(Network())
    await service.open()
    kept: list[bytes] = []
    await (await connect(service.network, on_session=kept.append)).close()
    await service.endpoint.close()
    await settle()
    await service.open()
    device = await connect(service.network, session=kept[-1])
    with pytest.raises(TimedOut):
        await ask(device)
    await device.close()
    device = await connect(service.network, session=kept[-1], handshake=True)
    assert await ask(device) == b"device-1"
    await device.close()
    await service.endpoint.close()


@BOTH
async def test_a_session_makes_the_handshake_short(server: Security, client: Security) -> None:
    service = Service(Network(), server)
    await service.open()
    kept: list[bytes] = []
    await (await connect(service.network, client, on_session=kept.append)).close()
    service.network.log.clear()
    device = await connect(service.network, client, ("192.0.2.9", 40001), session=kept[0], handshake=True)
    records = [[record[0] for record in split(data)] for _, _, data in service.network.log]
    # hello, verify, hello; ServerHello, ChangeCipherSpec, Finished; ChangeCipherSpec, Finished
    assert records == [[22], [22], [22], [22, 20, 22], [20, 22]]
    name = await ask(device)
    assert name == (b"device-1" if client is PSK_CLIENT else b"client")
    await device.close()
    await service.endpoint.close()


@pytest.mark.parametrize("lost", [1, 3])
async def test_the_client_sends_the_last_flight_of_a_short_handshake_again(lost: int) -> None:
    service = Service(Network())
    await service.open()
    kept: list[bytes] = []
    await (await connect(service.network, on_session=kept.append)).close()
    other: Address = ("192.0.2.9", 40001)
    service.network.drop_records(kind=22, epoch=1, count=lost, source=other)
    device = await connect(service.network, address=other, session=kept[0], handshake=True)
    assert await ask(device) == b"device-1"
    await device.close()
    await service.endpoint.close()


@pytest.mark.parametrize("session", [b"", b"\xff", b"\x82\x41\x00\x41\x00", b"\x01"], ids=repr)
async def test_a_session_that_is_none_is_left_out(session: bytes) -> None:
    service = Service(Network())
    await service.open()
    device = await connect(service.network, session=session)
    assert await ask(device) == b"device-1"
    await device.close()
    await service.endpoint.close()


# -- a server that starts anew -----------------------------------------------------------------------


@BOTH
async def test_a_killed_server_knows_its_clients_when_it_starts_anew(server: Security, client: Security) -> None:
    service = Service(Network(), server)
    store = MemoryStore()
    await service.open(store=store)
    device = await connect(service.network, client)
    assert await ask(device, b"before") == b"before"
    await asyncio.sleep(2)
    kept, replay = dict(store.kept), service.network.sent_by(CLIENT)[-1]
    await ask(device, b"not in the store")
    killed = service.endpoint
    killed._socket._inner.close()  # type: ignore[union-attr]
    service.network.log.clear()

    store.kept = kept
    await service.open(store=store)
    service.network.carry(replay, CLIENT, SERVER)  # what came before does not come again
    await settle()
    assert await ask(device, b"after") == b"after"
    assert service.peers == [service.peers[0]] * 3
    assert len(service.network.log) == 3
    numbers = [number_of(data)[1] for data in service.network.sent_by(SERVER)]
    assert min(numbers) >= RESERVE  # none that the killed one may have used
    # It can also be asked, since it knows where the device is.
    told = asyncio.Event()
    notification = Message(code=codes.CONTENT, observe=2)
    service.endpoint.notify(service.peers[0], notification, b"to", on_result=lambda outcome: told.set())
    await told.wait()
    await device.close()
    await settle()
    assert store.kept == {}
    await service.endpoint.close()
    killed._socket = None
    await killed.close()


async def test_numbers_are_reserved_in_the_store_before_they_are_used() -> None:
    service = Service(Network())
    store = MemoryStore()
    await service.open(store=store)
    opener = dtls_to(service.network.opener(CLIENT), SERVER, PSK_CLIENT)
    client = await opener(lambda data, peer: None)
    (association,) = service.socket._peers
    saves = []
    save = store.save
    store.save = lambda changed: (saves.append(1), save(changed))[1]  # type: ignore[method-assign,func-returns-value]
    for _ in range(3 * RESERVE):
        service.socket.send(b"x", association.name)
        ((_, data),) = store.load()
        assert Association.from_bytes(data).protection.sent >= association.protection.sent
    assert len(saves) == 3
    client.close()
    await service.endpoint.close()


async def test_nothing_is_sent_under_numbers_that_the_store_cannot_keep() -> None:
    class Full(MemoryStore):
        full = False

        def save(self, changed: Mapping[str, bytes | None]) -> None:
            if self.full:
                raise PdmlabError("the disk is full")
            super().save(changed)

    service, store = Service(Network()), Full()
    await service.open(store=store)
    device = await connect(service.network)
    assert await ask(device) == b"device-1"
    store.full = True
    with pytest.raises(NetworkError, match="cannot be kept: the disk is full"):
        for _ in range(RESERVE):
            service.socket.send(b"x", service.peers[0])
    sent = max(number_of(data)[1] for data in service.network.sent_by(SERVER))
    ((_, data),) = store.load()
    assert sent < Association.from_bytes(data).protection.sent
    store.full = False
    assert await ask(device, b"again") == b"again"
    await device.close()
    await service.endpoint.close()


async def test_a_client_keeps_numbers_before_it_uses_them() -> None:
    service = Service(Network())
    await service.open()
    kept: list[bytes] = []
    client = await dtls_to(service.network.opener(CLIENT), SERVER, PSK_CLIENT, on_session=kept.append)(lambda *_: None)
    for _ in range(2 * RESERVE):
        client.send(b"\x40\x01\x00\x01", PEER)
    last = max(number_of(data)[1] for data in service.network.sent_by(CLIENT))
    client.close()
    assert 2 <= len(kept) <= 4
    again = await dtls_to(service.network.opener(CLIENT), SERVER, PSK_CLIENT, session=kept[-1])(lambda *_: None)
    again.send(b"\x40\x01\x00\x01", PEER)
    assert number_of(service.network.sent_by(CLIENT)[-1])[1] > last
    again.close()
    await service.endpoint.close()


async def test_what_another_version_kept_is_forgotten() -> None:
    service = Service(Network())
    store = MemoryStore()
    store.kept["1"] = b"something"
    await service.open(store=store)
    assert store.kept == {}
    await service.endpoint.close()


# -- what is hostile, or only late -------------------------------------------------------------------


async def connected() -> tuple[Service, Endpoint]:
    service = Service(Network())
    await service.open()
    device = await connect(service.network)
    await ask(device)
    return service, device


async def test_a_record_that_comes_twice_is_delivered_once() -> None:
    service, device = await connected()
    for source in (CLIENT, ("192.0.2.9", 50000), ("203.0.113.5", 50000)):
        service.network.carry(service.network.sent_by(CLIENT)[-1], source, SERVER)
    await settle()
    assert len(service.peers) == 1
    assert await ask(device, b"still here") == b"still here"
    await device.close()
    await service.endpoint.close()


def test_mutated_datagrams_are_dropped_and_change_nothing() -> None:
    """From the device's address and from another, at a server with an association."""
    with DeviceClock() as clock:
        service, device = clock.call_async(connected())
        sent = service.network.sent_by(CLIENT)
        peers = list(service.peers)

        @settings(max_examples=300, deadline=None)
        @given(st.sampled_from(sent), st.integers(0, 2000), st.binary(max_size=20), st.booleans())
        def mutate(data: bytes, at: int, other: bytes, known: bool) -> None:
            async def tell() -> None:
                mutated = data[: at % len(data)] + other + data[at % len(data) + len(other) :]
                service.network.carry(mutated, CLIENT if known else ("203.0.113.5", 1), SERVER)
                await asyncio.sleep(0.1)

            clock.call_async(tell())
            assert service.peers == peers

        mutate()
        assert clock.call_async(ask(device, b"still here")) == b"still here"
        assert len(service.lost) == 0
        clock.call_async(device.close())
        clock.call_async(service.endpoint.close())


async def test_plain_alerts_and_other_records_of_epoch_0_do_not_touch_an_association() -> None:
    service, device = await connected()
    for kind, body in ((21, b"\x02\x28"), (21, b"\x01\x00"), (20, b"\x01"), (23, b"\x40\x01\x00\x01"), (22, bytes(12))):
        record = bytes((kind, 0xFE, 0xFD)) + bytes(8) + len(body).to_bytes(2, "big") + body
        service.network.carry(record, CLIENT, SERVER)
        service.network.carry(record, SERVER, CLIENT)
    await settle()
    assert len(service.peers) == 1
    assert await ask(device, b"still here") == b"still here"
    await device.close()
    await service.endpoint.close()


async def test_an_association_stays_until_a_new_client_on_its_port_has_proved_itself() -> None:
    """RFC 6347 section 4.2.8."""
    service, device = await connected()
    wrong = Security(psk=(b"device-1", b"not its key"))
    with pytest.raises(HandshakeFailed):
        await connect(service.network, wrong)
    service.network.sockets[CLIENT] = device._socket._received  # type: ignore[union-attr]
    assert await ask(device, b"still here") == b"still here"
    assert service.lost == []

    other = await connect(service.network, Security(psk=(b"device-2", KEYS[b"device-2"])))
    assert await ask(other) == b"device-2"
    first, *_, last = service.peers
    assert first != last
    assert [peer for peer, _ in service.lost] == [first]
    for each in (device, other):
        await each.close()
    await service.endpoint.close()


async def test_nothing_is_kept_of_who_says_hello_without_a_cookie() -> None:
    network = Network()
    service = Service(network)
    await service.open()
    for number in range(300):
        network.carry(bytes.fromhex(STOCK_HELLO), (f"198.51.100.{number % 250}", 1000 + number), SERVER)
    await settle()
    assert repr(service.socket) == "<DtlsServer with 0 associations and 0 handshakes>"
    answers = network.sent_by(SERVER)
    assert len(answers) == 300
    assert max(map(len, answers)) < len(bytes.fromhex(STOCK_HELLO))  # nothing for those who amplify
    assert len(set(answers)) == 300  # a cookie is of one address
    await service.endpoint.close()


async def test_handshakes_of_one_host_do_not_stop_those_of_others() -> None:
    network = Network()
    service = Service(network, CERTIFIED_SERVER)
    await service.open(limits=Limits(handshakes=20, handshakes_of_host=10))
    flooding: Address = ("203.0.113.5", 0)
    # It does all that a client does, but never ends a handshake.
    network.drops = lambda data, source: source[0] == flooding[0] and any(r[0] == 20 for r in split(data))
    flood = [
        asyncio.ensure_future(connect(network, CERTIFIED_CLIENT, (flooding[0], 1000 + n), timing=Timing(limit=50)))
        for n in range(40)
    ]
    await asyncio.sleep(3)
    assert repr(service.socket) == "<DtlsServer with 0 associations and 10 handshakes>"
    started = asyncio.get_running_loop().time()
    device = await connect(network, CERTIFIED_CLIENT)
    assert await ask(device) == b"client"
    assert asyncio.get_running_loop().time() - started < 1
    await asyncio.gather(*flood, return_exceptions=True)
    await device.close()
    await asyncio.sleep(70)
    assert repr(service.socket) == "<DtlsServer with 0 associations and 0 handshakes>"
    await service.endpoint.close()


async def test_garbage_from_unknown_addresses_is_tried_only_so_often() -> None:
    network = Network()
    service = Service(network)
    await service.open(limits=Limits(tries=50))
    moving = Moving(network)
    device = await Endpoint.open(dtls_to(moving.opener(), SERVER, PSK_CLIENT), seed=2)
    await ask(device)
    tried = []
    (association,) = service.socket._peers
    open_ = type(association.protection).open
    garbage = bytes.fromhex("17fefd 0001 000000000005 0020") + bytes(32)

    class Counting:
        """The same protection, whose keys are counted when they are tried."""

        def __getattr__(self, name: str) -> Any:
            return getattr(protection, name)

        def open(self, record: bytes) -> bytes | None:
            tried.append(record)
            return open_(protection, record)

    protection = association.protection
    association.protection = Counting()  # type: ignore[assignment]
    for number in range(1000):
        network.carry(garbage, ("203.0.113.5", 1000 + number), SERVER)
    await settle()
    assert 40 <= len(tried) <= 110
    # Of the device's own host, tries are counted for themselves.
    moving.move(("192.0.2.9", 50000))
    assert await ask(device, b"moved") == b"moved"
    await device.close()
    await service.endpoint.close()


async def test_the_association_that_was_silent_longest_makes_way() -> None:
    service = Service(Network())
    await service.open(limits=Limits(associations=3))
    devices = [await connect(service.network, address=("192.0.2.9", 40000 + n), seed=n) for n in range(3)]
    for device in devices:
        await ask(device)
    await ask(devices[0])
    devices.append(await connect(service.network, address=("192.0.2.9", 40009), seed=9))
    await ask(devices[3])
    assert [peer for peer, _ in service.lost] == [service.peers[1]]
    assert await ask(devices[0], b"still here") == b"still here"
    for device in devices:
        await device.close()
    await service.endpoint.close()


async def test_renegotiation_is_refused_and_the_association_goes_on() -> None:
    service, device = await connected()
    socket: Any = device._socket
    hello = bytes.fromhex(STOCK_HELLO)[13:]
    service.network.log.clear()
    service.network.carry(socket._association.protection.seal(22, hello), CLIENT, SERVER)
    await settle()
    (answer,) = service.network.sent_by(SERVER)
    assert answer[0] == 21
    assert socket._association.protection.genuine(answer)
    assert await ask(device, b"still here") == b"still here"
    await device.close()
    await service.endpoint.close()


async def test_a_datagram_full_of_messages_is_not_a_way_to_have_more_than_ones_turn() -> None:
    service, device = await connected()
    socket: Any = device._socket
    service.peers.clear()
    seal = socket._association.protection.seal
    messages = [bytes((0x51, 2, 0x70, each, each)) for each in range(40)]
    service.network.carry(b"".join(seal(23, message) for message in messages), CLIENT, SERVER)
    await settle()
    assert len(service.peers) == 16
    assert await ask(device, b"still here") == b"still here"
    await device.close()
    await service.endpoint.close()


async def test_a_peer_that_sends_more_than_a_handshake_can_have_is_dropped() -> None:
    network = Network()
    service = Service(network)
    await service.open()
    network.drop_records(kind=20, epoch=0, count=1000, source=CLIENT)
    opening = asyncio.ensure_future(connect(network, timing=Timing(limit=3)))
    await asyncio.sleep(0.1)
    part = bytes.fromhex("16fefd0000000000000009") + (1012).to_bytes(2, "big")
    for number in range(100):  # a certificate of 1 MB, in parts
        message = bytes.fromhex("0b100000 0002") + (number * 1000).to_bytes(3, "big") + (1000).to_bytes(3, "big")
        network.carry(part + message + bytes(1000), CLIENT, SERVER)
    await settle()
    assert repr(service.socket) == "<DtlsServer with 0 associations and 0 handshakes>"
    assert len(service.failures) == 1
    await asyncio.gather(opening, return_exceptions=True)
    await service.endpoint.close()


async def test_messages_that_no_record_holds_are_refused() -> None:
    service, device = await connected()
    with pytest.raises(NetworkError, match="16385 B are too much for a DTLS record"):
        service.socket.send(bytes(16385), service.peers[0])
    with pytest.raises(NetworkError, match="16385 B are too much for a DTLS record"):
        device._socket.send(bytes(16385), PEER)  # type: ignore[union-attr]
    await device.close()
    await service.endpoint.close()
