"""Bootstrap as the stock client sees it: what it asks, what it is told in which order, and how it fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiocoap.numbers import codes

from pdmlab.lwm2m import tlv
from pdmlab.network.link import Link
from pdmlab.service.bootstrap_plan import Told, security_object
from tests.service.corelab import CoreLab, Stage, play, request


def test_a_device_is_told_its_server_and_its_identity(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        assert (await device.bootstrap()).code == codes.CHANGED
        assert device.asked == ["DELETE /0", "PUT /0", f"POST /bs?iep={device.id}"]
        account, address = lab.core.account_id, lab.fabric.host("service").address
        assert device.uri == f"coap://{address}:5685?aid={account}&iep={device.id}"
        assert {id: bytes(value) for id, value in device.security.items() if id} == {1: b"\0", 2: b"\x03", 10: b"\x01"}
        (row,) = lab.core.directory.list(account)
        assert (row["id"], row["endpoint_name"]) == (device.id, "desk1")
        await asyncio.sleep(1)
        assert lab.core.directory.find(device.id)["state"] == "bootstrapped"
        (last,) = lab.core.bootstrap.transcript(account)
        assert (last["state"], last["step"], last["reason"]) == ("finished", "POST /bs", None)

    play(story)


def test_the_security_object_is_one_instance_that_ends_with_a_resource_the_client_knows() -> None:
    (instance,) = tlv.decode(security_object(Told("coap://127.0.0.1:5685?aid=0")))
    assert (instance.kind, instance.id) == (tlv.Kind.OBJECT_INSTANCE, 0)
    assert [entry.id for entry in instance.entries] == [0, 1, 2, 10]


def test_a_device_that_kept_its_id_is_the_same_device_and_one_that_lost_it_is_another(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await lab.device(), lab.core.account_id
        await device.bootstrap()
        first = device.id
        await device.bootstrap("ep=desk1", f"aid={account}", f"iep={first}", "mccv=4.13.2")
        assert device.id == first
        await asyncio.sleep(1)
        await device.bootstrap("ep=desk1", f"aid={account}")
        assert device.id != first
        assert [row["endpoint_name"] for row in lab.core.directory.list(account)] == ["desk1", "desk1"]

    play(story)


def test_the_id_of_another_accounts_device_opens_nothing(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        await device.bootstrap("ep=desk1", f"aid={lab.core.account_id}", f"iep={'0' * 32}")
        assert device.id != "0" * 32

    play(story)


def test_bad_queries_are_answered_with_a_reason(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device, account = await lab.device(), lab.core.account_id
        for query, reason in (
            ((f"aid={account}",), "ep must be"),
            (("ep=", f"aid={account}"), "ep must be"),
            ((f"ep={'x' * 65}", f"aid={account}"), "1 to 64 characters"),
            (("ep=desk1", "aid=" + "0" * 32), "there is no account"),
            (("ep=desk1", "nonsense"), "not name=value"),
            (("ep=desk1\x00", f"aid={account}"), "not name=value"),
        ):
            answer = await device.bootstrap(*query)
            assert answer.code == codes.BAD_REQUEST and reason in answer.payload.decode(), query
        assert lab.core.directory.list(account) == []

    play(story)


def test_a_device_that_refuses_its_configuration_is_in_the_events_with_the_step(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        device.refuse = codes.BAD_REQUEST
        task = asyncio.ensure_future(device.bootstrap())
        await asyncio.sleep(5)
        task.cancel()
        (row,) = lab.core.directory.list(lab.core.account_id)
        failed = [e for e in lab.core.directory.events(row["account_id"]) if e["event_type"].endswith("failed")]
        assert failed[0]["description"] == "Bootstrap failed at DELETE /0: the device answered 4.00 Bad Request no"
        assert lab.core.bootstrap.transcript(row["account_id"])[0]["state"] == "failed"

    play(story)


def test_a_device_that_tries_again_after_a_failure_is_no_second_device(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        device.refuse = codes.BAD_REQUEST
        for _ in range(3):
            task = asyncio.ensure_future(device.bootstrap())
            await asyncio.sleep(20)
            task.cancel()
        device.refuse = None
        await device.bootstrap()
        assert [row["id"] for row in lab.core.directory.list(lab.core.account_id)] == [device.id]

    play(story)


def test_a_device_that_falls_silent_is_given_up_and_said_so(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        device = await lab.device()
        server = lab.fabric.host("service").address, 5683
        answer = await device.endpoint.request(request(codes.POST, "bs", "ep=desk1"), server)
        assert answer.code == codes.CHANGED
        device.power_off()
        await asyncio.sleep(200)
        (last,) = lab.core.bootstrap.transcript(lab.core.account_id)
        assert (last["state"], last["step"]) == ("failed", "DELETE /0")
        assert "no answer to 5 transmissions" in last["reason"]

    play(story)


def test_bootstrap_and_registration_over_a_lossy_link_are_the_same_each_time(tmp_path: Path) -> None:
    async def story(lab: CoreLab) -> tuple[list[str], str]:
        device = await lab.device(link=Link(up=50_000, down=50_000, latency=40_000_000, jitter=10_000_000, loss=0.25))
        await device.bootstrap()
        await device.register()
        await lab.ask(device, "GET", "/3/0/0")
        await lab.answers()
        return lab.log.lines().splitlines(), device.id

    runs = [play(story, tmp_path / f"{number}.sqlite", seed=7) for number in range(2)]
    assert runs[0] == runs[1]
    assert play(story, tmp_path / "other.sqlite", seed=8)[0] != runs[0][0]
    without_loss = 6
    assert sum(" CON " in line for line in runs[0][0]) > without_loss
