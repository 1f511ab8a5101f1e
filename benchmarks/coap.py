"""How fast the CoAP endpoint is on loopback, side by side with libcoap's programs: requests, blocks, notifications,
handshakes, and what a connected device costs.

Seconds are the host's (perf_counter). The load of both servers is the same: libcoap's client where one process of it
can make enough of a load, else one that is written for no more than that (lean_coap.py).
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from aiocoap import Message
from aiocoap.numbers import codes

from benchmarks import coap_secure, lean_coap
from benchmarks.side_by_side import REPEATS, Comparison, Credentials, Done, Load, Server, libcoaps, ours, run_timed
from benchmarks.table import Table
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import udp

REQUESTS = 5000
IMAGE = bytes(range(256)) * 4096
"""What is downloaded and uploaded in blocks: 1 MiB."""
BLOCK_SIZES = (64, 1024)
OBSERVERS = (1, 50, 200, 1000)
NOTIFICATIONS = 2000
CONNECTED = 1000
AIM = 0.9
"""Of libcoap's rate, for requests and blocks."""
PROGRAMS = ("coap-server-notls", "coap-client-notls", "coap-server-openssl", "coap-client-openssl", "openssl")


def small_gets(under_way: int) -> Load:
    """Return a load of small GETs over UDP, so many under way at once."""
    return lambda server: Done(lean_coap.gets(server.address, b"value", REQUESTS, under_way), REQUESTS)


def transfer(method: str, size: int, folder: Path, scheme: str = "coap", *options: str) -> Load:
    """Return a load by libcoap's client: a body in blocks (MB/s), the client's start included."""
    body, got = folder / "body", folder / "got"
    body.write_bytes(IMAGE)
    program = "coap-client-notls" if scheme == "coap" else "coap-client-openssl"

    def load(server: Server) -> Done:
        what = ("-o", str(got)) if method == "get" else ("-f", str(body))
        got.unlink(missing_ok=True)
        command = (program, "-b", str(size), "-B", "60", "-m", method, *what, *options, server.uri("fw", scheme))
        seconds = run_timed(*command)
        assert method == "put" or got.read_bytes() == IMAGE
        return Done(len(IMAGE) / seconds / 1e6, len(IMAGE) // size)

    return load


def bench_server(servers: tuple[Server, Server], folder: Path) -> None:
    """Compare the servers' ends over UDP."""
    comparison = Comparison(f"CoAP over UDP, server end: medians of {REPEATS}, in turn with coap-server-notls")
    for server in servers:
        transfer("put", 1024, folder)(server)
    for under_way, what in ((1, "one by one"), (16, "16 under way")):
        comparison.row(f"small GET, {what}", "requests/s", small_gets(under_way), servers, AIM)
    for method, size in itertools.product(("get", "put"), BLOCK_SIZES):
        what = f"{method.upper()} 1 MiB in {size} B by coap-client"
        comparison.row(what, "MB/s", transfer(method, size, folder), servers, AIM)


# -- our client --------------------------------------------------------------------------------------


def our_transfer(method: str, size: int, server: Server) -> float:
    """Return the same of our client (MB/s)."""

    async def ask() -> float:
        endpoint = await Endpoint.open(udp())
        message = Message(code=codes.GET if method == "get" else codes.PUT, uri_path=("fw",))
        message.payload = b"" if method == "get" else IMAGE
        start = time.perf_counter()
        response = await endpoint.request(message, server.address, block_size=size)
        seconds = time.perf_counter() - start
        assert response.code.is_successful() and (method == "put" or response.payload == IMAGE)
        await endpoint.close()
        return len(IMAGE) / seconds / 1e6

    return asyncio.run(ask())


def bench_client(server: Server, folder: Path) -> None:
    """Compare our client and libcoap's at libcoap's server."""
    table = Table(
        "CoAP over UDP, client end, at coap-server-notls",
        {"what": "", "unit": "", "ours": ".2f", "libcoap": ".2f", "ratio": ".2f", "aim": ".1f"},
        text_width=36,
    )
    for method, size in itertools.product(("get", "put"), BLOCK_SIZES):
        rates: tuple[list[float], list[float]] = [], []
        for _ in range(REPEATS):
            rates[0].append(our_transfer(method, size, server))
            rates[1].append(transfer(method, size, folder)(server).rate)
        our, their = (statistics.median(each) for each in rates)
        table.row(f"{method.upper()} 1 MiB in {size} B", "MB/s", our, their, our / their, AIM)


# -- notifications -----------------------------------------------------------------------------------


def notifications(server: Server, count: int) -> tuple[float, int, int]:
    """Return notifications a second to so many observers in one burst, how many came again, and how many never."""
    path = b"seen%d" % count
    lean_coap.put(server.address, path, b"0")
    observers = lean_coap.Observers(server.address, path, count)
    try:
        rounds = list(observers.rounds(max(5, NOTIFICATIONS // count)))
    finally:
        observers.close()
    return count / statistics.median(took for took, _ in rounds), observers.late, sum(lost for _, lost in rounds)


def bench_notifications(servers: tuple[Server, Server]) -> None:
    """Compare bursts of confirmable notifications, each to a socket of its own."""
    table = Table(
        "Confirmable notifications over UDP: one change, told to all observers at once (aim: 0 lost)",
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
        (our, again, lost), (their, their_again, their_lost) = (notifications(each, count) for each in servers)
        table.row(count, our, their, our / their, again, their_again, lost, their_lost)


# -- memory ------------------------------------------------------------------------------------------


def bench_memory(credentials: Credentials) -> None:
    """Compare what a device costs that has asked once, or is connected: each time of servers that are new."""
    table = Table(
        f"Memory of the server for each of {CONNECTED} devices (B, resident)",
        {"what": "", "ours": ".0f", "libcoap": ".0f", "ratio": ".2f"},
        text_width=36,
    )

    def grown(server: Server, connect: coap_secure.Connect) -> float:
        before = server.resident_B
        with connect(server, CONNECTED):
            return (server.resident_B - before) / CONNECTED

    options = coap_secure.options_of_server(credentials)
    for what, connect in (
        ("UDP, asked once", coap_secure.ask_once),
        ("DTLS by certificate, connected", coap_secure.connect_dtls(credentials)),
        ("TLS, connected", coap_secure.connect_tls(credentials)),
    ):
        with ours(credentials) as our, libcoaps(credentials, "coap-server-openssl", *options) as their:
            costs = [grown(server, connect) for server in (our, their)]
        table.row(what, *costs, costs[0] / costs[1] if costs[1] > 0 else None)


def bench() -> None:
    """Measure ours and libcoap's in turn."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        print(
            f"\nThere is no {' and no '.join(missing)} here (Debian's libcoap3-bin, openssl): nothing to compare with."
        )
        return
    with tempfile.TemporaryDirectory() as name, lean_coap.many_files():
        folder = Path(name)
        credentials = Credentials(folder)
        bench_memory(credentials)
        with (
            ours(credentials) as our,
            libcoaps(credentials, "coap-server-notls") as plain,
            libcoaps(credentials, "coap-server-openssl", *coap_secure.options_of_server(credentials)) as secured,
        ):
            bench_server((our, plain), folder)
            bench_client(plain, folder)
            bench_notifications((our, plain))
            coap_secure.bench_requests((our, secured), credentials, transfer, BLOCK_SIZES)
            coap_secure.bench_handshakes((our, secured), credentials)
