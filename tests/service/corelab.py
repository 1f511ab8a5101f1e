"""A core in virtual time over the in-memory network, and devices of a few lines that speak raw CoAP to it.

A story is one coroutine: between two steps of a test's own thread, virtual time would run away.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.capture import MessageLog
from pdmlab.clock import DeviceClock
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.router import Router
from pdmlab.coap.together import together
from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError
from pdmlab.lwm2m import tlv
from pdmlab.network.fabric import Fabric, Host
from pdmlab.network.link import Link
from pdmlab.service.core import Core
from pdmlab.service.schema import accounts
from tests.service.proven import Proven

T = TypeVar("T")

EPOCH = 1_780_000_000.0  # Unix s at which virtual time begins
STATE, RESULT, VERSION = "/10252/0/2", "/10252/0/3", "/14/0/2"


def request(code: Code, path: str, *query: str, payload: bytes = b"", content_format: int | None = None) -> Message:
    message = Message(code=code, payload=payload)
    message.opt.uri_path = tuple(part for part in path.split("/") if part)
    if query:
        message.opt.uri_query = query
    if content_format is not None:
        message.opt.content_format = content_format
    return message


class CoreLab:
    """A core on the fabric's host `service`; `restart` is what a killed and restarted service is.

    Several processes are several labs on one fabric and one database, each on a host of its own name.
    """

    def __init__(
        self,
        clock: DeviceClock,
        database: Path | str | None,
        seed: int = 1,
        *,
        fabric: Fabric | None = None,
        name: str = "service",
    ) -> None:
        self.clock = clock
        self.fabric = fabric or Fabric(clock, seed)
        self.name = name
        self.url = url_of(database)
        self.seed = seed
        self.log = MessageLog(clock="device")
        self.devices: list[FakeDevice] = []
        self.key_id = ""
        self.key = ""
        self.core: Core
        self.proven: dict[str, Proven] = {}

    async def start(self) -> None:
        self.core = Core(self.url, now=self.now, seed=self.seed, log=self.log, node=self.name)
        host = self.fabric.host(self.name)
        openers = {}
        for role, port in (("bootstrap", 5683), ("lwm2m", 5685)):
            proven = self.proven[role] = Proven(self.proven.get(role))
            openers[role] = together({"coap": host.opener(port), "coaps+tcp": proven.opener(host.opener(port + 10))})
        await self.core.start(**openers)
        if not self.key:
            row, self.key = self.core.accounts.create_key(self.core.account_id, "tests")
            self.key_id = row["id"]

    def now(self) -> float:
        return EPOCH + self.clock.loop.time()

    async def restart(self, *, away: float = 0.0, kill: bool = False) -> None:
        """Stop the service, or kill it, and start it again after `away` (s)."""
        if kill:
            await self.kill()
        await self.core.stop()
        await asyncio.sleep(away)
        self.seed += 100
        await self.start()

    async def kill(self) -> None:
        """Let the service end without a word to anybody, and without writing anything."""
        for endpoint in self.core._endpoints.values():
            endpoint.abort()
        self.core._endpoints.clear()
        self.core.nodes._run = ""  # it says no farewell
        await self.core.stop()

    async def close(self) -> None:
        for device in self.devices:
            await device.close()
        await self.core.stop()

    def host(self, name: str, link: Link | None) -> Host:
        return self.fabric.host(name, link)

    def new_account(self) -> str:
        """Return the id of a second account, which only a database has so far."""
        id, at = self.core.store.ids.new(), self.core.store.timestamp()
        with self.core.store.begin() as db:
            db.execute(sa.insert(accounts).values(id=id, created_at=at, updated_at=at))
        return id

    def new_key(self) -> str:
        return str(self.core.accounts.create_key(self.core.account_id, "another")[0]["id"])

    async def device(self, name: str = "desk1", *, link: Link | None = None, **options: Any) -> FakeDevice:
        """Return a device that is on, and has not been heard of."""
        device = FakeDevice(self, name, link=link, **options)
        self.devices.append(device)
        await device.power_on()
        return device

    async def registered(self, name: str = "desk1", **options: Any) -> FakeDevice:
        """Return a device that has bootstrapped and registered."""
        device = await self.device(name, **options)
        await device.bootstrap()
        await device.register()
        return device

    # -- channels --------------------------------------------------------------------------------------

    async def events(self, hold_s: float = 1.0, key_id: str | None = None) -> dict[str, list[Any]]:
        async with self.core.channels.poll(key_id or self.key_id, hold_s) as poll:
            batch = await poll.next()
            if batch is None:
                return {}
            await poll.taken(batch)
            return batch.message

    async def ask(self, device: FakeDevice, method: str, uri: str, payload: bytes = b"", **options: Any) -> str:
        async_id = f"r{next(_ids)}"
        await self.core.requests.submit(self.key_id, device.id, async_id, method, uri, payload, **options)
        return async_id

    async def answers(self, count: int = 1, hold_s: float = 400.0) -> list[dict[str, Any]]:
        """Return the next async-responses; fewer if no more come in hold_s."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            events = await self.events(hold_s)
            if not events:
                break
            found += events.get("async-responses", ())
        return found

    async def told(self, count: int = 1, hold_s: float = 60.0, key_id: str | None = None) -> list[tuple[str, bytes]]:
        """Return the next notifications as (path, value); fewer if no more come in hold_s."""
        found: list[tuple[str, bytes]] = []
        while len(found) < count:
            events = await self.events(hold_s, key_id)
            if not events:
                break
            found += [(each["path"], value(each)) for each in events.get("notifications", ())]
        return found


_ids = itertools.count()


def value(response: dict[str, Any]) -> bytes:
    return base64.b64decode(response.get("payload", ""))


class FakeDevice:
    """A device: what it has is in `values`, what it was asked in `asked`."""

    lifetime = 3600
    binding = "U"

    def __init__(self, lab: CoreLab, name: str, *, link: Link | None = None, aobs: tuple[str, ...] = ()) -> None:
        self.lab, self.name = lab, name
        self.host = lab.host(name, link)
        self.values: dict[str, bytes] = {"/3/0/0": b"pdmlab", "/5000/0/1": b"test0", VERSION: b"1.0.0"}
        self.aobs = {path: 500 + number for number, path in enumerate(aobs)}
        self.asked: list[str] = []
        self.security: dict[int, bytes] = {}
        self.observers: dict[str, bytes] = {}
        self.numbers: dict[str, int] = {}
        self.boots = 0
        self.refuse: Code | None = None
        self.refuse_with = b"no"
        self.silent = False
        self.silent_at = ""
        self.endpoint: Endpoint
        self.location: tuple[str, ...] = ()
        self.on_manifest: Callable[[bytes], Awaitable[None]] | None = None
        self.bootstrapped: asyncio.Event

    @property
    def id(self) -> str:
        return self.location[2] if self.location else self.uri.split("iep=")[1]

    @property
    def uri(self) -> str:
        return self.security[0].decode()

    @property
    def service(self) -> Address:
        return self.lab.fabric.host(self.lab.name).address, 5685

    @property
    def bootstrap_server(self) -> Address:
        return self.lab.fabric.host(self.lab.name).address, 5683

    async def power_on(self) -> None:
        self.boots += 1
        self.bootstrapped = asyncio.Event()
        router = Router()
        for code in (codes.GET, codes.PUT, codes.POST, codes.DELETE):
            router.add(code, "**", self._answer)
        seed = self.lab.fabric.seed * 1000 + self.boots * 10 + len(self.name)
        self.endpoint = await Endpoint.open(self.host.opener(5684), router, seed=seed)

    def power_off(self) -> None:
        """Vanish without a word, as a device without power does."""
        self.endpoint.abort()
        self.observers.clear()
        self.numbers.clear()

    async def close(self) -> None:
        await self.endpoint.close()

    # -- what it asks ----------------------------------------------------------------------------------

    async def send(self, code: Code, path: str, *query: str, payload: bytes = b"", **options: Any) -> Message:
        return await self.endpoint.request(request(code, path, *query, payload=payload, **options), self.service)

    async def bootstrap(self, *query: str, endpoint_name: str | None = None) -> Message:
        """Ask for a configuration, and wait until it is there; an error is returned at once."""
        self.bootstrapped.clear()
        query = query or (f"ep={endpoint_name or self.name}", f"aid={self.lab.core.account_id}", "mccv=4.13.2")
        message = request(codes.POST, "bs", *query)
        answer = await self.endpoint.request(message, self.bootstrap_server)
        if answer.code < 128:
            async with asyncio.timeout(300):
                await self.bootstrapped.wait()
        return answer

    def links(self) -> bytes:
        parts = []
        for path, known in self.values.items():
            shown = base64.b64encode(known).decode() if path.startswith("/10255/0/") else known.decode()
            parts.append(f'<{path}>;v="{shown}"' + (f';aobs="{self.aobs[path]}"' if path in self.aobs else ";obs"))
        return ",".join(parts).encode()

    async def register(self, *query: str, payload: bytes | None = None) -> Message:
        if not query:
            identity = self.uri.partition("?")[2].split("&")
            query = (
                f"ep={self.name}",
                "et=default",
                f"lt={self.lifetime}",
                "lwm2m=1.0",
                f"b={self.binding}",
                *identity,
            )
        self.observers.clear()
        self.numbers.clear()
        links = self.links() if payload is None else payload
        answer = await self.send(codes.POST, "rd", *query, payload=links, content_format=40)
        if answer.code == codes.CREATED:
            self.location = answer.opt.location_path
        return answer

    async def update(self, *query: str, payload: bytes = b"") -> Message:
        return await self.send(codes.POST, "/".join(self.location), *query, payload=payload)

    async def deregister(self) -> Message:
        return await self.send(codes.DELETE, "/".join(self.location))

    async def notify(self, path: str, new: bytes | str) -> str:
        """Change a value and tell whoever observes it; return how the notification ended."""
        self.values[path] = new.encode() if isinstance(new, str) else new
        token = self.aobs[path].to_bytes(2, "big") if path in self.aobs else self.observers.get(path)
        if token is None:
            return "nobody observes it"
        self.numbers[path] = self.numbers.get(path, 1) + 1
        message = Message(code=codes.CONTENT, payload=self.values[path])
        message.opt.observe, message.opt.content_format, message.opt.max_age = self.numbers[path], 0, 0
        ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.endpoint.notify(self.service, message, token, on_result=ended.set_result)
        async with asyncio.timeout(400):
            return await ended

    # -- what it answers -------------------------------------------------------------------------------

    async def _answer(self, message: Message, peer: Address) -> Message | None:
        path = "/" + "/".join(message.opt.uri_path)
        query = "?" + "&".join(message.opt.uri_query) if message.opt.uri_query else ""
        self.asked.append(f"{message.code} {path}{query}")
        if self.silent or path == self.silent_at:
            self.endpoint.acknowledge(message)
            return None
        if self.refuse is not None:
            return Message(code=self.refuse, payload=self.refuse_with)
        if path in ("/0", "/1", "/bs") and message.code != codes.GET:
            return self._configured(message, path)
        if message.code == codes.POST:
            if path == "/10252/0/1" and self.on_manifest is not None:
                asyncio.get_running_loop().create_task(self._updated(message.payload))
            return Message(code=codes.CHANGED)
        if path not in self.values:
            return Message(code=codes.NOT_FOUND)
        if message.code == codes.PUT:
            if not query:
                self.values[path] = message.payload
            return Message(code=codes.CHANGED)
        response = Message(code=codes.CONTENT, payload=self.values[path])
        response.opt.content_format, response.opt.max_age = 0, 0
        if message.opt.observe == 0:
            self.observers[path] = message.token
            response.opt.observe = 0
        return response

    def _configured(self, message: Message, path: str) -> Message:
        if message.code == codes.DELETE:
            self.security.clear()
            return Message(code=codes.DELETED)
        if message.code == codes.PUT and path == "/0":
            (instance,) = tlv.decode(message.payload)
            self.security = {entry.id: entry.value for entry in instance.entries}
        elif path == "/bs":
            self.bootstrapped.set()
        return Message(code=codes.CHANGED)

    async def _updated(self, manifest: bytes) -> None:
        try:
            assert self.on_manifest is not None
            await self.on_manifest(manifest)
        except NetworkError:
            pass  # the device lost its power, or the service its own


def url_of(database: Path | str | None) -> str:
    if isinstance(database, str):
        return database
    return "sqlite://" if database is None else f"sqlite:///{database}"


Story = Callable[[CoreLab], Coroutine[Any, Any, T]]


class Stage(Protocol):
    """Where stories are played; what the fixture `play` is."""

    def __call__(self, story: Story[T]) -> T: ...


def play(story: Story[T], database: Path | str | None, seed: int = 1) -> T:
    """Run a story in virtual time with a lab of its own, on a file or a URL; return what it returns."""
    with DeviceClock(name="story") as clock:

        async def run() -> T:
            lab = CoreLab(clock, database, seed)
            await lab.start()
            try:
                return await story(lab)
            finally:
                await lab.close()

        return clock.call_async(run())
