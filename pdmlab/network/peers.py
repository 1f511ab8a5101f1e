"""The two ends of a download over the operating system's own TCP, each a process in a network namespace of its own.

`python -m pdmlab.network.peers serve` and `… fetch` take JSON lines on standard input and answer with JSON lines.
They end when their input does, and a namespace ends with its last process: so nothing is left behind, whatever
happens to who started them.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

TCP_WINDOW_CLAMP = 10  # linux/tcp.h
TCP_INFO = 11
LIKE_LWIP = {"tcp_timestamps": "0", "tcp_sack": "0", "tcp_window_scaling": "0", "tcp_congestion_control": "reno",
             "tcp_no_metrics_save": "1"}  # fmt: skip
"""Options of net.ipv4 that leave out what lwIP does not speak, and keep one download from teaching the next."""
_one_at_a_time = threading.Lock()
_TOTAL_RETRANSMISSIONS = 100  # offset of tcpi_total_retrans in struct tcp_info


def main(role: str) -> None:
    """Serve or fetch until standard input ends."""
    for name, value in LIKE_LWIP.items():
        Path("/proc/sys/net/ipv4", name).write_text(value)
    say(ready=True)
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        try:
            if role == "serve":
                serve(**order)
            else:
                fetch(**order)
        except OSError as error:
            say(error=f"{error.strerror or error}")


def say(**words: Any) -> None:
    """Answer with one line; threads may answer at the same time."""
    with _one_at_a_time:
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()


def serve(address: str, size: int) -> None:
    """Serve size bytes on each connection that sends a request, from now on; answers with the port."""
    listener = socket.create_server((address, 0), backlog=16)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
    content = bytes(i & 255 for i in range(size))

    def answer(connection: socket.socket) -> None:
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            heard = b""
            while b"\r\n\r\n" not in heard and (piece := connection.recv(4096)):
                heard += piece
            connection.sendall(head + content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
            say(retransmissions=_retransmissions(connection))

    def accept() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    say(port=listener.getsockname()[1])


def fetch(address: str, port: int, mss: int, window: int, buffer: int, threads: int) -> None:
    """Download on so many connections at once; answers with what each measured, times in ns."""
    results: list[dict[str, Any] | None] = [None] * threads
    errors: list[OSError] = []

    def get(number: int) -> None:
        try:
            results[number] = _get(address, port, mss, window, buffer)
        except OSError as error:
            errors.append(error)

    workers = [threading.Thread(target=get, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    say(downloads=results)


def _get(address: str, port: int, mss: int, window: int, buffer: int) -> dict[str, Any]:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        connection.setsockopt(socket.IPPROTO_TCP, TCP_WINDOW_CLAMP, window)
        connection.settimeout(600)
        connection.connect((address, port))
        start = time.monotonic_ns()
        connection.sendall(f"GET /file HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        heard, size, first = bytearray(), -1, 0
        head_end = -1
        waits = []
        while size < 0 or len(heard) - head_end < size:
            before = time.monotonic_ns()
            piece = connection.recv(buffer)
            after = time.monotonic_ns()
            if not piece:
                raise ConnectionResetError("the server hung up early")
            first = first or after
            waits.append(after - before)
            heard += piece
            if size < 0 and (found := heard.find(b"\r\n\r\n")) >= 0:
                head_end = found + 4
                size = int(heard[:found].lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return {"duration": time.monotonic_ns() - start, "first": first - start, "bytes": size, "waits": waits}


def _retransmissions(connection: socket.socket) -> int:
    info = connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 192)
    total: int = struct.unpack_from("=I", info, _TOTAL_RETRANSMISSIONS)[0]
    return total


if __name__ == "__main__":
    main(sys.argv[1])
