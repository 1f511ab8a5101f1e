"""A plain LwM2M device at the project's own service: registered, read, written, executed and observed."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from pdmlab.client.plain.factory import make_session
from pdmlab.client.plain.objects import TableObject
from pdmlab.client.plain.session import Session
from pdmlab.coap.transport import Address, Opener
from tests.service.corelab import CoreLab, play


class Host:
    """A host of the fabric, as a device's network."""

    def __init__(self, lab: CoreLab, name: str) -> None:
        self.lab, self.host = lab, lab.fabric.host(name)
        self.port = 5700

    async def resolve(self, name: str) -> str:
        return name if name[0].isdigit() else str(self.lab.fabric.host(name).address)

    def inside(self, host: str) -> bool:
        return True

    def opener(self, remote: Address) -> Opener:
        self.port += 1
        return self.host.opener(self.port)


async def registered(lab: CoreLab, version: str, *objects: TableObject) -> tuple[Session, str, asyncio.Task[None]]:
    session = make_session(
        "plain-1",
        "coap://service:5685",
        bootstrap=False,
        credentials=None,
        lifetime=3600,
        version=version,
        queue_mode=False,
        objects=objects,
        network=Host(lab, "plain-1"),
        tap=lambda *message: None,
        restart=lambda: session.restart(),
        seed=1,
    )
    task = asyncio.ensure_future(session.run())
    await asyncio.wait_for(session.online.wait(), 300)
    return session, session.links[0].registration.location[-1], task


class Known:
    """What CoreLab's helpers want of a device."""

    def __init__(self, id: str) -> None:
        self.id = id


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_plain_device_is_managed_by_the_service(tmp_path: Path, version: str) -> None:
    pressed: list[str] = []

    async def story(lab: CoreLab) -> None:
        button = TableObject(3347, {0: {5501: 3, 5505: pressed.append}})
        session, id, task = await registered(lab, version, TableObject(3303, {0: {5700: 21.5}}), button)
        device = Known(id)
        row = lab.core.directory.find(id)
        assert row is not None
        assert row["endpoint_name"] == "plain-1"

        await lab.ask(device, "GET", "/3/0/0")  # type: ignore[arg-type]
        (answer,) = await lab.answers()
        assert answer["status"] == 200
        assert b"pdmlab" in base64.b64decode(answer["payload"])
        await lab.ask(device, "PUT", "/1/0/1", b"120", content_type="text/plain")  # type: ignore[arg-type]
        (answer,) = await lab.answers()
        assert answer["status"] == 200
        assert session.servers.read(0, 1) == 120
        await lab.ask(device, "POST", "/3347/0/5505")  # type: ignore[arg-type]
        (answer,) = await lab.answers()
        assert answer["status"] == 200
        assert pressed == [""]

        async_id = await lab.core.observations.subscribe(lab.key_id, id, "/3303/0/5700")
        (answer,) = await lab.answers()
        assert (answer["id"], answer["status"]) == (async_id, 200)
        temperature = session.tree[3303]
        assert isinstance(temperature, TableObject)
        temperature.set(0, 5700, 22.5)
        ((path, payload),) = await lab.told(1)
        assert path == "/3303/0/5700"
        assert payload
        session.close()
        await task

    play(story, tmp_path / "lab.sqlite")
