"""Observations, auto-observations and write-attributes: who is told what, when, and under which token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client import M2MMethod, MbedCloudClientResource, NotificationDeliveryStatus, SimpleMbedCloudClient
from pdmlab.client.observation import MAX_OBSERVERS
from pdmlab.clock import SECOND
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.observation import Observation
from pdmlab.lwm2m.content import TEXT, TLV
from tests.client.bench import Bench, Cloud

TEMPERATURE = "/3303/0/5700"


class Desk:
    """A registered device with an observable temperature."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.told: list[tuple[float, bytes, int | None]] = []
        self.fate: list[NotificationDeliveryStatus] = []
        self.sensor: MbedCloudClientResource

    def prepare(self, client: SimpleMbedCloudClient) -> None:
        self.sensor = client.create_resource("3303/0/5700", "temperature")
        self.sensor.set_value(20)
        self.sensor.methods(M2MMethod.GET | M2MMethod.PUT)
        self.sensor.observable(True)
        self.sensor.attach_notification_callback(lambda resource, status: self.fate.append(status))
        client.create_resource("5000/0/1", "not observable")

    def play(self, story: Callable[[Cloud, SimpleMbedCloudClient], Awaitable[None]]) -> None:
        async def connected() -> None:
            self.cloud = await Cloud(self.bench).open()
            client = await self.bench.connect(self.prepare)
            await self.cloud.registered.wait()
            await asyncio.sleep(1)
            await story(self.cloud, client)

        self.bench.play(connected)

    async def observe(self, path: str = TEMPERATURE) -> Observation:
        start = self.bench.clock.now()

        def heard(message: Message) -> None:
            seconds = round((self.bench.clock.now() - start) / SECOND, 1)
            self.told.append((seconds, message.payload, message.opt.observe))

        request = Message(code=codes.GET, uri_path=path.strip("/").split("/"))
        return await self.cloud.rd.observe(request, self.cloud.peer, heard)

    async def attributes(self, *queries: str, path: str = TEMPERATURE) -> str:
        return str((await self.cloud.ask(codes.PUT, path, b"ignored", uri_query=queries)).code)

    async def course(self, *values: object, step: float = 1.0) -> None:
        """Set one value after the other, a step apart (s)."""
        for value in values:
            self.sensor.set_value(value)  # type: ignore[arg-type]
            await asyncio.sleep(step)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_observer_hears_of_changes_under_its_token_with_rising_numbers(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        observation = await desk.observe()
        assert (observation.first.payload, observation.first.opt.observe) == (b"20", 0)
        await asyncio.sleep(1.5)
        await desk.course(21, 21, 22, step=2)
        assert desk.told == [(1.5, b"21", 2), (5.5, b"22", 3)]
        rows = [row for row in cloud.log if row.path == TEMPERATURE and row.direction == "in"][1:]
        assert {(row.type, row.code) for row in rows} == {("CON", "2.05 Content")}
        assert all("Max-Age 0" in row.options for row in rows)
        answer = await observation.cancel()
        assert answer is not None and (str(answer.code)[:4], answer.opt.observe) == ("2.05", 3)
        await desk.course(30, step=5)
        assert len(desk.told) == 2
        status = NotificationDeliveryStatus
        assert desk.fate == [status.SUBSCRIBED, status.DELIVERED, status.DELIVERED, status.UNSUBSCRIBED]

    desk.play(story)


def test_at_most_one_notification_a_second_unless_told(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await desk.observe()
        await asyncio.sleep(1.0)
        await desk.course(*range(21, 41), step=0.1)
        await asyncio.sleep(2)
        assert [value for _, value, _ in desk.told] == [b"21", b"30", b"40"]

    desk.play(story)


@pytest.mark.parametrize(
    ("queries", "values", "told"),
    [
        (("pmin=5",), (21, 22, 23, 23, 23, 23, 23, 23), [(5.0, b"23")]),
        (("pmin=0", "pmax=4"), (20,) * 10, [(4.0, b"20"), (8.0, b"20")]),
        (("pmin=0", "gt=25"), (24, 26, 27, 25, 26), [(1.0, b"26"), (3.0, b"25"), (4.0, b"26")]),
        (("pmin=0", "lt=10"), (11, 9, 8, 12), [(1.0, b"9"), (3.0, b"12")]),
        (("pmin=0", "st=3"), (21, 22, 23, 24, 26), [(2.0, b"23"), (4.0, b"26")]),
    ],
)
def test_attributes_decide_what_is_worth_telling(
    desk: Desk, queries: tuple[str, ...], values: tuple[float, ...], told: object
) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert await desk.attributes(*queries) == "2.04 Changed"
        assert (await cloud.get(TEMPERATURE)).payload == b"20", "the payload of a write-attributes is ignored"
        await desk.observe()
        await desk.course(*values)
        assert [(when, value) for when, value, _ in desk.told] == told

    desk.play(story)


@pytest.mark.parametrize("queries", [("pmin=x",), ("pmin=9", "pmax=3"), ("colour=red",), ("pmax=1",) * 6])
def test_attributes_that_make_no_sense_are_refused(desk: Desk, queries: tuple[str, ...]) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert await desk.attributes(*queries) == "4.00 Bad Request"
        assert await desk.attributes("pmin=1", path="/3303/9/5700") == "4.04 Not Found"

    desk.play(story)


def test_attributes_of_an_instance_hold_for_its_resources_and_under_way(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await desk.observe()
        assert await desk.attributes("pmin=10", path="/3303/0") == "2.04 Changed"
        await desk.course(21, step=9)
        assert desk.told == []
        await asyncio.sleep(2)
        assert [value for _, value, _ in desk.told] == [b"21"]

    desk.play(story)


def test_what_cannot_be_observed_says_so(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        for path in ("/5000/0/1", "/3303/0", "/3303"):
            observation = await desk.observe(path)
            assert str(observation.first.code) == "4.05 Method Not Allowed" and observation.first.payload
            assert not observation.active

    desk.play(story)


def test_a_reset_ends_an_observation(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        observation = await desk.observe()
        await asyncio.sleep(1)
        cloud.rd._observations.clear()
        observation.active = False
        cloud.rd.on_unasked = lambda message, peer: False
        await desk.course(21, 22, 23, step=2)
        assert desk.fate[-1] == NotificationDeliveryStatus.UNSUBSCRIBED
        assert sum(row.type == "RST" for row in cloud.log) == 1

    desk.play(story)


def test_the_format_that_was_asked_for_last_sticks_to_notifications(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await desk.observe()
        await cloud.get(TEMPERATURE, accept=TLV)
        await desk.course(21, step=2)
        await cloud.get(TEMPERATURE, accept=TEXT)
        await desk.course(22, step=2)
        assert desk.told[0][1] == b"\xe8\x16\x44\x08\x40\x35" + bytes(6)
        assert desk.told[1][1] == b"22"

    desk.play(story)


def test_a_full_registration_drops_what_the_server_had_asked_for(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await desk.observe()
        cloud.answers["POST", "update"] = [codes.NOT_FOUND]
        client.register_update()
        await cloud.hears("POST rd", 2)
        await asyncio.sleep(1)
        await desk.course(21, step=5)
        assert desk.told == [] and desk.fate[-1] == NotificationDeliveryStatus.UNSUBSCRIBED

    desk.play(story)


def test_what_was_written_by_the_server_is_notified_too(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await desk.observe()
        await cloud.ask(codes.PUT, TEMPERATURE, b"25")
        await asyncio.sleep(2)
        assert [value for _, value, _ in desk.told] == [b"25"]

    desk.play(story)


def test_auto_observed_resources_are_told_unasked_under_the_number_of_the_registration(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        assert cloud.links["/1/0/1"].aobs is not None
        await cloud.ask(codes.PUT, "/1/0/1", b"100")
        await cloud.hears("notification")
        assert cloud.notified == [("/1/0/1", 2, b"100")]
        row = next(row for row in cloud.log if row.code == "2.05 Content" and row.type == "CON")
        assert row.token == f"{cloud.links['/1/0/1'].aobs:04x}"
        observation = await desk.observe("/1/0/1")
        await asyncio.sleep(1)
        await cloud.ask(codes.PUT, "/1/0/1", b"200")
        await cloud.hears("notification", 2)
        await asyncio.sleep(0.1)
        assert desk.told[-1][1:] == (b"200", 2)
        await observation.cancel()
        await asyncio.sleep(1)
        await cloud.ask(codes.PUT, "/1/0/1", b"300")
        await cloud.hears("notification", 3)
        assert cloud.notified[-1] == ("/1/0/1", 4, b"300") and len(desk.told) == 1

    desk.play(story)


def test_numbers_of_auto_observations_differ_from_boot_to_boot(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        before = cloud.links["/1/0/1"].aobs
        desk.bench.cut_power()
        await asyncio.sleep(1)
        await desk.bench.connect()
        await cloud.hears("POST rd", 2)
        assert cloud.links["/1/0/1"].aobs != before

    desk.play(story)


def test_a_server_that_does_not_acknowledge_is_connected_to_anew_and_told_what_it_missed(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        await desk.observe()
        host = desk.bench.fabric.host("cloud")
        await asyncio.sleep(1)
        port = client.address
        host.online = False
        await desk.course(21, step=90)
        assert desk.fate[-1] == NotificationDeliveryStatus.SEND_FAILED
        assert client.error_description.startswith("the LwM2M server at 198.18.0.2:5685 does not acknowledge")
        cloud.bench.uart.lines()
        host.online = True
        await cloud.hears("update")
        assert cloud.heard.count("POST rd") == 1, "an update, not a registration"
        assert client.address != port
        cloud.rd.on_unasked = lambda message, peer: bool(desk.told.append((0, message.payload, 0))) or True
        await asyncio.sleep(3)
        assert desk.told[-1][1] == b"21"

    desk.play(story)


def test_visitors_come_and_go_without_troubling_the_registration(desk: Desk) -> None:
    async def story(cloud: Cloud, client: SimpleMbedCloudClient) -> None:
        host = desk.bench.fabric.host("visitors")
        request = Message(code=codes.GET, uri_path=("3303", "0", "5700"))
        seen: list[bytes] = []
        visitors = []
        for number in range(MAX_OBSERVERS + 1):
            visitor = await Endpoint.open(host.opener(), seed=number)
            visitors.append(
                await visitor.observe(request, client.address, lambda message: seen.append(message.payload))
            )
        assert [each.active for each in visitors] == [True] * MAX_OBSERVERS + [False]
        assert visitors[-1].first.payload == b"20", "it is answered, and not told"
        await desk.course(21, step=2)
        assert seen == [b"21"] * MAX_OBSERVERS
        host.online = False
        await desk.course(22, step=100)
        assert client.error_description == "" and cloud.heard.count("update") == 0
        await desk.course(23, step=2)
        assert (await desk.observe()).active, "there is room again"

    desk.play(story)
