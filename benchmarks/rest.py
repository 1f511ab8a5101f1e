"""How fast the REST API is: reads, round trips to devices, notifications and a campaign; by one process, and by two.

Services, devices and clients have processes of their own. Two services need PostgreSQL: PDMLAB_TEST_POSTGRESQL is the
URL of one, with a role that may make databases. Ratios are of one run: to a server that only says "ok", and to bare
CoAP.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.rest_client import Connection
from benchmarks.rest_lab import Lab, Process
from benchmarks.table import Table
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import udp
from pdmlab.service.engine import read_url
from pdmlab.update.manifest import Manifest

READS, TRIPS, NOTES = 4000, 1000, 20_000
AT_ONCE = 16
DEVICES = int(os.environ.get("BENCH_DEVICES", "1000"))
IMAGE = bytes(200_000)
SERVER = "PDMLAB_TEST_POSTGRESQL"


async def timed(count: int, at_once: int, work: Callable[[int, int], Awaitable[object]]) -> tuple[float, list[float]]:
    """Do something `count` times, by as many workers; return how often a second, and how long each took (s)."""
    left, spans = iter(range(count)), []

    async def one(worker: int) -> None:
        for number in left:
            begun = time.perf_counter()
            await work(worker, number)
            spans.append(time.perf_counter() - begun)

    begun = time.perf_counter()
    await asyncio.gather(*map(one, range(at_once)))
    return count / (time.perf_counter() - begun), spans


async def reads(lab: Lab, path: Callable[[int], str]) -> tuple[float, float]:
    """Return GETs a second: one after the other, and some at once."""
    rates = []
    for at_once in (1, AT_ONCE):
        connections = [await lab.connection(number) for number in range(at_once)]

        async def get(worker: int, number: int, connections: list[Connection] = connections) -> None:
            await connections[worker].get(path(number))

        rates.append((await timed(READS // (4 if at_once == 1 else 1), at_once, get))[0])
        for each in connections:
            each.close()
    return rates[0], rates[1]


async def bare_reads() -> tuple[float, float]:
    """Return the same of a server of the same make that only says ok."""
    server = Process("rest_service", "--bare")
    try:
        lab = Lab([], [], [{"url": (await server.line())["url"], "api_key": "none"}], [])
        return await reads(lab, lambda number: "/")
    finally:
        server.close()


class Answers:
    """The long poll of a key, which wakes those who wait."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.waiting: dict[str, asyncio.Future[Any]] = {}
        self.notifications = 0
        self.enough = asyncio.Event()
        self.wanted = 0
        self._task = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        while True:
            found = await self._connection.get("/v2/notification/pull") or {}
            for each in found.get("async-responses", ()):
                self.waiting.pop(each["id"]).set_result(each)
            self.notifications += len(found.get("notifications", ()))
            if self.wanted and self.notifications >= self.wanted:
                self.enough.set()

    def wait(self, async_id: str) -> asyncio.Future[Any]:
        """Return a future of an answer."""
        self.waiting[async_id] = asyncio.get_running_loop().create_future()
        return self.waiting[async_id]

    async def close(self) -> None:
        """Poll no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._connection.close()


async def trips(lab: Lab, answers: Answers, at_once: int) -> tuple[float, list[float]]:
    """Return round trips a second, and the time of each (s): a request by REST, CoAP to a device, the answer's poll."""
    connections = [await lab.connection(number) for number in range(at_once)]
    prefix = uuid.uuid4().hex[:8]

    async def trip(worker: int, number: int) -> None:
        async_id = f"{prefix}-{number}"
        answer = answers.wait(async_id)
        path = f"/v2/device-requests/{lab.ids[number % len(lab.ids)]}?async-id={async_id}"
        status, body = await connections[worker].ask("POST", path, {"method": "GET", "uri": "/3201/0/5853"})
        assert status == 202, (status, body)
        assert base64.b64decode((await answer)["payload"]) == b"0"

    result = await timed(TRIPS, at_once, trip)
    for each in connections:
        each.close()
    return result


async def bare_trips(at_once: int) -> tuple[float, list[float]]:
    """Return the same of two CoAP endpoints, the server in a process of its own."""
    rack = Process("rest_devices", "127.0.0.1:9", "0", "bare")
    await rack.line()
    client = await Endpoint.open(udp())
    port = (await rack.ask(do="listen"))["port"]

    async def trip(worker: int, number: int) -> None:
        request = Message(code=codes.GET)
        request.opt.uri_path = ("3201", "0", "5853")
        assert (await client.request(request, ("127.0.0.1", port))).payload == b"0"

    try:
        return await timed(TRIPS, at_once, trip)
    finally:
        await client.close()
        rack.close()


async def notifications(lab: Lab, answers: Answers) -> float:
    """Return notifications a second, from 50 devices to one channel."""
    connection = await lab.connection(0)
    for device in lab.ids[:50]:
        status, body = await connection.ask("PUT", f"/v2/subscriptions/{device}/3201/0/5853")
        if status == 202:
            await answers.wait(json.loads(body)["async-response-id"])
    answers.notifications, answers.wanted = 0, NOTES
    begun = time.perf_counter()
    await asyncio.gather(*(rack.ask(do="notify", count=NOTES // len(lab.racks)) for rack in lab.racks))
    await asyncio.wait_for(answers.enough.wait(), 120)
    rate = NOTES / (time.perf_counter() - begun)
    connection.close()
    return rate


async def campaign(lab: Lab) -> dict[str, float]:
    """Update all devices; return how long it took (s), what the services used, and who installed more than once."""
    key = ec.generate_private_key(ec.SECP256R1())
    before = [await each.ask() for each in lab.services]
    headers = {"Authorization": f"Bearer {lab.where[0]['api_key']}"}
    async with httpx.AsyncClient(base_url=lab.where[0]["url"], headers=headers, timeout=60) as http:

        async def post(path: str, **options: Any) -> Any:
            answer = await http.post(path, **options)
            assert answer.status_code in (201, 202), answer.text
            return answer.json() if answer.content else None

        image = await post("/v3/firmware-images", files={"datafile": IMAGE}, data={"name": "bench"})
        uri = image["datafile"]
        manifest = Manifest.for_image(IMAGE, version="1.1.0", uri=uri, vendor_id=bytes(16), class_id=bytes(16))
        signed = await post("/v3/firmware-manifests", files={"datafile": manifest.sign(key)}, data={"name": "bench"})
        wanted = {"name": "bench", "device_filter": "state=registered", "root_manifest_id": signed["id"]}
        made = await post("/v3/update-campaigns", json=wanted)
        begun = time.perf_counter()
        await post(f"/v3/update-campaigns/{made['id']}/start")
        while (await http.get(f"/v3/update-campaigns/{made['id']}")).json()["phase"] != "stopped":
            await asyncio.sleep(0.5)
        took = time.perf_counter() - begun
        metrics = (await http.get(f"/v3/update-campaigns/{made['id']}/metrics")).json()
    after = [await each.ask() for each in lab.services]
    told = [await rack.ask(do="count") for rack in lab.racks]
    return {
        "s": took,
        "cpu_s": sum(late["cpu_s"] - early["cpu_s"] for early, late in zip(before, after, strict=True)),
        "most_MB": max(each["most_B"] for each in after) / 1e6,
        "deployed": metrics["success_count"],
        "installs": sum(each["installs"] for each in told),
        "twice": sum(each["twice"] for each in told),
    }


def percentile(spans: list[float], share: int) -> float:
    """Return a percentile in milliseconds."""
    return statistics.quantiles(spans, n=100)[share - 1] * 1000


async def measure() -> None:
    """Print all tables."""
    todo = setups()
    bare = await bare_reads()
    bare_trip = {at_once: await bare_trips(at_once) for at_once in (1, AT_ONCE)}
    for title, services, url in todo:
        lab = await Lab.open(services, None if url is None else new_database(url), DEVICES)
        try:
            columns = {"what": "", "a second": ".0f", "p50 (ms)": ".2f", "p99 (ms)": ".2f", "ratio": ".3f"}
            table = Table(
                f"REST, {title}; ratios to a server that says ok, and to bare CoAP; host clock", columns, text_width=28
            )
            await rows(table, lab, bare, bare_trip)
            print_campaign(await campaign(lab))
        finally:
            lab.close()


async def rows(table: Table, lab: Lab, bare: tuple[float, float], trip: dict[int, tuple[float, list[float]]]) -> None:
    """Measure a lab, and print it row by row."""
    paths: dict[str, Callable[[int], str]] = {
        "a device": lambda number: f"/v3/devices/{lab.ids[number % len(lab.ids)]}",
        "its resources": lambda number: f"/v2/endpoints/{lab.ids[number % len(lab.ids)]}",
        "50 devices": lambda number: "/v3/devices?limit=50",
    }
    for what, path in paths.items():
        for rate, ok, how in zip(await reads(lab, path), bare, ("one by one", f"{AT_ONCE} at once"), strict=True):
            table.row(f"GET {what}, {how}", rate, None, None, rate / ok)
    answers = Answers(await lab.connection(0))
    for at_once, (ok, spans) in trip.items():
        table.row(f"bare CoAP, {at_once} at once", ok, percentile(spans, 50), percentile(spans, 99), 1.0)
        rate, spans = await trips(lab, answers, at_once)
        table.row(f"to a device, {at_once} at once", rate, percentile(spans, 50), percentile(spans, 99), rate / ok)
    table.row("notifications to a channel", await notifications(lab, answers), None, None, None)
    await answers.close()


def print_campaign(found: dict[str, float]) -> None:
    """Print what a campaign has come to."""
    print(
        f"campaign of {DEVICES} devices, images of {len(IMAGE)} B: {found['s']:.0f} s (host clock),"
        f" {found['cpu_s']:.0f} s of processor, {found['most_MB']:.0f} MB at most;"
        f" {found['deployed']:.0f} deployed, {found['installs']:.0f} installs, {found['twice']:.0f} twice",
        flush=True,
    )


def setups() -> list[tuple[str, int, str | None]]:
    """Return what is compared: a title, how many services, and where their databases are made."""
    url = os.environ.pop(SERVER, None)  # a setting of tests and benchmarks, which the services do not know
    found: list[tuple[str, int, str | None]] = [("one process on SQLite", 1, None)]
    if url is None:
        print(f"PostgreSQL is left out: {SERVER} names none")
        return found
    return [*found, ("one process on PostgreSQL", 1, url), ("two processes on PostgreSQL", 2, url)]


def new_database(url: str) -> str:
    """Make a database, and return its URL."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    engine = sa.create_engine(read_url(url), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return read_url(url).set(database=name).render_as_string(hide_password=False)


def bench() -> None:
    """Measure the REST API of one service, and of two that share a database."""
    asyncio.run(measure())
