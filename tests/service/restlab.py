"""A core with its REST API on a loop of its own, and devices of a few lines that speak CoAP to it over UDP."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.aio import LoopThread
from pdmlab.capture import MessageLog
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import udp
from pdmlab.lwm2m.dialect import LwM2M
from pdmlab.service.core import Core
from pdmlab.service.rest.app import make_app
from tests.service.corelab import url_of

T = TypeVar("T")

LINKS = "</3/0/0>,</3/0/9>;obs,</5000/0/1>;obs,</5000/0/2>,</5000/0/3>"


class RestLab:
    """The service; `call` makes a REST call with an administrator's key."""

    def __init__(self, database: Path | str, *, hold_s: float = 5.0, node: str = "service") -> None:
        self.loop = LoopThread("rest-lab")
        self.database, self.hold_s, self.node = url_of(database), hold_s, node
        self.key = ""
        self.devices: list[Device] = []
        self._start()

    def _start(self) -> None:
        self.core = Core(self.database, log=MessageLog(dialect=LwM2M()), node=self.node)
        self.run(self.core.start(bootstrap=udp(), lwm2m=udp()))
        self.key = self.run(self._key(self.key or None))
        self.app = make_app(self.core, hold_s=self.hold_s)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://lab:8080")

    async def _key(self, kept: str | None) -> str:
        return self.core.accounts.administrator(kept)

    def restart(self) -> None:
        """Stop the service and start it anew on the same database."""
        self.run(self.core.stop())
        self.run(self.client.aclose())
        self._start()

    def close(self) -> None:
        for device in self.devices:
            device.close()
        self.run(self.core.stop())
        self.run(self.client.aclose())
        self.loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.loop.run(coroutine, timeout=30)

    def call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        return self.run(self.acall(method, path, key=key, **options))

    async def acall(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.key if key is None else key}", **options.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, timeout=30, **options)

    def get(self, path: str, **options: Any) -> Any:
        answer = self.call("GET", path, **options)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.json()

    def new_key(self, name: str = "another", *, group: str = "Developers") -> str:
        """Make a key by REST, and return it."""
        groups = [each["id"] for each in self.get("/v3/policy-groups", params={"name__eq": group})["data"]]
        answer = self.call("POST", "/v3/api-keys", json={"name": name, "groups": groups})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def key_id(self, key: str) -> str:
        found = self.get("/v3/api-keys/me", key=key)
        return str(found["id"])

    def open_channel(self, key: str) -> None:
        """Open a key's channel with a poll that is given up."""
        id = self.key_id(key)

        async def poll() -> None:
            task = asyncio.ensure_future(self.acall("GET", "/v2/notification/pull", key=key))
            while self.core.channels.kind(id) is None:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self.run(poll())

    def device(self, name: str = "desk1", *, links: str = LINKS, query: str = "") -> Device:
        """Register a device of that endpoint name."""
        device = Device(self.run, self.core.lwm2m.address, name)
        device.register(links, query)
        self.devices.append(device)
        return device

    def until(self, condition: Callable[[], object]) -> None:
        """Let the loop run until something has happened on it."""

        async def wait() -> None:
            while not condition():
                await asyncio.sleep(0.001)

        self.run(wait())

    def responses(self, *, key: str | None = None) -> list[dict[str, Any]]:
        """Poll once; return what answers came."""
        return list(self.get("/v2/notification/pull", key=key).get("async-responses", []))


class Device:
    """A device over a real socket: values by path, and what it was asked."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], server: tuple[str, int], name: str) -> None:
        self.run, self.server, self.name, self.id = run, server, name, ""
        self.values = {"/3/0/0": b"pdmlab", "/3/0/9": b"97", "/5000/0/1": b"test0", "/5000/0/2": b"1"}
        self.asked: list[str] = []
        self.silent = False
        self._observed: dict[str, bytes] = {}
        self._number = 1

    def register(self, links: str = LINKS, query: str = "") -> None:
        message = Message(code=codes.POST, payload=links.encode(), content_format=40)
        message.opt.uri_path = ("rd",)
        message.opt.uri_query = (f"ep={self.name}", "lt=3600", "lwm2m=1.0", "b=U", *filter(None, query.split("&")))

        async def register() -> Message:
            self.endpoint = await Endpoint.open(udp(), self._answer)
            return await self.endpoint.request(message, self.server)

        answer = self.run(register())
        assert answer.code == codes.CREATED, answer
        self.location = answer.opt.location_path
        self.id = self.location[-1]

    def update(self) -> None:
        message = Message(code=codes.POST)
        message.opt.uri_path = self.location
        assert self.run(self.endpoint.request(message, self.server)).code == codes.CHANGED

    def deregister(self) -> None:
        message = Message(code=codes.DELETE)
        message.opt.uri_path = self.location
        assert self.run(self.endpoint.request(message, self.server)).code == codes.DELETED

    def close(self) -> None:
        self.run(self.endpoint.close())

    def tell(self, path: str, value: bytes) -> None:
        """Change a value and notify, as soon as it is observed."""

        async def notify() -> None:
            while path not in self._observed:
                await asyncio.sleep(0.001)
            self.values[path] = value
            self._number += 1
            message = Message(code=codes.CONTENT, payload=value, observe=self._number, content_format=0)
            self.endpoint.notify(self.server, message, self._observed[path])

        self.run(notify())

    async def _answer(self, message: Message, peer: object) -> Message | None:
        path = "/" + "/".join(message.opt.uri_path)
        self.asked.append(f"{message.code} {path}" + "".join(f"?{each}" for each in message.opt.uri_query))
        if self.silent:
            await asyncio.sleep(3600)
        if path not in self.values and path != "/5000/0/3":
            return Message(code=codes.NOT_FOUND)
        if message.code == codes.GET:
            answer = Message(code=codes.CONTENT, payload=self.values[path], content_format=0, max_age=0)
            if message.opt.observe == 0:
                self._observed[path] = message.token
                answer.opt.observe = self._number
            return answer
        if message.code == codes.PUT:
            if path.startswith("/3/") and not message.opt.uri_query:
                return Message(code=codes.METHOD_NOT_ALLOWED)
            if message.payload:
                self.values[path] = message.payload
            return Message(code=codes.CHANGED)
        return Message(code=codes.CHANGED)


def decoded(event: dict[str, Any]) -> bytes:
    """Return an event's payload."""
    return base64.b64decode(event["payload"])
