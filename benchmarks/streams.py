"""What requests over TCP and TLS cost a server, ours and libcoap's, and what a flood of handshakes costs others.

Each server has a process of its own; the client is ours and speaks RFC 8323 to both.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aiocoap import Message
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from benchmarks.dtls import certified
from benchmarks.table import Table
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.tcp import tcp, tcp_to
from pdmlab.coap.tls import tls, tls_to
from pdmlab.coap.transport import Address, Connection, Opener
from pdmlab.errors import NetworkError

REQUESTS = 2000
FLOOD = 100  # handshakes that one host has going at all times
REPEATS = 3

Measure = Callable[["Server"], Coroutine[None, None, float]]


# -- servers -----------------------------------------------------------------------------------------


class Server:
    """A running server, and where it is: TLS is on the next port."""

    def __init__(self, process: subprocess.Popen[str], tcp_port: int, tls_port: int, security: Security) -> None:
        self.process, self.security = process, security
        self.tcp = Connection("127.0.0.1", tcp_port, "coap+tcp")
        self.tls = Connection("127.0.0.1", tls_port, "coaps+tcp")

    @property
    def cpu(self) -> float:
        """Seconds of a processor that it has had."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9

    def over_tcp(self) -> Opener:
        """Return the opener of a client."""
        return tcp_to(self.tcp, framing="rfc8323")

    def over_tls(self) -> Opener:
        """Return the opener of a client with a certificate."""
        return tls_to(self.tls, self.security, framing="rfc8323")


def serve(folder: str) -> None:
    """Be our server, with the certificates that lie in a folder; print its ports."""

    async def run() -> None:
        kept: dict[tuple[str, ...], bytes] = {}

        def shelf(message: Message, peer: Address) -> Message:
            if message.code == codes.PUT:
                kept[message.opt.uri_path] = message.payload
                return Message(code=codes.CHANGED)
            value = kept.get(message.opt.uri_path)
            return Message(code=codes.NOT_FOUND) if value is None else Message(code=codes.CONTENT, payload=value)

        plain = await Endpoint.open(tcp(), shelf)
        secure = await Endpoint.open(tls("127.0.0.1", 0, load(Path(folder))), shelf)
        print(plain.address[1], secure.address[1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


def save(security: Security, folder: Path) -> tuple[str, str, str]:
    """Write a certificate, its key and its CA's certificate as PEM; return the names of the files."""
    assert security.private_key is not None
    key = load_der_private_key(security.private_key, None)
    contents = (
        x509.load_der_x509_certificate(security.certificates[0]).public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()),
        x509.load_der_x509_certificate(security.trust[0]).public_bytes(Encoding.PEM),
    )
    names = tuple(str(folder / name) for name in ("own.crt", "own.key", "ca.crt"))
    for name, content in zip(names, contents, strict=True):
        Path(name).write_bytes(content)
    return names[0], names[1], names[2]


def load(folder: Path) -> Security:
    """Read what `save` wrote."""
    own, ca = (
        x509.load_pem_x509_certificate((folder / name).read_bytes()).public_bytes(Encoding.DER)
        for name in ("own.crt", "ca.crt")
    )
    key = load_pem_private_key((folder / "own.key").read_bytes(), None)
    return Security((own,), key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), trust=(ca,))


@contextmanager
def ours(folder: Path, device: Security) -> Iterator[Server]:
    """Run our server."""
    code = f"from benchmarks.streams import serve; serve({str(folder)!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ports = process.stdout.readline().split()
            yield Server(process, int(ports[0]), int(ports[1]), device)
        finally:
            process.terminate()


@contextmanager
def libcoaps(device: Security, files: tuple[str, str, str]) -> Iterator[Server]:
    """Run libcoap's example server, on OpenSSL."""
    port = 20_000
    while not _free(port) or not _free(port + 1):
        port += 2
    command = ["coap-server-openssl", "-A", "127.0.0.1", "-p", str(port), "-d", "50", "-v", "0"]
    options = ["-c", files[0], "-j", files[1], "-C", files[2]]
    with subprocess.Popen(
        command + options, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            for _ in range(50):
                if not _free(port):
                    break
                time.sleep(0.1)
            yield Server(process, port, port + 1, device)
        finally:
            process.terminate()


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# -- measurements ------------------------------------------------------------------------------------


def requests(secure: bool) -> Measure:
    """Return a measurement of what a small GET takes the server (us of processor)."""

    async def measure(server: Server) -> float:
        peer = server.tls if secure else server.tcp
        client = await Endpoint.open(server.over_tls() if secure else server.over_tcp())
        await client.request(Message(code=codes.PUT, uri_path=("value",), payload=b"21.5"), peer)
        before = server.cpu
        for _ in range(REQUESTS):
            await client.request(Message(code=codes.GET, uri_path=("value",)), peer)
        took = server.cpu - before
        await client.close()
        return took / REQUESTS * 1e6

    return measure


def _ignore(data: bytes, peer: Address) -> None:
    pass


async def under_flood(server: Server) -> tuple[float, float, float, float]:
    """Return how long a request takes (ms; median and 95 %), alone and while others shake hands without end."""
    client = await Endpoint.open(server.over_tls())

    async def latencies() -> tuple[float, float]:
        took, end = [], time.perf_counter() + 2
        while time.perf_counter() < end:
            start = time.perf_counter()
            await client.request(Message(code=codes.GET, uri_path=("value",)), server.tls)
            took.append((time.perf_counter() - start) * 1e3)
            await asyncio.sleep(0.01)
        return statistics.median(took), statistics.quantiles(took, n=20)[-1]

    alone = await latencies()
    with tempfile.TemporaryDirectory() as folder:
        save(server.security, Path(folder))
        code = f"from benchmarks.streams import flood; flood({server.tls[1]}, {folder!r})"
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            await asyncio.sleep(2)
            flooded = await latencies()
            process.terminate()
    await client.close()
    return *alone, *flooded


def flood(port: int, folder: str) -> None:
    """Shake hands with a server without end, many at once."""
    opener = tls_to(("127.0.0.1", port), load(Path(folder)), framing="rfc8323")

    async def again_and_again() -> None:
        while True:
            try:
                (await opener(_ignore)).close()
            except NetworkError:  # refused, or dropped: the next one
                await asyncio.sleep(0.01)

    async def run() -> None:
        await asyncio.gather(*(again_and_again() for _ in range(FLOOD)))

    asyncio.run(run())


MEASURES = {"GET over TCP": requests(False), "GET over TLS": requests(True)}


def bench() -> None:
    """Print them all."""
    if shutil.which("coap-server-openssl") is None:
        print("\nCoAP over TCP and TLS: there is no coap-server-openssl here to compare with")
        return
    security, device_of = certified()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        files = save(security, folder)
        servers = [
            stack.enter_context(ours(folder, device_of(0))),
            stack.enter_context(libcoaps(device_of(0), files)),
        ]
        table = Table(
            "CoAP over TCP and TLS (RFC 8323): what a request has of the server's processor (us)",
            {"what": "", "ours": ".0f", "libcoap": ".0f", "ratio": ".2f"},
        )
        for what, measure in MEASURES.items():
            each = [statistics.median(asyncio.run(measure(server)) for _ in range(REPEATS)) for server in servers]
            table.row(what, *each, each[0] / each[1])
        table = Table(
            f"A request over TLS while {FLOOD} handshakes of one host are always under way (ms)",
            {"server": "", "alone": ".1f", "95 %": ".1f", "in a flood": ".1f", "95 % then": ".1f"},
        )
        for name, server in zip(("ours", "libcoap"), servers, strict=True):
            table.row(name, *asyncio.run(under_flood(server)))
