"""A campaign whose devices are connected to two processes: each asks its own, each step is taken once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pdmlab.coap.transport import udp
from pdmlab.service.core import Core
from pdmlab.service.schema import campaign_devices
from tests.service.databases import PostgreSQL
from tests.service.fota import IMAGE, Updatable, manifest_v3
from tests.service.killable import KilledDevice


class TwoNodes:
    """Two services on one database, on one loop."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.nodes: dict[str, Core] = {}
        self.devices: list[KilledDevice] = []

    async def start(self, name: str) -> Core:
        core = self.nodes[name] = Core(self.url, node=name)
        await core.start(bootstrap=udp(), lwm2m=udp())
        return core

    def host(self, name: str, link: object) -> Any:
        return None

    async def updatable(self, name: str, node: str) -> Updatable:
        device = KilledDevice(self, name)  # type: ignore[arg-type]
        self.move(device, node)
        self.devices.append(device)
        update = Updatable(self, device)  # type: ignore[arg-type]
        update.boot_s = 0.01
        await device.power_on()
        await device.register()
        return update

    def move(self, device: KilledDevice, node: str) -> None:
        """Have a device come to another process the next time that it says something."""
        device.service_at = SimpleNamespace(lwm2m=self.nodes[node].lwm2m.address)  # type: ignore[assignment]

    async def close(self) -> None:
        for device in self.devices:
            await device.close()
        for core in self.nodes.values():
            await core.stop()


def publish(core: Core, version: str) -> str:
    account = core.account_id
    image = core.firmware.add_image(account, "image", IMAGE)
    der = manifest_v3(IMAGE, f"coap://service/fw/{image['id']}", version)
    signed = core.firmware.add_manifest(account, "manifest", der)
    made = core.campaigns.create(account, device_filter="state=registered", root_manifest_id=signed["id"])
    return str(made["id"])


async def ended(core: Core, id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while (row := core.campaigns.find(core.account_id, id))["phase"] != "stopped":
            await asyncio.sleep(0.01)
    return row


@pytest.fixture
def nodes(postgresql: PostgreSQL) -> Any:
    url = postgresql.new()

    def play(story: Callable[[TwoNodes], Awaitable[None]]) -> None:
        async def run() -> None:
            lab = TwoNodes(url)
            for name in ("left", "right"):
                await lab.start(name)
            try:
                await story(lab)
            finally:
                await lab.close()

        asyncio.run(run())

    yield play
    postgresql.drop(url)


def test_each_process_updates_the_devices_that_are_connected_to_it(nodes: Any) -> None:
    async def story(lab: TwoNodes) -> None:
        left, right = lab.nodes["left"], lab.nodes["right"]
        fleet = [await lab.updatable(f"desk{number}", ("left", "right")[number % 2]) for number in range(6)]
        first, second = publish(left, "1.1.0"), publish(right, "1.2.0")
        left.campaigns.start(left.account_id, first)
        left.campaigns.start(left.account_id, second)  # whose devices wait for the first, in both processes
        for id in (first, second):
            row = await ended(right, id)
            assert (row["state"], row["autostop_reason"]) == ("autostopped", "all devices are done: 6 success")
        for update in fleet:
            assert update.installed == ["1.1.0", "1.2.0"] and update.manifests == 2
        for id in (first, second):
            assert left.campaigns.metrics(left.account_id, id) == right.campaigns.metrics(right.account_id, id)
        assert left.store.row(campaign_devices.select().where(campaign_devices.c.tries != 1)) is None

    nodes(story)


def test_a_campaign_is_stopped_by_the_process_that_did_not_start_it(nodes: Any) -> None:
    async def story(lab: TwoNodes) -> None:
        left, right = lab.nodes["left"], lab.nodes["right"]
        update = await lab.updatable("desk", "left")
        update.device.silent = True
        id = publish(left, "1.1.0")
        left.campaigns.start(left.account_id, id)
        async with asyncio.timeout(30):
            while not right.campaigns.metadata(right.account_id, id):
                await asyncio.sleep(0.01)
        right.campaigns.stop(right.account_id, id)
        assert (await ended(left, id))["state"] == "userstopped"
        (row,) = left.campaigns.metadata(left.account_id, id)
        assert row["summary_status"] == "skipped"

    nodes(story)


def test_what_a_process_leaves_goes_on_in_the_other(nodes: Any) -> None:
    async def story(lab: TwoNodes) -> None:
        left = lab.nodes["left"]
        update = await lab.updatable("desk", "right")
        device = lab.devices[0]
        arrived = asyncio.Event()

        async def cut(block: int) -> None:
            if block == 10:
                update.on_block = None
                arrived.set()
                await asyncio.sleep(3600)

        update.on_block = cut
        id = publish(left, "1.1.0")
        left.campaigns.start(left.account_id, id)
        await arrived.wait()
        for endpoint in lab.nodes["right"]._endpoints.values():
            endpoint.abort()  # it has no chance to say anything more
        lab.nodes["right"]._endpoints.clear()
        await lab.nodes.pop("right").stop()
        # The device has lost its power too: it downloads from the beginning, from the process that is left.
        lab.move(device, "left")
        device.power_off()
        await update.restart()
        row = await ended(left, id)
        assert row["autostop_reason"] == "all devices are done: 1 success" and update.installed == ["1.1.0"]

    nodes(story)
