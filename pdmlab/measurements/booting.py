"""A start, step by step: from reset to a network address."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pdmlab.clock import MS
from pdmlab.measurements.bench import Bench, Row, connect, on_board
from pdmlab.storage import mount_or_format, root_of_trust

if TYPE_CHECKING:
    from pdmlab.firmware.device import Device


def start_up(board: Bench, medium: str) -> list[Row]:
    """Boot, mount the file system, read the root of trust and connect: a row for each step, in order.

    What comes before the application (bootloader, reading the image) is in it, as the board's own steps.

    Args:
        medium: "blank", or "used": the same board starts a second time, with what the first has left.
    """

    def main(device: Device) -> list[tuple[str, int, int]]:
        clock, steps = device.clock, []

        def step(name: str, work: Callable[[], object]) -> None:
            start = clock.now()
            work()
            steps.append((name, start, clock.now() - start))

        net, fs = device.network, device.make_file_system()
        step("set up the storage part", device.block_device.init)
        step("mount the file system", lambda: mount_or_format(fs, device.block_device))
        step("root of trust from SOTP", lambda: root_of_trust(device.nvstore, device.random_bytes))
        start = clock.now()
        connect(net)
        for part in net.link.attach:
            steps.append((f"network: {part.name}", start, part.time))
            start += part.time
        return steps

    if medium == "used":
        on_board(board, main)
    inside = on_board(board, main)
    machine = board.machine
    rows = [(step.name, step.start_ns, step.duration_ns) for step in machine.boot_steps]
    rows += [(name, start - machine.started_ns, duration) for name, start, duration in inside]
    return [
        {"step": name, "start_ms": round(start / MS, 6), "duration_ms": round(duration / MS, 6)}
        for name, start, duration in rows
    ]
