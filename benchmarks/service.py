"""How fast the service is: registrations, reads over REST and notifications to REST, against bare CoAP endpoints.

Service, devices and REST client share one process; what the service is told is on disk before it answers.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

from aiocoap import Message
from aiocoap.numbers import codes

from benchmarks.table import Table
from pdmlab.aio import LoopThread
from pdmlab.cloud import Cloud
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, udp
from pdmlab.service import serve

COUNT = 1000
LINKS = b"</3/0>,</3201/0/5853>;obs"
PATH = ("3201", "0", "5853")


class Peer:
    """Both ends of the comparison: a device for the service, or a bare endpoint that answers one."""

    def __init__(self) -> None:
        self.token = b""
        self.observer: Address = ("", 0)

    async def open(self) -> Peer:
        """Open a socket on loopback."""
        self.endpoint = await Endpoint.open(udp(), self._answer)
        return self

    async def _answer(self, request: Message, peer: Address) -> Message:
        if request.code == codes.POST:
            return Message(code=codes.CREATED, location_path=("rd", "account", "device"))
        response = Message(code=codes.CONTENT, payload=b"0")
        if request.opt.observe == 0:
            self.token, self.observer = request.token, peer
            response.opt.observe = 0
        return response

    async def register(self, server: Address, name: str) -> tuple[str, ...]:
        """Register as an endpoint of that name; return where the registration lives."""
        request = Message(code=codes.POST, payload=LINKS)
        request.opt.uri_path = ("rd",)
        request.opt.uri_query = (f"ep={name}", "lt=86400", "lwm2m=1.0", "b=U")
        request.opt.content_format = 40
        response = await self.endpoint.request(request, server)
        assert response.code == codes.CREATED, response
        location: tuple[str, ...] = response.opt.location_path
        return location

    async def notify(self, count: int) -> None:
        """Tell whoever observes of so many values, each when the one before it has been acknowledged."""
        numbers = itertools.count(1)
        done = asyncio.get_running_loop().create_future()

        def tell(_: object = None) -> None:
            number = next(numbers)
            if number > count:
                done.set_result(None)
                return
            message = Message(code=codes.CONTENT, payload=str(number).encode())
            message.opt.observe = number
            self.endpoint.notify(self.observer, message, self.token, on_result=tell)

        tell()
        await done


async def registrations(peer: Peer, server: Address, at_once: int, prefix: str) -> float:
    """Return registrations a second of as many devices, some at once."""

    async def some(first: int) -> None:
        for number in range(first, COUNT, at_once):
            await peer.register(server, f"{prefix}-{number}")

    start = time.perf_counter()
    await asyncio.gather(*(some(first) for first in range(at_once)))
    return COUNT / (time.perf_counter() - start)


async def bare_reads(client: Peer, server: Peer) -> float:
    """Return GETs a second between two endpoints, one after the other."""
    start = time.perf_counter()
    for _ in range(COUNT):
        request = Message(code=codes.GET)
        request.opt.uri_path = PATH
        assert (await client.endpoint.request(request, server.endpoint.address)).payload == b"0"
    return COUNT / (time.perf_counter() - start)


async def bare_notifications(client: Peer, server: Peer) -> float:
    """Return notifications a second between two endpoints, one after the other."""
    got: list[Message] = []
    request = Message(code=codes.GET)
    request.opt.uri_path = PATH
    request.opt.observe = 0
    await client.endpoint.observe(request, server.endpoint.address, got.append)
    start = time.perf_counter()
    await server.notify(COUNT)
    rate = COUNT / (time.perf_counter() - start)
    assert len(got) >= COUNT
    return rate


def resident_B() -> int:
    """Return the memory that this process has."""
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


def bench() -> None:
    """Measure the service, and the same conversations between two endpoints without one."""
    table = Table(
        "The service, against CoAP endpoints without one",
        {"what": "", "a second": ".0f", "bare endpoints": ".0f", "ratio": ".2f"},
        text_width=46,
    )
    with LoopThread("bench") as loop, serve(name="bench") as service:
        device, other, client = (loop.run(Peer().open()) for _ in range(3))
        assert service.plain_lwm2m_uri is not None
        host, _, port = service.plain_lwm2m_uri.removeprefix("coap://").partition(":")
        server = host, int(port.partition("?")[0].rstrip("/"))

        before = resident_B()
        for at_once, what in ((1, "one after the other"), (16, "16 at once")):
            rate = loop.run(registrations(device, server, at_once, f"bench-{at_once}"))
            bare = loop.run(registrations(client, other.endpoint.address, at_once, "bare"))
            table.row(f"registrations, {what}", rate, bare, rate / bare)

        grown = (resident_B() - before) / COUNT / 2  # what the bare endpoints keep is a hundredth of it

        device_id = loop.run(device.register(server, "bench-read"))[-1]
        with Cloud(service.url, service.api_key) as cloud:
            seen = cloud.device(device_id)
            start = time.perf_counter()
            for _ in range(COUNT // 5):
                assert seen.read("/3201/0/5853") == "0"
            rate = COUNT // 5 / (time.perf_counter() - start)
            bare = loop.run(bare_reads(client, other))
            table.row("reads: REST, CoAP and back, one after the other", rate, bare, rate / bare)

            with seen.observe("/3201/0/5853") as values:
                start = time.perf_counter()
                loop.run(device.notify(COUNT))
                on_disk = COUNT / (time.perf_counter() - start)
                while values.next(30).value != str(COUNT):
                    pass
                rate = COUNT / (time.perf_counter() - start)
            bare = loop.run(bare_notifications(client, other))
            table.row("notifications, until the service has them", on_disk, bare, on_disk / bare)
            table.row("notifications, until a REST client has them", rate, bare, rate / bare)
        for peer in (device, other, client):
            loop.run(peer.endpoint.close())
    print(f"memory for each device that is registered over UDP: {grown:.0f} B, resident")
