"""How fast a virtual board runs the cases of the seed's suites, by suite and buffer, printing included."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from benchmarks.table import Table
from pdmlab.clock import SECOND
from pdmlab.firmware.device import Device
from pdmlab.firmware.fs_suites import THREADS, WRITE_BUFFERS, exercise_file, format_storage
from pdmlab.firmware.net_suites import RECEIVE_BUFFERS, download_corpus, set_up_network
from pdmlab.sim import VirtualBoard

Work = Callable[[], object]


def fs_cases(device: Device) -> Iterator[tuple[str, str, list[Work]]]:
    """Yield suite, case and the threads of each case of fs-single and fs-multi."""
    fs = device.make_file_system()
    format_storage(device, fs)
    for size in WRITE_BUFFERS:
        yield "fs-single", f"{size} B", [lambda size=size: exercise_file(device, fs, 0, size)]
    for size in WRITE_BUFFERS:
        yield (
            "fs-multi",
            f"{size} B x {THREADS}",
            [lambda number=number, size=size: exercise_file(device, fs, number, size) for number in range(THREADS)],
        )


def net_cases(device: Device) -> Iterator[tuple[str, str, list[Work]]]:
    """Yield the same of net-single, net-multi and stress-net-fs."""
    fs = device.make_file_system()
    format_storage(device, fs)
    set_up_network(device)
    for size in RECEIVE_BUFFERS:
        yield "net-single", f"{size} B", [lambda size=size: download_corpus(device, 0, size)]
    for count in (1, 2, 3):
        yield (
            "net-multi",
            f"1024 B x {count}",
            [lambda thread=thread: download_corpus(device, thread, 1024) for thread in range(count)],
        )
    yield (
        "stress-net-fs",
        "download, then 1024 B",
        [lambda: (download_corpus(device, 0, 1024), exercise_file(device, fs, 0, 1024))],
    )
    for files in ((1024,), (256, 1024), (1, 256, 1024)):
        yield (
            "stress-net-fs",
            f"download + {' + '.join(f'{size} B' for size in files)}",
            [
                lambda: download_corpus(device, 0, 1024),
                *(lambda n=n, size=size: exercise_file(device, fs, n, size) for n, size in enumerate(files)),
            ],
        )


def bench() -> None:
    """Run each case once on a virtual K64F: SD card and FAT, Ethernet."""
    table = Table(
        "Suites on a virtual K64F: device seconds for each host second",
        {"suite": "", "case": "", "device (s)": ".2f", "host (s)": ".3f", "ratio": ".1f"},
        text_width=30,
    )

    def run(device: Device, cases: Callable[[Device], Iterator[tuple[str, str, list[Work]]]]) -> None:
        for suite, case, works in cases(device):
            started, host = device.clock.now(), time.perf_counter()
            for thread in [device.clock.spawn(work) for work in works]:
                thread.join()
            host = time.perf_counter() - host
            seconds = (device.clock.now() - started) / SECOND
            table.row(suite, case, seconds, host, seconds / host)

    with VirtualBoard("K64F", memory=True, seed=1) as board:
        board.run(run, fs_cases)
        board.run(run, net_cases)
