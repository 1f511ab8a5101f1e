"""What the message log costs a server: small GETs over UDP, without a log and with one, in turn, in one run.

Each server is a process of its own; what counts is what a request costs it (CPU time by the kernel's own count, the
least of several turns: what else runs only adds). Decoding happens when somebody looks, and is measured apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from aiocoap import Message
from aiocoap.numbers import codes

from benchmarks import lean_coap
from benchmarks.table import Table
from pdmlab.capture import MessageLog
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, udp
from pdmlab.lwm2m.dialect import LwM2M

REQUESTS = 2000
REPEATS = 15
AIM = 0.10
"""Of a request: what its two messages may cost with the log on."""
KINDS = {"none": "none", "memory": "in memory", "captured": "and captured", "journaled": "and journaled"}


def answer(request: Message, peer: Address) -> Message:
    """Answer a GET."""
    return Message(code=codes.CONTENT, payload=b"21.5", content_format=0, max_age=0)


async def serve(kind: str, folder: Path) -> None:
    """Print the port of a server whose messages are logged, and answer until the end of standard input."""
    log = MessageLog(now=time.time_ns, dialect=LwM2M(), journal=folder / "log.jsonl" if kind == "journaled" else None)
    with contextlib.ExitStack() as ends:
        if kind == "captured":
            ends.enter_context(log.capture(folder / "log.pcapng"))
        endpoint = await Endpoint.open(udp(), answer, tap=None if kind == "none" else log.of("lwm2m"))
        print(endpoint.address[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await endpoint.close()
        log.close()


@contextlib.contextmanager
def server(kind: str, folder: Path) -> Iterator[tuple[Address, int]]:
    """Run a server; yield its address and the number of its process."""
    command = [sys.executable, "-m", "benchmarks.message_log", kind, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        yield ("127.0.0.1", int(process.stdout.readline())), process.pid
        process.stdin.close()


def cpu_s(process: int) -> float:
    """Return what all threads of a process have spent on a CPU (s); a journal writes in one of its own."""
    threads = Path(f"/proc/{process}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in threads) / 1e9


def bench() -> None:
    """Print what a request costs, and what the log adds."""
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as ends:
        running = {kind: ends.enter_context(server(kind, Path(folder))) for kind in KINDS}
        for _ in range(REPEATS):
            for kind, (address, process) in running.items():
                before = cpu_s(process)
                lean_coap.gets(address, b"value", REQUESTS, 1)
                taken[kind].append((cpu_s(process) - before) / REQUESTS)
    table = Table(
        f"A small GET over UDP, at the server's end (aim: the log adds at most {AIM:.0%})",
        {"log": "", "us of CPU": ".1f", "more": ".1%"}, text_width=16,
    )  # fmt: skip
    plain = min(taken["none"])
    for kind, each in taken.items():
        took = min(each)
        table.row(KINDS[kind], took * 1e6, took / plain - 1)
    log = MessageLog(dialect=LwM2M())
    for number in range(10_000):
        head = bytes((0x44, 1)) + number.to_bytes(2, "big") + number.to_bytes(4, "big")
        log("in", ("192.0.2.1", 5683), head + b"\xb43303\x010\x045700", number)
    start = time.perf_counter()
    rows = log.rows()
    print(f"Decoding {len(rows)} messages when somebody looks: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], Path(sys.argv[2])))
