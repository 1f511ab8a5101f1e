"""Devices with certificates, over TLS and DTLS: what they keep, what time does to them, what they make of refusals."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client import SimpleMbedCloudClient
from pdmlab.client.queue_mode import AWAKE
from pdmlab.clock import SECOND
from pdmlab.errors import TimedOut
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import TLV
from pdmlab.network.link import Link
from pdmlab.storage import CredentialStore
from tests.client.bench import ACCOUNT, DEVICE, Bench, Cloud, secured
from tests.client.pki import ALWAYS, Authority, Times, years

Carrier = Literal["tls", "dtls"]
BOTH = pytest.mark.parametrize("carrier", ["tls", "dtls"])


def desk(carrier: Carrier, **options: Any) -> tuple[Bench, Cloud]:
    bench = Bench()
    bench.image.transport = "udp" if carrier == "dtls" else None
    return bench, Cloud(bench, carrier=carrier, ca=secured(bench), **options)


def handshakes(client: SimpleMbedCloudClient) -> list[str]:
    """What the log says of handshakes."""
    return [str(row) for row in client.log if row.code.startswith("handshake")]


async def settle(cloud: Cloud, times: int = 1) -> None:
    """Wait until the device has registered so often, and a second."""
    await cloud.hears("POST rd", times)
    await asyncio.sleep(1)


@BOTH
@pytest.mark.parametrize("mode", [2, 4])
def test_a_device_bootstraps_registers_and_answers(carrier: Carrier, mode: int) -> None:
    bench, cloud = desk(carrier, mode=mode)

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        await settle(cloud)
        assert client.is_client_registered() and client.device_id == DEVICE and client.endpoint_name == "desk-1"
        assert cloud.queries == [
            f"ep=desk-1&aid={ACCOUNT}&mccv=4.13.2",
            f"ep=desk-1&et=default&lt=7200&lwm2m=1.0&d={ACCOUNT}&b=U&aid={ACCOUNT}&mccv=4.13.2",
        ]
        identity = cloud.rd.identity(cloud.peer)
        assert identity is not None and identity.name == "desk-1"
        assert (await cloud.get("/3/0/0")).payload == b"dev_manufacturer"
        assert "/35011/0/27002" in cloud.links
        assert client.address is None and client.server is not None
        name = "TLS handshake" if carrier == "tls" else "DTLS handshake"
        assert client.steps[name].ok and client.steps["register"].ok
        assert "register" in repr(client.steps) and "<table>" in client.steps._repr_html_()
        assert any(row.code == "step" for row in client.log)
        assert "kept secret" not in client.log.lines() or "BEGIN" not in client.log.lines()

    bench.play(story)


@BOTH
def test_after_a_reset_the_session_of_before_goes_on(carrier: Carrier) -> None:
    """docs/wire.md 1.6 and 1.7: it lies in the item sslsession; a full registration follows in any case."""
    bench, cloud = desk(carrier)

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        await settle(cloud)
        identity = client._provisioning.identity
        assert identity is not None and "sslsession" in await bench.device(identity.store.list)
        bench.cut_power()
        await asyncio.sleep(1)
        again = await bench.connect()
        await settle(cloud, 2)
        assert again.is_client_registered() and cloud.heard.count("POST bs") == 1
        assert (await cloud.get("/14/0/2")).code == codes.CONTENT
        told = handshakes(again)
        assert (len(told) == 2 and "  resumed  " in told[-1]) if carrier == "tls" else told == []

    bench.play(story)


@BOTH
def test_a_certificate_from_the_future_is_judged_by_the_servers_time(carrier: Carrier) -> None:
    """docs/wire.md 1.5: the device thinks that it is 1970, and takes the time of the ServerHello."""
    bench, cloud = desk(carrier, server_times=years(2020, 2060))

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        assert client.time == 0
        await settle(cloud)
        assert client.is_client_registered()
        assert abs(client.time - time.time()) < 3600
        response = await cloud.get("/3/0/13")
        assert abs(int(response.payload) - client.time) < 2
        bench.cut_power()
        await asyncio.sleep(1)
        await bench.connect()
        await settle(cloud, 2)

    bench.play(story)


@BOTH
@pytest.mark.parametrize(("times", "reason"), [(years(2000, 2010), "expired"), (years(2090, 2099), "in the future")])
def test_a_certificate_that_is_not_valid_by_the_servers_own_time_is_refused(
    carrier: Carrier, times: Times, reason: str
) -> None:
    bench, cloud = desk(carrier, server_times=times)

    async def story() -> None:
        await cloud.open()
        errors: list[int] = []
        client = await bench.connect(lambda client: client.on_error(lambda code, name: errors.append(code)))
        await asyncio.sleep(5)
        assert errors == [11] and client.time == 0
        assert "valid" in client.error_description and "trying again in 1" in client.error_description, reason
        assert client.steps["TLS handshake" if carrier == "tls" else "DTLS handshake"].ok is False
        assert not cloud.heard

    bench.play(story)


def test_a_clock_that_runs_ahead_is_set_right_by_the_bootstrap_servers_ca_only() -> None:
    """docs/wire.md 1.5: a certificate that has expired by the device's clock."""
    bench, cloud = desk("tls", server_times=years(2020, 2040))

    async def story() -> None:
        from pdmlab.client.secure_time import SecureTime

        await cloud.open()
        ahead = 3_000_000_000  # 2065
        await bench.device(lambda: SecureTime(bench.clock, bench.nvstore).hear(ahead, trusted=True))
        client = await bench.connect()
        assert client.time == 0 or client.time >= ahead
        await settle(cloud)
        assert abs(client.time - time.time()) < 3600

    bench.play(story)


@BOTH
def test_a_bootstrap_server_of_another_ca_is_only_tried_again(carrier: Carrier) -> None:
    """docs/wire.md 1.8: the very first handshake; the error is the client's own, the sentence ours."""
    bench, cloud = desk(carrier)
    cloud.ca = Authority("Another CA")

    async def story() -> None:
        await cloud.open()
        errors: list[int] = []
        client = await bench.connect(lambda client: client.on_error(lambda code, name: errors.append(code)))
        await asyncio.sleep(60)
        assert errors == [11, 11, 11]
        assert "Another CA" in client.error_description and "not trusted" in client.error_description
        assert cloud.failures and set(cloud.failures) <= {"unknown CA", "bad certificate"}

    bench.play(story)


def test_an_lwm2m_server_of_another_ca_ends_the_credentials_and_bootstraps_again() -> None:
    """docs/wire.md 1.8: after 20 to 100 s."""
    bench, cloud = desk("tls")

    async def story() -> None:
        await cloud.open()
        trusted = cloud.ca
        assert trusted is not None
        other = next(ca for ca in iter(Authority, None) if len(ca.certificate) == len(trusted.certificate))
        original = cloud.security
        cloud.security = lambda *args: original(*args).replace(trusted.certificate, other.certificate)  # type: ignore
        errors: list[int] = []
        client = await bench.connect(lambda client: client.on_error(lambda code, name: errors.append(code)))
        await cloud.hears("bootstrapped")
        began = bench.clock.now()
        await cloud.hears("POST bs", 2)
        assert 20 <= (bench.clock.now() - began) / SECOND <= 101
        assert errors == [11]
        identity = client._provisioning.identity
        assert identity is not None and identity.server is None
        assert cloud.queries[-1] == f"ep=desk-1&aid={ACCOUNT}&iep={DEVICE}&mccv=4.13.2"

    bench.play(story)


@pytest.mark.parametrize(
    ("names", "says"),
    [({"CN": "desk-1"}, "has no L in its subject"), ({"L": DEVICE}, "has no CN in its subject")],
)
def test_a_certificate_that_does_not_name_the_device_is_of_no_use(names: dict[str, str], says: str) -> None:
    """docs/wire.md 2.3."""
    bench, cloud = desk("tls")

    async def story() -> None:
        await cloud.open()
        assert cloud.ca is not None
        issue = cloud.ca.issue
        cloud.ca.issue = lambda times=ALWAYS, **_: issue(times, **names)  # type: ignore[method-assign]
        client = await bench.connect()
        await cloud.hears("bootstrapped")
        await asyncio.sleep(1)
        assert says in client.error_description
        assert "[SMCC] Error code : 2" in bench.uart.lines()
        await cloud.hears("POST bs", 2)

    bench.play(story)


def test_bare_resources_cost_the_client_its_certificate_chain_until_it_is_reset() -> None:
    """docs/wire.md 2.2 b: PUT /0/0."""
    bench, cloud = desk("tls")

    async def story() -> None:
        await cloud.open()

        async def write(peer: Any) -> None:
            body = tlv.encode(tlv.decode(cloud.security())[0].entries)
            put = Message(code=codes.PUT, uri_path=("0", "0"), content_format=TLV, payload=body)
            assert (await cloud.bs.request(put, peer)).code == codes.CHANGED
            await cloud.bs.request(Message(code=codes.POST, uri_path=("bs",)), peer)

        cloud.write = write  # type: ignore[method-assign]
        client = await bench.connect()
        await cloud.hears("POST bs")
        await asyncio.sleep(60)
        assert "PUT /0/0" in client.error_description and cloud.heard == ["POST bs"]
        bench.cut_power()
        await asyncio.sleep(1)
        await bench.connect()
        await settle(cloud)
        assert cloud.heard.count("POST bs") == 1

    bench.play(story)


@pytest.mark.parametrize("mode", [2, 4])
@pytest.mark.parametrize("cut", range(12))
def test_a_power_cut_between_any_two_writes_leaves_a_device_that_registers(
    monkeypatch: pytest.MonkeyPatch, mode: int, cut: int
) -> None:
    """Either it bootstraps again, or it goes on; it never mixes what belongs to two bootstraps."""
    bench, cloud = desk("tls", mode=mode)
    left = [cut]
    keep, drop = CredentialStore.set, CredentialStore.remove

    def count() -> None:
        if not left:
            return
        if left[0] == 0:
            left.clear()
            bench.reset()
        left[0] -= 1

    def set(self: CredentialStore, name: str, value: bytes, **options: bool) -> None:
        if not options.get("factory"):
            count()
        keep(self, name, value, **options)

    def remove(self: CredentialStore, name: str) -> None:
        count()
        drop(self, name)

    monkeypatch.setattr(CredentialStore, "set", set)
    monkeypatch.setattr(CredentialStore, "remove", remove)

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        await asyncio.sleep(5)
        if not left:
            client = await bench.connect()
        await settle(cloud)
        assert client.is_client_registered() and client.device_id == DEVICE
        assert cloud.heard.count("POST bs") <= 2

    bench.play(story)


@pytest.mark.parametrize(
    ("payload", "status", "asked"),
    [
        (b"\0\1\0\6LWM2M\0", b"0", True),
        (b"\0\1\0\6LWM2M", b"1286", False),
        (b"\0\2\0\6LWM2M\0", b"1286", False),
        (b"", b"1286", False),
        (b"\0\1\0\5MINE\0", b"1284", False),
    ],
)
def test_a_certificate_is_renewed_on_demand(payload: bytes, status: bytes, asked: bool) -> None:
    """docs/wire.md 2.4: POST /35011/0/27002 is answered with how it went (ce_status.h)."""
    bench, cloud = desk("tls")

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        await settle(cloud)
        identity = client._provisioning.identity
        assert identity is not None and identity.server is not None
        before = identity.server
        response = await cloud.ask(codes.POST, "/35011/0/27002", payload)
        assert (response.code, response.payload, response.opt.content_format) == (codes.CHANGED, status, 0)
        assert ("POST est" in cloud.heard) == asked
        assert (identity.server != before) == asked
        bench.cut_power()
        await asyncio.sleep(1)
        again = await bench.connect()
        await settle(cloud, 2)
        assert again._provisioning.identity.server == identity.server
        assert cloud.heard.count("POST bs") == 1

    bench.play(story)


def test_a_refused_renewal_changes_nothing() -> None:
    bench, cloud = desk("tls", answers={("POST", "est"): [codes.FORBIDDEN]})

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        await settle(cloud)
        before = client._provisioning.identity.server
        response = await cloud.ask(codes.POST, "/35011/0/27002", b"\0\1\0\6LWM2M\0")
        assert response.payload == b"1287"
        assert client._provisioning.identity.server == before and client.is_client_registered()

    bench.play(story)


def test_a_disabled_device_deregisters_and_comes_back_when_it_is_asked_to() -> None:
    """POST /1/0/4."""
    bench, cloud = desk("tls")

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        await settle(cloud)
        assert (await cloud.ask(codes.POST, "/1/0/4")).code == codes.CHANGED
        await cloud.hears("DELETE")
        await asyncio.sleep(10_000)
        assert not client.is_client_registered() and client.server is None
        client.register_update()
        await settle(cloud, 2)
        assert client.is_client_registered() and cloud.heard.count("POST bs") == 1

    bench.play(story)


@BOTH
def test_a_server_that_has_forgotten_everything_is_registered_at_anew(carrier: Carrier) -> None:
    """A restart of the service: the connection is gone, or unknown; no minute passes before it is noticed."""
    bench, cloud = desk(carrier)

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        await settle(cloud)
        cloud.rd.abort()
        cloud.bs.abort()
        await cloud.open()
        client.register_update()
        await cloud.until(lambda: cloud.heard.count("update") + cloud.heard.count("POST rd") >= 2, 200)
        await asyncio.sleep(1)
        assert client.is_client_registered() and cloud.heard.count("POST bs") == 1

    bench.play(story)


@BOTH
def test_a_handshake_takes_as_many_round_trips_as_it_should(carrier: Carrier) -> None:
    """Times of steps are the link's: TCP one round trip, a full handshake two, a resumed one, DTLS one for a cookie."""
    bench, cloud = desk(carrier)
    bench.network.link = Link.of("ethernet", latency=100_000_000)

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        await settle(cloud)
        if carrier == "tls":
            assert round_trips(client, "TCP connect") == [1, 1]
            # The certificate from bootstrap makes a flight of two segments, and Nagle holds back the second.
            assert round_trips(client, "TLS handshake") == [2, 3]
        else:
            assert round_trips(client, "DTLS handshake") == [3, 3], "with the exchange of a cookie"
        bench.cut_power()
        await asyncio.sleep(1)
        again = await bench.connect()
        await settle(cloud, 2)
        if carrier == "tls":
            assert round_trips(again, "TLS handshake") == [1]
        else:
            assert round_trips(again, "DTLS handshake") == [0]

    def round_trips(client: SimpleMbedCloudClient, name: str) -> list[int]:
        return [round(step.duration_ns / 200_000_000) for step in client.steps if step.name == name]

    bench.play(story)


def test_queue_mode_over_dtls_keeps_its_association_while_it_sleeps() -> None:
    bench, cloud = desk("dtls", grant=1200)
    bench.image.transport = "udp_queue"

    async def story() -> None:
        await cloud.open()
        client = await bench.connect()
        await settle(cloud)
        assert "b=UQ" in cloud.queries[-1]
        with pytest.raises(TimedOut):
            await asyncio.sleep(AWAKE + 1)
            await cloud.get("/3/0/0")
        await cloud.hears("update")
        assert (await cloud.get("/3/0/0")).payload == b"dev_manufacturer"
        assert len(handshakes(client)) == 4, "two that began and were completed"

    bench.play(story)
