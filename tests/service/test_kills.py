"""kill -9 at random moments of campaigns and uploads, for real: a process, its sockets, its database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import signal
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from pdmlab.service.home import DATABASE
from pdmlab.service.schema import channels
from pdmlab.update.manifest import Manifest
from tests.service.fota import KEY, Updatable
from tests.service.killable import Killable, KilledDevice, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are made as Linux makes them"),
]

IMAGE = bytes(number * 13 % 251 for number in range(40_000))
SEED = 20


def play(
    story: Callable[[Killable], Awaitable[None]], folder: Path, database: str, serving: Callable[..., None] = run
) -> None:
    own = database.startswith("sqlite")

    async def run() -> None:
        lab = Killable(folder, SEED, None if own else database, serving=serving)
        await lab.start()
        try:
            await story(lab)
            assert list(await lab.lost()) == []
        finally:
            await lab.close()

    asyncio.run(run())
    if own:
        (file,) = folder.rglob(DATABASE)
        with sqlite3.connect(file) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


async def updatable(lab: Killable, name: str) -> Updatable:
    device = KilledDevice(lab, name)
    lab.devices.append(device)
    update = Updatable(lab, device)  # type: ignore[arg-type]
    update.boot_s = 0.02
    await device.power_on()
    await device.register()
    return update


async def publish(lab: Killable, version: str) -> str:
    image = await lab.make("/v3/firmware-images", files={"datafile": IMAGE}, data={"name": version})
    uri = image["datafile"]
    manifest = Manifest.for_image(IMAGE, version=version, uri=uri, vendor_id=bytes(16), class_id=bytes(16))
    signed = await lab.make("/v3/firmware-manifests", files={"datafile": manifest.sign(KEY)}, data={"name": version})
    wanted = {"name": version, "device_filter": "state=registered", "root_manifest_id": signed["id"]}
    return str((await lab.make("/v3/update-campaigns", json=wanted))["id"])


async def ended(lab: Killable, path: str) -> dict[str, Any]:
    """Start a campaign, and wait for its end."""
    while True:
        campaign: dict[str, Any] = (await lab.call("GET", path)).json()
        if campaign["phase"] == "stopped":
            return campaign
        if campaign["phase"] == "draft":  # a start without an answer may have been one, or not
            assert (await lab.call("POST", f"{path}/start")).status_code in (202, 409)
        await asyncio.sleep(0.05)


def test_no_device_installs_twice_and_none_is_forgotten_whenever_the_service_is_killed(
    tmp_path: Path, database: str
) -> None:
    async def story(lab: Killable) -> None:
        fleet = [await updatable(lab, f"desk{number}") for number in range(6)]
        for number in range(1, 4):
            version = f"1.{number}.0"
            killing = asyncio.ensure_future(lab.killing(5, 0.25))
            path = f"/v3/update-campaigns/{await publish(lab, version)}"
            campaign, _ = await asyncio.gather(ended(lab, path), killing)
            assert campaign["state"] == "autostopped"
            assert campaign["autostop_reason"] == "all devices are done: 6 success"
            for update in fleet:
                assert update.installed == [f"1.{each}.0" for each in range(1, number + 1)], update.device.name
                assert update.image == IMAGE
        assert lab.kills == 15

    play(story, tmp_path, database)


def test_an_upload_is_whole_whenever_the_service_is_killed(tmp_path: Path, database: str) -> None:
    jobs = "/v3/firmware-images/upload-jobs"

    async def story(lab: Killable) -> None:
        killing = asyncio.ensure_future(lab.killing(15, 0.12))
        while not killing.done():
            chunks = [lab.random.randbytes(lab.random.randint(1, 200_000)) for _ in range(6)]
            job = (await lab.call("POST", jobs, json={"name": "large"})).json()["id"]
            for chunk in [*chunks, b""]:
                md5 = base64.b64encode(hashlib.md5(chunk).digest()).decode()
                headers = {"Content-MD5": md5, "Content-Type": "binary/octet-stream"}
                answer = await lab.call("POST", f"{jobs}/{job}/chunks", content=chunk, headers=headers)
                assert (answer.status_code, answer.json()["length"]) == (201, len(chunk)), answer.text
            done = (await lab.call("GET", f"{jobs}/{job}")).json()
            image = (await lab.call("GET", f"/v3/firmware-images/{done['firmware_image_id']}")).json()
            assert image["datafile_checksum"] == hashlib.sha256(b"".join(chunks)).hexdigest()
            assert (await lab.call("GET", image["datafile"])).content == b"".join(chunks)
            lab.acknowledged[f"/v3/firmware-images/{image['id']}"] = image
        await killing
        assert lab.kills == 15

    play(story, tmp_path, database)


PULL = "/v2/notification/pull"


def dying_with_an_answer(state: str, database: str | None, pipe: Any) -> None:
    """Serve, and be killed once when the answer to a poll is about to be handed to the socket."""
    once, send = Path(state) / "killed once", RequestResponseCycle.send

    async def sent(cycle: Any, message: Any) -> None:
        if cycle.scope["path"] == PULL and message.get("status") == 200 and not once.exists():
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        await send(cycle, message)

    RequestResponseCycle.send = sent  # type: ignore[method-assign]
    run(state, database, pipe)


def test_what_a_poll_was_about_to_be_told_as_the_service_was_killed_is_told_again(
    tmp_path: Path, database: str
) -> None:
    async def story(lab: Killable) -> None:
        device = KilledDevice(lab, "desk")
        lab.devices.append(device)
        await device.power_on()
        await device.register()
        asked = await lab.call(
            "POST", f"/v2/device-requests/{device.id}?async-id=kept", json={"method": "GET", "uri": "/5000/0/1"}
        )
        assert asked.status_code == 202
        with pytest.raises(httpx.TransportError):
            await lab.http.get(PULL)
        await lab.died()
        if not database.startswith("sqlite"):  # another process might have the channel in hand: until its time is over
            await forget_who_polls(database)
        (told,) = (await lab.call("GET", PULL)).json()["async-responses"]
        assert (told["id"], told["status"]) == ("kept", 200)

    play(story, tmp_path, database, dying_with_an_answer)


async def forget_who_polls(database: str) -> None:
    engine = sa.create_engine(database)
    with engine.begin() as connection:
        connection.execute(sa.update(channels).values(held_until=0))
    engine.dispose()
