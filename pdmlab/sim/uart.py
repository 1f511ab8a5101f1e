"""The serial line of a virtual board: bytes both ways, paced as 115200 baud on the device's clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from pdmlab.clock import SECOND, DeviceClock

BITS_PER_BYTE = 10
"""8N1: a start bit, eight data bits, a stop bit."""
INPUT_LIMIT = 64 * 1024
"""Bytes from the host that wait for the application; what comes after them is dropped and counted."""
OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes that the board printed and nobody reads; then the oldest half is forgotten and counted."""
_SLICE = 0.2  # seconds; waits are cut into these, so that Ctrl-C comes through on every operating system


class VirtualUart:
    """A UART between device code on its clock and a host in other OS threads.

    The device's side is `write` and `readline`; the host's side is `host_read`, `host_write` and `host_waiting`.

    mute_output, mute_input: a wire is cut. dropped: bytes from the host that the board had no room for.
    forgotten: bytes that the board printed and nobody ever read. listener: called when the board has printed.
    """

    def __init__(self, clock: DeviceClock, *, baud: int = 115200) -> None:
        self._clock = clock
        self._ns_per_byte = BITS_PER_BYTE * SECOND // baud
        self._output = bytearray()
        self._output_changed = threading.Condition()
        self._input = bytearray()
        self._input_waiters: set[asyncio.Future[None]] = set()
        self._closed = False
        self._woken = False
        self.mute_output = False
        self.mute_input = False
        self.dropped = 0
        self.forgotten = 0
        self.listener: Callable[[], None] | None = None

    # -- the device's side -------------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Print text; takes the line's time of the device's clock, as an unbuffered stdout does."""
        data = text.encode("utf-8", "replace")
        self._clock.charge(len(data) * self._ns_per_byte)
        if not self.mute_output:
            self._emit(data)

    def readline(self, timeout_s: float | None = None) -> str | None:
        """Wait for a line from the host; return it without its end, or None after timeout_s of device time."""
        while b"\n" not in self._input:
            try:
                # The host is outside the simulation: time must not run away while it thinks.
                with self._clock.outside():
                    self._clock.run(self._more_input(timeout_s))
            except TimeoutError:
                return None
            if self._closed:
                return None
        line, _, rest = bytes(self._input).partition(b"\n")
        self._input[:] = rest
        return line.rstrip(b"\r").decode("utf-8", "replace")

    async def _more_input(self, timeout_s: float | None) -> None:
        if b"\n" in self._input:  # it came between readline's look and this coroutine's first turn
            return
        waiter = asyncio.get_running_loop().create_future()
        self._input_waiters.add(waiter)
        try:
            # Not wait_for() around this coroutine: a device halted before its first turn would leave it never awaited.
            async with asyncio.timeout(timeout_s):
                await waiter
        finally:
            self._input_waiters.discard(waiter)

    def _emit(self, data: bytes) -> None:
        with self._output_changed:
            self._output += data
            if len(self._output) > OUTPUT_LIMIT:
                self.forgotten += OUTPUT_LIMIT // 2
                del self._output[: OUTPUT_LIMIT // 2]
            self._output_changed.notify_all()
        if self.listener is not None:
            self.listener()

    # -- the host's side (any OS thread) -------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the board is closed for good; what it printed before can still be read."""
        return self._closed

    @property
    def host_waiting(self) -> int:
        """Bytes that the board printed and the host has not read."""
        return len(self._output)

    def host_read(self, size: int, timeout_s: float | None) -> bytes:
        """Return up to size bytes, waiting at most timeout_s of host time for the first; b"" after that."""
        with self._output_changed:
            ready = lambda: bool(self._output) or self._closed or self._woken
            while not self._output_changed.wait_for(ready, _SLICE if timeout_s is None else timeout_s):
                if timeout_s is not None:
                    break
            self._woken = False
            data = bytes(self._output[:size])
            del self._output[: len(data)]
        return data

    def host_write(self, data: bytes) -> None:
        """Send bytes to the board; they wait there until the application reads them."""
        self._clock.loop.call_soon_threadsafe(self._receive, bytes(data))

    def host_wake(self) -> None:
        """End a `host_read` that waits in another thread."""
        with self._output_changed:
            self._woken = True
            self._output_changed.notify_all()

    def host_flush_output(self) -> None:
        """Forget what the board printed and nobody read."""
        with self._output_changed:
            self._output.clear()

    def _receive(self, data: bytes) -> None:
        if self.mute_input:
            return
        room = INPUT_LIMIT - len(self._input)
        self._input += data[:room]
        self.dropped += max(0, len(data) - room)
        self._wake()

    def _wake(self) -> None:
        for waiter in self._input_waiters:
            if not waiter.done():
                waiter.set_result(None)

    # -- power -----------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Forget what the host sent: the receiver was off. What was printed is already on the line."""
        self._input.clear()

    def close(self) -> None:
        """End every wait on both sides."""
        with self._output_changed:
            self._closed = True
            self._output_changed.notify_all()
