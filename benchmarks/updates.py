"""A whole update with an image of 1 MiB over every bearer: how long the download takes, by block size, raw and delta.

All times but the last column are the device's. The data frame is what `pdmlab.sweep(measurements.firmware_update, …)`
returns, and can be had that way.
"""

from __future__ import annotations

import tempfile

from benchmarks.table import Table
from pdmlab import measurements
from pdmlab.experiment import sweep
from pdmlab.network.link import bearers
from pdmlab.sim.board import VirtualBoard

TARGET = "NUCLEO_F429ZI"
"""Its 2 MiB of flash have room for the image."""
IMAGE_B = 1 << 20
BLOCKS_B = (128, 512, 1024)


def bench() -> None:
    """Print a row for each bearer, block size and payload."""
    table = Table(
        f"Updates of a {TARGET} (SIMULATED) with an image of {IMAGE_B >> 10} KiB by CoAP blocks; device clock",
        {"bearer": "", "payload": "", "block (B)": "d", "payload (KiB)": ".1f", "download (s)": ".1f", "kB/s": ".2f",
         "image kB/s": ".2f", "on air (KiB)": ".1f", "RAM (B)": "d", "resent": "d", "install (s)": ".1f"},
    )  # fmt: skip
    factors = {"bearer": list(bearers()), "payload": ["raw", "delta"], "block_B": list(BLOCKS_B), "image_B": [IMAGE_B]}
    with tempfile.TemporaryDirectory() as data, VirtualBoard(TARGET, memory=True, power=False) as board:
        run = sweep(
            measurements.firmware_update, factors, experiment="updates", board=board, seed=1, workers=2, data=data
        )
        for row in run.frame.itertuples():
            table.row(
                row.bearer, row.payload, row.block_B, row.payload_B / 1024, row.download_s, row.throughput_kBps,
                row.image_kBps, row.on_air_B / 1024, row.ram_B, row.retransmissions, row.install_s,
            )  # fmt: skip
        print("estimates: " + "; ".join(sorted(set(run.frame.estimates) - {""})))
