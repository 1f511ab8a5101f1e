"""Several processes on one database: whoever is asked, the process that has the device asks it, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from aiocoap.numbers import codes

from pdmlab.errors import PortBusy
from pdmlab.service import nodes
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import registrations, requests
from tests.service.corelab import CoreLab, FakeDevice, value
from tests.service.databases import PostgreSQL
from tests.service.fota import IMAGE, publish, updatable
from tests.service.several import SeveralLab, Stage, play


@pytest.fixture(name="play")
def play_(postgresql: PostgreSQL) -> Iterator[Stage]:
    url = postgresql.new()
    yield lambda story: play(story, url, "a", "b")
    postgresql.drop(url)


def owner(lab: CoreLab, device: FakeDevice) -> str | None:
    return lab.core.store.scalar(sa.select(registrations.c.node).where(registrations.c.device_id == device.id))


def end_connection_of_listener(lab: CoreLab) -> None:
    listener = lab.core.nodes._listener
    assert listener is not None and listener._connection is not None
    number = listener._connection.info.backend_pid
    lab.core.store.rows(sa.text(f"SELECT pg_terminate_backend({number}, 5000)"))
    lab.core.nodes.look()


def test_a_request_at_one_process_is_sent_by_the_one_that_has_the_device(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = await a.registered()
        assert owner(b, device) == "a"
        async_id = await b.ask(device, "GET", "/5000/0/1")
        (answer,) = await b.answers()
        assert (answer["id"], answer["status"], value(answer)) == (async_id, 200, b"test0")
        await b.ask(device, "PUT", "/5000/0/1", b"new")
        (answer,) = await a.answers()  # the key polls where it likes
        assert answer["status"] == 200 and device.values["/5000/0/1"] == b"new"

    play(story)


def test_every_process_knows_all_registrations(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        first = await a.registered("first")
        second = await b.registered("second")
        for each in (a, b):
            registered = each.core.registrations
            assert len(registered) == 2
            assert {one.device_id: one.node for one in registered} == {first.id: "a", second.id: "b"}
            assert registered.find(first.id).endpoint_name == "first"
            assert registered.find(second.id).endpoint_name == "second"
        assert "connected to the process 'a', which asks it" in b.core.delivery.obstacle(first.id)
        assert a.core.delivery.obstacle(first.id) is None
        await second.deregister()
        assert a.core.registrations.find(second.id) is None and len(a.core.registrations) == 1

    play(story)


def test_what_is_not_there_is_refused_at_every_process(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        device = await lab["a"].registered()
        with pytest.raises(Refused, match="RESOURCE_NOT_FOUND"):
            await lab["b"].ask(device, "GET", "/9999/0/0")
        with pytest.raises(Refused, match="RESOURCE_NOT_FOUND"):
            await lab["b"].core.observations.subscribe(lab["b"].key_id, device.id, "/9999/0/0")

    play(story)


def test_a_subscription_at_one_process_is_observed_by_the_other_and_told_where_it_is_polled(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = await a.registered()
        await b.core.observations.subscribe(b.key_id, device.id, "/5000/0/1")
        (answer,) = await b.answers()
        assert value(answer) == b"test0"
        assert await device.notify("/5000/0/1", "one") == "acknowledged"
        assert await b.told() == [("/5000/0/1", b"one")]
        await device.notify("/5000/0/1", "two")
        assert await a.told() == [("/5000/0/1", b"two")]
        other = a.new_key()
        await a.core.observations.subscribe(other, device.id, "/5000/0/1")
        await device.notify("/5000/0/1", "three")
        assert await b.told(key_id=other) == [("/5000/0/1", b"three")]
        assert await b.told() == [("/5000/0/1", b"three")]
        await b.core.observations.unsubscribe(b.key_id)
        await a.core.observations.unsubscribe(other)
        assert await device.notify("/5000/0/1", "four") == "reset"

    play(story)


def test_patterns_given_at_one_process_fit_devices_of_all(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        here, there = await a.registered("here"), await b.registered("there")
        await a.core.observations.set_presubscriptions(a.key_id, [{"resource-path": ["/5000/0/1"]}])
        later = await b.registered("later")
        for device in (here, there, later):
            while "/5000/0/1" not in device.observers:
                await asyncio.sleep(0.01)

    play(story)


def test_what_wants_no_answer_is_told_by_the_process_that_has_the_device(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        device = await lab["a"].registered()
        lab["b"].core.unanswered.tell(device.id, "PUT", "/5000/0/1", b"told")
        while device.values["/5000/0/1"] != b"told":
            await asyncio.sleep(0.01)
        assert device.asked.count("PUT /5000/0/1") == 1

    play(story)


@pytest.mark.parametrize("full", [True, False], ids=["registration", "update"])
def test_a_device_that_moves_takes_its_queue_and_its_subscriptions_along(play: Stage, full: bool) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = await a.registered()
        await a.core.observations.set_presubscriptions(a.key_id, [{"resource-path": ["/5000/0/1"]}])
        while "/5000/0/1" not in device.observers:
            await asyncio.sleep(0.01)
        device.power_off()
        await a.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(1)
        await device.power_on()
        await lab.move(device, "b", full=full)
        assert owner(a, device) == "b" and a.core.registrations.own(device.id) is None
        assert b.core.registrations.own(device.id) is not None
        answers = await a.answers()
        assert [(each["status"], value(each)) for each in answers] == [(200, b"pdmlab")]
        if full:
            while "/5000/0/1" not in device.observers:
                await asyncio.sleep(0.01)
            await device.notify("/5000/0/1", "from b")
            assert (await b.told())[-1] == ("/5000/0/1", b"from b")
        await lab.move(device, "a", full=full)
        assert owner(b, device) == "a" and b.core.registrations.own(device.id) is None
        await b.ask(device, "GET", "/3/0/0")
        assert len(await b.answers()) == 1

    play(story)


def test_an_execution_is_not_sent_again_by_the_process_that_the_device_moves_to(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a = lab["a"]
        device = await a.registered()
        device.silent = True
        executed, read = await a.ask(device, "POST", "/5000/0/1"), await a.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(5)
        device.silent = False
        await lab.move(device, "b")
        answers = {each["id"]: each for each in await a.answers(2)}
        assert answers[executed]["status"] == 502 and answers[read]["status"] == 200
        assert device.asked.count("POST /5000/0/1") == 1

    play(story)


def test_a_process_that_is_killed_leaves_its_work_to_the_others(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = await a.registered()
        device.silent = True
        await b.ask(device, "POST", "/5000/0/1")
        await b.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(2)
        await lab.kill("a")
        device.silent = False
        await asyncio.sleep(nodes.DEAD_S + nodes.BEAT_S + 1)
        assert "has no connection: the process 'a' has ended" in b.core.delivery.obstacle(device.id)
        (lost,) = await b.answers()
        assert lost["status"] == 504  # it was sent, and nobody lives who could hear the answer
        await lab.move(device, "b")
        (answer,) = await b.answers()
        assert value(answer) == b"pdmlab" and device.asked.count("POST /5000/0/1") == 1

    play(story)


def test_a_device_comes_to_another_process_before_its_own_is_known_to_be_gone(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = await a.registered()
        device.silent = True
        executed, read = await b.ask(device, "POST", "/5000/0/1"), await b.ask(device, "GET", "/3/0/0")
        await asyncio.sleep(2)
        await lab.kill("a")
        device.silent = False
        await lab.move(device, "b")
        answers = {each["id"]: each["status"] for each in await b.answers(2)}
        assert answers == {executed: 504, read: 200}
        assert device.asked.count("POST /5000/0/1") == 1

    play(story)


def test_a_killed_processs_registrations_expire_and_its_requests_run_out(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        await b.events(0.1)
        device = await a.device()
        device.lifetime = 120
        await device.bootstrap()
        await device.register()
        await b.events()
        device.power_off()
        await b.ask(device, "GET", "/3/0/0", expiry_s=60)
        await lab.kill("a")
        (answer,) = await b.answers(hold_s=100)
        assert answer["status"] == 504
        assert await b.events(300) == {"registrations-expired": [device.id]}
        assert b.core.registrations.find(device.id) is None
        assert b.core.directory.find(device.id)["state"] == "deregistered"

    play(story)


def test_a_process_that_comes_back_has_its_devices_again(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = await a.registered()
        await lab.kill("a")
        await asyncio.sleep(60)
        await b.ask(device, "GET", "/3/0/0")
        await lab.restart("a")
        (answer,) = await b.answers()
        assert value(answer) == b"pdmlab"
        assert b.core.nodes.lives("a") and a.core.nodes.lives("b")

    play(story)


def test_news_that_are_lost_are_made_up_for(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = await a.registered()
        moved = await a.registered("moved")
        lab.hears = False
        await b.ask(device, "GET", "/3/0/0")
        await b.core.observations.subscribe(b.key_id, device.id, "/5000/0/1")
        await lab.move(moved, "b")
        await asyncio.sleep(1)
        assert "GET /3/0/0" not in device.asked
        lab.hears = True
        end_connection_of_listener(a)
        answers = await b.answers(2)
        assert {each["status"] for each in answers} == {200}
        assert a.core.registrations.own(moved.id) is None

    play(story)


def test_a_certificate_is_renewed_by_the_process_that_has_the_device(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = await a.device()
        device.values["/35011/0/27002"] = b""
        await device.bootstrap()
        await device.register()
        row = await b.core.est.renew(b.core.account_id, device.id)
        with pytest.raises(Refused, match="under way"):
            await a.core.est.renew(a.core.account_id, device.id)
        await asyncio.sleep(5)
        found = b.core.est.enrollment(b.core.account_id, row["id"])
        assert (found["enroll_status"], found["enroll_result"]) == ("completed", "success")
        assert device.asked.count("POST /35011/0/27002") == 1
        device.silent = True
        row = await b.core.est.renew(b.core.account_id, device.id)
        await asyncio.sleep(2)
        await lab.kill("a")
        await asyncio.sleep(nodes.DEAD_S + nodes.BEAT_S + 1)
        found = b.core.est.enrollment(b.core.account_id, row["id"])
        assert (found["enroll_status"], found["enroll_result"]) == ("completed", "failure")

    play(story)


def test_a_device_that_is_deleted_elsewhere_is_known_no_more(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = await a.registered()
        b.core.directory.remove(b.core.account_id, device.id)
        await asyncio.sleep(1)
        assert a.core.registrations.own(device.id) is None
        assert (await device.update()).code == codes.NOT_FOUND

    play(story)


def test_a_name_is_one_processs(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        impostor = CoreLab(lab["a"].clock, lab["a"].url, 77, fabric=lab["a"].fabric, name="a")
        with pytest.raises(PortBusy, match="a service 'a' uses the database"):
            await impostor.start()
        rows = {row["name"]: row for row in lab["b"].core.nodes.list()}
        assert rows.keys() == {"a", "b"} and all(row["alive"] for row in rows.values())
        assert rows["a"]["addresses"]["lwm2m"].startswith("coap")

    play(story)


def test_a_thousand_requests_from_both_sides_are_each_answered_once(play: Stage) -> None:
    async def story(lab: SeveralLab) -> None:
        devices = [await lab["ab"[number % 2]].registered(f"desk{number}") for number in range(10)]
        wanted = set()
        for turn in range(10):
            for number, device in enumerate(devices):
                wanted.add(await lab["ab"[(turn + number) % 2]].ask(device, "POST", "/5000/0/1"))
            if turn == 5:
                await asyncio.gather(*(lab.move(each, "a") for each in devices[1::2]))
        answers = await lab["b"].answers(len(wanted))
        assert sorted(each["id"] for each in answers) == sorted(wanted)
        assert lab["a"].core.store.rows(sa.select(requests)) == []
        assert sum(device.asked.count("POST /5000/0/1") for device in devices) <= len(wanted)

    play(story)


@pytest.mark.parametrize("kill", ["", "a", "b"])
def test_a_campaign_over_processes_installs_once_on_each_device(play: Stage, kill: str) -> None:
    """Devices restart at the other process; one process is killed while images are on their way."""

    async def story(lab: SeveralLab) -> None:
        updates = [await updatable(lab["ab"[number % 2]], f"desk{number}") for number in range(4)]
        other = {"a": "b", "b": "a"}
        killed = False

        for update in updates:
            restart, device = update.restart, update.device

            async def elsewhere(restart=restart, device=device, **options: object) -> None:
                to = other[device.lab.name]
                device.lab = lab[to if to != kill else other[to]]
                await restart(**options)

            update.restart = elsewhere  # type: ignore[method-assign]

            async def on_block(number: int, update=update) -> None:
                nonlocal killed
                if kill and not killed and number == 10:
                    killed = True
                    await lab.kill(kill)

            update.on_block = on_block
        seen = lab[other[kill] if kill else "b"]
        id = publish(lab["b"])
        lab["b"].core.campaigns.start(lab["b"].core.account_id, id)
        for _ in range(600):
            await asyncio.sleep(1)
            if seen.core.campaigns.find(seen.core.account_id, id)["phase"] == "stopped":
                break
            for update in updates if killed else ():
                if update.device.lab.name == kill:  # it finds nobody any more, restarts, and comes to the other one
                    await update.restart()
        row = seen.core.campaigns.find(seen.core.account_id, id)
        assert (row["phase"], row["autostop_reason"]) == ("stopped", "all devices are done: 4 success")
        assert [update.installed for update in updates] == [["1.1.0"]] * 4
        assert all(update.image == IMAGE for update in updates)
        done = seen.core.campaigns.metadata(seen.core.account_id, id)
        assert {each["summary_status"] for each in done} == {"success"}

    play(story)
