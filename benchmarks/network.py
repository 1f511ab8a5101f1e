"""How fast the simulated network runs, in device seconds for each host second, and what a capture costs."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.table import Table
from pdmlab.clock import SECOND, DeviceClock
from pdmlab.network.download import Download, download
from pdmlab.network.fabric import Fabric
from pdmlab.network.fileserver import serve_files
from pdmlab.network.interface import NetworkInterface
from pdmlab.network.interfaces import INTERFACES, CellularInterface, WiFiInterface
from pdmlab.network.link import Link, bearers

CONTENT = bytes(range(256)) * 600
WINDOWS = (536, 2144, 8576)
BEARERS = tuple(bearers())
CAPTURED = ("ethernet", 2144)


def measure(bearer: str, window: int, capture: Path | None = None) -> tuple[Download, int, float]:
    """Download 150 KiB over a bearer; return what came of it, the segments, and how long the host took (s)."""
    with DeviceClock() as clock, ExitStack() as stack:
        fabric = Fabric(clock, seed=1)
        serve_files(fabric.host("downloads"), {"/file": CONTENT})
        kinds: dict[str, type[NetworkInterface]] = {kind.bearer: kind for kind in INTERFACES.values()}
        kind = kinds.get(bearer, CellularInterface)
        net = kind(clock, fabric=fabric, link=Link.of(bearer, receive_buffer=window))
        if isinstance(net, WiFiInterface):
            net.set_credentials("bench")
        if capture is not None:
            stack.enter_context(net.capture(capture))

        def main() -> Download:
            net.connect()
            return download(net, "downloads", "/file", 1024)

        start = time.perf_counter()
        got = clock.call(main)
        assert got.content == CONTENT
        return got, fabric.traffic.segments, time.perf_counter() - start


def bench() -> None:
    """Download once over each bearer with each window, and once more with a capture."""
    table = Table(
        "Downloads over simulated bearers: device seconds for each host second",
        {"bearer": "", "window (B)": "d", "device (s)": ".2f", "host (s)": ".3f", "ratio": ".1f",
         "segments/host s": ".0f"},
    )  # fmt: skip
    for bearer in BEARERS:
        for size in WINDOWS:
            got, segments, host = measure(bearer, size)
            device = got.duration / SECOND
            table.row(bearer, size, device, host, device / host, segments / host)
    with tempfile.TemporaryDirectory() as folder:
        plain = min(measure(*CAPTURED)[2] for _ in range(3))
        with_it = min(measure(*CAPTURED, Path(folder, "x.pcapng"))[2] for _ in range(3))
    print(f"A capture of {CAPTURED[0]} takes {with_it / plain:.2f} times as long")
