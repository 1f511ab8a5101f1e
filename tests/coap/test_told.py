"""Handshakes in a log: that they are lines, and that a failed one says what happened, what it means, what to do."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.capture import MessageLog
from pdmlab.capture.failures import Failure
from pdmlab.clock import DeviceClock
from pdmlab.coap.dtls import dtls, dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.told import tells
from pdmlab.coap.transport import Connection
from pdmlab.errors import HandshakeFailed
from pdmlab.lwm2m.dialect import LwM2M
from pdmlab.network.fabric import Fabric
from tests.coap.certificates import Authority

KEY = bytes(range(16))
FUTURE = datetime(2099, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class Lab:
    """A DTLS server and clients on a fabric, all of whom one log hears."""

    def __init__(self, clock: DeviceClock) -> None:
        self.fabric = Fabric(clock)
        self.log = MessageLog(clock="device", dialect=LwM2M())
        self.host = self.fabric.host("server")
        self.peer = Connection(self.host.address, 5684, "coaps")

    async def serve(self, security: Security) -> Endpoint:
        tap = self.log.of("server")
        opener = dtls(self.host.opener(5684), dataclasses.replace(security, tells=tells(tap)))
        return await Endpoint.open(opener, lambda request, peer: Message(code=codes.CONTENT), tap=tap)

    async def connect(self, security: Security, session: bytes | None = None, **options: object) -> Endpoint:
        tap = self.log.of("client")
        security = dataclasses.replace(security, tells=tells(tap))
        host = self.fabric.host("client")
        opener = dtls_to(host.opener(), self.peer, security, session=session, **options)  # type: ignore[arg-type]
        return await Endpoint.open(opener, tap=tap)


def play(story: Callable[[Lab], Awaitable[None]]) -> Lab:
    with DeviceClock() as clock:
        lab = Lab(clock)
        clock.call_async(story(lab))  # type: ignore[arg-type]
    return lab


def test_a_handshake_is_two_lines_with_its_suite_and_who_came_and_belongs_to_the_device() -> None:
    ca = Authority()

    async def story(lab: Lab) -> None:
        server = await lab.serve(ca.security("the service"))
        client = await lab.connect(ca.security("desk1"))
        await client.request(Message(code=codes.GET, uri_path=("3", "0", "0")), lab.peer)
        await client.close()
        await asyncio.sleep(1)
        await server.close()

    log = play(story).log
    rows = [row for row in log if row.endpoint == "server"]
    assert [(row.type, row.code) for row in rows] == [
        ("DTLS", "handshake started"),
        ("DTLS", "handshake completed"),
        ("CON", "GET"),
        ("ACK", "2.05 Content"),
        ("DTLS", "closed"),
    ]
    assert rows[1].payload == "ECDHE-ECDSA-AES128-CCM8, certificate of desk1"
    assert {(row.scheme, row.name) for row in rows} == {("coaps", "desk1")}
    assert rows[4].payload.startswith("the connection to coaps://")
    assert [row.code for row in log.of_device("desk1")] == [row.code for row in rows]
    assert log.counters().set_index("name").loc["desk1", "handshakes_full"] == 1


def test_a_session_that_is_taken_up_again_is_a_resumed_handshake() -> None:
    ca, kept = Authority(), list[bytes]()

    async def story(lab: Lab) -> None:
        server = await lab.serve(ca.security("the service"))
        ours = ca.security("desk1")
        await (await lab.connect(ours, on_session=kept.append)).close()
        await (await lab.connect(ours, kept[-1], handshake=True)).close()
        await asyncio.sleep(1)
        await server.close()

    log = play(story).log
    done = [row for row in log if row.code == "handshake completed" and row.endpoint == "client"]
    assert [row.options for row in done] == ["full", "resumed"]
    assert "certificate of the service" in done[1].payload
    assert int(log.counters()["handshakes_resumed"].sum()) == 2  # seen at both ends


def failed(server: Security, client: Security) -> tuple[Failure, Failure]:
    """Return what each end's log says of a handshake that cannot succeed: the server's, then the client's."""

    async def story(lab: Lab) -> None:
        listening = await lab.serve(server)
        with pytest.raises(HandshakeFailed):
            await lab.connect(client)
        await asyncio.sleep(70)
        await listening.close()

    failures = [each for each in play(story).log.failures() if each.row.code == "handshake failed"]
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


@pytest.mark.parametrize(
    ("ends", "kinds", "happened", "means", "do"),
    [
        (certificate_of_another_ca, ("unknown CA", "unknown CA"), "CN=desk1", "CA that the other does not know",
         "credentials of this service"),
        (server_of_another_ca, ("unknown CA", "unknown CA"), "alert unknown_ca (48)", "CA that the other does not know",
         "credentials of this service"),
        (no_suite_in_common, ("no common suite", "no common suite"), "PSK-AES128-CCM8",
         "one end has certificates and the other a pre-shared key", "0xC0AE"),
        (certificate_in_the_future, ("certificate in the future", None), "is valid from 2099-01-01", "it is 1970",
         "set it"),
        (identity_that_nobody_knows, ("unknown identity", None), "identity 'desk1'", "has no key for the PSK identity",
         "spelt the same"),
        (key_that_differs, ("wrong key", None), "key", "have different keys", "typed in hex"),
    ],
)  # fmt: skip
def test_a_failed_handshake_says_what_happened_what_it_means_and_what_to_do(
    ends: Callable[[], tuple[Security, Security]], kinds: tuple[str, str | None], happened: str, means: str, do: str
) -> None:
    at_server, at_client = failed(*ends())
    assert at_server.kind == kinds[0]
    assert happened in at_server.happened and means in at_server.means and do in at_server.do
    assert at_server.row.scheme == "coaps"
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

    (failure,) = play(story).log.failures()
    assert failure.kind == "not DTLS"
    assert "coaps://" in failure.do
