"""How fast the CoAP endpoint is on loopback, against aiocoap's own contexts: requests, notifications, and downloads
by block size.

Both ends share one event loop, and so one core.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

from aiocoap import Context, Message, resource
from aiocoap.numbers import codes

from benchmarks.table import Table
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, udp

REQUESTS = 2000
IMAGE = bytes(range(256)) * 1024
"""What is downloaded: 256 KiB."""
BLOCK_SIZES = (64, 128, 256, 512, 1024)
SZX = {64: 2, 128: 3, 256: 4, 512: 5, 1024: 6}

NOTIFICATIONS = 1000

Get = Callable[[str, int], Awaitable[bytes]]
"""get(path, block_size) -> what came."""


class Content(resource.Resource):
    """A resource of aiocoap's that always says the same."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self._payload = payload

    async def render_get(self, request: Message) -> Message:
        """Answer a GET."""
        return Message(payload=self._payload)


async def measure_endpoint(measure: Callable[[Get], Awaitable[list[float]]]) -> list[float]:
    """Measure a client and a server of ours."""

    async def answer(request: Message, peer: Address) -> Message:
        return Message(code=codes.CONTENT, payload=IMAGE if request.opt.uri_path == ("fw",) else b"21.5")

    server = await Endpoint.open(udp(), answer)
    client = await Endpoint.open(udp())

    async def get(path: str, block_size: int) -> bytes:
        request = Message(code=codes.GET)
        request.opt.uri_path = (path,)
        payload: bytes = (await client.request(request, server.address, block_size=block_size)).payload
        return payload

    try:
        return await measure(get)
    finally:
        await client.close()
        await server.close()


async def measure_aiocoap(measure: Callable[[Get], Awaitable[list[float]]]) -> list[float]:
    """Measure aiocoap's simple6 client and its simplesocketserver."""
    port = free_port()
    site = resource.Site()
    site.add_resource(["value"], Content(b"21.5"))
    site.add_resource(["fw"], Content(IMAGE))
    server = await Context.create_server_context(site, bind=("127.0.0.1", port), transports=["simplesocketserver"])
    client = await Context.create_client_context(transports=["simple6"])

    async def get(path: str, block_size: int) -> bytes:
        request = Message(code=codes.GET, uri=f"coap://127.0.0.1:{port}/{path}")
        request.opt.block2 = (0, False, SZX[block_size])
        payload: bytes = (await client.request(request).response).payload
        return payload

    try:
        return await measure(get)
    finally:
        await client.shutdown()
        await server.shutdown()


async def requests(get: Get) -> list[float]:
    """Return GETs a second, one after the other, and with 16 under way."""
    rates = []
    for at_once in (1, 16):
        start = time.perf_counter()

        async def ask(count: int) -> None:
            for _ in range(count):
                assert await get("value", 1024) == b"21.5"

        await asyncio.gather(*(ask(REQUESTS // at_once) for _ in range(at_once)))
        rates.append(REQUESTS // at_once * at_once / (time.perf_counter() - start))
    return rates


async def downloads(get: Get) -> list[float]:
    """Return the throughput of a block-wise download for each block size (B/s)."""
    rates = []
    for size in BLOCK_SIZES:
        start = time.perf_counter()
        assert await get("fw", size) == IMAGE
        rates.append(len(IMAGE) / (time.perf_counter() - start))
    return rates


async def our_notifications() -> float:
    """Return notifications a second of one observation, each sent when the one before has come."""
    watching: list[tuple[Address, bytes]] = []

    async def answer(request: Message, peer: Address) -> Message:
        watching.append((peer, request.token))
        return Message(code=codes.CONTENT, payload=b"0", observe=0)

    server = await Endpoint.open(udp(), answer)
    client = await Endpoint.open(udp())
    told = asyncio.Event()
    await client.observe(Message(code=codes.GET), server.address, lambda message: told.set())
    start = time.perf_counter()
    for number in range(1, NOTIFICATIONS + 1):
        told.clear()
        peer, token = watching[0]
        server.notify(peer, Message(code=codes.CONTENT, payload=b"%d" % number, observe=number), token)
        await told.wait()
    rate = NOTIFICATIONS / (time.perf_counter() - start)
    await client.close()
    await server.close()
    return rate


class Changing(resource.ObservableResource):
    """A resource of aiocoap's that tells its observers of each number."""

    number = 0

    async def render_get(self, request: Message) -> Message:
        """Answer a GET, or notify."""
        return Message(payload=b"%d" % self.number)

    def change(self) -> None:
        """Count, and tell."""
        self.number += 1
        self.updated_state()


async def aiocoap_notifications() -> float:
    """Return the same of aiocoap's server and client."""
    changing = Changing()
    site = resource.Site()
    site.add_resource(["value"], changing)
    port = free_port()
    server = await Context.create_server_context(site, bind=("127.0.0.1", port), transports=["simplesocketserver"])
    client = await Context.create_client_context(transports=["simple6"])
    asking = client.request(Message(code=codes.GET, uri=f"coap://127.0.0.1:{port}/value", observe=0))
    await asking.response
    told = asyncio.Event()
    asking.observation.register_callback(lambda message: told.set())
    start = time.perf_counter()
    for _ in range(NOTIFICATIONS):
        told.clear()
        changing.change()
        await told.wait()
    rate = NOTIFICATIONS / (time.perf_counter() - start)
    asking.observation.cancel()
    await client.shutdown()
    await server.shutdown()
    return rate


def free_port() -> int:
    """Return a UDP port that nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def bench() -> None:
    """Measure ours and aiocoap's, one after the other."""
    table = Table(
        "CoAP requests and notifications on loopback",
        {"what": "", "a second": ".0f", "aiocoap": ".0f", "ratio": ".1f"},
        text_width=26,
    )
    ours, theirs = asyncio.run(measure_endpoint(requests)), asyncio.run(measure_aiocoap(requests))
    for what, our, their in zip(("GETs, one by one", "GETs, 16 under way"), ours, theirs, strict=True):
        table.row(what, our, their, our / their)
    our, their = asyncio.run(our_notifications()), asyncio.run(aiocoap_notifications())
    table.row("notifications, one by one", our, their, our / their)
    table = Table(
        "Block-wise download of 256 KiB on loopback",
        {"block (B)": "d", "MB/s": ".2f", "aiocoap MB/s": ".2f", "ratio": ".1f"},
    )
    ours, theirs = asyncio.run(measure_endpoint(downloads)), asyncio.run(measure_aiocoap(downloads))
    for size, our, their in zip(BLOCK_SIZES, ours, theirs, strict=True):
        table.row(size, our / 1e6, their / 1e6, our / their)
