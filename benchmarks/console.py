"""How fast the console takes what a board prints, and what it loses of a sender that does not wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

from benchmarks.paced_sender import PACE, SCRIPT
from benchmarks.table import Table
from pdmlab.boards import Console

LINE = b"[SMCC] Initializing storage.  0123456789 abcdefghijklmnopqrstuvwxyz\r\n"
FLOOD = 20_000_000
"""Bytes that are sent as fast as they are taken."""
PACED = 10_000_000
"""Bytes of the sender that does not wait, a process of its own."""
BAUD_RATE = 11_520
"""Bytes a second of a stock board's 115200 baud."""


def flood(board_end: int, size: int) -> None:
    """Write lines until they are so many bytes."""
    chunk = LINE * 60
    sent = 0
    while sent < size:
        sent += os.write(board_end, chunk)
    os.write(board_end, b"done\r\n")


def bench() -> None:
    """Send through a pseudo-terminal, which POSIX systems have."""
    if os.name == "nt":
        print("\nConsole: Windows has no pseudo-terminals to measure it on")
        return
    import tty

    host_end, board_end = os.openpty()
    tty.setraw(board_end)
    table = Table(
        "Console, through a pseudo-terminal",
        {"sender": "", "MB": ".0f", "MB/s": ".2f", "against": "", "ratio": ".1f", "bytes lost": "d"},
        text_width=24,
    )
    with Console(os.ttyname(board_end), name="bench", keep=1000) as console:
        start = time.perf_counter()
        sender = threading.Thread(target=flood, args=(host_end, FLOOD))
        sender.start()
        console.expect("^done", timeout=60)
        rate = FLOOD / (time.perf_counter() - start)
        sender.join()
        table.row("as fast as it is taken", FLOOD / 1e6, rate / 1e6, "a board at 115200 baud", rate / BAUD_RATE, None)
    os.close(host_end)
    os.close(board_end)
    table.row("300 kB/s, 4 KiB FIFO", PACED / 1e6, *paced(PACED))


def paced(size: int) -> tuple[float, str, float, int]:
    """Listen to the sender that waits for nobody; return MB/s, against what, its ratio, and the bytes it lost."""
    with subprocess.Popen(
        [sys.executable, SCRIPT, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as sender:
        assert sender.stdin is not None and sender.stdout is not None
        with Console(sender.stdout.readline().strip(), name="bench", keep=1000) as console:
            sender.stdin.write("go\n")
            sender.stdin.flush()
            console.expect("^the end", timeout=10 * size / PACE)
            dropped, seconds = sender.stdout.readline().split()
        sender.communicate("\n")
    rate = size / float(seconds)
    return rate / 1e6, "what it sends", rate / PACE, int(dropped)
