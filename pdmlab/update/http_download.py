"""Firmware over plain HTTP, as the stock client's libcurl build fetches it: one connection, from where it is.

A download that begins in the middle, after a reset, asks with `Range: bytes=N-`. Whatever goes wrong is result 41, and
ends the update, as in the stock client, which has no TLS here and follows no redirection.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Protocol

from pdmlab.errors import NetworkError
from pdmlab.update.download import DownloadFailed
from pdmlab.update.results import FotaResult

MAX_HEAD = 8192  # B of an answer's head
PATIENCE = 60.0  # s that nothing may come: an estimate, the stock client's is not known
_URI = re.compile(r"http://(?:\[([0-9A-Fa-f:.]+)\]|([^/:?#\[\]@]+))(?::([0-9]{1,5}))?(/[^#\s]*)?", re.A)


class HttpRefused(DownloadFailed):
    """A server was reached, and answered with an error."""


class Stream(Protocol):
    """A connected byte stream."""

    async def read(self, n: int) -> bytes:
        """Return up to n bytes; b"" at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send all of data."""
        ...

    def abort(self) -> None:
        """Drop the connection."""
        ...


Connect = Callable[[tuple[str, int]], Awaitable[Stream]]


class HttpDownload:
    """One image on its way, handed out in blocks; `fetch` is what `Fota` calls."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._stream: Stream | None = None
        self._uri = ""
        self._at = 0  # B of the image that have been handed out
        self._total = 0
        self._ahead = b""

    async def fetch(self, uri: str, number: int, size: int) -> tuple[bytes, bool, int | None]:
        """Return block `number` of `size` B, whether more follow, and the image's size (B).

        Raises:
            DownloadFailed: (41) no connection, an answer other than 200 or 206, or an end too soon.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                if self._stream is None or uri != self._uri or number * size != self._at:
                    await self._open(uri, number * size)
                block = await self._take(min(size, self._total - self._at))
        except TimeoutError:
            self.close()
            raise _failed(f"{uri}: nothing came for {PATIENCE:g} s") from None
        except NetworkError as error:
            self.close()
            raise _failed(f"{uri}: {error.message}") from error
        except BaseException:
            self.close()
            raise
        self._at += len(block)
        more = self._at < self._total
        if not more:
            self.close()
        return block, more, self._total

    def close(self) -> None:
        """Drop the connection, if there is one."""
        if self._stream is not None:
            self._stream.abort()
            self._stream = None

    async def _open(self, uri: str, start: int) -> None:
        self.close()
        match = _URI.fullmatch(uri)
        if match is None or not 0 < int(match[3] or 80) <= 0xFFFF:
            raise _failed(f"{uri!r} is nothing that this client fetches: http://HOST:PORT/PATH, without TLS")
        host, port = match[1] or match[2], int(match[3] or 80)
        name = f"[{host}]" if ":" in host else host
        lines = [f"GET {match[4] or '/'} HTTP/1.1", f"Host: {name}:{port}", "Accept: */*"]
        if start:
            lines.append(f"Range: bytes={start}-")
        self._stream = await self._connect((host, port))
        await self._stream.write("\r\n".join([*lines, "", ""]).encode("ascii"))
        await self._read_head(uri, start)
        self._uri, self._at = uri, start

    async def _read_head(self, uri: str, start: int) -> None:
        assert self._stream is not None
        head = b""
        while b"\r\n\r\n" not in head:
            if len(head) > MAX_HEAD:
                raise _failed(f"{uri}: the answer's head does not end in {MAX_HEAD} B")
            part = await self._stream.read(MAX_HEAD)
            if not part:
                raise _failed(f"{uri}: the connection ended before an answer")
            head += part
        head, _, self._ahead = head.partition(b"\r\n\r\n")
        status, *fields = head.decode("latin-1").split("\r\n")
        code = status.split(" ", 2)[1:2]
        if not status.startswith("HTTP/1.") or code != ["206" if start else "200"]:
            asked = f" to bytes from {start} on" if start else ""
            raise HttpRefused(FotaResult.INTERNAL, f"{uri}: the server answered {status[:80]!r}{asked}")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in fields)}
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 12):
            raise _failed(f"{uri}: the answer does not say how long it is (Content-Length)")
        first = f"bytes {start}-"
        if start and not headers.get("content-range", first).startswith(first):
            raise _failed(f"{uri}: asked for bytes from {start} on, the server sends {headers['content-range'][:40]!r}")
        self._total = start + int(length)

    async def _take(self, count: int) -> bytes:
        assert self._stream is not None
        block = bytearray(self._ahead[:count])
        self._ahead = self._ahead[count:]
        while len(block) < count:
            part = await self._stream.read(count - len(block))
            if not part:
                raise _failed(f"{self._uri} ended after {self._at + len(block)} of {self._total} B")
            block += part
        return bytes(block)


def _failed(reason: str) -> DownloadFailed:
    return DownloadFailed(FotaResult.INTERNAL, reason)
