"""Two CoAP servers in processes of their own, ours and libcoap's, that get the same load in turn."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks import lean_coap
from benchmarks.table import Table
from pdmlab.coap.transport import Address
from tests.coap.certificates import Authority

REPEATS = 5
PSK = "0123456789abcdef"
IDENTITY = "bench"


class Done(NamedTuple):
    """What a load came to: a rate in its own unit, and of how many exchanges or handshakes it consisted."""

    rate: float
    steps: int


Load = Callable[["Server"], Done]


@dataclass
class Credentials:
    """A CA, and the files of certificates of it that programs of others read."""

    folder: Path
    authority: Authority = field(default_factory=Authority)

    def files(self, name: str) -> tuple[str, str, str]:
        """Return the paths of a certificate, its key and the CA's certificate."""
        certificate, key, ca = self.authority.write(self.folder, name)
        return str(certificate), str(key), str(ca)


class Server:
    """A server's process, and what it costs; `ports` by scheme."""

    def __init__(self, name: str, process: subprocess.Popen[str], ports: dict[str, int]) -> None:
        self.name, self.process, self.ports = name, process, ports

    @property
    def address(self) -> Address:
        """Where it is reached over UDP."""
        return "127.0.0.1", self.ports["coap"]

    def uri(self, path: str, scheme: str = "coap") -> str:
        """Return where a resource is."""
        return f"{scheme}://127.0.0.1:{self.ports[scheme]}/{path}"

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
def ours(credentials: Credentials) -> Iterator[Server]:
    """Run benchmarks/coap_server.py."""
    command = (sys.executable, "-m", "benchmarks.coap_server", *credentials.files("ours"), IDENTITY, PSK)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            server = Server("ours", process, json.loads(process.stdout.readline()))
            lean_coap.put(server.address, b"value", b"21.5")
            yield server
        finally:
            process.terminate()


@contextmanager
def libcoaps(credentials: Credentials, program: str, *options: str) -> Iterator[Server]:
    """Run one of libcoap's example servers, in which a PUT makes a resource that can be observed."""
    port = free_port()
    command = (program, "-A", "127.0.0.1", "-p", str(port), "-d", "50", "-v", "0", *options)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet, text=True, cwd=credentials.folder) as process:
        try:
            ports = {"coap": port, "coaps": port + 1, "coaps+tcp": port + 1}
            server = Server("libcoap", process, ports)
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


class Comparison:
    """A table of loads on two servers, each measured REPEATS times in turn; medians count.

    The CPU columns are what the server's process spent on a CPU for each exchange or handshake, whoever waited for
    whom: a server whose CPU time fills the time between two answers was the limit, else its client, or the system that
    wakes both, was.
    """

    def __init__(self, title: str) -> None:
        self._table = Table(
            title,
            {
                "what": "",
                "unit": "",
                "ours": ".2f",
                "libcoap": ".2f",
                "ratio": ".2f",
                "aim": ".1f",
                "ours CPU us": ".0f",
                "libcoap CPU us": ".0f",
                "slowest": ".2f",
                "fastest": ".2f",
            },
            text_width=36,
        )

    def row(
        self, what: str, unit: str, load: Load, servers: tuple[Server, Server], aim: float | None = None
    ) -> tuple[float, float]:
        """Measure a load and print it; return both medians. The last columns are ours of all repeats."""
        rates: tuple[list[float], list[float]] = [], []
        cpu: tuple[list[float], list[float]] = [], []
        for _ in range(REPEATS):
            for number, server in enumerate(servers):
                before = server.cpu_s
                done = load(server)
                rates[number].append(done.rate)
                cpu[number].append((server.cpu_s - before) / done.steps * 1e6)
        our, their = (statistics.median(each) for each in rates)
        costs = (statistics.median(each) for each in cpu)
        self._table.row(what, unit, our, their, our / their, aim, *costs, min(rates[0]), max(rates[0]))
        return our, their


def free_port() -> int:
    """Return a UDP port that nobody has at the moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def run_timed(*command: str) -> float:
    """Run a program to its end; return how long it took (s).

    Raises:
        AssertionError: it failed.
    """
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    return seconds
