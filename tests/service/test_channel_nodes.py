"""Channels and subscriptions of two processes on one database: whichever is asked, it is as if there were one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from pdmlab.service import channels
from pdmlab.service.core import Core
from pdmlab.service.outbox import Outbox
from pdmlab.service.refusal import Refused
from pdmlab.service.rest.app import make_app
from pdmlab.service.websockets import Close
from tests.service.databases import PostgreSQL
from tests.service.killable import KilledDevice
from tests.service.test_campaign_nodes import TwoNodes

PULL = "/v2/notification/pull"
PATH = "/5000/0/1"


class TwoApis(TwoNodes):
    """Two processes with the REST API of each."""

    async def begin(self) -> None:
        for name in ("left", "right"):
            await self.start(name)
        self.key = self.left.accounts.administrator(None)
        found = self.right.accounts.authenticate(self.key)
        assert found is not None
        self.key_id = found.id
        self.apps = {name: make_app(core, hold_s=20) for name, core in self.nodes.items()}

    @property
    def left(self) -> Core:
        return self.nodes["left"]

    @property
    def right(self) -> Core:
        return self.nodes["right"]

    async def call(self, node: str, method: str, path: str, **options: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self.apps[node])
        async with httpx.AsyncClient(transport=transport, base_url="http://lab", timeout=30) as client:
            return await client.request(method, path, headers={"Authorization": f"Bearer {self.key}"}, **options)

    async def device(self, node: str, name: str = "desk1") -> KilledDevice:
        device = KilledDevice(self, name)  # type: ignore[arg-type]
        self.move(device, node)
        self.devices.append(device)
        await device.power_on()
        await device.register()
        return device


@pytest.fixture
def two(postgresql: PostgreSQL) -> Any:
    url = postgresql.new()

    def play(story: Callable[[TwoApis], Awaitable[None]]) -> None:
        async def run() -> None:
            lab = TwoApis(url)
            try:
                async with asyncio.timeout(60):
                    await lab.begin()
                    await story(lab)
            finally:
                await lab.close()

        asyncio.run(run())

    return play


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_a_poll_hears_what_comes_to_another_process(two: Any) -> None:
    async def story(lab: TwoApis) -> None:
        poll = asyncio.create_task(lab.call("right", "GET", PULL))
        await until(lambda: lab.key_id in lab.right.channels.polls)
        device = await lab.device("left")
        heard = (await poll).json()
        assert [each["ep"] for each in heard["registrations"]] == [device.id]
        for node in ("left", "right"):
            asked = await lab.call(
                node, "POST", f"/v2/device-requests/{device.id}?async-id={node}", json={"method": "GET", "uri": PATH}
            )
            assert asked.status_code == 202
            answer = (await lab.call("right", "GET", PULL)).json()["async-responses"][0]
            assert (answer["id"], answer["status"]) == (node, 200)

    two(story)


def test_one_poll_at_a_time_and_one_deleted_at_the_other_process_ends(two: Any) -> None:
    async def story(lab: TwoApis) -> None:
        poll = asyncio.create_task(lab.call("right", "GET", PULL))
        await until(lambda: lab.key_id in lab.right.channels.polls)
        assert (await lab.call("left", "GET", PULL)).status_code == 409
        assert (await lab.call("left", "DELETE", PULL)).text == "REMOVED"
        ended = await poll
        assert (ended.status_code, ended.text) == (410, "CHANNEL_DELETED")

    two(story)


def test_polls_at_both_processes_in_turn_get_everything_once(two: Any) -> None:
    async def story(lab: TwoApis) -> None:
        sent = [f"{n}" for n in range(80)]

        async def tell() -> None:
            for n, each in enumerate(sent):
                core = (lab.left, lab.right)[n % 3 == 0]
                core.channels.put(lab.key_id, {"async-responses": [{"id": each}]})
                await core.store.written()

        telling, got = asyncio.create_task(tell()), []
        while len(got) < len(sent):
            answer = await lab.call(("left", "right")[len(got) % 2], "GET", PULL)
            assert answer.status_code == 200, answer.text
            got += [each["id"] for each in answer.json()["async-responses"]]
        await telling
        assert sorted(got, key=int) == sent

    two(story)


def test_a_poll_at_another_process_waits_until_the_last_ones_events_are_let_go(two: Any) -> None:
    async def story(lab: TwoApis) -> None:
        lab.left.channels.put(lab.key_id, {"async-responses": [{"id": "a"}]})
        await lab.left.store.written()
        async with lab.left.channels.poll(lab.key_id, 20) as poll:
            batch = await poll.next()
            assert batch is not None and batch.message == {"async-responses": [{"id": "a"}]}
            await lab.left.store.written()
            # The caller has got it, and asks the other process.
            looks = watched(lab.right.channels.outbox)
            following = asyncio.create_task(lab.call("right", "GET", PULL))
            await until(lambda: looks)
            await poll.taken(batch)
            lab.left.channels.put(lab.key_id, {"async-responses": [{"id": "b"}]})
            answer = await following
        assert (answer.status_code, answer.json()) == (200, {"async-responses": [{"id": "b"}]})

    two(story)


def test_what_a_process_that_was_killed_had_not_told_is_told_by_another(
    two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "_ANSWERED_S", 0.05)

    async def story(lab: TwoApis) -> None:
        lab.left.channels.put(lab.key_id, {"async-responses": [{"id": "a"}]})
        await lab.left.store.written()
        async with lab.left.channels.poll(lab.key_id, 20) as poll:
            assert await poll.next() is not None
            await lab.left.store.written()
            # Killed here: nothing more comes from the left one.
            assert (await lab.call("right", "GET", PULL)).status_code == 409
            later = lab.right.store.now() + 20 + channels._GRACE_S + 1
            monkeypatch.setattr(lab.right.store, "now", lambda: later)
            answer = await lab.call("right", "GET", PULL)
        assert (answer.status_code, answer.json()) == (200, {"async-responses": [{"id": "a"}]})

    two(story)


def watched(outbox: Outbox) -> list[bool]:
    """Return a list that gets an item for each look whether something waits."""
    looks: list[bool] = []
    look = outbox.waits

    def waits(api_key_id: str) -> bool:
        looks.append(look(api_key_id))
        return looks[-1]

    outbox.waits = waits  # type: ignore[method-assign]
    return looks


def test_a_websocket_at_another_process_takes_over(two: Any) -> None:
    async def story(lab: TwoApis) -> None:
        heard: dict[str, list[str]] = {"left": [], "right": []}

        def serve(node: str) -> asyncio.Task[Close]:
            async def send(text: str) -> None:
                heard[node].append(text)

            return asyncio.create_task(lab.nodes[node].websockets.serve(lab.key_id, send))

        assert (await lab.call("left", "PUT", "/v2/notification/websocket")).status_code == 201
        older = serve("left")
        lab.right.channels.put(lab.key_id, {"async-responses": [{"id": "a"}]})
        await until(lambda: heard["left"])
        newer = serve("right")
        assert await older == Close.GOING_AWAY
        status = await lab.call("left", "GET", "/v2/notification/websocket")
        assert status.json() == {"status": "connected", "queueSize": 0}
        lab.left.channels.put(lab.key_id, {"async-responses": [{"id": "b"}]})
        await until(lambda: heard["right"])
        assert heard == {
            "left": ['{"async-responses":[{"id":"a"}]}'],
            "right": ['{"async-responses":[{"id":"b"}]}'],
        }
        assert (await lab.call("left", "DELETE", "/v2/notification/websocket")).status_code == 204
        assert await newer == Close.GOING_AWAY

    two(story)


def test_a_subscription_at_another_process_is_made_heard_and_ended(two: Any) -> None:
    async def story(lab: TwoApis) -> None:
        device = await lab.device("left")
        url = f"/v2/subscriptions/{device.id}{PATH}"
        made = await lab.call("right", "PUT", url)
        first = (await lab.call("right", "GET", PULL)).json()["async-responses"][0]
        assert (first["id"], first["status"]) == (made.json()["async-response-id"], 200)
        assert await device.notify(PATH, "new") == "acknowledged"
        note = (await lab.call("right", "GET", PULL)).json()["notifications"][0]
        assert (note["path"], note["payload"]) == (PATH, "bmV3")
        assert (await lab.call("left", "GET", url)).status_code == 200
        assert (await lab.call("right", "DELETE", url)).status_code == 204
        await until(lambda: PATH not in lab.left.observations.keys_of(device.id))
        assert await device.notify(PATH, "newer") == "reset"

    two(story)


def test_a_subscription_of_which_the_news_has_not_come_yet_is_not_made_twice(two: Any) -> None:
    async def story(lab: TwoApis) -> None:
        device = await lab.device("left")
        assert lab.right.observations.keys_of(device.id) == {}
        made = [await lab.left.observations.subscribe(lab.key_id, device.id, PATH)]
        lab.right.observations._keys[device.id] = {}  # what it knew before
        made.append(await lab.right.observations.subscribe(lab.key_id, device.id, PATH))
        answers: set[str] = set()
        while answers != set(made):
            heard = (await lab.call("right", "GET", PULL)).json()
            answers |= {each["id"] for each in heard.get("async-responses", ())}
        assert lab.left.observations.list(lab.key_id, device.id) == [PATH]

    two(story)


def test_another_kind_of_channel_is_refused_at_both(two: Any) -> None:
    async def story(lab: TwoApis) -> None:
        lab.left.websockets.register(lab.key_id)
        await lab.left.store.written()
        with pytest.raises(Refused) as refused:
            async with lab.right.channels.poll(lab.key_id, 1):
                pass
        assert refused.value.status == 400

    two(story)
