"""Bootstrap and registration, on the wire: what a client sends, and what it makes of every answer."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from dataclasses import replace

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client import ConnectorClientEndpointInfo, M2MMethod, SimpleMbedCloudClient
from pdmlab.clock import SECOND
from pdmlab.errors import BoardError, StorageError
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import TLV, to_bytes
from pdmlab.storage import CredentialStore
from tests.client.bench import ACCOUNT, CREDENTIALS, DEVICE, Bench, Cloud


@pytest.fixture
def bench() -> Bench:
    return Bench()


def script(cloud: Cloud) -> list[str]:
    """What went over the wire, without what chance decides (ports, message IDs, tokens)."""
    rows = (
        f"{'<-' if row.direction == 'in' else '->'} {row.type} {row.code} {row.path}{row.query} {row.options}"
        for row in cloud.log
    )
    return [re.sub(r" \((?:application|text|block)[^)]*\)", "", row).strip() for row in rows]


def test_the_first_connection_goes_as_the_stock_clients(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench).open()
        client = await bench.connect(variable)
        await cloud.registered.wait()
        await asyncio.sleep(1)
        lines = script(cloud)
        cf = "Content-Format 40, Max-Age 0"
        bs, rd = (
            f"ep=desk-1&aid={ACCOUNT}&mccv=4.13.2",
            f"ep=desk-1&et=default&lt=7200&lwm2m=1.0&b=U&aid={ACCOUNT}&iep={DEVICE}",
        )
        assert lines[:12] == [
            f"<- CON POST /bs?{bs} Max-Age 0",
            f"-> ACK 2.04 Changed /bs?{bs}",
            "-> CON DELETE /0",
            "<- ACK 2.02 Deleted /0",
            "-> CON PUT /0 Content-Format 11542",
            "<- ACK 2.04 Changed /0",
            "-> CON POST /bs",
            "<- ACK acknowledged /bs",
            "<- CON 2.04 Changed /bs",
            "-> ACK acknowledged /bs",
            f"<- CON POST /rd?{rd} {cf}, Block1 0/1/512, Size1 {len(cloud.payload)}",
            f"-> ACK 2.31 Continue /rd?{rd} Block1 0/1/512",
        ]
        blocks = -(-len(cloud.payload) // 512)
        assert lines[-2:] == [
            f"<- CON POST /rd?{rd} {cf}, Block1 {blocks - 1}/0/512",
            f"-> ACK 2.01 Created /rd?{rd} Location-Path /rd/{ACCOUNT}/{DEVICE}, Block1 {blocks - 1}/0/512",
        ]
        rows = list(cloud.log)
        registering = [row for row in rows if row.path == "/rd" and row.direction == "in"]
        assert len({row.token for row in registering}) == 1 and len({row.mid for row in registering}) == blocks
        assert all(
            len(row.token) == 8 for row in rows if row.direction == "in" and row.token and row.path in ("/rd", "/bs")
        )
        assert rows[10].peer != rows[0].peer, "two connections, one after the other"
        assert client.is_client_registered() and client.device_id == DEVICE

    bench.play(story)


def variable(client: SimpleMbedCloudClient) -> None:
    resource = client.create_resource("3201/0/5853", "variable")
    resource.set_value("assign new value")
    resource.methods(M2MMethod.GET | M2MMethod.PUT)


def test_registration_lists_what_there_is_as_the_stock_client_does(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench).open()

        def prepare(client: SimpleMbedCloudClient) -> None:
            variable(client)
            client.create_resource("3200/0/5501", "button").observable(True)

        await bench.connect(prepare)
        await cloud.registered.wait()
        assert str(cloud.links["/3201/0/5853"]) == '</3201/0/5853>;rt="variable"'
        assert str(cloud.links["/3200/0/5501"]) == '</3200/0/5501>;rt="button";obs'
        assert {"/1", "/1/0", "/3/0", "/10252/0/1", "/14/0/2"} <= set(cloud.links)
        assert "/0" not in cloud.links and "/3/0/13" not in cloud.links
        assert cloud.links["/3/0/0"].v == "ACME" and cloud.links["/10252/0/2"].v == "1"
        numbers = [link.aobs for link in cloud.links.values() if link.aobs is not None]
        assert all(1 <= number <= 1023 for number in numbers) and len(set(numbers)) == len(numbers) > 10
        assert all(link.v is not None for link in cloud.links.values() if link.aobs is not None)
        assert not any(link.obs and link.aobs for link in cloud.links.values())

    bench.play(story)


def test_the_application_hears_who_it_is_and_is_not_kept_waiting(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench).open()
        heard: list[ConnectorClientEndpointInfo] = []
        took: list[int] = []

        def main() -> SimpleMbedCloudClient:
            client = bench.make_client()
            client.init()
            client.on_registered(heard.append)
            before = bench.clock.now()
            assert client.register_and_connect() is True
            assert client.register_and_connect() is False
            took.append(bench.clock.now() - before)
            assert not client.is_client_registered()
            while not client.is_client_registered():
                bench.clock.sleep(1_000_000)
            return client

        client = await bench.device(main)
        await cloud.registered.wait()
        await asyncio.sleep(0.1)
        assert heard == [ConnectorClientEndpointInfo("desk-1", ACCOUNT, DEVICE, cloud.uri)]
        assert took[0] < 1_000_000, "at most what reading the firmware's header takes (ns)"
        assert client.endpoint_info == heard[0]
        assert "registered" in repr(client) and DEVICE in client._repr_html_()

    bench.play(story)


def test_a_second_boot_skips_bootstrap_and_keeps_the_identity(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench).open()
        await bench.connect()
        await cloud.hears("POST rd")
        await asyncio.sleep(1)
        bench.cut_power()
        await asyncio.sleep(1)
        client = await bench.connect()
        await cloud.hears("POST rd", 2)
        await asyncio.sleep(1)
        assert cloud.heard.count("POST bs") == 1
        assert client.device_id == DEVICE and client.is_client_registered()

    bench.play(story)


def test_a_power_cut_silences_the_client_at_once(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench).open()
        await bench.connect()
        await cloud.registered.wait()
        bench.cut_power()
        await asyncio.sleep(1)
        before = len(cloud.log)
        await asyncio.sleep(20_000)
        assert len(cloud.log) == before

    bench.play(story)


def test_registration_is_updated_at_three_quarters_of_what_was_granted(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench, grant=60).open()
        await bench.connect()
        await cloud.registered.wait()
        began = bench.clock.now()
        await cloud.hears("update", 3)
        assert abs(bench.clock.now() - began - 3 * 45 * SECOND) < SECOND
        assert cloud.queries[-1] == "et=default" and cloud.update_payload == b""

    bench.play(story)


def test_updates_come_on_demand_too_and_name_new_resources(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench).open()
        client = await bench.connect()
        await cloud.registered.wait()
        await asyncio.sleep(1)
        client.register_update()
        await cloud.hears("update")
        assert cloud.update_payload == b""
        await bench.device(lambda: client.create_resource("5000/0/1", "late"))
        await cloud.hears("update", 2)
        assert b'</5000/0/1>;rt="late"' in cloud.update_payload
        assert (await cloud.ask(codes.POST, "/1/0/8")).code == codes.CHANGED
        await cloud.hears("update", 3)
        assert (await cloud.ask(codes.PUT, "/1/0/1", b"300")).code == codes.CHANGED
        await cloud.hears("update", 4)
        assert cloud.queries[-1] == "et=default&lt=300"
        await cloud.hears("update", 5)
        assert cloud.queries[-1] == "et=default"
        assert (await cloud.ask(codes.PUT, "/1/0/1", b"59")).code == codes.NOT_ACCEPTABLE
        assert (await cloud.ask(codes.PUT, "/1/0/1", b"soon")).code == codes.NOT_ACCEPTABLE

    bench.play(story)


def test_a_registration_that_the_server_has_lost_is_made_anew(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench, answers={("POST", "update"): [codes.NOT_FOUND]}).open()
        client = await bench.connect()
        await cloud.registered.wait()
        peer = cloud.peer
        await asyncio.sleep(1)
        client.register_update()
        await cloud.hears("POST rd", 2)
        assert cloud.heard.count("POST bs") == 1
        assert cloud.peer == peer, "on the same connection"

    bench.play(story)


@pytest.mark.parametrize("refusal", [codes.BAD_REQUEST, codes.FORBIDDEN])
def test_a_refused_registration_ends_the_credentials_and_bootstraps_again(bench: Bench, refusal: codes.Code) -> None:
    async def story() -> None:
        cloud = await Cloud(bench, answers={("POST", "rd"): [refusal]}).open()
        errors: list[tuple[int, str]] = []
        client = await bench.connect(lambda client: client.on_error(lambda *error: errors.append(error)))
        await cloud.hears("POST rd")
        refused = bench.clock.now()
        await cloud.hears("POST bs", 2)
        assert 20 <= (bench.clock.now() - refused) / SECOND <= 101
        assert cloud.queries[2] == f"ep=desk-1&aid={ACCOUNT}&iep={DEVICE}&mccv=4.13.2", "as who it was"
        await cloud.hears("POST rd", 2)
        await asyncio.sleep(1)
        assert client.is_client_registered()
        assert errors == [(3, "MbedCloudClient::ConnectInvalidParameters")]
        assert str(refusal) in client.error_description and "trying again in" in client.error_description

    bench.play(story)


def test_a_server_in_trouble_is_tried_again_later_each_time(bench: Bench) -> None:
    async def story() -> None:
        trouble = [codes.SERVICE_UNAVAILABLE] * 4
        cloud = await Cloud(bench, answers={("POST", "rd"): trouble}).open()
        await bench.connect()
        times = []
        for number in range(1, 6):
            await cloud.hears("POST rd", number)
            times.append(bench.clock.now() / SECOND)
        gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
        assert cloud.heard.count("POST bs") == 1
        assert all(0.6 * 13 * 2**n < gap < 1.4 * 13 * 2**n for n, gap in enumerate(gaps)), gaps

    bench.play(story)


def test_without_a_server_errors_are_printed_with_their_names(bench: Bench) -> None:
    async def story() -> None:
        bench.fabric.host("cloud")
        await bench.connect()
        bench.uart.lines()
        await asyncio.sleep(70)
        lines = bench.uart.lines()
        assert lines[:2] == [
            "[SMCC] Error occurred : MbedCloudClient::ConnectTimeout",
            "[SMCC] Error code : 5",
        ]
        assert lines[2].startswith("[SMCC] Error details : POST coap://198.18.0.2:5683/bs")
        assert "trying again in 1" in lines[2]

    bench.play(story)


def test_an_unknown_host_and_a_network_that_is_down_have_numbers_of_their_own(bench: Bench) -> None:
    async def story() -> None:
        errors: list[int] = []

        def main() -> SimpleMbedCloudClient:
            client = bench.make_client()
            client.init()
            client.on_error(lambda code, text: errors.append(code))
            client.register_and_connect()
            return client

        client = await bench.device(main)
        await asyncio.sleep(1)
        assert errors == [12], client.error_description
        await bench.device(bench.network.disconnect)
        before = time.monotonic()
        client.register_update()  # no need to wait
        await asyncio.sleep(0.1)
        assert errors == [12, 6]
        assert time.monotonic() - before >= 0.05, "outside the simulation nobody is asked faster than the wall"
        cloud = await Cloud(bench).open()
        await bench.device(bench.network.connect)
        client.register_update()
        await cloud.registered.wait()

    bench.play(story)


def test_credentials_that_make_no_sense_are_reported_once(bench: Bench) -> None:
    async def story() -> None:
        bench.image.credentials = replace(CREDENTIALS, bootstrap_server_uri=f"coap://cloud?aid={ACCOUNT}").to_mapping()
        errors: list[tuple[int, str]] = []
        client = await bench.connect(lambda client: client.on_error(lambda *error: errors.append(error)))
        await asyncio.sleep(10_000)
        assert errors == [(15, "MbedCloudClient::ConnectorInvalidCredentials")]
        assert "with the port" in client.error_description
        client.close()
        await asyncio.sleep(1)
        assert await bench.device(client.register_and_connect), "as often as one likes"

    bench.play(story)


async def bootstrap_with(
    bench: Bench, *steps: Message, finish: bool = True
) -> tuple[Cloud, SimpleMbedCloudClient, list[str]]:
    """Let the server write these, and tell what the device answered to each."""
    cloud = await Cloud(bench).open()
    answers: list[str] = []

    async def write(peer: tuple[str, int]) -> None:
        for step in steps:
            answers.append(str((await cloud.bs.request(step, peer)).code))

    cloud.write = write  # type: ignore[method-assign]
    client = await bench.connect()
    await cloud.hears("POST bs")
    await asyncio.sleep(1)
    return cloud, client, answers


def put(payload: bytes, path: str = "0", **options: object) -> Message:
    return Message(code=codes.PUT, uri_path=path.split("/"), payload=payload, **{"content_format": TLV, **options})


def instance(cloud: Cloud, number: int, *, more: tuple[int, bytes] | None = None) -> bytes:
    """The security instance under another number, or with something behind it."""
    entries = list(tlv.decode(cloud.security())[0].entries)
    return tlv.encode([tlv.object_instance(number, [*entries, *([] if more is None else [tlv.resource(*more)])])])


FINISH = Message(code=codes.POST, uri_path=("bs",))


def test_the_smallest_bootstrap_is_one_write_and_the_finish(bench: Bench) -> None:
    async def story() -> None:
        cloud, _client, answers = await bootstrap_with(bench, put(Cloud(bench).security()), FINISH)
        assert answers == ["2.04 Changed", "2.04 Changed"]
        await cloud.hears("POST rd")

    bench.play(story)


def test_a_bootstrap_in_blocks_is_put_together(bench: Bench) -> None:
    async def story() -> None:
        uri = f"coap://cloud:5685?aid={ACCOUNT}&iep={DEVICE}&pad={'x' * 900}"
        _cloud, client, answers = await bootstrap_with(bench, put(Cloud(bench).security(uri)), FINISH)
        assert answers == ["2.04 Changed", "2.04 Changed"]
        identity = client._provisioning.identity
        assert identity is not None and identity.lwm2m_uri == uri

    bench.play(story)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (lambda cloud: put(b"\x08\x00\x05\xc8"), "has 5 B, of which 1 are there"),
        (lambda cloud: put(cloud.security(), content_format=0), "is not TLV"),
        (lambda cloud: put(cloud.security(mode=2)), "security mode 2 needs the device's certificate"),
        (lambda cloud: put(cloud.security(mode=0)), "security mode 0 (a pre-shared key) is not compiled in"),
        (lambda cloud: put(cloud.security(mode=4)), "security mode 4 needs the server's CA"),
        (lambda cloud: put(cloud.security("coap://cloud")), "with the port"),
        (lambda cloud: put(tlv.encode([tlv.object_instance(0, [tlv.resource(1, b"")])])), "has no server URI"),
        (lambda cloud: put(cloud.security(f"coap://cloud:5685?{'x' * 1024}")), "and 1024 is the most"),
        (lambda cloud: put(instance(cloud, 1)), "instance 1 is not the LwM2M server's"),
        (lambda cloud: put(instance(cloud, 0, more=(99, b"x"))), "resource 99 at the end"),
        (lambda cloud: put(tlv.encode(tlv.decode(cloud.security())[0].entries)), "no object instance"),
        (lambda cloud: Message(code=codes.DELETE, uri_path=("0", "10")), "DELETE /0/10"),
        (lambda cloud: put(b"", "5/0"), "PUT /5/0"),
        (lambda cloud: FINISH, "before it wrote"),
    ],
)
def test_a_bootstrap_that_makes_no_sense_is_refused_and_asked_for_again(bench: Bench, step: object, says: str) -> None:
    async def story() -> None:
        made = step(Cloud(bench))  # type: ignore[operator]
        cloud, client, answers = await bootstrap_with(bench, made)
        assert answers == ["4.00 Bad Request"]
        assert "[SMCC] Error code : 2" in bench.uart.lines()
        assert says in client.error_description
        await cloud.hears("POST bs", 2)

    bench.play(story)


def test_a_bootstrap_server_that_never_finishes_is_asked_again(bench: Bench) -> None:
    async def story() -> None:
        cloud, client, _answers = await bootstrap_with(bench, put(Cloud(bench).security()))
        await cloud.hears("POST bs", 2)
        assert "did not finish in 60 s" in client.error_description

    bench.play(story)


def test_a_refusal_to_bootstrap_is_reported_with_its_reason(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench, answers={("POST", "bs"): [codes.BAD_REQUEST]}).open()
        client = await bench.connect()
        await cloud.hears("POST bs")
        await asyncio.sleep(1)
        assert "the bootstrap server answered 4.00" in client.error_description
        await cloud.hears("POST rd")

    bench.play(story)


def test_close_deregisters_and_register_and_connect_works_again(bench: Bench) -> None:
    async def story() -> None:
        cloud = await Cloud(bench).open()
        gone: list[bool] = []
        client = await bench.connect(lambda client: client.on_unregistered(lambda: gone.append(True)))
        await cloud.registered.wait()
        await asyncio.sleep(1)
        client.close()
        client.close()
        await cloud.hears("DELETE")
        await asyncio.sleep(1)
        assert gone == [True] and not client.is_client_registered() and client.address is None
        before = len(cloud.log)
        await asyncio.sleep(10_000)
        assert len(cloud.log) == before
        assert await bench.device(client.register_and_connect)
        await cloud.hears("POST rd", 2)
        await asyncio.sleep(1)
        assert client.is_client_registered()

    bench.play(story)


def test_close_before_anybody_has_answered_ends_at_once(bench: Bench) -> None:
    async def story() -> None:
        bench.fabric.host("cloud")
        gone: list[bool] = []
        client = await bench.connect(lambda client: client.on_unregistered(lambda: gone.append(True)))
        await asyncio.sleep(1)
        client.close()
        await asyncio.sleep(0.1)
        assert gone == [True] and client.address is None

    bench.play(story)


def test_bootstrap_writes_a_lifetime_that_the_next_update_tells(bench: Bench) -> None:
    async def story() -> None:
        server = tlv.encode([tlv.object_instance(0, [tlv.resource(1, to_bytes(600, "integer"))])])
        cloud, _client, _answers = await bootstrap_with(bench, put(Cloud(bench).security()), put(server, "1"), FINISH)
        await cloud.hears("POST rd")
        assert "lt=7200" in cloud.queries[-1]
        assert (await cloud.get("/1/0/1")).payload == b"600"
        await cloud.hears("update")
        assert cloud.queries[-1] == "et=default&lt=600"

    bench.play(story)


def test_a_medium_that_fails_while_bootstrap_is_stored_is_reported_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        cloud = await Cloud(bench).open()
        keep = CredentialStore.set
        trouble = [StorageError("the card is gone", code=-5005)]

        def fail(self: CredentialStore, name: str, value: bytes, **options: bool) -> None:
            if name == "mbed.LwM2MServerURI" and trouble:
                raise trouble.pop()
            keep(self, name, value, **options)

        monkeypatch.setattr(CredentialStore, "set", fail)
        client = await bench.connect()
        await cloud.hears("bootstrapped")
        await asyncio.sleep(1)
        assert "[SMCC] Error occurred : MbedCloudClient::ConnectorFailedToStoreCredentials" in bench.uart.lines()
        assert client.error_description.startswith("the card is gone; trying again in")
        await cloud.registered.wait()
        assert cloud.queries[1] == f"ep=desk-1&aid={ACCOUNT}&iep={DEVICE}&mccv=4.13.2", "no second device"

    bench.play(story)


def test_a_client_is_connected_from_another_thread_too(bench: Bench) -> None:
    """As a notebook does with the client that its function has returned."""

    def main() -> SimpleMbedCloudClient:
        return bench.make_client()

    cloud = bench.clock.call_async(Cloud(bench).open())
    client = bench.clock.call_async(bench.device(main))
    try:
        assert client.init() == 0
        client.create_resource("5000/0/1", "text").set_value("x")
        assert client.register_and_connect()
        bench.clock.call_async(cloud.hears("POST rd"))
        assert "/5000/0/1" in cloud.links
    finally:
        bench.clock.close()


def test_a_client_whose_board_is_gone_says_so(bench: Bench) -> None:
    client = bench.clock.call_async(bench.device(bench.make_client))
    resource = client.create_resource("5000/0/1", "text")
    bench.clock.close()
    resource.set_value("nobody hears it")
    client.close()
    with pytest.raises(BoardError, match="is closed"):
        client.init()


def test_what_comes_before_the_request_is_answered_is_left_alone_until_it_comes_again(bench: Bench) -> None:
    """docs/wire.md 2.2 a."""

    async def story() -> None:
        cloud = await Cloud(bench).open()
        usual, early = cloud.on_bootstrap, []

        async def hasty(request: Message, peer: tuple[str, int]) -> Message:
            async def delete() -> None:
                early.append(await cloud.bs.request(Message(code=codes.DELETE, uri_path=("0",)), peer))

            bench.beside(delete())
            await asyncio.sleep(0.05)
            return await usual(request, peer)

        cloud.on_bootstrap = hasty  # type: ignore[method-assign]
        cloud.bs.abort()
        cloud.rd.abort()
        await cloud.open()
        await bench.connect()
        await cloud.registered.wait()
        await asyncio.sleep(10)
        deletes = [row for row in cloud.log if row.direction == "out" and row.code == "DELETE"]
        assert len({row.mid for row in deletes}) == 2 and len(deletes) >= 3, "one of them more than once"

    bench.play(story)


def test_bootstrap_may_say_what_time_it_is(bench: Bench) -> None:
    """docs/wire.md 2.2 d: PUT /3."""

    async def story() -> None:
        now = 1_767_225_600
        values = [(13, to_bytes(now, "time")), (14, b"+02:00"), (15, b"Europe/Helsinki")]
        device = tlv.encode([tlv.object_instance(0, [tlv.resource(id, value) for id, value in values])])
        cloud, client, answers = await bootstrap_with(bench, put(Cloud(bench).security()), put(device, "3"), FINISH)
        assert answers == ["2.04 Changed"] * 3
        await cloud.hears("POST rd")
        assert now <= client.time < now + 10
        assert now <= int((await cloud.get("/3/0/13")).payload) < now + 10
        store = client._provisioning.identity.store
        assert await bench.device(lambda: store.get("mbed.Timezone")) == b"Europe/Helsinki"
        assert await bench.device(lambda: store.get("mbed.UTCOffset")) == b"+02:00"
        assert await bench.device(lambda: store.get("mbed.CurrentTime")) == now.to_bytes(4, "little")

    bench.play(story)
