"""Download a file over HTTP as a stock board does, and measure it: bytes, duration, recv calls and their waits.

Two buffers count. The application's array, which recv() is called with, decides how many calls it takes; on lwIP none
of them brings more than one segment. The window that the stack offers decides how fast it goes: W bytes can be under
way in a round trip R, so that a download runs at W/R until the link's bandwidth, or the time a call takes, is the
limit. Stock firmware has one window for all (lwip.tcp-wnd, 2144 B); Nanostack and modems have one for each socket.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import NetworkError, WouldBlock
from pdmlab.network.interface import NetworkInterface
from pdmlab.network.nsapi import NsapiError, nsapi_error
from pdmlab.network.sockets import TCPSocket

MAX_HEAD = 8192
PATIENCE = 1800 * SECOND
"""How long nothing may come (ns): by then Linux's last retry has gone, after 15 minutes or, on NB-IoT, 21."""


@dataclass
class Download:
    """What came of a download; durations in device time unless the clock went live."""

    content: bytes
    duration: int
    """From the request to the last byte (ns)."""
    first: int
    """From the request to the first byte of the answer (ns)."""
    calls: int
    """recv() calls, with those that found nothing."""
    latencies: list[int] = field(repr=False)
    """How long each piece kept the application waiting (ns)."""

    @property
    def bytes(self) -> int:
        """Size of the content (B)."""
        return len(self.content)

    @property
    def throughput(self) -> float:
        """Content over duration (B/s); 0 for nothing."""
        return self.bytes * SECOND / self.duration if self.duration else 0.0

    def latency(self, percent: float) -> int:
        """Return the percentile of the waits (ns): the smallest that at least percent of them do not exceed."""
        waits = sorted(self.latencies)
        return waits[max(math.ceil(len(waits) * percent / 100) - 1, 0)] if waits else 0


def download(
    net: NetworkInterface, host: str, path: str, receive_buffer: int, *, window: int | None = None, port: int = 80
) -> Download:
    """Download http://host/path through an array of so many bytes; call it from device code.

    window: what the socket offers (B), at most the stack's own, which is the default.

    Raises:
        Unreachable, TimedOut: as TCPSocket.connect and recv; or nothing came for half an hour (NSAPI_ERROR_TIMEOUT).
        NetworkError: the server's answer is no 200, or ends early (NSAPI_ERROR_CONNECTION_LOST).
    """
    with Getting(net, host, path, receive_buffer, window=window, port=port) as getting:
        getting.connect()
        getting.send_request()
        for _ in getting.pieces():
            pass
        return getting.result()


class Getting:
    """A download step by step, for code that has something to say in between."""

    def __init__(
        self,
        net: NetworkInterface,
        host: str,
        path: str,
        receive_buffer: int,
        *,
        window: int | None = None,
        port: int = 80,
    ) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        self.body_index = -1
        """Where the head ended in what was received (B); -1 until then."""
        self.content = bytearray()
        self.size = 0
        """Content-Length (B), once the head is here."""
        self.calls = 0
        self._clock: DeviceClock = net.clock
        self._url = f"http://{host}{path}"
        self._peer = (host, port)
        self._buffer = receive_buffer
        self._event = asyncio.Event()
        self._socket = TCPSocket(net)
        if window is not None:
            self._socket.set_receive_buffer(window)
        self._latencies: list[int] = []
        self._start = 0
        self._first = 0
        self._end = 0

    def __enter__(self) -> Getting:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def connect(self) -> None:
        """Connect the socket, and have it tell of news."""
        self._socket.connect(*self._peer)
        self._socket.sigio(self._event.set)

    def send_request(self) -> None:
        """Send the request; from here on the socket does not block, and time is taken."""
        self._socket.send(self.request.encode("latin-1"))
        self._socket.set_blocking(False)
        self._event.set()  # the answer may have come already
        self._start = self._clock.now()

    def pieces(self) -> Iterator[bytes]:
        """Yield what each recv() brought of the content, until all is here."""
        head = b""
        while self.body_index < 0 or len(self.content) < self.size:
            data = self._receive()
            if self.body_index < 0:
                head += data
                self.body_index = head.find(b"\r\n\r\n")
                if self.body_index < 0:
                    if len(head) > MAX_HEAD:
                        raise NetworkError(f"{self._url}: no end of the head in {len(head)} B")
                    continue
                self.size = self._content_length(head[: self.body_index].decode("latin-1"))
                data = head[self.body_index + 4 :]
            self.content += data
            yield data
        self._end = self._clock.now()

    def result(self) -> Download:
        """Return what came of it."""
        first = self._first - self._start
        return Download(bytes(self.content), self._end - self._start, first, self.calls, self._latencies)

    @property
    def elapsed(self) -> int:
        """Device time since the request (ns)."""
        return self._clock.now() - self._start

    def _receive(self) -> bytes:
        start = self._clock.now()
        while True:
            self.calls += 1
            try:
                data = self._socket.recv(self._buffer)
                break
            except WouldBlock:
                if self._clock.now() - start >= PATIENCE:
                    raise nsapi_error(NsapiError.TIMEOUT, self._silence(start)) from None
                self._wait(start)
        now = self._clock.now()
        self._latencies.append(now - start)
        self._first = self._first or now
        if not data:
            raise nsapi_error(
                NsapiError.CONNECTION_LOST,
                f"{self._url} ended after {len(self.content)} of {self.size or 'unknown'} B",
            )
        return data

    def _wait(self, since: int) -> None:
        self._event.clear()
        loop = self._clock.loop
        patience = loop.call_later((since + PATIENCE - self._clock.now()) / SECOND, self._event.set)
        try:
            self._clock.run(self._event.wait())
        finally:
            patience.cancel()

    def _silence(self, since: int) -> str:
        seconds = (self._clock.now() - since) / SECOND
        return f"{self._url}: nothing came for {seconds:.0f} s, after {len(self.content)} of {self.size or 'unknown'} B"

    def _content_length(self, head: str) -> int:
        status, *lines = head.split("\r\n")
        if " 200 " not in f"{status} ":
            raise NetworkError(f"{self._url} was answered by {status!r}", hint="is that path on that server?")
        for line in lines:
            name, _, value = line.partition(":")
            if name.lower() == "content-length":
                return int(value)
        raise NetworkError(f"{self._url} does not say how long it is", hint="the server must send Content-Length")
