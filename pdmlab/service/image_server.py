"""A listener for firmware images alone: plain HTTP, read-only, at the address that boards reach.

Stock clients of which TLS is no part fetch images by plain HTTP. That is safe for the device: size and SHA-256 of the
image are in its manifest, whose signature the device checks first, so that whatever else arrives is thrown away. It
hides nothing: whoever knows an image's address can read the image, and the address holds 64 random bits.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from pdmlab.errors import ServiceError, Unreachable

MAX_HEAD = 8192  # B of a request
MAX_CONNECTIONS = 256
MAX_FROM_ONE = 32  # of them from one address
PATIENCE = 60.0  # s that a client may take for a request, or to take some of an answer; then it is dropped
CHUNK = 16384  # B that wait for one client at most

_REQUEST = re.compile(r"([A-Z]{1,16}) (\S{1,2048}) HTTP/1\.([01])")
_IMAGE = re.compile(r"/v3/firmware-images/([0-9a-f]{32})/[^/?#]*")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class Readable(Protocol):
    """An image that is read part by part."""

    @property
    def size(self) -> int:
        """Its size (B)."""
        ...

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from start to stop; raise ServiceError if the image has gone meanwhile."""
        ...


Images = Callable[[str], Readable | None]
"""Returns an image by its id, None if there is none."""


class ImageServer:
    """A running listener; make it with `await ImageServer.open(...)`. GET and HEAD, one Range, keep-alive."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._listener: asyncio.Server
        self._conversations: dict[asyncio.Task[None], str] = {}

    @classmethod
    async def open(cls, images: Images, host: str, port: int = 0, last: int = 0) -> ImageServer:
        """Listen on the port asked for; on the last one, or any, if none was.

        Raises:
            Unreachable: the port is taken.
        """
        server = cls(images)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for number in dict.fromkeys((port or last, port)):
            try:
                server._listener = await asyncio.start_server(
                    server._connected, host, number, family=family, limit=MAX_HEAD
                )
            except OSError as error:
                if number == port:
                    raise Unreachable(
                        f"cannot listen on {host}:{port} for firmware images: {error.strerror}",
                        hint="is another program there? port 0 takes any free one",
                    ) from error
                continue
            return server
        raise AssertionError("the last number returns or raises")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.sockets[0].getsockname()[1])

    def __repr__(self) -> str:
        return f"<ImageServer, {len(self._conversations)} connections>"

    async def close(self) -> None:
        """Stop, in the middle of downloads too: devices go on where they were when it is back."""
        self._listener.close()
        for task in (tasks := list(self._conversations)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, peer = asyncio.current_task(), str(writer.get_extra_info("peername", ("",))[0])
        assert task is not None
        try:
            if (
                len(self._conversations) < MAX_CONNECTIONS
                and Counter(self._conversations.values())[peer] < MAX_FROM_ONE
            ):
                self._conversations[task] = peer
                await self._converse(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ServiceError):
            pass  # it has gone, sent no request in time, or one without an end, or the image has gone: nobody to tell
        finally:
            self._conversations.pop(task, None)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(CHUNK)
        keep = True
        while keep:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            response = respond(head.decode("latin-1"), self._images)
            writer.write(response.head)
            for part in response.body():
                writer.write(part)
                async with asyncio.timeout(PATIENCE):
                    await writer.drain()
            keep = response.keep
        writer.close()
        async with asyncio.timeout(PATIENCE):
            await writer.wait_closed()


@dataclass(frozen=True)
class Response:
    """An answer; `keep` says whether the connection stays open after it."""

    status: HTTPStatus
    keep: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    image: Readable | None = field(default=None, repr=False)
    part: range = range(0)
    """Which of the image's bytes go along."""

    @property
    def head(self) -> bytes:
        """Everything before the body."""
        headers = {"Content-Length": str(len(self.part)), **self.headers}
        if not self.keep:
            headers["Connection"] = "close"
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            *(f"{name}: {headers[name]}" for name in headers),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def body(self) -> Iterator[bytes]:
        """Return what follows, CHUNK by CHUNK."""
        if self.image is not None:
            for start in self.part[::CHUNK]:
                yield self.image.read(start, min(start + CHUNK, self.part.stop))


def respond(head: str, images: Images) -> Response:
    """Return the answer to a request's head."""
    line, *lines = head.split("\r\n")
    request = _REQUEST.fullmatch(line)
    headers = {name.strip().lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
    if request is None or headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return Response(HTTPStatus.BAD_REQUEST)  # a body would be taken for the next request
    method, path, minor = request.groups()
    if method not in ("GET", "HEAD"):
        return Response(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET, HEAD"})
    keep = minor == "1" and headers.get("connection", "").lower() != "close"
    found = _IMAGE.fullmatch(path)
    image = images(found[1]) if found else None
    if image is None:
        return Response(HTTPStatus.NOT_FOUND, keep)
    about = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    status, start, stop = HTTPStatus.OK, 0, image.size
    if (part := wanted_range(headers.get("range", ""), image.size)) is not None:
        status, (start, stop) = HTTPStatus.PARTIAL_CONTENT, part
        about["Content-Range"] = f"bytes {start}-{stop - 1}/{image.size}"
        if start >= stop:
            unsatisfied = {"Content-Range": f"bytes */{image.size}"}
            return Response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, keep, unsatisfied)
    if method == "HEAD":
        return Response(status, keep, {**about, "Content-Length": str(stop - start)})
    return Response(status, keep, about, image, range(start, stop))


def wanted_range(header: str, size: int) -> tuple[int, int] | None:
    """Return first byte and the one after the last that a Range header asks for; None if it asks for no range.

    A range without a byte in it, first >= stop, cannot be satisfied.
    """
    match = _RANGE.fullmatch(header)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    return start, min(int(last) + 1, size) if first and last else size
