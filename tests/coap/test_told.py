"""Handshakes in a log: that they are lines, and that a failed one says what happened, what it means, what to do."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.capture import Kept, MessageLog, Tap
from pdmlab.capture.failures import Failure
from pdmlab.capture.plain import packet
from pdmlab.clock import DeviceClock
from pdmlab.coap.dtls import dtls, dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import HandshakeStep, Security
from pdmlab.coap.tls import tls, tls_to
from pdmlab.coap.told import placed, tells
from pdmlab.coap.transport import Connection, Identity, Scheme
from pdmlab.errors import HandshakeFailed
from pdmlab.lwm2m.dialect import LwM2M
from pdmlab.network.fabric import Fabric
from tests.coap.certificates import Authority
from tests.tools import program

KEY = bytes(range(16))
FUTURE = datetime(2099, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


BOTH = pytest.mark.parametrize("scheme", ["coaps", "coaps+tcp"])


class Lab:
    """A server and clients on a fabric, by DTLS or TLS, all of whom one log hears."""

    def __init__(self, clock: DeviceClock, scheme: Scheme) -> None:
        self.scheme = scheme
        self.fabric = Fabric(clock)
        self.log = MessageLog(clock="device", dialect=LwM2M())
        self.host = self.fabric.host("server")
        self.taps: dict[str, Tap] = {}
        self.peer = Connection(self.host.address, 5684, scheme)

    async def serve(self, security: Security) -> Endpoint:
        tap = self.log.of("server")
        security = dataclasses.replace(security, tells=tells(tap))
        if self.scheme == "coaps":
            opener = dtls(self.host.opener(5684), security)
        else:
            opener = tls("", 0, security, accept=self.host.acceptor(5684))
        return await Endpoint.open(opener, lambda request, peer: Message(code=codes.CONTENT), tap=tap)

    async def connect(self, security: Security, session: bytes | None = None, **options: object) -> Endpoint:
        tap = self.taps["client"] = self.log.of("client")
        security = dataclasses.replace(security, tells=tells(tap))
        host = self.fabric.host("client")
        if self.scheme == "coaps":
            opener = dtls_to(host.opener(), self.peer, security, session=session, **options)  # type: ignore[arg-type]
        else:
            options.pop("handshake", None)
            opener = tls_to(self.peer, security, connect=host.connect, session=session, **options)  # type: ignore[arg-type]
        return await Endpoint.open(placed(opener, tap), tap=tap)


def play(scheme: Scheme, story: Callable[[Lab], Awaitable[None]]) -> Lab:
    with DeviceClock() as clock:
        lab = Lab(clock, scheme)
        clock.call_async(story(lab))  # type: ignore[arg-type]
    return lab


@BOTH
def test_a_handshake_is_two_lines_with_its_suite_and_who_came_and_belongs_to_the_device(scheme: Scheme) -> None:
    ca = Authority()

    async def story(lab: Lab) -> None:
        server = await lab.serve(ca.security("the service"))
        client = await lab.connect(ca.security("desk1"))
        await client.request(Message(code=codes.GET, uri_path=("3", "0", "0")), lab.peer)
        await client.close()
        await asyncio.sleep(1)
        await server.close()

    log = play(scheme, story).log
    carrier = "DTLS" if scheme == "coaps" else "TLS"
    rows = [row for row in log if row.endpoint == "server"]
    assert [(row.type, row.code) for row in rows] == [
        (carrier, "handshake started"),
        (carrier, "handshake completed"),
        ("CON", "GET"),
        ("ACK", "2.05 Content"),
        (carrier, "closed"),
    ]
    assert rows[1].payload == "ECDHE-ECDSA-AES128-CCM8, certificate of desk1"
    assert {(row.scheme, row.name) for row in rows} == {(scheme, "desk1")}
    assert f"{scheme}://" in rows[4].payload
    assert [row.code for row in log.of_device("desk1")] == [row.code for row in rows]
    assert log.counters().set_index("name").loc["desk1", "handshakes_full"] == 1


@BOTH
def test_a_session_that_is_taken_up_again_is_a_resumed_handshake(scheme: Scheme) -> None:
    ca, kept = Authority(), list[bytes]()

    async def story(lab: Lab) -> None:
        server = await lab.serve(ca.security("the service"))
        ours = ca.security("desk1")
        await (await lab.connect(ours, on_session=kept.append)).close()
        await (await lab.connect(ours, kept[-1], handshake=True)).close()
        await asyncio.sleep(1)
        await server.close()

    log = play(scheme, story).log
    done = [row for row in log if row.code == "handshake completed" and row.endpoint == "client"]
    assert [row.options for row in done] == ["full", "resumed"]
    assert "certificate of the service" in done[1].payload
    assert int(log.counters()["handshakes_resumed"].sum()) == 2  # seen at both ends


def failed(scheme: Scheme, server: Security, client: Security) -> tuple[Failure, Failure]:
    """Return what each end's log says of a handshake that cannot succeed: the server's, then the client's."""

    async def story(lab: Lab) -> None:
        listening = await lab.serve(server)
        with pytest.raises(HandshakeFailed):
            await lab.connect(client)
        await asyncio.sleep(70)
        await listening.close()

    failures = [each for each in play(scheme, story).log.failures() if each.row.code == "handshake failed"]
    by_end = {each.row.endpoint: each for each in failures}
    return by_end["server"], by_end["client"]


def certificate_of_another_ca() -> tuple[Security, Security]:
    ours, other = Authority(), Authority("Another CA")
    return ours.security("the service"), dataclasses.replace(other.security("desk1"), trust=(ours.der,))


def server_of_another_ca() -> tuple[Security, Security]:
    ours, other = Authority(), Authority("Another CA")
    return dataclasses.replace(other.security("a service"), trust=(ours.der,)), ours.security("desk1")


def no_suite_in_common() -> tuple[Security, Security]:
    return Authority().security("the service"), Security(psk=(b"desk1", KEY))


def certificate_in_the_future() -> tuple[Security, Security]:
    ca = Authority()
    return ca.security("the service"), ca.security("desk1", FUTURE)


def identity_that_nobody_knows() -> tuple[Security, Security]:
    return Security(psk_of=lambda identity: None), Security(psk=(b"desk1", KEY))


def key_that_differs() -> tuple[Security, Security]:
    return Security(psk_of=lambda identity: bytes(16)), Security(psk=(b"desk1", KEY))


@BOTH
def test_a_clients_messages_are_captured_with_its_own_address(scheme: Scheme) -> None:
    ca = Authority()

    async def story(lab: Lab) -> None:
        server = await lab.serve(ca.security("the service"))
        client = await lab.connect(ca.security("desk1"))
        await client.request(Message(code=codes.GET, uri_path=("3", "0", "0")), lab.peer)
        host, port = client.address
        assert lab.taps["client"].here[scheme] == (host, port) and port
        await client.close()
        await server.close()

    log = play(scheme, story).log
    (get,) = [each for each in log.kept() if isinstance(each, Kept) and each.direction == "out" and each.data[1] == 1]
    assert get.here[scheme][1].to_bytes(4, "big") in packet(get)[0]


def test_to_a_device_its_servers_are_no_devices() -> None:
    log = MessageLog(clock="device", dialect=LwM2M(), own=True)
    certificate = Authority().issue("the service")[0]
    tell = tells(log.of("device"))

    async def story() -> None:
        tell(
            Connection("192.0.2.1", 5684, "coaps+tcp"),
            HandshakeStep("completed", "CCM8", identity=Identity("certificate", "the service", (certificate,))),
        )

    asyncio.run(story())
    (row,) = log
    assert (row.name, row.payload) == ("", "CCM8, certificate of the service")


@BOTH
@pytest.mark.parametrize(
    ("ends", "kinds", "happened", "means", "do"),
    [
        (certificate_of_another_ca, ("unknown CA", "unknown CA"), "by alert unknown_ca (48)", "the other does not know",
         "credentials of this service"),
        (server_of_another_ca, ("unknown CA", "unknown CA"), "alert unknown_ca (48)", "CA that the other does not know",
         "credentials of this service"),
        (no_suite_in_common, ("no common suite", "no common suite"), "PSK-AES128-CCM8",
         "one end has certificates and the other a pre-shared key", "0xC0AE"),
        (certificate_in_the_future, ("certificate in the future", None), "is valid from 2099-01-01", "it is 1970",
         "set it"),
        (identity_that_nobody_knows, ("unknown identity", None), "identity 'desk1'", "has no key for the PSK identity",
         "spelt the same"),
        (key_that_differs, ("wrong key", None), "no handshake with", "have different keys", "typed in hex"),
    ],
)  # fmt: skip
def test_a_failed_handshake_says_what_happened_what_it_means_and_what_to_do(
    scheme: Scheme,
    ends: Callable[[], tuple[Security, Security]],
    kinds: tuple[str, str | None],
    happened: str,
    means: str,
    do: str,
) -> None:
    at_server, at_client = failed(scheme, *ends())
    assert at_server.kind == kinds[0]
    assert happened in at_server.happened and means in at_server.means and do in at_server.do
    assert at_server.row.scheme == scheme
    if kinds[1] is not None:
        assert at_client.kind == kinds[1]
    for each in (at_server, at_client):
        assert "\n" not in each.happened and each.happened and each.means and each.do


def test_a_client_without_any_security_at_a_secure_port_is_a_failure_too() -> None:
    async def story(lab: Lab) -> None:
        listening = await lab.serve(Authority().security("the service"))
        stranger = lab.fabric.host("client").open_datagram(lambda data, peer: None)
        stranger.send(bytes.fromhex("41010001aab133"), (lab.host.address, 5684))
        await asyncio.sleep(1)
        await listening.close()

    (failure,) = play("coaps", story).log.failures()
    assert failure.kind == "not DTLS"
    assert "coaps://" in failure.do


@pytest.mark.debian
@pytest.mark.parametrize(
    ("arguments", "kind", "happened", "do"),
    [
        (["-cipher", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"], "no certificate", "it sent no certificate", "provisioned"),
        (["-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "no common suite", "ECDHE-ECDSA-CHACHA20-POLY1305", "0xC0AE"),
        (["-tls1_3"], "wrong version", "does not speak version 1.2", "allow version 1.2"),
    ],
)
def test_what_openssl_does_wrong_is_explained(arguments: list[str], kind: str, happened: str, do: str) -> None:
    log = MessageLog(endpoint="lwm2m")

    async def story() -> None:
        tap = log.of("lwm2m")
        security = dataclasses.replace(Authority().security("the service"), tells=tells(tap))
        server = await Endpoint.open(tls("127.0.0.1", 0, security), tap=tap)
        command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{server.address[1]}", *arguments]
        client = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await client.wait()
        async with asyncio.timeout(20):
            while not len(log.failures()):
                await asyncio.sleep(0.01)
        await server.close()

    asyncio.run(story())
    failure = log.failures()[0]
    assert failure.kind == kind
    assert happened in failure.happened and do in failure.do
    assert "what it means" in repr(log.failures()) and kind in log.failures()._repr_html_()
