"""Measure how fast the simulated network runs: device seconds per host second, by receive buffer.

python benchmarks/network.py [bearer]
"""

from __future__ import annotations

import sys
import time

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


def main() -> None:
    """Print a table."""
    print(f"{'bearer':10} {'buffer (B)':>10} {'device (s)':>10} {'host (s)':>9} {'ratio':>9} {'recv calls/host s':>18}")
    for bearer in sys.argv[1:] or ("ethernet", "wifi", "cellular", "6lowpan", "thread"):
        for size in (128, 256, 1024, 2048, 4096):
            got, host = measure(bearer, size)
            device = got.duration / SECOND
            print(f"{bearer:10} {size:10} {device:10.2f} {host:9.3f} {device / host:9.1f} {got.calls / host:18.0f}")


if __name__ == "__main__":
    main()
