"""Devices that update themselves as the vendor's clients do, over real sockets, for tests of the vendor's tools."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.service.described import Described
from pdmlab.update import hub
from tests.service.restlab import LINKS, Device

STATE, RESULT = b"\x00\x01", b"\x00\x02"  # tokens of what it observes by itself


class Fota(Device):
    """A device with the FOTA client: object 14 has the version, and a manifest v3 is taken."""

    schema_version = 3
    fails_with = 0
    """What it reports instead of downloading."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], server: tuple[str, int], name: str) -> None:
        super().__init__(run, server, name)
        self.vendor_id = self.class_id = bytes(16)
        self.values |= {"/10252/0/2": b"1", "/10252/0/3": b"-1"}
        self.installed: list[str] = []
        self.image = b""
        self.starts_with()

    def starts_with(self) -> None:
        self.values |= {"/14/0/0": b"MAIN", "/14/0/2": b"1.0.0"}

    def links(self) -> str:
        shown = {path: self.values[path].decode() for path in self.values if path.startswith(("/14/", "/10252/0/5"))}
        ids = {"/10255/0/3": self.vendor_id, "/10255/0/4": self.class_id}
        shown |= {path: base64.b64encode(value).decode() for path, value in ids.items()}
        told = "".join(f',<{path}>;v="{value}"' for path, value in shown.items())
        return f'{LINKS},</10252/0/1>,</10252/0/2>;aobs="1",</10252/0/3>;aobs="2"{told}'

    def register(self, links: str = LINKS, query: str = "") -> None:
        super().register(self.links(), query)

    async def _answer(self, message: Message, peer: object) -> Message | None:
        if message.opt.uri_path != ("10252", "0", "1") or message.code != codes.POST or self.silent:
            return await super()._answer(message, peer)
        self.asked.append("POST /10252/0/1")
        self._updating = asyncio.get_running_loop().create_task(self._update(message.payload))
        return Message(code=codes.CHANGED)

    async def _say(self, token: bytes, number: int) -> None:
        """Tell, and wait until that has arrived, as the client does."""
        self._number += 1
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        note = Message(code=codes.CONTENT, payload=b"%d" % number, observe=self._number, content_format=0)
        self.endpoint.notify(self.server, note, token, on_result=told.set_result)
        assert await told == "acknowledged"

    async def _update(self, der: bytes) -> None:
        manifest = Described.of(der)
        refused = self.fails_with or (0 if manifest.schema_version == self.schema_version else self.wrong_schema)
        if refused:
            await self._say(RESULT, refused)
            return await self._say(STATE, 1)
        for state in (3, 4):
            await self._say(STATE, state)
        get = Message(code=codes.GET)
        get.opt.uri_path, get.opt.proxy_uri = ("fw",), manifest.payload_uri
        self.image = (await self.endpoint.request(get, self.server)).payload
        assert hashlib.sha256(self.image).hexdigest() == manifest.payload_digest
        for state in (6, 7, 8):
            await self._say(STATE, state)
        self.installs(manifest)
        self.installed.append(manifest.version)
        again = Message(code=codes.POST, payload=self.links().encode(), content_format=40)
        again.opt.uri_path = ("rd",)
        again.opt.uri_query = (f"ep={self.name}", "lt=3600", "lwm2m=1.0", "b=U")
        assert (await self.endpoint.request(again, self.server)).code == codes.CREATED

    wrong_schema = 28

    def installs(self, manifest: Described) -> None:
        self.values["/14/0/2"] = manifest.version.encode()


class Hub(Fota):
    """A board with the older update hub: it tells the digest of what it runs, and takes a manifest v1."""

    schema_version = 1
    wrong_schema = 218

    def starts_with(self) -> None:
        self.values[hub.PACKAGE_NAME] = b"0" * 64

    def installs(self, manifest: Described) -> None:
        self.values[hub.PACKAGE_NAME] = manifest.installed_digest.encode()
