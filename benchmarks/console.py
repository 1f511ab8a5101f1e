"""How fast the console takes what a board prints, and what it loses of a sender that does not wait for it."""

from __future__ import annotations

import os
import threading
import time

from benchmarks.table import Table
from pdmlab.boards import Console

LINE = b"[SMCC] Initializing storage.  0123456789 abcdefghijklmnopqrstuvwxyz\r\n"
FLOOD = 20_000_000
"""Bytes that are sent as fast as they are taken."""
PACE = 300_000
"""Bytes a second of the sender that does not wait: an interface chip at 3 Mbaud."""
PACED = 3_000_000
FIFO = 4096
"""Bytes that the interface chip holds; what comes while it is full is lost."""
BAUD_RATE = 11_520
"""Bytes a second of a stock board's 115200 baud."""


def flood(board_end: int, size: int) -> None:
    """Write lines until they are so many bytes."""
    chunk = LINE * 60
    sent = 0
    while sent < size:
        sent += os.write(board_end, chunk)
    os.write(board_end, b"done\r\n")


def pace(board_end: int, size: int) -> int:
    """Send size bytes at PACE through a FIFO that drops when it is full; return how many it dropped."""
    os.set_blocking(board_end, False)
    source = LINE * (size // len(LINE))
    fifo, dropped, position = bytearray(), 0, 0
    start = time.perf_counter()
    while position < len(source) or fifo:
        due = min(len(source), int((time.perf_counter() - start) * PACE))
        fresh = source[position:due]
        position = due
        room = FIFO - len(fifo)
        fifo += fresh[:room]
        dropped += max(0, len(fresh) - room)
        try:
            del fifo[: os.write(board_end, fifo)]
        except BlockingIOError:
            pass
        time.sleep(0.001)
    os.set_blocking(board_end, True)
    os.write(board_end, b"done\r\n")
    return dropped


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
        start = time.perf_counter()
        dropped = pace(host_end, PACED)
        console.expect("^done", timeout=60)
        rate = PACED / (time.perf_counter() - start)
        table.row("300 kB/s, 4 KiB FIFO", PACED / 1e6, rate / 1e6, "what it sends", rate / PACE, dropped)
    os.close(host_end)
    os.close(board_end)
