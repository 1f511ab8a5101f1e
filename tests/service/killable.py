"""A service in a process of its own that is killed by its number, and devices on real sockets that outlive it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import httpx
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.router import Router
from pdmlab.coap.transport import Address, udp
from pdmlab.service import serve
from tests.service.corelab import FakeDevice

START_S = 30.0
PATIENT = TransmissionParameters(block_size=512, ack_timeout=0.05, max_retransmit=9)
"""What devices send is sent again sooner than usual, and until a service is there again."""


def run(state: str, database: str | None, pipe: Pipe) -> None:
    """Serve until killed, or until the other end of the pipe is closed."""
    os.environ["PDMLAB_STATE"] = state
    service = serve(name="killed", **({} if database is None else {"database": database}))
    pipe.send((service.url, service.api_key, service.plain_lwm2m_uri))
    with contextlib.suppress(EOFError):
        pipe.recv()
    service.close()


class Killable:
    """The service; what it has answered is kept in `acknowledged`, and looked for after it was killed."""

    def __init__(
        self, folder: Path, seed: int, database: str | None = None, *, serving: Callable[..., None] = run
    ) -> None:
        """serving: what the process does."""
        self.folder, self.database, self._serving = folder, database, serving
        self.random = random.Random(seed)
        self.kills = 0
        self.acknowledged: dict[str, dict[str, Any]] = {}
        self.devices: list[KilledDevice] = []
        self.up = asyncio.Event()
        # A process that has loaded all this makes the services, in a tenth of the time that it takes to load it.
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "pdmlab.service.service", "pdmlab.service.rest.app"])

    async def start(self) -> None:
        """Start the service; it comes back at the ports that it had."""
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(target=self._serving, args=(str(self.folder), self.database, theirs))
        self._process.start()
        theirs.close()
        assert await asyncio.to_thread(self._pipe.poll, START_S), "the service did not start"
        self.url, self.key, coap = self._pipe.recv()
        host, port = coap.removeprefix("coap://").split(":")
        self.lwm2m: Address = host, int(port)
        self.http = httpx.AsyncClient(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)
        self.up.set()

    async def kill(self) -> None:
        """Kill it, and start it again."""
        self.up.clear()
        self._process.kill()
        await asyncio.to_thread(self._process.join)
        self._pipe.close()
        await self.http.aclose()
        self.kills += 1
        await self.start()

    async def died(self) -> None:
        """Wait until it has killed itself, and start it again."""
        await asyncio.to_thread(self._process.join)
        await self.kill()

    async def killing(self, times: int, within_s: float) -> None:
        """Kill it so many times, each at a moment within so long after it has come back."""
        for _ in range(times):
            await asyncio.sleep(self.random.uniform(0, within_s))
            await self.kill()

    async def close(self) -> None:
        """Let it end."""
        for device in self.devices:
            await device.close()
        await self.http.aclose()
        self._pipe.close()
        await asyncio.to_thread(self._process.join)

    def host(self, name: str, link: object) -> Any:
        """Return nothing: devices have this machine's sockets."""
        return None

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Make a call until it is answered."""
        while True:
            await self.up.wait()
            with contextlib.suppress(httpx.TransportError):
                answer = await self.http.request(method, path, **options)
                assert answer.status_code < 500, answer.text
                return answer

    async def make(self, path: str, **options: Any) -> dict[str, Any]:
        """Make something, and remember that the service has said so."""
        answer = await self.call("POST", path, **options)
        assert answer.status_code == 201, answer.text
        made: dict[str, Any] = answer.json()
        self.acknowledged[f"{path}/{made['id']}"] = made
        return made

    async def lost(self) -> Iterator[str]:
        """Return what the service has acknowledged and does not know any more, or knows otherwise."""
        found = []
        for path, made in self.acknowledged.items():
            now = (await self.call("GET", path)).json()
            same = ("id", "name", "datafile", "datafile_checksum", "device_filter", "root_manifest_id", "device_class")
            if {name: made.get(name) for name in same} != {name: now.get(name) for name in same}:
                found.append(path)
        return iter(found)


class KilledDevice(FakeDevice):
    """A device at an address of its own, without security."""

    def __init__(self, lab: Killable, name: str) -> None:
        super().__init__(lab, name)  # type: ignore[arg-type]
        self.service_at = lab

    @property
    def service(self) -> Address:
        return self.service_at.lwm2m

    async def power_on(self) -> None:
        router = Router()
        for code in (codes.GET, codes.PUT, codes.POST, codes.DELETE):
            router.add(code, "**", self._answer)
        self.endpoint = await Endpoint.open(udp(), router, parameters=PATIENT)

    async def register(self, *query: str, payload: bytes | None = None) -> Message:
        return await super().register(f"ep={self.name}", "lt=3600", "lwm2m=1.0", "b=U", payload=payload)
