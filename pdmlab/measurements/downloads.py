"""Downloads through a receive buffer, over a bearer whose round trip is set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.clock import MS, SECOND
from pdmlab.firmware.net_suites import DOWNLOAD_HOST, DOWNLOAD_PATH
from pdmlab.measurements.bench import Bench, Row, connect, on_board
from pdmlab.network.download import download
from pdmlab.network.link import Link

if TYPE_CHECKING:
    from pdmlab.firmware.device import Device


def http_download(board: Bench, bearer: str, round_trip_ms: int, receive_buffer_B: int) -> Row:
    """Download the corpus (128 KiB) over a bearer whose round trip is so long, through such a receive buffer.

    `buffer_per_round_trip_kBps` is what a window of so many bytes allows: the round trip is that of the link,
    with the mean of the bearer's jitter.
    """
    board.network.link = Link.of(bearer, latency=round_trip_ms * MS // 2)

    def main(device: Device) -> Row:
        connect(device.network)
        got = download(device.network, DOWNLOAD_HOST, DOWNLOAD_PATH, receive_buffer_B)
        link = device.network.link
        return {
            "bytes": got.bytes,
            "duration_s": round(got.duration / SECOND, 6),
            "throughput_kBps": round(got.throughput / 1000, 6),
            "buffer_per_round_trip_kBps": round(receive_buffer_B * SECOND / link.mean_round_trip / 1000, 6),
            "link_kBps": round(link.down / 8000, 6),
            "calls": got.calls,
            "wait_p50_ms": round(got.latency(50) / MS, 6),
            "wait_p99_ms": round(got.latency(99) / MS, 6),
        }

    row: Row = on_board(board, main)
    return row
