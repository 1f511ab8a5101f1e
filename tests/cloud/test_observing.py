"""What is observed stays so when the device registers anew, as after a reset, until its with statement is left."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from pdmlab.aio import LoopThread
from pdmlab.cloud import Cloud, resubscribing
from pdmlab.cloud.channel import Channel
from pdmlab.cloud.resubscribing import Observer, Resubscriber
from pdmlab.errors import ServiceError, Unreachable
from pdmlab.service import serve
from pdmlab.service.service import Service
from tests.cloud.ways import WAYS, Story, it, opened, tell
from tests.service.restlab import LINKS, Device

PATH = "/3/0/9"
Teller = Callable[[Story], None]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serve(name="observing") as running:
        yield running


@pytest.fixture(scope="module")
def loop() -> Iterator[LoopThread]:
    with LoopThread("devices") as loop:
        yield loop


@pytest.fixture
def desk(service: Service, loop: LoopThread) -> Iterator[Device]:
    device = Device(
        lambda coroutine: loop.run(coroutine, timeout=30), service.core.lwm2m.address, f"desk-{next(_numbers)}"
    )
    device.register()
    yield device
    device.close()


@pytest.fixture(params=list(itertools.product(WAYS, ["poll", "websocket"])), ids=" by ".join)
def told(request: pytest.FixtureRequest, service: Service) -> Teller:
    """Tell a story in a way, with a key of its own: told(story)."""
    way, channel = request.param

    def play(story: Story) -> None:
        with Cloud(service.url, service.api_key) as cloud:
            key = cloud.create_api_key(f"key-{next(_numbers)}")
        tell(way, story, service.url, key, channel=channel)

    return play


def reset(device: Device, links: str = LINKS) -> None:
    """Let a device forget everything, and register in full, from another port."""
    device._observed.clear()
    device.close()
    device.register(links)


async def values_of(stream: Any, count: int) -> list[Any]:
    return [(await it(stream.next(10))).value for _ in range(count)]


def test_values_go_on_after_resets_none_lost_and_none_twice(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        device = await it(cloud.device(desk.id))
        async with opened(device.observe(PATH)) as values, opened(cloud.notifications()) as news:
            desk.tell(PATH, b"96")
            assert await values_of(values, 1) == ["96"]
            for number in range(3):
                desk.values[PATH] = b"%d at the start" % number
                reset(desk)
                # While nobody waits for values here: it has its answer, and then two new values.
                while (await it(news.next(10))).value != f"{number} at the start":
                    pass
                for when in (b"then", b"last"):
                    desk.tell(PATH, b"%d %s" % (number, when))
                assert await values_of(values, 3) == [f"{number} {when}" for when in ("at the start", "then", "last")]
        assert len(values.seen) == 11 and await it(cloud.subscriptions.paths(device)) == []

    told(story)


def test_what_a_pattern_subscribes_to_is_not_told_twice(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        device = await it(cloud.device(desk.id))
        async with opened(cloud.notifications()) as news:

            async def heard(value: str) -> None:
                while (await it(news.next(10))).value != value:
                    pass

            await it(cloud.presubscriptions.set({"endpoint_name": desk.id, "resource_path": PATH}))
            await heard("97")
            async with opened(device.observe(PATH)) as values:
                desk.values[PATH] = b"50"
                reset(desk)
                await heard("50")
                desk.tell(PATH, b"49")
                await heard("49")
                assert await values_of(values, 2) == ["50", "49"]

    told(story)


def test_a_channel_that_was_gone_is_made_good(told: Teller, service: Service, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        device = await it(cloud.device(desk.id))
        key = (await cloud._rest.get("/v3/api-keys/me"))["id"]
        async with opened(device.observe(PATH)) as values:
            # As if the device had registered while there was no channel to tell it.
            await it(cloud.subscriptions.remove(device, PATH))
            desk._observed.clear()
            desk.values[PATH] = b"40"
            if cloud._rest.channel == "poll":
                while key not in service.core.channels.polls:
                    await cloud._rest.sleep(0)
                await cloud._rest.call("DELETE", "/v2/notification/pull")
            else:
                while (await cloud._rest.get("/v2/notification/websocket"))["status"] != "connected":
                    pass
                await cloud._rest.call("DELETE", "/v2/notification/websocket")
            assert await values_of(values, 1) == ["40"]
            desk.tell(PATH, b"39")
            assert await values_of(values, 1) == ["39"]

    told(story)


def test_what_was_left_is_not_subscribed_to_again(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        device = await it(cloud.device(desk.id))
        async with opened(device.observe(PATH)):
            reset(desk)
        async with opened(cloud.notifications()) as news:
            reset(desk)
            while (await it(news.next(10))).kind != "registered":
                pass
        Channel.end(cloud._rest)  # what it was about is done then
        assert await it(cloud.subscriptions.paths(device)) == []

    told(story)


def test_a_resource_that_is_gone_after_a_reset_says_so_and_may_come_back(told: Teller, desk: Device) -> None:
    async def story(cloud: Any) -> None:
        device = await it(cloud.device(desk.id))
        async with opened(device.observe(PATH)) as values:
            reset(desk, "</3/0/0>")
            with pytest.raises(ServiceError, match=f"observe {PATH} of device .*RESOURCE_NOT_FOUND") as gone:
                await it(values.next(10))
            assert gone.value.hint is not None and "device.resources()" in gone.value.hint
            desk.values[PATH] = b"30"
            reset(desk)
            assert await values_of(values, 1) == ["30"]

    told(story)


# -- by itself -----------------------------------------------------------------------------------------------------


class Answering:
    """A service of which each call has its answer, by method; None: nobody answers."""

    def __init__(self, **answers: list[int | None]) -> None:
        self.answers, self.calls = answers, list[str]()

    async def call(self, method: str, path: str) -> httpx.Response:
        await asyncio.sleep(0)
        self.calls.append(f"{method} {path}")
        status = self.answers[method].pop(0)
        if status is None:
            raise Unreachable("nobody answers")
        if status >= 300:
            raise ServiceError("no", status=status)
        return httpx.Response(status, json={"async-response-id": "id"})


SUBSCRIPTION = "/v2/subscriptions/device" + PATH


def resubscribed(
    service: Answering, story: Callable[[Resubscriber, Observer], object], early: dict[str, Any] | None = None
) -> list[Any]:
    """Play a story with what is observed already; return what was told."""
    told: list[Any] = []

    async def play() -> None:
        again = Resubscriber(lambda resource, event: told.append(event), lambda id: early)
        again.begin(service.call)
        observer = Observer("device", PATH)
        again.add(observer)
        story(again, observer)
        while again._due or again._task is None or not again._task.done():
            await asyncio.sleep(0)
        again.answered({"id": "id"})
        await again.end()

    asyncio.run(play())
    return told


def registered(again: Resubscriber, observer: Observer) -> None:
    again.made(observer)
    again.registered("device")
    again.registered("another")


def test_a_service_that_is_away_is_asked_until_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resubscribing, "PAUSES_S", (0.0,))
    service = Answering(GET=[None, 503, 404, 404], PUT=[None, 202])
    assert resubscribed(service, registered) == [{"id": "id"}]
    assert service.calls == [f"{method} {SUBSCRIPTION}" for method in ("GET", "GET", "GET", "PUT", "GET", "PUT")]


def test_what_happens_while_a_subscription_is_made_is_made_good_then() -> None:
    def story(again: Resubscriber, observer: Observer) -> None:
        again.registered("device")
        assert not again._due  # its first value is still awaited
        again.made(observer)

    assert resubscribed(Answering(GET=[404], PUT=[202]), story) == [{"id": "id"}]


def test_an_answer_that_is_there_before_its_id_is_passed_on() -> None:
    early = {"id": "id", "payload": "OTY="}
    assert resubscribed(Answering(GET=[404], PUT=[202]), registered, early) == [early]


def test_what_is_left_while_it_is_subscribed_to_is_ended() -> None:
    service = Answering(GET=[404], DELETE=[204])

    def story(again: Resubscriber, observer: Observer) -> None:
        async def call(method: str, path: str) -> httpx.Response:
            if method == "PUT":
                again.remove(observer)
                return httpx.Response(202, json={"async-response-id": "id"})
            return await service.call(method, path)

        again.begin(call)
        registered(again, observer)

    assert resubscribed(service, story) == []
    assert service.calls[-1] == f"DELETE {SUBSCRIPTION}"


def test_everything_is_looked_at_once_there_is_a_channel_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resubscribing, "PAUSES_S", (0.0,))

    def story(again: Resubscriber, observer: Observer) -> None:
        again.made(observer)
        again.missed()

    service = Answering(GET=[404, 200, 200])
    assert resubscribed(service, story) == []
    channel = "GET /v2/notification/channel"
    assert service.calls == [channel, channel, f"GET {SUBSCRIPTION}"]
