"""Several services, each a process of its own, on one PostgreSQL database: they start at once, and are killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from pdmlab.aio import LoopThread
from pdmlab.errors import PortBusy
from pdmlab.service import serve
from pdmlab.service.engine import read_url
from tests.service.databases import PostgreSQL
from tests.service.restlab import Device

PROGRAM = """
import pdmlab, sys
s = pdmlab.serve(name=sys.argv[1])
print(s.url, s.plain_lwm2m_uri, s.api_key, repr(s), flush=True)
sys.stdin.read()
s.close()
"""


class Process:
    """A service in a process of its own."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def started(self) -> Process:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"{self.name} did not start"
        self.url, uri, self.key, self.shown = line.rstrip().split(" ", 3)
        host, _, port = uri.removeprefix("coap://").partition(":")
        self.lwm2m = host, int(port)
        return self

    def call(self, method: str, path: str, *, key: str = "", **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.request(method, self.url + path, headers=headers, timeout=40, trust_env=False, **options)

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def url(postgresql: PostgreSQL) -> Iterator[str]:
    url = postgresql.new(empty=True)
    yield url
    postgresql.drop(url)


@pytest.fixture
def start(url: str, tmp_path: Path) -> Iterator[Callable[..., list[Process]]]:
    processes = []

    def start(*names: str) -> list[Process]:
        environment = os.environ | {"PDMLAB_DATABASE": url, "PDMLAB_STATE": str(tmp_path / "state")}
        processes.extend(begun := [Process(name, environment) for name in names])
        return [each.started() for each in begun]

    yield start
    for each in processes:
        each.close()


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    with LoopThread("devices") as thread:
        yield thread


def device_at(loop: LoopThread, process: Process, name: str) -> Device:
    device = Device(lambda work: loop.run(work, timeout=30), process.lwm2m, name)
    device.register()
    return device


def answers(process: Process, count: int, key: str) -> dict[str, int]:
    """Poll for so many answers; return their states by id."""
    found: dict[str, int] = {}
    while len(found) < count:
        told = process.call("GET", "/v2/notification/pull", key=key)
        assert told.status_code in (200, 204), told.text
        events = told.json() if told.status_code == 200 else {}
        found |= {each["id"]: each["status"] for each in events.get("async-responses", [])}
    return found


def test_two_services_that_start_at_once_are_one(
    start: Callable[..., list[Process]], loop: LoopThread, url: str, tmp_path: Path
) -> None:
    one, other = start("one", "other")
    folder = tmp_path / "state/service"
    assert (folder / "one/ca.pem").read_bytes() == (folder / "other/ca.pem").read_bytes()
    assert not (folder / "one/pdmlab.sqlite").exists()
    account = {
        each.call("GET", "/v3/accounts/me", key=key).json()["id"]
        for each in (one, other)
        for key in (one.key, other.key)
    }
    assert len(account) == 1
    device = device_at(loop, one, "desk1")
    for each in (one, other):
        (found,) = each.call("GET", "/v3/devices").json()["data"]
        assert (found["id"], found["state"]) == (device.id, "registered")
    password = sa.make_url(url).password
    assert password and f":{password}@" not in one.shown
    # Ports are each one's own, and are kept.
    other.stop()
    (again,) = start("other")
    assert again.url == other.url and again.lwm2m == other.lwm2m
    device.close()


def test_a_killed_service_loses_nothing_that_was_acknowledged(
    start: Callable[..., list[Process]], loop: LoopThread
) -> None:
    one, other = start("one", "other")
    device = device_at(loop, one, "desk1")
    device.silent = True
    ids = [f"read{number}" for number in range(5)]
    for id in ids:
        asked = {"method": "GET", "uri": "/5000/0/1"}
        sent = other.call("POST", f"/v2/device-requests/{device.id}", params={"async-id": id}, json=asked)
        assert sent.status_code == 202, sent.text

    async def is_asked() -> None:
        while "GET /5000/0/1" not in device.asked:
            await asyncio.sleep(0.005)

    loop.run(is_asked(), timeout=30)
    one.kill()
    device.close()
    device = device_at(loop, other, "desk1")
    assert answers(other, 5, other.key) == dict.fromkeys(ids, 200)
    (again,) = start("one")  # its name is free at once
    (found,) = again.call("GET", "/v3/devices").json()["data"]
    assert found["state"] == "registered"
    device.close()


def test_a_service_of_the_same_name_elsewhere_is_told_so(
    start: Callable[..., list[Process]], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("one")
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "another machine"))
    with pytest.raises(PortBusy, match="a service 'one' uses the database") as busy:
        serve(name="one", database=url)
    assert f":{read_url(url).password}@" not in str(busy.value)
