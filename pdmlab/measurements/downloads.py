"""Downloads of a board over bearers, through windows, receive buffers, losses and threads."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING

from pdmlab.clock import MS, SECOND
from pdmlab.errors import ConfigError, NotMeasurable, TimedOut
from pdmlab.firmware.net_suites import DOWNLOAD_HOST, DOWNLOAD_PATH
from pdmlab.measurements.bench import Bench, Row, connect, on_board
from pdmlab.network.download import Download, download
from pdmlab.network.link import LARGEST_WINDOW, Link, as_link

if TYPE_CHECKING:
    from pdmlab.firmware.device import Device
    from pdmlab.network.fabric import Host

MOST_THREADS = 1024
"""More sockets than any board has memory for; each is a thread here."""


def http_download(
    board: Bench,
    bearer: str | Link,
    round_trip_ms: float | None = None,
    receive_buffer_B: int = 1024,
    window_B: int | None = None,
    loss: float | None = None,
    threads: int = 1,
) -> Row:
    """Download the corpus (128 KiB) on so many threads at once, each over a connection of its own.

    A socket offers the smaller one of its receive buffer and the stack's window, and the application's array is as
    large as its receive buffer. `window_per_round_trip_kBps` is what that allows all threads together: the round trip
    is that of the link, with the mean of its jitter. `efficiency` is content per byte on the medium, both ways.

    Args:
        bearer: a row of bearers.toml; or a link of your own, whose name then stands in the row.
        round_trip_ms: the bearer's own unless given.
        window_B: the stack's window (lwip.tcp-wnd) instead of the bearer's row.
        loss: probability that a packet's frame is lost for good, instead of the bearer's own loss and repetitions.

    Raises:
        ConfigError: a figure that no link or stack can have.
        NotMeasurable: the download does not get through: a time-out ends it.
    """
    receive_buffer_B = whole("receive_buffer_B", receive_buffer_B, 1, LARGEST_WINDOW)
    threads = whole("threads", threads, 1, MOST_THREADS)
    board.network.link = make_link(bearer, round_trip_ms, window_B, loss)

    def main(device: Device) -> Row:
        net = device.network
        connect(net)
        net.gethostbyname(DOWNLOAD_HOST)  # what is timed is the download, not the first look at DNS

        def get() -> Download:
            return download(net, DOWNLOAD_HOST, DOWNLOAD_PATH, receive_buffer_B, window=receive_buffer_B)

        host = net.host
        assert host is not None  # a virtual board's interface hangs on its fabric
        before, medium = host.fabric.traffic, _on_medium(host)
        start = device.clock.now()
        workers = [device.clock.spawn(get) for _ in range(threads)]
        downloads = [worker.join() for worker in workers]
        duration = device.clock.now() - start if threads > 1 else downloads[0].duration
        after = host.fabric.traffic
        moved = sum(each.bytes for each in downloads)
        waits = Download(b"", 0, 0, 0, [wait for each in downloads for wait in each.latencies])
        link = net.link
        offered = min(receive_buffer_B, link.receive_buffer)
        carried = _on_medium(host) - medium
        return {
            "round_trip_ms": round(link.round_trip / MS, 6),
            "window_B": link.receive_buffer,
            "loss": link.loss,
            "offered_window_B": offered,
            "bytes": moved,
            "duration_s": round(duration / SECOND, 6),
            "throughput_kBps": round(moved * SECOND / duration / 1000, 6),
            "window_per_round_trip_kBps": _per_round_trip(link, offered * threads),
            "link_kBps": round(link.down / 8000, 6),
            "first_byte_ms": round(max(each.first for each in downloads) / MS, 6),
            "calls": sum(each.calls for each in downloads),
            "wait_p50_ms": round(waits.latency(50) / MS, 6),
            "wait_p99_ms": round(waits.latency(99) / MS, 6),
            "segments": after.segments - before.segments,
            "retransmissions": after.retransmissions - before.retransmissions,
            "on_medium_B": carried,
            "efficiency": round(moved / carried, 6),
            "tcp": link.stack,
            "estimates": link.estimates,
        }

    try:
        row: Row = on_board(board, main)
    except TimedOut as error:
        raise NotMeasurable(f"the download ends in a time-out: {error.message}", hint=error.hint) from error
    if isinstance(bearer, Link):
        row["bearer"] = bearer.name
    given = {"round_trip_ms": round_trip_ms, "window_B": window_B, "loss": loss}
    return {name: cell for name, cell in row.items() if given.get(name) is None}


def whole(name: str, value: object, least: int, most: int) -> int:
    """Return an argument as a whole number, which 1024.0 is too.

    Raises:
        ConfigError: it is none, or not between least and most.
    """
    figure = number(name, value)
    if figure != int(figure) or not least <= figure <= most:
        raise ConfigError(f"{name} is {value!r}", hint=f"a whole number from {least} to {most}")
    return int(figure)


def number(name: str, value: object) -> float:
    """Return an argument as it is, if it is a finite number.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ConfigError(f"{name} is {value!r}", hint="give a number")
    return float(value)


def make_link(bearer: str | Link, round_trip_ms: float | None, window_B: int | None, loss: float | None) -> Link:
    """Return a bearer's link with the figures that are given.

    Raises:
        ConfigError: there is no such bearer, or it cannot have that figure.
    """
    changes: dict[str, int | float] = {}
    if round_trip_ms is not None:
        changes["latency"] = round(number("round_trip_ms", round_trip_ms) * MS / 2)
    if window_B is not None:
        changes["receive_buffer"] = whole("window_B", window_B, 1, LARGEST_WINDOW)
    if loss is not None:
        changes |= {"loss": loss, "retries": 0}
    link = as_link(bearer)
    return link.with_(**changes) if changes else link


def _per_round_trip(link: Link, window: int) -> float:
    """Return what a window allows (kB/s): a window a round trip, or what the link carries where there is none."""
    return round(window * SECOND / link.mean_round_trip / 1000, 6) if link.mean_round_trip else link.down / 8000


def _on_medium(host: Host) -> int:
    return host.up.bytes_on_medium + host.down.bytes_on_medium
