"""How fast the CoAP endpoint is on loopback, side by side with libcoap's programs: requests, blocks, notifications,
handshakes, and what a connected device costs.

Two servers in processes of their own, ours and libcoap's, get the same load in turn, five times; the median counts.
Seconds are the host's (perf_counter); "busy" is the share of them that the server spent on a CPU. Where it is near
100 % the server was the limit, else whoever asked, or the time that the system takes to wake a process.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiocoap import Message
from aiocoap.numbers import codes

from benchmarks import lean_coap
from benchmarks.table import Table
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, udp

REPEATS = 5
REQUESTS = 5000
IMAGE = bytes(range(256)) * 4096
"""What is downloaded and uploaded in blocks: 1 MiB."""
BLOCK_SIZES = (64, 1024)
OBSERVERS = (1, 50, 200, 1000)
NOTIFICATIONS = 2000
CONNECTED = 1000
AIM = 0.9
"""Of libcoap's rate, for requests and blocks."""

Measure = Callable[[Address], float]


class Server:
    """A server's process, and what it costs."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.address: Address = ("127.0.0.1", port)

    @property
    def cpu_s(self) -> float:
        """Seconds that it has spent on a CPU."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    @property
    def resident_B(self) -> int:
        """Bytes of memory that it has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@contextmanager
def ours() -> Iterator[Server]:
    """Run benchmarks/coap_server.py."""
    command = (sys.executable, "-m", "benchmarks.coap_server")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(process, int(process.stdout.readline()))
        finally:
            process.terminate()


@contextmanager
def libcoaps() -> Iterator[Server]:
    """Run libcoap's example server, in which a PUT makes a resource that can be observed."""
    port = free_port()
    command = ("coap-server-notls", "-A", "127.0.0.1", "-p", str(port), "-d", "50", "-v", "0")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            server = Server(process, port)
            for _ in range(50):
                try:
                    lean_coap.put(server.address, b"value", b"21.5")
                except OSError:
                    time.sleep(0.1)  # it has not bound its port yet
                else:
                    break
            yield server
        finally:
            process.terminate()


def in_turn(measure: Measure, servers: list[Server]) -> tuple[list[float], list[float]]:
    """Return the median of what each server reaches, and how busy it was (share), measured in turn."""
    rates: list[list[float]] = [[] for _ in servers]
    busy: list[list[float]] = [[] for _ in servers]
    for _ in range(REPEATS):
        for number, server in enumerate(servers):
            start, cpu = time.perf_counter(), server.cpu_s
            rates[number].append(measure(server.address))
            busy[number].append((server.cpu_s - cpu) / (time.perf_counter() - start))
    return [statistics.median(each) for each in rates], [statistics.median(each) for each in busy]


# -- requests and blocks -----------------------------------------------------------------------------


def requests(under_way: int) -> Measure:
    """Return a measurement of small GETs a second."""
    return lambda server: lean_coap.gets(server, b"value", REQUESTS, under_way)


def coap_client(method: str, size: int, folder: Path) -> Measure:
    """Return a measurement of libcoap's client with a body in blocks (MB/s), its start included."""
    body, got = folder / "body", folder / "got"
    body.write_bytes(IMAGE)

    def measure(server: Address) -> float:
        what = ("-o", str(got)) if method == "get" else ("-f", str(body))
        command = ("coap-client-notls", "-b", str(size), "-B", "60", "-m", method, *what)
        got.unlink(missing_ok=True)
        start = time.perf_counter()
        subprocess.run([*command, f"coap://{server[0]}:{server[1]}/fw"], check=True, capture_output=True)
        seconds = time.perf_counter() - start
        assert method == "put" or got.read_bytes() == IMAGE
        return len(IMAGE) / seconds / 1e6

    return measure


def our_client(method: str, size: int) -> Measure:
    """Return the same measurement of our client."""

    async def ask(server: Address) -> float:
        endpoint = await Endpoint.open(udp())
        message = Message(code=codes.GET if method == "get" else codes.PUT, uri_path=("fw",))
        message.payload = b"" if method == "get" else IMAGE
        start = time.perf_counter()
        response = await endpoint.request(message, server, block_size=size)
        seconds = time.perf_counter() - start
        assert response.code.is_successful() and (method == "put" or response.payload == IMAGE)
        await endpoint.close()
        return len(IMAGE) / seconds / 1e6

    return lambda server: asyncio.run(ask(server))


def bench_server(servers: list[Server], folder: Path) -> None:
    """Compare the servers' ends under the same load."""
    table = Table(
        f"CoAP over UDP, server end, on loopback: medians of {REPEATS}, in turn with libcoap's coap-server",
        {
            "what": "",
            "unit": "",
            "ours": ".2f",
            "libcoap": ".2f",
            "ratio": ".2f",
            "aim": ".1f",
            "ours busy %": ".0f",
            "libcoap busy %": ".0f",
        },
        text_width=34,
    )

    def row(what: str, unit: str, measure: Measure, aim: float | None = AIM) -> None:
        (our, their), busy = in_turn(measure, servers)
        table.row(what, unit, our, their, our / their, aim, *(100 * each for each in busy))

    coap_client("put", 1024, folder)(servers[0].address)
    coap_client("put", 1024, folder)(servers[1].address)
    row("small GET, one by one", "requests/s", requests(1))
    row("small GET, 16 under way", "requests/s", requests(16))
    for method, size in itertools.product(("get", "put"), BLOCK_SIZES):
        row(f"{method.upper()} of 1 MiB in {size} B, coap-client", "MB/s", coap_client(method, size, folder))


def bench_client(server: Server, folder: Path) -> None:
    """Compare our client and libcoap's at libcoap's server."""
    table = Table(
        "CoAP over UDP, client end, at libcoap's coap-server",
        {"what": "", "unit": "", "ours": ".2f", "libcoap": ".2f", "ratio": ".2f", "aim": ".1f"},
        text_width=34,
    )
    for method, size in itertools.product(("get", "put"), BLOCK_SIZES):
        rates: tuple[list[float], list[float]] = [], []
        for _ in range(REPEATS):
            rates[0].append(our_client(method, size)(server.address))
            rates[1].append(coap_client(method, size, folder)(server.address))
        our, their = (statistics.median(each) for each in rates)
        table.row(f"{method.upper()} of 1 MiB in {size} B", "MB/s", our, their, our / their, AIM)


# -- notifications -----------------------------------------------------------------------------------


def notifications(server: Address, count: int) -> tuple[float, int, int]:
    """Return notifications a second to so many observers in one burst, how many came again, and how many never."""
    path = b"seen%d" % count
    lean_coap.put(server, path, b"0")
    observers = lean_coap.Observers(server, path, count)
    try:
        rounds = list(observers.rounds(max(5, NOTIFICATIONS // count)))
    finally:
        observers.close()
    return count / statistics.median(took for took, _ in rounds), observers.late, sum(lost for _, lost in rounds)


def bench_notifications(servers: list[Server]) -> None:
    """Compare bursts of confirmable notifications, each to a socket of its own."""
    table = Table(
        "Confirmable notifications: one change, told to all observers at once",
        {
            "observers": "d",
            "ours/s": ".0f",
            "libcoap/s": ".0f",
            "ratio": ".2f",
            "ours again": "d",
            "libcoap again": "d",
            "ours lost": "d",
            "libcoap lost": "d",
        },
    )
    for count in OBSERVERS:
        (our, again, lost), (their, their_again, their_lost) = (notifications(each.address, count) for each in servers)
        table.row(count, our, their, our / their, again, their_again, lost, their_lost)


# -- memory ------------------------------------------------------------------------------------------


def bench_memory(servers: list[Server]) -> None:
    """Compare what a peer costs that has asked once."""
    table = Table(
        f"Memory of the server for each of {CONNECTED} devices (B, resident)",
        {"what": "", "ours": ".0f", "libcoap": ".0f", "ratio": ".2f"},
        text_width=34,
    )
    grown = []
    for server in servers:
        before = server.resident_B
        for _ in range(CONNECTED):
            lean_coap.put(server.address, b"value", b"21.5")
        grown.append((server.resident_B - before) / CONNECTED)
    table.row("UDP, asked once", *grown, grown[0] / grown[1] if grown[1] else None)


def free_port() -> int:
    """Return a UDP port that nobody has at the moment, nor the one after it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def bench() -> None:
    """Measure ours and libcoap's in turn."""
    missing = [name for name in ("coap-server-notls", "coap-client-notls") if shutil.which(name) is None]
    if missing:
        print(f"\nThere is no {' and no '.join(missing)} here (Debian's libcoap3-bin): nothing to compare with.")
        return
    with tempfile.TemporaryDirectory() as folder, lean_coap.many_files(), ours() as our, libcoaps() as their:
        bench_memory([our, their])
        bench_server([our, their], Path(folder))
        bench_client(their, Path(folder))
        bench_notifications([our, their])
