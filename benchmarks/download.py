"""How fast firmware comes over CoAP: the update client's blocks beside libcoap's, from the same service, in one run.

Both fetch the same image of 1 MiB from a pdmlab service over UDP on loopback, block by block, as devices do: GET /fw
with the manifest's URI in Proxy-Uri. "client" is our half alone, "update" the whole way into a candidate slot in RAM,
with its digest: with 0 blocks asked for ahead, as libcoap's client and the stock one do, or with some, which a build's
`pdmlab.prefetch` decides. Seconds are the host's; the CPU columns are what a block costs each client, and the service
while our client asks, in a process that may have had to wait for its turn.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import json
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiocoap import Message

from benchmarks.rest_lab import Process
from benchmarks.side_by_side import REPEATS, run_timed
from benchmarks.table import Table
from pdmlab.client.firmware_blocks import FirmwareBlocks
from pdmlab.client.server import PARAMETERS
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, udp
from pdmlab.storage.blockdevice import HeapBlockDevice
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.manifest import Manifest
from pdmlab.update.payloads.interface import Raw
from pdmlab.update.transfer import Transfer

IMAGE = random.Random(7).randbytes(1 << 20)
BLOCK_SIZES = (512, 1024)
AHEAD = (0, 1, 2, 4)
AIM = 0.9
PROGRAM = "coap-client-notls"


class Wire:
    """A connection to the service that is never lost."""

    def __init__(self, endpoint: Endpoint, peer: Address) -> None:
        self.endpoint, self.peer = endpoint, peer

    async def request(self, message: Message) -> Message:
        """Ask the service."""
        return await self.endpoint.request(message, self.peer)

    async def recover(self) -> None:
        """Fail: there is nothing to wait for."""
        raise AssertionError("the service does not answer")


async def fetch(blocks: FirmwareBlocks, uri: str, size: int) -> None:
    """Fetch the image, and do nothing with it but compare."""
    body = b""
    for number in range(len(IMAGE) // size):
        data, _, _ = await blocks.fetch(uri, number, size)
        body += data
    assert body == IMAGE


async def update(blocks: FirmwareBlocks, uri: str, size: int, ahead: int) -> None:
    """Fetch the image into a candidate slot, and verify it."""

    async def blocking(work: Callable[..., Any], *args: object) -> Any:  # Any: whatever the work returns
        return work(*args)

    device = HeapBlockDevice(2 << 20, 1, 8, 4096)
    device.init()
    slot = CandidateSlot(device)
    manifest = Manifest.for_image(IMAGE, version="1.0.1", uri=uri, vendor_id=bytes(16), class_id=bytes(16))
    slot.begin(manifest)
    transfer = Transfer(manifest, slot, Raw(), blocks.fetch, blocking, block_size=size, prefetch=ahead)
    await transfer.run(0, lambda done, total: None)


class Cost(NamedTuple):
    """What a download came to: its rate, and CPU time of the client and the service for each block."""

    rate: float
    client_us: float
    service_us: float


class Meter:
    """Measures downloads; `service_cpu` returns the seconds that the service's process has used."""

    def __init__(self, service_cpu: Callable[[], float]) -> None:
        self._service_cpu = service_cpu

    def measure(self, size: int, client_cpu: Callable[[], float], work: Callable[[], float]) -> Cost:
        """Do the work, which returns its seconds; client_cpu returns what its client has used (s)."""
        client, service = client_cpu(), self._service_cpu()
        seconds, blocks = work(), len(IMAGE) // size
        return Cost(
            len(IMAGE) / seconds / 1e6,
            (client_cpu() - client) / blocks * 1e6,
            (self._service_cpu() - service) / blocks * 1e6,
        )


def own_cpu() -> float:
    """Return the seconds that this thread has used."""
    return time.thread_time()


def children_cpu() -> float:
    """Return the seconds that programs which have ended had used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ours(work: Callable[[FirmwareBlocks, str, int], Awaitable[None]], peer: Address, uri: str, size: int) -> float:
    """Fetch with our client; return how long it took (s)."""

    async def ask() -> float:
        endpoint = await Endpoint.open(udp(), parameters=PARAMETERS)
        start = time.perf_counter()
        await work(FirmwareBlocks(Wire(endpoint, peer)), uri, size)
        seconds = time.perf_counter() - start
        await endpoint.close()
        return seconds

    return asyncio.run(ask())


def libcoap(peer: Address, uri: str, size: int, folder: Path) -> float:
    """Fetch with libcoap's client; return how long that took (s), without its start: that is what one block takes."""
    got = folder / "got"
    target = f"coap://{peer[0]}:{peer[1]}/fw"

    def seconds(*options: str) -> float:
        return run_timed(PROGRAM, "-v", "0", "-B", "60", "-O", f"35,{uri}", *options, "-o", str(got), target)

    start = min(seconds("-b", f"{len(IMAGE) // size - 1},{size}") for _ in range(3))
    took = seconds("-b", str(size))
    assert got.read_bytes() == IMAGE
    return took - start


def upload(where: dict[str, str]) -> str:
    """Upload the image; return its URI."""
    url = urlsplit(where["url"])
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    edge = "----image"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="{{}}"{{}}\r\n\r\n'
    body = (
        head.format("name", "").encode() + b"bench\r\n"
        + head.format("datafile", '; filename="firmware.bin"').encode() + IMAGE + f"\r\n--{edge}--\r\n".encode()
    )  # fmt: skip
    headers = {"Authorization": f"Bearer {where['api_key']}", "Content-Type": f"multipart/form-data; boundary={edge}"}
    connection.request("POST", "/v3/firmware-images", body, headers)
    answer = connection.getresponse()
    found = json.loads(answer.read())
    connection.close()
    assert answer.status == 201, found
    return str(found["datafile"])


def bench() -> None:
    """Measure ours and libcoap's in turn."""
    if shutil.which(PROGRAM) is None:
        print(f"\nThere is no {PROGRAM} here (Debian's libcoap3-bin): nothing to compare with.")
        return
    asyncio.run(_bench())


async def _bench() -> None:
    service = Process("rest_service", "bench-download")
    try:
        where = await service.line()
        host, _, port = where["lwm2m"].removeprefix("coap://").partition(":")
        peer, uri = (host, int(port.split("?")[0])), await asyncio.to_thread(upload, where)
        loop = asyncio.get_running_loop()

        def service_cpu() -> float:
            said = asyncio.run_coroutine_threadsafe(service.ask(), loop).result()
            return float(said["cpu_s"])

        with tempfile.TemporaryDirectory() as name:
            await asyncio.to_thread(compare, Meter(service_cpu), peer, uri, Path(name))
    finally:
        service.close()


def compare(meter: Meter, peer: Address, uri: str, folder: Path) -> None:
    """Print both rates, by block size."""
    table = Table(
        f"1 MiB of firmware over UDP from a pdmlab service (MB/s), medians of {REPEATS}, in turn with {PROGRAM}",
        {
            "block (B)": "d",
            "ahead": "d",
            "client": ".2f",
            "update": ".2f",
            "libcoap": ".2f",
            "ratio": ".2f",
            "aim": ".1f",
            "update CPU us": ".0f",
            "libcoap CPU us": ".0f",
            "service CPU us": ".0f",
        },
    )
    for size in BLOCK_SIZES:
        ways: dict[object, tuple[Callable[[], float], Callable[[], float]]] = {
            fetch: (own_cpu, functools.partial(ours, fetch, peer, uri, size)),
            PROGRAM: (children_cpu, functools.partial(libcoap, peer, uri, size, folder)),
        }
        for ahead in AHEAD:
            work = functools.partial(update, ahead=ahead)
            ways[ahead] = own_cpu, functools.partial(ours, work, peer, uri, size)
        found: dict[object, list[Cost]] = {way: [] for way in ways}
        for _ in range(REPEATS):
            for way, (client_cpu, download) in ways.items():
                found[way].append(meter.measure(size, client_cpu, download))
        costs = {way: Cost(*map(statistics.median, zip(*each, strict=True))) for way, each in found.items()}
        client, their = costs[fetch], costs[PROGRAM]
        for ahead in AHEAD:
            whole = costs[ahead]
            table.row(
                size, ahead, client.rate, whole.rate, their.rate, whole.rate / their.rate, AIM,
                whole.client_us, their.client_us, whole.service_us,
            )  # fmt: skip
