"""The check of the model: the same downloads by the model and by Linux's own TCP, over the same link, in one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pdmlab import frames, settings
from pdmlab.clock import MS, SECOND, DeviceClock
from pdmlab.errors import ConfigError
from pdmlab.frames.provenance import new_name, utc_now, versions
from pdmlab.measurements.bench import Row
from pdmlab.measurements.downloads import MOST_THREADS, make_link, number, whole
from pdmlab.network.download import download
from pdmlab.network.fabric import Fabric
from pdmlab.network.fileserver import serve_files
from pdmlab.network.interface import NetworkInterface
from pdmlab.network.link import LARGEST_WINDOW, Link
from pdmlab.network.namespaces import PathName, choose, real_link
from pdmlab.runs import Run

EXPERIMENT = "network-check"
LEAST_WINDOW = 1152
"""Linux clamps no window below this (B)."""
RECEIVE_BUFFER = 1024
LARGEST_FILE = 1 << 30
MOST_REPEATS = 1_000_000


def compare_tcp(
    windows_B: Sequence[int] = (2144, 4288, 8576, 17152),
    round_trips_ms: Sequence[float] = (20, 100),
    *,
    bearer: str | Link = "ethernet",
    losses: Sequence[float] = (0.0,),
    threads: Sequence[int] = (1,),
    size_B: int = 32768,
    repeats: int = 1,
    path: PathName | Literal["auto"] = "auto",
    seed: int | None = None,
    data: Path | str | None = None,
) -> Run:
    """Download by the model and by Linux's TCP in two network namespaces, at every point; return the run.

    Rows of both lie in one frame: `tcp` says whose they are, `series` names a line of a figure, and `clock` whether
    their times are the device's or the host's. The link is simulated for both (`path`: netem or tun), with the
    bearer's bandwidth and no time for calls.

    Args:
        windows_B: what the receiver offers; of Linux at least 1152 B, in whole segments.

    Raises:
        ConfigError: namespaces cannot be had here, or a figure that no link can have.
    """
    given = {"windows_B": windows_B, "round_trips_ms": round_trips_ms, "losses": losses, "threads": threads}
    for argument, values_given in given.items():
        if isinstance(values_given, str) or not isinstance(values_given, Sequence) or not values_given:
            raise ConfigError(f"{argument} is {values_given!r}", hint="a list of one value or more")
    try:
        windows_B = [whole("a window", each, LEAST_WINDOW, LARGEST_WINDOW) for each in windows_B]
    except ConfigError as error:
        raise ConfigError(
            f"windows of {list(windows_B)} B cannot be compared: {error.message}",
            hint=f"Linux offers no less than {LEAST_WINDOW} B, and without scaling no more than {LARGEST_WINDOW} B",
        ) from error
    threads = [whole("threads", each, 1, MOST_THREADS) for each in threads]
    size_B = whole("size_B", size_B, 1, LARGEST_FILE)
    repeats = whole("repeats", repeats, 1, MOST_REPEATS)
    if min(number("round_trips_ms", each) for each in round_trips_ms) <= 0:
        raise ConfigError(f"round_trips_ms is {list(round_trips_ms)}", hint="above 0: a window is divided by it")
    for round_trip in round_trips_ms:
        for loss in losses:
            make_link(bearer, round_trip, None, number("losses", loss))
    name = bearer.name if isinstance(bearer, Link) else bearer
    chosen = choose(path)
    values = settings.load(seed=seed, data=str(data) if data is not None else None)
    first_seed = values.number("seed")
    sidecar: dict[str, Any] = {
        "version": 1,
        "run": new_name(),
        "experiment": EXPERIMENT,
        "state": "running",
        "measure": f"{__name__}:compare_tcp",
        "factors": {"window_B": list(windows_B), "round_trip_ms": list(round_trips_ms), "loss": list(losses),
                    "threads": list(threads)},
        "bearer": name,
        "path": chosen,
        "repeats": repeats,
        "seed": first_seed,
        "simulated": True,
        "versions": versions(),
        "started": utc_now(),
    }  # fmt: skip

    def measured() -> Iterator[Row]:
        for round_trip, loss in ((r, p) for r in round_trips_ms for p in losses):
            link = make_link(bearer, round_trip, None, loss).with_(call_time=0, jitter=0)
            for repeat in range(repeats):
                here = {"round_trip_ms": float(round_trip), "loss": float(loss), "repeat": repeat}
                for row in _both(link, windows_B, threads, size_B, chosen, first_seed + repeat):
                    yield {**here, **row}

    return _kept(measured(), values.folder("data") / EXPERIMENT, sidecar)


def _both(
    link: Link, windows: Iterable[int], threads: Sequence[int], size: int, path: PathName, seed: int
) -> Iterator[Row]:
    """Yield a row of the model and one of Linux for each window and number of threads."""
    with real_link(link, path=path, seed=seed) as real:
        for window, count in ((w, t) for w in windows for t in threads):
            before = real.retransmissions
            got = real.download(size, window, receive_buffer=RECEIVE_BUFFER, threads=count)
            duration = max(each.duration for each in got)
            first = max(each.first for each in got)
            yield _row("Linux", path, "host", link, window, count, size, duration, first, real.retransmissions - before)
            yield _by_model(link, window, count, size, seed)


def _by_model(link: Link, window: int, threads: int, size: int, seed: int) -> Row:
    with DeviceClock() as clock:
        fabric = Fabric(clock, seed)
        serve_files(fabric.host("server"), {"/file": bytes(size)})
        net = NetworkInterface(clock, fabric=fabric, link=link.with_(receive_buffer=window, attach=()))

        def main() -> tuple[int, int]:
            net.connect()
            net.gethostbyname("server")
            workers = [clock.spawn(lambda: download(net, "server", "/file", RECEIVE_BUFFER)) for _ in range(threads)]
            got = [worker.join() for worker in workers]
            return max(each.duration for each in got), max(each.first for each in got)

        duration, first = clock.call(main)
        again = fabric.traffic.retransmissions
    return _row("model", "model", "device", link, window, threads, size, duration, first, again)


def _row(
    tcp: str, path: str, clock: str, link: Link, window: int, threads: int, size: int, duration: int, first: int,
    retransmissions: int,
) -> Row:  # fmt: skip
    return {
        "tcp": tcp,
        "path": path,
        "window_B": window,
        "threads": threads,
        "series": f"{tcp}, {link.round_trip / MS:g} ms",
        "bytes": size * threads,
        "duration_s": round(duration / SECOND, 6),
        "throughput_kBps": round(size * threads * SECOND / duration / 1000, 6),
        "window_per_round_trip_kBps": round(window * threads * SECOND / link.round_trip / 1000, 6),
        "first_byte_ms": round(first / MS, 6),
        "retransmissions": retransmissions,
        "simulated": True,
        "clock": clock,
        "estimates": "",
    }


def _kept(rows: Iterator[Row], folder: Path, sidecar: dict[str, Any]) -> Run:
    """Keep each row as it comes; whatever ends it, what was measured is a run."""
    name = sidecar["run"]
    journal = frames.start(folder, name, sidecar)
    kept: list[Row] = []
    state = "interrupted"
    factors = ("round_trip_ms", "loss", "repeat", "tcp", "path", "window_B", "threads")
    try:
        for row in rows:
            whole = {"run": name, "board": "two namespaces", **row}
            journal.append(whole)
            kept.append(whole)
        state = "finished"
    finally:
        journal.close()
        sidecar |= {"state": state, "ended": utc_now(), "rows": len(kept)}
        schema = frames.Schema.from_rows(factors, *kept) if kept else None
        frames.save(folder, name, schema, kept, sidecar)
        journal.path.unlink()
    return Run(folder, name, frames.read_sidecar(folder / f"{name}.json"))
