"""A sender like an interface chip at 3 Mbaud: paced, through a small FIFO that drops what it has no room for.

    python benchmarks/paced_sender.py BYTES

It opens a pseudo-terminal, prints its name, waits for a line on stdin, sends, and prints what it dropped and how
long it took. It never waits for the other side. Time in which it was not scheduled itself is no debt: it goes on
at its pace, since a chip would not have stopped.
"""

from __future__ import annotations

import os
import sys
import time

SCRIPT = __file__
PACE = 300_000
"""Bytes a second: an interface chip at 3 Mbaud."""
FIFO = 4096
"""Bytes that the chip holds; what comes while it is full is lost."""
STEP = 0.002
"""Seconds between two looks at the line."""
LINE = 64
"""Bytes of a line."""


def numbered(number: int) -> bytes:
    """Return a line that tells its place."""
    return b"%08d " % number + b"." * (LINE - 11) + b"\r\n"


def main(size: int) -> None:
    """Send size bytes of numbered lines."""
    import tty  # not on Windows

    host_end, board_end = os.openpty()
    tty.setraw(board_end)
    print(os.ttyname(board_end), flush=True)
    sys.stdin.readline()
    os.set_blocking(host_end, False)
    data = b"".join(numbered(number) for number in range(size // LINE))
    fifo, dropped, position = bytearray(), 0, 0
    start = now = time.monotonic()
    while position < len(data) or fifo:
        time.sleep(STEP)
        before, now = now, time.monotonic()
        fresh = data[position : position + int(PACE * min(now - before, 2 * STEP))]
        position += len(fresh)
        room = FIFO - len(fifo)
        fifo += fresh[:room]
        dropped += max(0, len(fresh) - room)
        try:
            del fifo[: os.write(host_end, fifo)]
        except BlockingIOError:
            pass
    os.set_blocking(host_end, True)
    os.write(host_end, b"the end\r\n")
    print(f"{dropped} {time.monotonic() - start:.1f}", flush=True)
    sys.stdin.readline()  # the pseudo-terminal lives until the reader is done


if __name__ == "__main__":
    main(int(sys.argv[1]))
