"""Boards made of what a suite needs and no more: a clock, a serial line with a host that syncs, a part, a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from pdmlab.clock import DeviceClock
from pdmlab.firmware.corpus import corpus
from pdmlab.firmware.net_suites import DOWNLOAD_HOST, DOWNLOAD_PATH
from pdmlab.network.fabric import Fabric
from pdmlab.network.fileserver import serve_files
from pdmlab.network.interfaces import INTERFACES
from pdmlab.storage import FATFileSystem, Medium, ProfilingBlockDevice, SDBlockDevice

SYNC = "{{__sync;9f2c1a0e-0000-4000-8000-000000000001}}"


class Line:
    """A serial line whose host says these lines and listens."""

    def __init__(self, lines: Iterable[str] = (SYNC,)) -> None:
        self.text = ""
        self._lines = list(lines)

    def write(self, text: str) -> None:
        self.text += text

    def readline(self, timeout_s: float | None = None) -> str | None:
        return self._lines.pop(0) if self._lines else None


def play(
    application: Callable[[Any], object],
    *,
    lines: Iterable[str] = (SYNC,),
    content: bytes | None = None,
    bearer: str = "ETHERNET",
    before: Callable[[Any], object] = lambda board: None,
) -> str:
    """Run an application on such a board; return what it printed."""
    with DeviceClock() as clock:
        fabric = Fabric(clock, seed=1)
        serve_files(fabric.host(DOWNLOAD_HOST), {DOWNLOAD_PATH: corpus() if content is None else content})
        line = Line(lines)
        board = SimpleNamespace(
            simulated=True,
            clock=clock,
            uart=line,
            network=INTERFACES[bearer](clock, fabric=fabric, seed=1),
            block_device=ProfilingBlockDevice(SDBlockDevice(Medium(64 << 20, erase_value=0), clock=clock)),
            block_device_name="SD",
            make_file_system=lambda name="fs": FATFileSystem(name),
        )
        before(board)
        clock.call(application, board)
        return line.text
