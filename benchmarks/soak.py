"""Many live virtual devices at a service, for long: `make soak`.

The service runs as `pdmlab service` does, in a process of its own; a thousand Python clients, in two others, bootstrap
and register over TLS. All of them are read, one after the other and without a pause; all are observed, and count. Every
value that a device has counted to must come out of the notification channel, and every read must be answered. Then the
service is killed (SIGKILL) and started again: it must know them all without another bootstrap, and hear and read them.

Rates are by the host's clock (perf_counter). The exit status is 1 if anything was lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.table import Table

COUNTER = "/3200/0/5501"
READ = "/3/0/0"
PER_PROCESS = 500
READERS = 8
EVERY = 10.0
"""Seconds between lines, and for a device between two values."""
SETTLING = 30.0
"""How long a last value or answer may take (s)."""
RETURNING = 120.0
"""How long devices may take to come back after a kill (s); they wait 10 to 14 before the first try."""


class Process:
    """A child that talks in lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *arguments: str) -> Process:
        """Start a Python child; a line may have 1 MB."""
        return cls(
            await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 20,
            )
        )

    async def tell(self, **command: Any) -> None:  # Any: whatever JSON has
        """Write a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        await self.process.stdin.drain()

    async def line(self) -> str:
        """Read a line; "" at the end."""
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode()

    @property
    def resident_MB(self) -> float:
        """Its memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    @property
    def cpu_s(self) -> float:
        """Seconds that it has spent on a CPU, all its threads together."""
        user, system = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        await self.process.wait()


@dataclass
class Books:
    """What was asked and told, and what has come of it."""

    asked: int = 0
    answered: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    waiting: dict[str, asyncio.Event] = field(default_factory=dict)
    round_trips: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))
    told: int = 0
    values: dict[str, set[int]] = field(default_factory=dict)
    registrations: Counter[str] = field(default_factory=Counter)

    def take(self, news: dict[str, list[dict[str, Any]]]) -> None:
        """Enter what a poll has brought."""
        import base64

        for each in news.get("notifications", ()):
            if each["path"] == COUNTER:
                self.told += 1
                self.values.setdefault(each["ep"], set()).add(int(base64.b64decode(each["payload"])))
        for each in news.get("async-responses", ()):
            if (event := self.waiting.get(each["id"])) is not None:
                if each["status"] == 200:
                    self.answered += 1
                else:
                    self.refused[each["status"]] += 1
                event.set()
        for kind in ("registrations", "reg-updates", "de-registrations", "registrations-expired"):
            self.registrations[kind] += len(news.get(kind, ()))


class Soak:
    """A service, its devices, and who uses them."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.books = Books()
        self.racks: list[Process] = []
        self.ids: list[str] = []
        self.stopped = False
        self._rest: httpx.AsyncClient
        self.service: Process

    # -- processes -----------------------------------------------------------------------------------

    async def start_service(self) -> None:
        """Start the service, the first time or again."""
        run = "from pdmlab.cli import main; main(prog_name='pdmlab')"
        self.service = await Process.start("-c", run, "service", "--name", "soak")
        said: dict[str, str] = {}
        while not said.get("CA certificate"):
            line = await self.service.line()
            if not line:
                raise RuntimeError("the service has not started")
            said[line[:19].strip()] = line[19:].strip()
        key = Path(said["API key"].removeprefix("in ")).read_text(encoding="utf-8").strip()
        self._rest = httpx.AsyncClient(
            base_url=said["REST API"], headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False
        )

    async def make_devices(self) -> None:
        """Build devices, each with developer credentials of its own, and switch them on."""
        processes = -(-self.count // PER_PROCESS)
        self.racks = [await Process.start("-m", "benchmarks.soak_devices") for _ in range(processes)]
        for number in range(self.count):
            body = {"name": f"soak-{number}"}
            answer = await self._call("POST", "/v3/developer-certificates", json=body)
            credentials = answer.json()["security_file_content"]
            await self.racks[number % processes].tell(do="add", name=f"soak-{number}", credentials=credentials)
        for rack in self.racks:
            await rack.tell(do="start")

    async def close(self) -> None:
        """End all of it."""
        for rack in self.racks:
            await rack.stop(signal.SIGKILL)
        await self._rest.aclose()
        await self.service.stop()

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = await self._rest.request(method, path, **options)
        answer.raise_for_status()
        return answer

    # -- using them ----------------------------------------------------------------------------------

    async def registered(self) -> list[str]:
        """Return the ids of the registered devices."""
        return [each["name"] for each in (await self._call("GET", "/v2/endpoints")).json()]

    async def until(self, reached: Callable[[], Awaitable[bool]], seconds: float) -> float:
        """Wait for something, at most so long (s); return how long it took.

        Raises:
            TimeoutError: it did not come about.
        """
        start = time.perf_counter()
        while not await reached():
            if time.perf_counter() - start > seconds:
                raise TimeoutError(f"not after {seconds:.0f} s")
            await asyncio.sleep(0.2)
        return time.perf_counter() - start

    async def poll(self) -> None:
        """Take all news, for ever."""
        while True:
            answer = await self._call("GET", "/v2/notification/pull")
            if answer.status_code == 200:
                self.books.take(answer.json())

    async def read(self, device_id: str) -> None:
        """Read a resource and wait for the answer."""
        books, number = self.books, self.books.asked
        books.asked += 1
        name = f"read-{number}"
        books.waiting[name] = event = asyncio.Event()
        start = time.perf_counter()
        await self._call(
            "POST", f"/v2/device-requests/{device_id}?async-id={name}", json={"method": "GET", "uri": READ}
        )
        try:
            await asyncio.wait_for(event.wait(), SETTLING)
        except TimeoutError:
            books.refused[0] += 1
        books.round_trips.append(time.perf_counter() - start)
        del books.waiting[name]

    async def read_on(self, first: int) -> None:
        """Read a share of the devices, one after the other, until `stopped`."""
        while not self.stopped:
            for device_id in self.ids[first::READERS]:
                if not self.stopped:
                    await self.read(device_id)

    async def change_on(self) -> None:
        """Let every device count once in EVERY seconds, a tenth of them at a time, until `stopped`."""
        step = 10
        while not self.stopped:
            for first in range(step):
                due = time.perf_counter() + EVERY / step
                for rack in self.racks:
                    await rack.tell(do="change", first=first, step=step)
                await asyncio.sleep(due - time.perf_counter())

    async def report(self) -> tuple[Counter[str], dict[str, int]]:
        """Return what the devices say of themselves, and what each has counted to, by its number."""
        said: Counter[str] = Counter()
        values: dict[str, int] = {}
        for rack in self.racks:
            await rack.tell(do="report")
            report = json.loads(await rack.line())
            said.update(report["said"])
            values.update(report["values"])
        return said, values

    async def lost(self) -> int:
        """Return how many values have not come: each device has counted from 1, and is known by what it says."""
        _, counted = await self.report()
        came = sum(len(values - {0}) for values in self.books.values.values())
        return sum(counted.values()) - came

    @asynccontextmanager
    async def in_background(self, *works: Awaitable[None]) -> AsyncIterator[list[asyncio.Future[None]]]:
        """Do works beside the block; one that fails fails it."""
        tasks = [asyncio.ensure_future(work) for work in works]
        try:
            yield tasks
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def soak(count: int, minutes: float, *, kill: bool) -> int:
    """Run it; return how much was lost or forgotten."""
    soak = Soak(count)
    await soak.start_service()
    try:
        async with soak.in_background(soak.poll()):
            await soak._call("PUT", "/v2/subscriptions", json=[{"resource-path": [COUNTER]}])
            await begin(soak)
            lost = await stay(soak, minutes)
        if kill:
            lost += await kill_and_return(soak)
        print(f"\n{'nothing' if lost == 0 else lost} lost")
        return lost
    finally:
        await soak.close()


async def begin(soak: Soak) -> None:
    """Register all devices."""
    start = time.perf_counter()
    await soak.make_devices()
    made = time.perf_counter() - start

    async def all_there() -> bool:
        soak.ids = await soak.registered()
        return len(soak.ids) == soak.count and len(soak.books.values) == soak.count

    took = await soak.until(all_there, 60 + soak.count)
    print(
        f"{soak.count} devices: {made:.1f} s to make their credentials; bootstrapped, registered over TLS and observed "
        f"in another {took:.1f} s, {soak.count / took:.0f}/s; service {soak.service.resident_MB:.0f} MB"
    )


async def stay(soak: Soak, minutes: float) -> int:
    """Read and observe all of them for so long, and print how it goes; return how much was lost."""
    table = Table(
        "Registered, read and observed; a second, between the lines",
        {
            "time (s)": ".0f",
            "registered": "d",
            "reads/s": ".0f",
            "median (ms)": ".0f",
            "notified/s": ".1f",
            "not read": "d",
            "service MB": ".0f",
            "service CPU %": ".0f",
        },
    )
    books, start = soak.books, time.perf_counter()
    works = [soak.change_on(), *(soak.read_on(first) for first in range(min(READERS, soak.count)))]
    async with soak.in_background(*works) as tasks:
        while (left := start + 60 * minutes - time.perf_counter()) > 0:
            before = time.perf_counter(), books.answered, books.told, soak.service.cpu_s
            await asyncio.sleep(min(EVERY, left))
            seconds = time.perf_counter() - before[0]
            table.row(
                time.perf_counter() - start,
                len(await soak.registered()),
                (books.answered - before[1]) / seconds,
                statistics.median(books.round_trips or [0]) * 1e3,
                (books.told - before[2]) / seconds,
                sum(books.refused.values()),
                soak.service.resident_MB,
                100 * (soak.service.cpu_s - before[3]) / seconds,
            )
        soak.stopped = True
        await asyncio.gather(*tasks)
    lost = await settle(soak)
    gone = books.registrations["de-registrations"] + books.registrations["registrations-expired"]
    print(
        f"{books.answered} reads answered of {books.asked}, {books.told} notifications, "
        f"{lost} values lost, {gone} registrations gone"
    )
    return lost + sum(books.refused.values()) + gone


async def settle(soak: Soak) -> int:
    """Wait for the last values; return how many never came."""

    async def none_lost() -> bool:
        return await soak.lost() == 0

    try:
        await soak.until(none_lost, SETTLING)
    except TimeoutError:
        pass
    return await soak.lost()


async def kill_and_return(soak: Soak) -> int:
    """Kill the service and start it again; return how many devices it does not know, hear or read."""
    said_before, _ = await soak.report()
    await soak.service.stop(signal.SIGKILL)
    await soak._rest.aclose()
    start = time.perf_counter()
    await soak.start_service()
    known = len(await soak.registered())
    print(f"\nkilled, and up again after {time.perf_counter() - start:.1f} s: {known} devices are known")

    async def all_back() -> bool:
        said, _ = await soak.report()
        updates = said["lwm2m update"] - said_before["lwm2m update"]
        return said["registered"] == soak.count and updates >= soak.count

    async with soak.in_background(soak.poll()):
        try:
            took = await soak.until(all_back, RETURNING)
        except TimeoutError:
            took = RETURNING
        said, _ = await soak.report()
        new = said - said_before
        print(
            f"back after {took:.1f} s: {new['lwm2m update']} updates, {new['lwm2m register']} registrations, "
            f"{sum(n for step, n in new.items() if step.startswith('bootstrap'))} steps of bootstraps"
        )
        asked, refused = soak.books.answered, sum(soak.books.refused.values())
        for rack in soak.racks:
            await rack.tell(do="change", first=0, step=1)
        for device_id in soak.ids:
            await soak.read(device_id)
        lost = await settle(soak)
    answered = soak.books.answered - asked
    print(f"{answered} of {soak.count} read, {lost} values lost; service {soak.service.resident_MB:.0f} MB")
    again = sum(n for step, n in new.items() if step.startswith("bootstrap"))
    return soak.count - known + again + lost + sum(soak.books.refused.values()) - refused


def main(arguments: list[str]) -> int:
    """Run it as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--devices", type=int, default=1000, help="how many (%(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="for how long (%(default)s)")
    parser.add_argument("--no-kill", action="store_true", help="leave the service alone")
    options = parser.parse_args(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as state:
        os.environ["PDMLAB_STATE"] = state
        return 1 if asyncio.run(soak(options.devices, options.minutes, kill=not options.no_kill)) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
