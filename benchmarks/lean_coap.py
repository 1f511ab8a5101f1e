"""A CoAP client of a few bytes and no library: the same load for our server and for others'."""

from __future__ import annotations

import itertools
import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pdmlab.coap.transport import Address

_MIDS = itertools.count(int(time.monotonic()))

SILENCE = 5.0
"""Seconds without a word after which what has not come is lost: a retransmission would have come."""


def connected(server: Address) -> socket.socket:
    """Return a UDP socket that talks to one server."""
    connection = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    connection.connect(server)
    connection.settimeout(SILENCE)
    return connection


def request(code: int, mid: int, path: bytes, *, observe: bool = False, payload: bytes = b"") -> bytes:
    """Return a confirmable request whose token is its message ID."""
    head = bytes((0x42, code, mid >> 8, mid & 0xFF, mid >> 8, mid & 0xFF))
    options = bytes((0x60, 0x50 | len(path))) if observe else bytes((0xB0 | len(path),))  # Observe 0, Uri-Path
    return head + options + path + (b"\xff" + payload if payload else b"")


def gets(server: Address, path: bytes, count: int, under_way: int) -> float:
    """Return GETs a second of which so many are under way at once, each of which must be answered 2.05."""
    with connected(server) as connection:
        mid = next(_MIDS) * 5000  # not those of the run before: they would be duplicates, from the same port
        sent = answered = 0
        start = time.perf_counter()
        while answered < count:
            while sent < count and sent - answered < under_way:
                sent, mid = sent + 1, mid + 1 & 0xFFFF
                connection.send(request(1, mid, path))
            if connection.recv(2048)[1] != 69:
                raise AssertionError("not answered 2.05")
            answered += 1
        return count / (time.perf_counter() - start)


def put(server: Address, path: bytes, payload: bytes) -> None:
    """Replace a small resource; asks again as RFC 7252 has it."""
    with connected(server) as connection:
        message = request(3, next(_MIDS) & 0xFFFF, path, payload=payload)
        for seconds in (2, 4, 8, 16):
            connection.settimeout(seconds)
            connection.send(message)
            try:
                if connection.recv(2048)[1] >> 5 != 2:
                    raise AssertionError("not taken")
            except TimeoutError:
                continue
            return
        raise TimeoutError("no answer to a PUT")


class Observers:
    """Sockets that each observe one resource, and acknowledge what they are told."""

    def __init__(self, server: Address, path: bytes, count: int) -> None:
        self.sockets = {each.fileno(): each for each in (connected(server) for _ in range(count))}
        self._server, self._path = server, path
        self._poll = select.epoll()
        self.late = 0  # notifications that came twice: their acknowledgement, or they themselves, had been lost
        for fd, each in self.sockets.items():
            each.send(request(1, fd, path, observe=True))
            if each.recv(2048)[1] != 69:
                raise AssertionError("observing is not answered 2.05")
            each.setblocking(False)
            self._poll.register(fd, select.EPOLLIN)

    def rounds(self, count: int) -> Iterator[tuple[float, int]]:
        """Change the resource so many times; yield how long all took to hear of it (s), and how many never did."""
        for number in range(count):
            value = b"%08d" % number
            missing = set(self.sockets)
            start = heard = time.perf_counter()
            put(self._server, self._path, value)
            while missing and time.perf_counter() - heard < SILENCE:
                for fd, _ in self._poll.poll(0.5):
                    data = self.sockets[fd].recv(2048)
                    if data[0] >> 4 == 4:
                        self.sockets[fd].send(bytes((0x60, 0, data[2], data[3])))
                    if data.endswith(value):
                        self.late += fd not in missing
                        missing.discard(fd)
                        heard = time.perf_counter()
            yield heard - start, len(missing)

    def close(self) -> None:
        """Close all of them."""
        self._poll.close()
        for each in self.sockets.values():
            each.close()


@contextmanager
def many_files() -> Iterator[None]:
    """Let this process open as many files as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
