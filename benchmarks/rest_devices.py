"""Many devices of a few lines in one process: `python -m benchmarks.rest_devices HOST:PORT COUNT PREFIX`.

They register, answer reads, notify and update themselves as the stock client does, to the block; what they have not is
flash, or a clock. Standard input says what to do, a JSON line each; standard output answers with JSON lines.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address, udp
from pdmlab.update.manifest import SignedManifest

STATE, RESULT, VERSION = ("10252", "0", "2"), ("10252", "0", "3"), ("14", "0", "2")
VALUE = ("3201", "0", "5853")
LINKS = '</3201/0/5853>;obs,</14/0/2>;v="%s",</10252/0/1>,</10252/0/2>;aobs="600",</10252/0/3>;aobs="601"'
PARAMETERS = TransmissionParameters(block_size=512, max_body=1 << 20)
AT_ONCE = 16
"""Devices that register at once."""


class Device:
    """One device at an address of its own."""

    def __init__(self, server: Address, name: str) -> None:
        self.server, self.name, self.id = server, name, ""
        self.version, self.installs, self.image_B = "1.0.0", 0, 0
        self.observers: dict[tuple[str, ...], tuple[bytes, Address]] = {}
        self.numbers = 1
        self.failure: BaseException | None = None
        self.endpoint: Endpoint

    async def start(self) -> None:
        """Open a socket and register."""
        self.endpoint = await Endpoint.open(udp(), self._answer, parameters=PARAMETERS)
        await self.register()

    async def register(self) -> None:
        """Register with the version that it has."""
        request = Message(code=codes.POST, payload=(LINKS % self.version).encode(), content_format=40)
        request.opt.uri_path, request.opt.uri_query = ("rd",), (f"ep={self.name}", "lt=86400", "lwm2m=1.0", "b=U")
        response = await self.endpoint.request(request, self.server)
        assert response.code == codes.CREATED, response
        self.id = response.opt.location_path[-1]

    async def _answer(self, request: Message, peer: Address) -> Message:
        path = request.opt.uri_path
        if path == ("10252", "0", "1") and request.code == codes.POST:
            self._updating = asyncio.get_running_loop().create_task(self._update(request.payload))
            self._updating.add_done_callback(self._updated)
            return Message(code=codes.CHANGED)
        values = {STATE: b"1", RESULT: b"-1", VERSION: self.version.encode(), VALUE: b"0"}
        response = Message(code=codes.CONTENT, payload=values.get(path, b"0"), content_format=0)
        if request.opt.observe == 0:
            self.observers[path] = request.token, peer
            response.opt.observe = 0
        return response

    def _updated(self, task: asyncio.Task[None]) -> None:
        self.failure = task.exception()

    def tell(self, path: tuple[str, ...], value: bytes, token: bytes | None = None) -> asyncio.Future[str]:
        """Notify; the future tells what became of it."""
        done = asyncio.get_running_loop().create_future()
        observer, peer = self.observers.get(path, (token, self.server))
        assert observer is not None, f"nobody observes {path}"
        message = Message(code=codes.CONTENT, payload=value, content_format=0)
        message.opt.observe, self.numbers = self.numbers, self.numbers + 1
        self.endpoint.notify(peer, message, observer, on_result=done.set_result)
        return done

    async def _update(self, der: bytes) -> None:
        manifest = SignedManifest.parse(der).manifest
        for state in (3, 4):
            await self.tell(STATE, b"%d" % state, b"\x02\x58")
        get = Message(code=codes.GET)
        get.opt.uri_path, get.opt.proxy_uri = ("fw",), manifest.uri
        image = (await self.endpoint.request(get, self.server)).payload
        assert hashlib.sha256(image).digest() == manifest.payload_digest, f"{len(image)} B of {manifest.uri}"
        self.image_B = len(image)
        for state in (6, 7, 8):
            await self.tell(STATE, b"%d" % state, b"\x02\x58")
        self.version = manifest.version
        self.installs += 1
        self.observers.clear()
        await self.register()


async def start(devices: list[Device]) -> None:
    """Start all, some at once."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(device: Device) -> None:
        async with gate:
            await device.start()

    await asyncio.gather(*map(one, devices))


async def notify(devices: list[Device], count: int) -> None:
    """Have the observed devices tell of `count` values in all, each its next one when the last is acknowledged."""
    left = iter(range(1, count + 1))

    async def one(device: Device) -> None:
        for number in left:
            assert await device.tell(VALUE, str(number).encode()) == "acknowledged"

    await asyncio.gather(*(one(each) for each in devices if VALUE in each.observers))


async def main(arguments: list[str]) -> None:
    """Do what the lines say, until they end."""
    (host, _, port), count, prefix = arguments[0].partition(":"), int(arguments[1]), arguments[2]
    devices = [Device((host, int(port)), f"{prefix}-{number}") for number in range(count)]
    begun = time.perf_counter()
    await start(devices)
    print(json.dumps({"ids": [each.id for each in devices], "s": time.perf_counter() - begun}), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        begun = time.perf_counter()
        if command["do"] == "notify":
            await notify(devices, command["count"])
        if command["do"] == "listen":
            bare = Device(("127.0.0.1", 9), "bare")
            bare.endpoint = await Endpoint.open(udp(), bare._answer)
            print(json.dumps({"port": bare.endpoint.address[1]}), flush=True)
            continue
        installs = [each.installs for each in devices]
        failed = [str(each.failure) for each in devices if each.failure is not None]
        assert not failed, failed[:3]
        counted = {"installs": sum(installs), "twice": sum(each > 1 for each in installs)}
        print(json.dumps({**counted, "s": time.perf_counter() - begun}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
