"""What the message log costs an endpoint: small GETs answered from memory, without a log and with one, in one run.

No socket is between, so the request itself is as cheap as it can be; what a tap costs is compared with that. Decoding
happens when somebody looks, and is measured apart.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from aiocoap import Message
from aiocoap.numbers import codes

from benchmarks.table import Table
from pdmlab.capture import MessageLog
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address
from pdmlab.lwm2m.dialect import LwM2M

REQUESTS = 5000
REPEATS = 7
AIM = 0.10
"""Of a request: what its two messages may cost with the log on."""
PEER: Address = ("192.0.2.1", 40_000)


class Memory:
    """A socket that nothing leaves."""

    address: Address = ("192.0.2.2", 5683)

    def send(self, data: bytes, address: Address) -> None:
        """Take an answer."""

    def close(self) -> None:
        """Nothing to end."""


def answer(request: Message, peer: Address) -> Message:
    """Answer a GET."""
    return Message(code=codes.CONTENT, payload=b"21.5", content_format=0, max_age=0)


async def seconds_a_request(log: MessageLog | None, number: int) -> float:
    """Return what a GET of /3303/0/5700 takes a server (s of CPU)."""
    arrive: list[Callable[[bytes, Address], None]] = []

    async def opener(on_message: Callable[[bytes, Address], None]) -> Memory:
        arrive.append(on_message)
        return Memory()

    endpoint = await Endpoint.open(opener, answer, tap=log.of("lwm2m") if log is not None else None, seed=1)
    first = number * REQUESTS
    heads = (
        b"\x44\x01" + (first + each & 0xFFFF).to_bytes(2, "big") + each.to_bytes(4, "big") for each in range(REQUESTS)
    )
    datagrams = [head + b"\xb43303\x010\x045700" for head in heads]
    start = time.process_time()
    for each in datagrams:
        arrive[0](each, PEER)
    await asyncio.sleep(0)
    took = time.process_time() - start
    await endpoint.close()
    return took / REQUESTS


def bench() -> None:
    """Print what a request costs, and what the log adds."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        logs: dict[str, tuple[MessageLog | None, Callable[[MessageLog], AbstractContextManager[object]]]] = {
            "none": (None, lambda log: nullcontext()),
            "in memory": (MessageLog(dialect=LwM2M()), lambda log: nullcontext()),
            "and captured": (MessageLog(dialect=LwM2M()), lambda log: log.capture(place / "log.pcapng")),
            "and journaled": (MessageLog(dialect=LwM2M(), journal=place / "log.jsonl"), lambda log: nullcontext()),
        }
        taken: dict[str, list[float]] = {name: [] for name in logs}
        for number in range(REPEATS):
            for name, (log, watched) in logs.items():
                with watched(log) if log is not None else nullcontext():
                    taken[name].append(asyncio.run(seconds_a_request(log, number)))
        table = Table(
            f"A small GET at the server's end, in memory (aim: the log adds at most {AIM:.0%})",
            {"log": "", "us a request": ".1f", "more": ".1%"}, text_width=16,
        )  # fmt: skip
        plain = statistics.median(taken["none"])
        for name, each in taken.items():
            took = statistics.median(each)
            table.row(name, took * 1e6, took / plain - 1)
        log = logs["in memory"][0]
        assert log is not None
        start = time.perf_counter()
        rows = log.rows()
        print(f"Decoding {len(rows)} messages when somebody looks: {time.perf_counter() - start:.2f} s")
        for each, _ in logs.values():
            if each is not None:
                each.close()
