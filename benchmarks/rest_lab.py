"""Services, devices and their keys for the benchmark of the REST API, each in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.rest_client import Connection

_numbers = itertools.count()


class Process:
    """A process that answers JSON lines with JSON lines."""

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def line(self) -> Any:  # Any: what JSON holds
        """Return what it says next."""
        assert self._process.stdout is not None
        text = await asyncio.to_thread(self._process.stdout.readline)
        assert text, f"{self._process.args} has ended"
        return json.loads(text)

    async def ask(self, **command: Any) -> Any:
        """Tell it to do something; return what it says then."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return await self.line()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


@dataclass
class Lab:
    """Services, their devices, and where they are."""

    services: list[Process]
    racks: list[Process]
    where: list[dict[str, str]]
    ids: list[str]
    """Devices of all racks, one of each in turn."""

    @classmethod
    async def open(cls, services: int, database: str | None, devices: int) -> Lab:
        """Start as many services, and share the devices out."""
        extra = [] if database is None else [database]
        started, where = [], []
        for _ in range(services):
            started.append(Process("rest_service", f"bench-{next(_numbers)}", *extra))
            where.append(await started[-1].line())
        racks = []
        for number, each in enumerate(where):
            address = each["lwm2m"].removeprefix("coap://")
            racks.append(Process("rest_devices", address, str(devices // services), f"rack{number}"))
        ids = [(await rack.line())["ids"] for rack in racks]
        return cls(started, racks, where, [each for group in zip(*ids, strict=True) for each in group])

    async def connection(self, number: int) -> Connection:
        """Return a connection to one service or the next; all with the first one's key."""
        where = self.where[number % len(self.where)]
        return await Connection(where["url"], self.where[0]["api_key"]).open()

    def close(self) -> None:
        """End all."""
        for each in (*self.racks, *self.services):
            each.close()
