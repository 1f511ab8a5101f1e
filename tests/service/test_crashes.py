"""A service that is killed at any moment of a campaign: nothing is lost, and no device installs twice.

In virtual time the moments are enumerated: before each commit and each message that goes out. What a service does in
between two of them, nobody sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.coap.transport import Address, DatagramSocket, Opener
from pdmlab.errors import ServiceError
from pdmlab.service.core import Core
from pdmlab.update.results import FotaState
from tests.service.corelab import VERSION, CoreLab
from tests.service.fota import Updatable, publish, updatable

IMAGE = bytes(number * 7 % 256 for number in range(1200))  # three blocks
AWAY_S = 2.0

T = TypeVar("T")


class CrashLab(CoreLab):
    """A lab whose service dies before its n-th moment, counted from when `counting` is set, and comes back."""

    def __init__(self, clock: DeviceClock, folder: Path, at: int | None) -> None:
        super().__init__(clock, folder / "lab-0.sqlite")
        self.folder, self.at = folder, at
        self.lives = 0
        self.moments: list[str] = []
        self.counting = False
        self.up = asyncio.Event()
        self._dying: asyncio.Task[None] | None = None

    async def start(self) -> None:
        life = self.lives
        self.core = Core(self.url, now=self.now, seed=self.seed, log=self.log)
        host = self.fabric.host("service")
        self.core.store.before_commit.append(lambda: self.moment(life, "commit") and None)
        await self.core.start(bootstrap=host.opener(5683), lwm2m=self._watching(host.opener(5685), life))

    def _watching(self, opener: Opener, life: int) -> Opener:
        async def open_(on_message: Callable[[bytes, Address], None]) -> Any:
            return Watched(await opener(on_message), lambda: self.moment(life, "message"))  # type: ignore[arg-type]

        return open_

    def moment(self, life: int, what: str) -> bool:
        """Note a moment; return whether the service of that life still lives."""
        if life != self.lives:
            return False
        if self.counting:
            if len(self.moments) == self.at:
                self.counting = False
                self.die()
                return False
            self.moments.append(what)
        return True

    def die(self) -> None:
        """Keep what is committed, and nothing else: whatever the old service still does goes nowhere."""
        old = self.folder / f"lab-{self.lives}.sqlite"
        self.up.clear()
        self.lives += 1
        new = self.folder / f"lab-{self.lives}.sqlite"
        with sqlite3.connect(old) as committed, sqlite3.connect(new) as copy:
            committed.backup(copy)
        committed.close()
        copy.close()
        self.url = f"sqlite:///{new}"
        self._dying = asyncio.get_running_loop().create_task(self._come_back(self.core))

    async def _come_back(self, dead: Core) -> None:
        for endpoint in dead._endpoints.values():
            endpoint.abort()
        dead._endpoints.clear()
        await dead.stop()
        await asyncio.sleep(AWAY_S)
        self.seed += 100
        await self.start()
        self.up.set()

    async def close(self) -> None:
        if self._dying is not None:
            await self._dying
        await super().close()


class Watched:
    """A socket that asks before it sends."""

    def __init__(self, socket: DatagramSocket, may: Callable[[], bool]) -> None:
        self._socket, self._may = socket, may
        self.address = socket.address

    def send(self, data: bytes, address: Address) -> None:
        if self._may():
            self._socket.send(data, address)

    def close(self) -> None:
        self._socket.close()


async def campaign(lab: CrashLab, prepare: Callable[[Updatable], None]) -> tuple[Updatable, dict[str, Any]]:
    """Update a device while the service is killed once; return the device, and what became of it."""
    update = await updatable(lab)
    prepare(update)
    id = publish(lab, image=IMAGE)
    await ended(lab, id)
    account = lab.core.account_id
    (row,) = lab.core.campaigns.metadata(account, id)
    done = lab.core.campaigns.find(account, id)
    assert done["state"] == "autostopped" and done["finished"] is not None
    device = lab.core.directory.find(update.device.id)
    assert device is not None and device["deployment"] == id
    return update, row


async def ended(lab: CrashLab, id: str, *, stop: bool = False) -> None:
    """Start a campaign, and wait for its end; a call that the service was killed in is made again."""
    lab.counting = True
    account, end = lab.core.account_id, lab.now() + 3000
    while (phase := lab.core.campaigns.find(account, id)["phase"]) != "stopped":
        if phase == "draft":
            lab.core.campaigns.start(account, id)
        elif stop and phase == "active":
            lab.core.campaigns.stop(account, id)
        assert lab.now() < end, lab.core.campaigns.progress(id)
        await asyncio.sleep(1 if not stop else 0.1)
        await lab.up.wait()


def killed(folder: Path, at: int | None, story: Callable[[CrashLab], Awaitable[T]]) -> tuple[list[str], T]:
    """Play a story with a service that is killed at a moment; return the moments, and what the story returns."""
    folder.mkdir()
    with DeviceClock(name="crash") as clock:

        async def run() -> tuple[list[str], T]:
            lab = CrashLab(clock, folder, at)
            await lab.start()
            lab.up.set()
            try:
                return lab.moments, await story(lab)
            finally:
                await lab.close()

        return clock.call_async(run())


def succeeds(update: Updatable) -> None:
    pass


def refuses(update: Updatable) -> None:
    update.fail_at = FotaState.PROCESSING_MANIFEST


def has_it(update: Updatable) -> None:
    update.device.values[VERSION] = b"1.1.0"


def comes_back_as_it_was(update: Updatable) -> None:
    update.installs = False


@pytest.mark.parametrize(
    ("prepare", "summary", "installed"),
    [
        (succeeds, "success", ["1.1.0"]),
        (refuses, "fail", []),
        (comes_back_as_it_was, "fail", []),
        (has_it, "skipped", []),
    ],
)
def test_a_service_killed_before_any_of_its_moments_updates_a_device_once(
    tmp_path: Path, prepare: Callable[[Updatable], None], summary: str, installed: list[str]
) -> None:
    story = functools.partial(campaign, prepare=prepare)
    moments, (_, row) = killed(tmp_path / "whole", None, story)
    assert row["summary_status"] == summary and {"commit", "message"} == set(moments)
    for at, moment in enumerate(moments):
        _, (update, row) = killed(tmp_path / f"{at}", at, story)
        assert (row["summary_status"], update.installed) == (summary, installed), (at, moment, row)


def test_a_campaign_that_is_stopped_stays_stopped_whenever_the_service_is_killed(tmp_path: Path) -> None:
    async def story(lab: CrashLab) -> tuple[list[str], list[str]]:
        away = await updatable(lab, "away", registered=False)
        id = publish(lab, image=IMAGE)
        await ended(lab, id, stop=True)
        assert lab.core.campaigns.find(lab.core.account_id, id)["state"] == "userstopped"
        await away.device.register()
        await asyncio.sleep(60)
        await lab.up.wait()
        rows = lab.core.campaigns.metadata(lab.core.account_id, id)
        return [row["summary_status"] for row in rows], away.installed

    moments, _ = killed(tmp_path / "whole", None, story)
    for at in range(len(moments)):
        assert killed(tmp_path / f"{at}", at, story)[1] == (["skipped"], []), at


def test_an_upload_is_whole_whenever_the_service_is_killed(tmp_path: Path) -> None:
    chunks = [bytes([number]) * 70_000 for number in range(3)]  # pieces are filled up, and one is begun

    async def again(lab: CrashLab, call: Callable[[Core], Awaitable[T]]) -> T:
        """Make a call until the service lives long enough to answer it."""
        while True:
            await lab.up.wait()
            life = lab.lives
            with contextlib.suppress(ServiceError):
                answer = await call(lab.core)
                if life == lab.lives:
                    return answer

    async def story(lab: CrashLab) -> None:
        account = lab.core.account_id

        async def begin(core: Core) -> str:
            return str(core.uploads.add(account, "image")["id"])

        lab.counting = True
        job = await again(lab, begin)
        for chunk in [*chunks, b""]:
            row = await again(lab, lambda core, chunk=chunk: core.uploads.add_chunk(account, job, chunk))  # type: ignore[misc]
            lab.core.uploads.answered(row)
            await lab.up.wait()
        done = lab.core.uploads.find(account, job)
        assert (done["chunks"], done["status"]) == (4, "success")
        image = lab.core.firmware.open(done["firmware_image_id"])
        assert image is not None and image.read(0, image.size) == b"".join(chunks)
        row = lab.core.firmware.image(account, image.id)
        assert row["checksum"] == hashlib.sha256(b"".join(chunks)).hexdigest()

    moments, _ = killed(tmp_path / "whole", None, story)
    assert len(moments) == 9  # the job, three chunks, the image, and that each of the four was answered
    for at in range(len(moments)):
        killed(tmp_path / f"{at}", at, story)
