"""How fast firmware comes over CoAP: the update client's blocks beside libcoap's, from the same service, in one run.

Both fetch the same image of 1 MiB from a pdmlab service over UDP on loopback, block by block, as devices do: GET /fw
with the manifest's URI in Proxy-Uri. "client" is our half alone, "update" the whole way into a candidate slot in RAM,
with its digest. Seconds are the host's.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
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


async def update(blocks: FirmwareBlocks, uri: str, size: int) -> None:
    """Fetch the image into a candidate slot, and verify it."""

    async def blocking(work: Callable[..., Any], *args: object) -> Any:  # Any: whatever the work returns
        return work(*args)

    device = HeapBlockDevice(2 << 20, 1, 8, 4096)
    device.init()
    slot = CandidateSlot(device)
    manifest = Manifest.for_image(IMAGE, version="1.0.1", uri=uri, vendor_id=bytes(16), class_id=bytes(16))
    slot.begin(manifest)
    await Transfer(manifest, slot, Raw(), blocks.fetch, blocking, block_size=size).run(0, lambda done, total: None)


def ours(work: Callable[[FirmwareBlocks, str, int], Awaitable[None]], peer: Address, uri: str, size: int) -> float:
    """Return our rate (MB/s)."""

    async def ask() -> float:
        endpoint = await Endpoint.open(udp(), parameters=PARAMETERS)
        start = time.perf_counter()
        await work(FirmwareBlocks(Wire(endpoint, peer)), uri, size)
        seconds = time.perf_counter() - start
        await endpoint.close()
        return len(IMAGE) / seconds / 1e6

    return asyncio.run(ask())


def libcoap(peer: Address, uri: str, size: int, folder: Path) -> float:
    """Return libcoap's rate (MB/s), its start left out: that is what one block costs it."""
    got = folder / "got"
    target = f"coap://{peer[0]}:{peer[1]}/fw"

    def seconds(*options: str) -> float:
        return run_timed(PROGRAM, "-v", "0", "-B", "60", "-O", f"35,{uri}", *options, "-o", str(got), target)

    start = min(seconds("-b", f"{len(IMAGE) // size - 1},{size}") for _ in range(3))
    took = seconds("-b", str(size))
    assert got.read_bytes() == IMAGE
    return len(IMAGE) / (took - start) / 1e6


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
        with tempfile.TemporaryDirectory() as name:
            await asyncio.to_thread(compare, peer, uri, Path(name))
    finally:
        service.close()


def compare(peer: Address, uri: str, folder: Path) -> None:
    """Print both rates, by block size."""
    table = Table(
        f"1 MiB of firmware over UDP from a pdmlab service (MB/s), medians of {REPEATS}, in turn with {PROGRAM}",
        {"block (B)": "d", "client": ".2f", "update": ".2f", "libcoap": ".2f", "ratio": ".2f", "aim": ".1f"},
    )
    for size in BLOCK_SIZES:
        rates: tuple[list[float], list[float], list[float]] = [], [], []
        for _ in range(REPEATS):
            rates[0].append(ours(fetch, peer, uri, size))
            rates[1].append(ours(update, peer, uri, size))
            rates[2].append(libcoap(peer, uri, size, folder))
        client, whole, their = (statistics.median(each) for each in rates)
        table.row(size, client, whole, their, whole / their, AIM)
