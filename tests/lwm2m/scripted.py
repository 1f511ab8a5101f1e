"""A server whose every word the test decides, and a plain device at it, on a virtual clock and a network in memory."""

from __future__ import annotations

import asyncio
from typing import Any

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.client.plain.factory import make_session
from pdmlab.client.plain.objects import Lwm2mObject, TableObject
from pdmlab.client.plain.session import Session
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, Opener
from pdmlab.errors import PdmlabError
from pdmlab.lwm2m.content import SENML_JSON, TLV
from tests.coap.lossy import Lossy

SERVER: Address = ("192.0.2.1", 5683)
OTHER: Address = ("192.0.2.2", 5683)
BOOTSTRAP: Address = ("192.0.2.9", 5683)
INJECTOR: Address = ("192.0.2.66", 5683)
LONGEST = 1_000_000.0  # s of virtual time that a test waits


class Memory:
    """A device's network: addresses that nobody else has, one for each connection."""

    def __init__(self, lossy: Lossy) -> None:
        self._lossy = lossy
        self.opened: list[Address] = []

    async def resolve(self, name: str) -> str:
        return name

    def inside(self, host: str) -> bool:
        return True

    def opener(self, remote: Address) -> Opener:
        address = ("192.0.2.100", 50_000 + len(self.opened))
        self.opened.append(address)
        return self._lossy.opener(address)


class Request:
    """A request that the server got."""

    def __init__(self, message: Message, peer: Address, when: float) -> None:
        self.message, self.peer, self.when = message, peer, when
        self.code: Code = message.code
        self.path = "/" + "/".join(message.opt.uri_path)
        self.queries: list[str] = list(message.opt.uri_query)
        self.payload: bytes = message.payload

    def __repr__(self) -> str:
        return f"<{self.code} {self.path}?{'&'.join(self.queries)} {self.payload!r}>"


class Server:
    """One server: it keeps what it is asked, and answers as servers do unless `answers` says otherwise."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.requests: list[Request] = []
        self.answers: dict[tuple[Code, str], Code] = {}
        self.peer: Address = ("", 0)
        self._new = asyncio.Event()
        self._looked = 0
        self.endpoint: Endpoint

    async def open(self, lossy: Lossy) -> Server:
        self.endpoint = await Endpoint.open(lossy.opener(self.address), self._handle, seed=7)
        return self

    async def _handle(self, message: Message, peer: Address) -> Message:
        self.requests.append(Request(message, peer, asyncio.get_running_loop().time()))
        self.peer = peer
        self._new.set()
        path = "/" + "/".join(message.opt.uri_path)
        if (code := self.answers.get((message.code, path))) is not None:
            return Message(code=code)
        if path == "/rd":
            return Message(code=codes.CREATED, location_path=("rd", "5a3f"))
        return Message(code=codes.DELETED if message.code == codes.DELETE else codes.CHANGED)

    async def next(self, code: Code | None = None, path: str | None = None, *, within: float = LONGEST) -> Request:
        """Return the next request, or the next of a method and path."""
        async with asyncio.timeout(within):
            while True:
                while self._looked < len(self.requests):
                    found = self.requests[self._looked]
                    self._looked += 1
                    if code in (None, found.code) and path in (None, found.path):
                        return found
                self._new.clear()
                await self._new.wait()

    def unseen(self) -> list[Request]:
        """Return the requests that no `next` has returned."""
        return self.requests[self._looked :]

    async def ask(
        self,
        code: Code,
        path: str,
        payload: bytes = b"",
        *,
        format: int | None = None,
        accept: int | None = None,
        query: str = "",
        **options: Any,
    ) -> Message:
        """Ask the device and return its answer."""
        message = Message(code=code, payload=payload, uri_path=tuple(part for part in path.split("/") if part))
        message.opt.uri_query = tuple(part for part in query.split("&") if part)
        if format is not None:
            message.opt.content_format = format
        if accept is not None:
            message.opt.accept = accept
        for name, value in options.items():
            setattr(message.opt, name, value)
        return await self.endpoint.request(message, self.peer)

    async def read(self, path: str, accept: int | None = SENML_JSON) -> bytes:
        """Return what can be read at a path."""
        answer = await self.ask(codes.GET, path, accept=accept)
        assert answer.code == codes.CONTENT, (path, answer.code, answer.payload)
        assert accept is None or answer.opt.content_format == accept
        return answer.payload

    async def write(self, path: str, payload: bytes, format: int = TLV) -> Code:
        """Replace what is at a path."""
        return (await self.ask(codes.PUT, path, payload, format=format)).code

    async def composite(
        self, payload: bytes, *, format: int = SENML_JSON, accept: int | None = SENML_JSON, **options: Any
    ) -> Message:
        """Ask for several paths at once."""
        return await self.ask(codes.FETCH, "/", payload, format=format, accept=accept, **options)

    async def discover(self, path: str) -> bytes:
        return await self.read(path, accept=40)

    async def observe(self, path: str, accept: int | None = None) -> Watch:
        """Observe a path; the watch keeps each notification with its time."""
        message = Message(code=codes.GET, uri_path=tuple(path.strip("/").split("/")))
        if accept is not None:
            message.opt.accept = accept
        return await Watch.start(self, message)

    async def observe_composite(self, payload: bytes) -> Watch:
        message = Message(code=codes.FETCH, payload=payload, content_format=SENML_JSON, accept=SENML_JSON)
        return await Watch.start(self, message)


class Watch:
    """An observation as the server has it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.told: list[tuple[float, bytes]] = []
        self._since = asyncio.get_running_loop().time()
        self._new = asyncio.Event()

    @classmethod
    async def start(cls, server: Server, message: Message) -> Watch:
        watch = cls(server)
        watch.observation = await server.endpoint.observe(message, server.peer, watch._notified)
        return watch

    observation: Any

    def _notified(self, message: Message) -> None:
        self.told.append((asyncio.get_running_loop().time() - self._since, message.payload))
        self._new.set()

    async def next(self, within: float = LONGEST) -> tuple[float, bytes]:
        """Return the next notification: seconds since the observation began, and its payload."""
        async with asyncio.timeout(within):
            while not self.told:
                self._new.clear()
                await self._new.wait()
            return self.told.pop(0)

    async def silent(self, seconds: float) -> bool:
        """Let time pass, and return whether nothing was told meanwhile."""
        await asyncio.sleep(seconds)
        return not self.told


class Lab:
    """A network, servers on it, and devices; everything ends with the test."""

    def __init__(self, *, loss: float = 0.0, seed: int = 1) -> None:
        self.network = Lossy(seed, loss=loss)
        self.sessions: list[tuple[Session, asyncio.Task[None]]] = []
        self.servers: list[Server] = []
        self.errors: list[PdmlabError] = []

    async def server(self, address: Address = SERVER) -> Server:
        server = await Server(address).open(self.network)
        self.servers.append(server)
        return server

    def device(
        self,
        *objects: Lwm2mObject,
        uri: str = "coap://192.0.2.1",
        bootstrap: bool = False,
        lifetime: int = 86400,
        version: str = "1.1",
        queue_mode: bool = False,
    ) -> Session:
        """Start a device."""
        loop = asyncio.get_running_loop()
        session = make_session(
            "urn:dev:1",
            uri,
            bootstrap=bootstrap,
            credentials=None,
            lifetime=lifetime,
            version=version,
            queue_mode=queue_mode,
            objects=objects,
            network=Memory(self.network),
            tap=lambda *message: None,
            restart=lambda: session.restart(),
            now=lambda: 1_700_000_000 + loop.time(),
            seed=3,
        )
        session.on_error = self.errors.append
        self.sessions.append((session, loop.create_task(session.run())))
        return session

    async def registered(self, *objects: Lwm2mObject, **options: Any) -> tuple[Server, Session]:
        """Start a server and a device, and return both once the device has registered."""
        server, session = await self.server(), self.device(*objects, **options)
        await server.next(codes.POST, "/rd")
        await session.online.wait()
        return server, session

    async def close(self) -> None:
        for session, task in self.sessions:
            session.close()
            for server in self.servers:
                server.endpoint.abort()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def table(session: Session, id: int) -> TableObject:
    found = session.tree[id]
    assert isinstance(found, TableObject)
    return found
