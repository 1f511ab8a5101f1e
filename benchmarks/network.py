"""How fast the simulated network runs: device seconds for each host second, by bearer and receive buffer."""

from __future__ import annotations

import time

from benchmarks.table import Table
from pdmlab.clock import SECOND, DeviceClock
from pdmlab.network.download import Download, download
from pdmlab.network.fabric import Fabric
from pdmlab.network.fileserver import serve_files
from pdmlab.network.interface import INTERFACES

CONTENT = bytes(range(256)) * 600


def measure(bearer: str, receive_buffer: int) -> tuple[Download, float]:
    """Download 150 KiB over a bearer; return what came of it and how long the host took (s)."""
    with DeviceClock() as clock:
        fabric = Fabric(clock, seed=1)
        serve_files(fabric.host("downloads"), {"/file": CONTENT})
        net = next(kind for kind in INTERFACES.values() if kind.bearer == bearer)(clock, fabric=fabric)
        if bearer == "wifi":
            net.set_credentials("bench")  # type: ignore[attr-defined]

        def main() -> Download:
            net.connect()
            return download(net, "downloads", "/file", receive_buffer)

        start = time.perf_counter()
        got = clock.call(main)
        assert got.content == CONTENT
        return got, time.perf_counter() - start


def bench() -> None:
    """Download once over each bearer with each receive buffer."""
    table = Table(
        "Downloads over simulated bearers: device seconds for each host second",
        {"bearer": "", "buffer (B)": "d", "device (s)": ".2f", "host (s)": ".3f", "ratio": ".1f",
         "recv calls/host s": ".0f"},
    )  # fmt: skip
    for bearer in ("ethernet", "wifi", "cellular", "6lowpan", "thread"):
        for size in (128, 256, 1024, 2048, 4096):
            got, host = measure(bearer, size)
            device = got.duration / SECOND
            table.row(bearer, size, device, host, device / host, got.calls / host)
