"""An HTTP/1.1 file server in the fabric: what boards download their test file from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus

from pdmlab.errors import NetworkError
from pdmlab.network.bytestream import ByteStream
from pdmlab.network.fabric import Host

MAX_HEAD = 8192
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def serve_files(host: Host, files: Mapping[str, bytes], port: int = 80) -> None:
    """Serve files, path -> content, on a host's port: GET and HEAD, one Range, keep-alive.

    Heads that end in bare line feeds are taken too: the stock suites have sent such.

    Raises:
        NetworkError: the port is taken (NSAPI_ERROR_ADDRESS_IN_USE).
    """
    host.listen(port, lambda stream: _Conversation(stream, files).start())


class _Conversation:
    """One connection: callbacks only, so that it outlives a board that is reset on the same loop."""

    def __init__(self, stream: ByteStream, files: Mapping[str, bytes]) -> None:
        self._stream = stream
        self._files = files
        self._heard = b""
        self._to_send = memoryview(b"")
        self._last = False

    def start(self) -> None:
        self._stream.on_event = self._go_on
        self._go_on()

    def _go_on(self) -> None:
        try:
            self._listen()
            while self._send() and self._answer_next():
                pass
        except NetworkError:
            self._stream.on_event = None  # the client went away: nobody is left to tell

    def _listen(self) -> None:
        while data := self._stream.read_now(4096):
            self._heard += data
        if data == b"":
            self._last = True

    def _send(self) -> bool:
        """Send what there is to send; return whether all has gone."""
        while self._to_send:
            taken = self._stream.write_now(bytes(self._to_send[:65536]))
            if not taken:
                return False
            self._to_send = self._to_send[taken:]
        return True

    def _answer_next(self) -> bool:
        """Answer the next request heard; return whether there was one."""
        end = _END_OF_HEAD.search(self._heard)
        if end is None:
            if self._last or len(self._heard) > MAX_HEAD:
                self._stream.close()
            return False
        head, self._heard = self._heard[: end.start()], self._heard[end.end() :].lstrip(b"\0\r\n")
        response, keep = respond(head.lstrip(b"\0\r\n").decode("latin-1"), self._files)
        self._to_send = memoryview(response)
        if not keep:
            self._last, self._heard = True, b""
        return True


def respond(head: str, files: Mapping[str, bytes]) -> tuple[bytes, bool]:
    """Return the response to a request's head, and whether the connection is kept."""
    request, *lines = head.splitlines() or [""]
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    try:
        method, path, version = request.split()
    except ValueError:
        return _response(HTTPStatus.BAD_REQUEST, b"the request line is not 'METHOD path HTTP/1.1'\n"), False
    keep = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    if method not in ("GET", "HEAD"):
        return _response(HTTPStatus.NOT_IMPLEMENTED, b"only GET and HEAD\n", keep=keep), keep
    content = files.get(path.partition("?")[0])
    if content is None:
        return _response(HTTPStatus.NOT_FOUND, f"no file {path}\n".encode(), method, keep), keep
    wanted = _RANGE.fullmatch(headers.get("range", ""))
    if wanted is None or wanted.groups() == ("", ""):
        return _response(HTTPStatus.OK, content, method, keep, {"Accept-Ranges": "bytes"}), keep
    size = len(content)
    first, last = wanted.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last), size - 1) + 1 if first and last else size
    if start >= stop:
        unsatisfied = {"Content-Range": f"bytes */{size}"}
        return _response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", method, keep, unsatisfied), keep
    part = {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return _response(HTTPStatus.PARTIAL_CONTENT, content[start:stop], method, keep, part), keep


def _response(
    status: HTTPStatus, body: bytes, method: str = "GET", keep: bool = False, extra: Mapping[str, str] | None = None
) -> bytes:
    headers = {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(extra or {})}
    if not keep:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    head = "\r\n".join(lines) + "\r\n\r\n"
    return head.encode("latin-1") + (b"" if method == "HEAD" else body)
