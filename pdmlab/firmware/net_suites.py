"""The network suites of a stock board: net-single, net-multi and stress-net-fs, with the lines that they print.

What is downloaded is the corpus, from `DOWNLOAD_HOST`, and each byte is compared with it. After each
"Downloaded" line comes a `pdmlab_row` with what the stock line leaves out: recv calls, and percentiles
of how long a piece kept the application waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pdmlab.clock import SECOND
from pdmlab.errors import NetworkError
from pdmlab.firmware.corpus import corpus
from pdmlab.firmware.device import Device
from pdmlab.firmware.fs_suites import exercise_file
from pdmlab.firmware.utest import Greentea, Suite
from pdmlab.network.download import Getting
from pdmlab.network.nsapi import NsapiError
from pdmlab.storage.filesystem import FileSystem

DOWNLOAD_HOST = "downloads.pdmlab"
DOWNLOAD_PATH = "/corpus.txt"
"""Where the corpus is served: `serve_files(fabric.host(DOWNLOAD_HOST), {DOWNLOAD_PATH: corpus()})`."""

RECEIVE_BUFFERS = (128, 256, 1024, 2048, 4096)
CONNECTION_TRIES = 3
HOST_TEST = "default_auto"

Case = tuple[str, Callable[[], None]]


def net_single(device: Device) -> None:
    """Download the corpus once with each receive buffer, 128 B to 4 KiB."""
    name = device.network.type
    cases = [(f"{name} {size:5} buffer", partial(download_corpus, device, 0, size)) for size in RECEIVE_BUFFERS]
    _run(device, 480, [(f"{name} network setup", lambda: set_up_network(device)), *cases])


def net_multi(device: Device) -> None:
    """Download the corpus one, two and three times at once, 1 KiB receive buffers."""
    name = device.network.type

    def downloads(count: int) -> None:
        _together(device, [partial(download_corpus, device, thread, 1024) for thread in range(1, count + 1)])

    cases: list[Case] = [
        (f"{name} 1 thread", lambda: downloads(1)),
        (f"{name} 2 threads", lambda: downloads(2)),
        (f"{name} 3 threads", lambda: downloads(3)),
    ]
    _run(device, 720, [(f"{name} network setup", lambda: set_up_network(device)), *cases])


def stress_net_fs(device: Device) -> None:
    """Download the corpus while files are written, read back and compared: one after the other, then all at once."""
    fs = device.make_file_system()
    storage = f"{device.block_device_name}+{fs.type}"
    name = f"{storage}+{device.network.type}"

    def get(thread: int) -> Callable[[], None]:
        return partial(download_corpus, device, thread, 1024)

    def file(thread: int, size: int) -> Callable[[], None]:
        return partial(exercise_file, device, fs, thread, size)

    def one_after_the_other() -> None:
        for work in (get(1), file(2, 1024)):
            _together(device, [work])

    cases: list[Case] = [
        (f"{device.network.type} network setup", lambda: set_up_network(device)),
        (f"{storage} format", lambda: _format(device, fs)),
        (f"{name} 1 thread, dl, file seq.", one_after_the_other),
        (f"{name} 2 threads, dl, 1kb", lambda: _together(device, [file(1, 1024), get(2)])),
        (f"{name} 3 threads, dl, 256b, 1kb", lambda: _together(device, [file(1, 256), file(2, 1024), get(3)])),
        (
            f"{name} 4 threads, dl, 1b, 256b, 1kb",
            lambda: _together(device, [file(1, 1), file(2, 256), file(3, 1024), get(4)]),
        ),
    ]
    _run(device, 720, cases)


def set_up_network(device: Device) -> None:
    """Connect the default interface, in up to three tries, and print its addresses."""
    net = device.network
    for left in reversed(range(CONNECTION_TRIES)):
        try:
            net.connect()
            break
        except NetworkError as error:
            if error.code == NsapiError.IS_CONNECTED:
                break
            if not left:
                raise
            _print(
                device, f"[ERROR] Connecting to network. Retrying {CONNECTION_TRIES - left} of {CONNECTION_TRIES}..."
            )
    _print(device, f"[NET] IP address is '{net.get_ip_address()}'")
    _print(device, f"[NET] MAC address is '{net.get_mac_address()}'")


def download_corpus(device: Device, thread: int, receive_buffer: int) -> None:
    """Download the corpus through a receive buffer of so many bytes, printing as a stock board's thread does.

    Raises:
        AssertionError: a byte differs. NetworkError: as pdmlab.network.download.
    """
    expected = corpus()
    say = f"[NET-{thread}]"
    with Getting(device.network, DOWNLOAD_HOST, DOWNLOAD_PATH, receive_buffer) as getting:
        _connect(device, getting, say)
        _print(device, f"{say} Registered socket callback function")
        _print(device, f"{say} Request header ({len(getting.request)}): {getting.request}")
        getting.send_request()
        _print(device, f"{say} Non-blocking socket mode set")
        received = 0
        for piece in getting.pieces():
            if not received:
                _print(device, f"{say} Found body index: {getting.body_index}")
            assert piece == expected[received : received + len(piece)], "character mismatch in body"
            received += len(piece)
            if piece:
                _print(device, f"{say} {_progress(received, len(expected), getting.elapsed)}")
        assert received == len(expected), f"{received} B received of {len(expected)}"
        got = getting.result()
    seconds = got.duration / SECOND
    kib, link = received / 1024, device.network.link
    _print(device, f"{say} Downloaded: {kib:.2f}KB ({kib / seconds:.2f}KB/s, {seconds:.2f} secs)")
    measures = {
        "suite": "net", "thread": thread, "receive_buffer_B": receive_buffer, "bytes": received,
        "duration_ns": got.duration, "calls": got.calls, "pieces": len(got.latencies),
        **{f"latency_p{percent}_ns": got.latency(percent) for percent in (50, 90, 99, 100)},
        "bearer": link.name, "window_B": link.receive_buffer, "round_trip_ns": link.mean_round_trip,
        "clock": device.clock.name, "estimates": link.estimates,
    }  # fmt: skip
    Greentea(device).send_row(measures)


def _connect(device: Device, getting: Getting, say: str) -> None:
    for attempt in range(CONNECTION_TRIES):
        try:
            getting.connect()
            return
        except NetworkError:
            if attempt == CONNECTION_TRIES - 1:
                raise
            device.clock.sleep(SECOND)
            _print(device, f"{say} Connection failed. Retry {attempt} of {CONNECTION_TRIES}")


def _progress(received: int, size: int, elapsed: int) -> str:
    speed = received * SECOND / max(elapsed, 1)
    left = int((size - received) / speed)
    eta = f"{left // 3600:02d}:{left // 60 % 60:02d}:{left % 60:02d}"
    return f"Received bytes: {received}, ({received * 100 / size:.2f}%, {speed / 1024:.2f}KB/s, ETA: {eta})"


def _format(device: Device, fs: FileSystem) -> None:
    fs.reformat(device.block_device)


def _together(device: Device, works: Sequence[Callable[[], None]]) -> None:
    """Run each work as a thread of its own, and wait for all."""
    threads = [device.clock.spawn(work) for work in works]
    for thread in threads:
        thread.join()


def _print(device: Device, line: str) -> None:
    device.uart.write(line + "\r\n")


def _run(device: Device, timeout: int, cases: Sequence[Case]) -> None:
    with Suite(device, timeout=timeout, host_test=HOST_TEST, cases=[name for name, _ in cases]) as suite:
        for name, work in cases:
            with suite.case(name):
                work()
