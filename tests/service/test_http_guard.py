"""Clients that keep the server waiting, or send without end: each has an end, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fastapi import FastAPI

from pdmlab.aio import LoopThread
from pdmlab.errors import Unreachable
from pdmlab.service import certificates, http_guard, websocket_guard
from pdmlab.service.http import HttpServer, tls

PATIENCE_S = 60.0
LARGE = 50_000_000  # B


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Say how many bytes came; at /early, before they came, and at /large more than a socket holds."""
    if scope["type"] != "http":
        while scope["path"] == "/never" and (await receive())["type"] != "websocket.disconnect":
            pass
        if scope["path"] == "/told":
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "x" * 9_000_000})
            await send({"type": "websocket.send"})
            await send({"type": "websocket.close", "code": 1000})
        return
    size, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    parts = [bytes(LARGE // 500)] * 500 if scope["path"] == "/large" else [str(size).encode()]
    headers = [(b"content-length", str(sum(map(len, parts))).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Lab:
    """A server, plain or with TLS, and bare connections to it."""

    def __init__(self, secure: bool) -> None:
        self.loop = LoopThread("guard")
        self.context: ssl.SSLContext | None = None
        context = None
        if secure:
            key, own = certificates.new_key(), certificates.new_key()
            authority = certificates.authority_certificate(key, "the tests' CA")
            shown = certificates.server_certificate(authority, key, own.public_key(), "here", ("127.0.0.1",))
            context = tls(shown.public_bytes(serialization.Encoding.DER), certificates.key_der(own))
            self.context = ssl.create_default_context(cadata=_pem(authority))
        self.server = self.loop.run(HttpServer.open(echo, context=context), timeout=PATIENCE_S)
        self._open = contextlib.ExitStack()

    def bare(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S)
        return self._open.enter_context(connection)

    def connection(self) -> socket.socket:
        """Return a connection on which a request may begin."""
        bare = self.bare()
        if self.context is None:
            return bare
        return self._open.enter_context(self.context.wrap_socket(bare, server_hostname="127.0.0.1"))

    def counted(self, connections: http_guard.Waiting) -> int:
        """Return how many there are between two steps of the loop: within one, the oldest goes before another comes."""

        async def count() -> int:
            return len(connections)

        return self.loop.run(count(), timeout=PATIENCE_S)

    def post(self, content: bytes = b"12345", path: str = "/") -> str:
        scheme, verify = ("http", True) if self.context is None else ("https", self.context)
        return httpx.post(f"{scheme}://127.0.0.1:{self.server.port}{path}", content=content, verify=verify).text

    def close(self) -> None:
        self._open.close()
        self.loop.run(self.server.close(), timeout=PATIENCE_S)
        self.loop.close()


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(params=["http", "https"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = Lab(request.param == "https")
    yield lab
    lab.close()


def rest(connection: socket.socket) -> bytes:
    """Return what comes until the end."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    return received


def until(connection: socket.socket, end: bytes) -> bytes:
    """Return what comes until an answer's end."""
    received = b""
    while not received.endswith(end):
        part = connection.recv(65536)
        assert part, received
        received += part
    return received


def said(answer: bytes) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


def test_requests_follow_each_other_on_a_connection(lab: Lab) -> None:
    connection = lab.connection()
    for size in (0, 5, 100_000):
        connection.sendall(b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)
        assert until(connection, b"\r\n\r\n%d" % size).startswith(b"HTTP/1.1 200")
    assert lab.counted(lab.server.waiting) == 0


@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: a\r\nx"])
def test_a_head_has_an_end(lab: Lab, monkeypatch: pytest.MonkeyPatch, begun: bytes) -> None:
    monkeypatch.setattr(http_guard, "HEAD_S", 0.05)
    connection = lab.connection()
    connection.sendall(begun)
    status, body = said(rest(connection))
    assert (status, body["code"], body["message"]) == (408, 408, "the request did not come within 0 s")
    monkeypatch.undo()
    assert lab.post() == "5"


def test_the_next_head_has_an_end_too(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = lab.connection()
    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    until(connection, b"\r\n\r\n0")
    monkeypatch.setattr(http_guard, "HEAD_S", 0.05)
    connection.sendall(b"GET /second HTTP/1.1\r\n")
    assert said(rest(connection))[0] == 408


@pytest.mark.parametrize("path", ["/v3/devices", "/v2/endpoints"])
@pytest.mark.parametrize("endless", ["headers", "a header", "a name", "a path"])
def test_a_head_is_so_large_and_no_larger(lab: Lab, endless: str, path: str) -> None:
    connection = lab.connection()
    begin = f"GET {path}".encode()
    more = {"headers": b"x-a: b\r\n", "a header": b"a" * 1000, "a name": b"n" * 1000, "a path": b"/p" * 500}[endless]
    with contextlib.suppress(OSError):  # it hangs up in the middle
        connection.sendall(begin + {"a path": b"", "a header": b" HTTP/1.1\r\nx: "}.get(endless, b" HTTP/1.1\r\n"))
        for _ in range(4 * http_guard.MAX_HEAD // len(more)):
            connection.sendall(more)
    answer = rest(connection)
    if answer:  # what was said may be lost where the connection ends with data on their way
        assert answer.startswith(b"HTTP/1.1 431")
        assert answer.endswith(b"HEADERS_TOO_LARGE") if path.startswith("/v2") else said(answer)[1]["code"] == 431
    assert lab.post() == "5" and lab.counted(lab.server.waiting) == 0


def test_what_is_no_http_is_told_so(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    for nonsense in (b"\x16\x03\x01" * 10, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"\0" * 100):
        connection = lab.connection()
        connection.sendall(nonsense)
        status, body = said(rest(connection))
        assert (status, body["object"], body["message"]) == (400, "error", "this is no HTTP request")
    assert not caplog.records  # whoever sends it has no line in the log


@pytest.mark.parametrize("head", [b"content-length: 1000", b"transfer-encoding: chunked"])
def test_a_body_has_an_end(lab: Lab, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(http_guard, "BODY_S", 0.05)
    connection = lab.connection()
    connection.sendall(b"POST /v3/x HTTP/1.1\r\n" + head + b"\r\n\r\n" + b"1\r\na\r\n")
    status, body = said(rest(connection))
    assert (status, body["message"]) == (408, "the body came more slowly than 4096 B/s")
    monkeypatch.undo()
    assert lab.post(b"x" * 300_000) == "300000"  # which comes in no time


def test_a_body_that_nobody_reads_ends_with_its_answer(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = lab.connection()
    connection.sendall(b"POST /early HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
    until(connection, b"\r\n\r\n0")
    with pytest.raises(OSError):
        for _ in range(100 * http_guard.MAX_UNREAD // 65536):
            connection.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    assert lab.post() == "5"


def test_an_answer_that_nobody_takes_has_an_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_guard, "STALL_S", 0.05)
    connection = lab.connection()
    connection.sendall(b"GET /large HTTP/1.1\r\n\r\n")
    state = lab.server._server.server_state

    async def until_all_have_gone() -> None:
        while state.total_requests == 0 and not state.connections:
            await asyncio.sleep(0.001)
        while state.connections:
            await asyncio.sleep(0.001)

    lab.loop.run(until_all_have_gone(), timeout=PATIENCE_S)
    assert len(rest(connection)) < LARGE


def test_the_oldest_that_says_nothing_goes_for_a_newcomer(lab: Lab) -> None:
    most = http_guard.MAX_WAITING if lab.context is None else http_guard.MAX_WAITING_TLS
    silent = [lab.connection() for _ in range(most + 50)]
    assert lab.post() == "5"
    assert lab.counted(lab.server.waiting) <= most
    assert rest(silent[0]) == b""  # it has gone
    silent[-1].sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert silent[-1].recv(65536).startswith(b"HTTP/1.1 200")


def test_a_connection_is_kept_for_as_long_as_clients_pause_and_the_oldest_goes_for_a_newcomer(lab: Lab) -> None:
    most = http_guard.MAX_WAITING if lab.context is None else http_guard.MAX_WAITING_TLS
    kept = []
    for number in range(most + 3):
        kept.append(lab.connection())
        kept[-1].sendall(b"GET / HTTP/1.1\r\n\r\n")
        until(kept[-1], b"\r\n\r\n0")
        if number < most:
            lab.loop.run(until_there_are(lab.server.idle, number + 1), timeout=PATIENCE_S)
    assert [rest(each) for each in kept[:3]] == [b""] * 3
    assert lab.counted(lab.server.idle) == most
    kept[3].sendall(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n12")
    lab.loop.run(until_there_are(lab.server.idle, most - 1), timeout=PATIENCE_S)
    kept[3].sendall(b"345")
    until(kept[3], b"\r\n\r\n5")
    lab.loop.run(until_there_are(lab.server.idle, most), timeout=PATIENCE_S)


def test_an_idle_connection_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert http_guard.IDLE_S > 60
    monkeypatch.setattr("pdmlab.service.http.IDLE_S", 0.05)
    lab = Lab(False)
    connection = lab.connection()
    connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
    until(connection, b"\r\n\r\n0")
    assert rest(connection) == b""
    lab.close()


def test_a_server_that_is_given_up_ends_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    loop = LoopThread("given up")
    loop.run(HttpServer.open(FastAPI()), timeout=PATIENCE_S)
    loop.close()  # as Ctrl-C has it while a service starts
    assert caplog.records == []


async def until_there_are(waiting: http_guard.Waiting, number: int) -> None:
    while len(waiting) != number:
        await asyncio.sleep(0.001)


def test_of_requests_that_are_sent_at_once_one_is_under_way_and_few_are_held(lab: Lab) -> None:
    connection = lab.connection()
    connection.sendall(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n1")
    assert lab.post() == "5"
    guards = lab.server._server.server_state.connections
    connection.sendall(b"2345" + b"GET /early HTTP/1.1\r\n\r\n" * 2000)
    most = 0

    async def watched() -> None:
        nonlocal most
        while lab.server._server.server_state.total_requests < 1500:
            most = max(most, *(len(guard.pipeline) for guard in guards), 0)
            held = [len(guard._held) for guard in guards]
            assert max(held, default=0) <= http_guard.READ + http_guard.MAX_HELD
            assert len(lab.server._server.server_state.tasks) <= len(guards) + 1
            await asyncio.sleep(0)

    lab.loop.run(watched(), timeout=PATIENCE_S)
    assert most <= 1
    answers = b""
    while answers.count(b"HTTP/1.1 200") < 2001:
        answers += connection.recv(65536)
    assert lab.post() == "5"


@pytest.mark.parametrize("cut", [False, True])
def test_what_came_before_nonsense_is_answered_before_it(lab: Lab, cut: bool) -> None:
    connection = lab.connection()
    good = b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n12345" * 2
    if cut:  # the end of the second, in one piece with what follows
        connection.sendall(good[:-3])
        assert until(connection, b"\r\n\r\n5")
        connection.sendall(good[-3:] + b"nonsense\r\n\r\n")
    else:
        connection.sendall(good + b"nonsense\r\n\r\n")
    answers = rest(connection).split(b"HTTP/1.1 ")[1:]
    assert [each[:3] for each in answers] == [b"200", b"400"] if cut else [b"200", b"200", b"400"]
    assert said(b"HTTP/1.1 " + answers[-1])[1]["message"] == "this is no HTTP request"


UPGRADE = (
    b"GET %b HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n%b\r\n"
)


@pytest.mark.parametrize(
    ("status", "path", "wrong"),
    [
        (400, b"/", b"content-length: 5\r\n"),
        (400, b"/", b"transfer-encoding: chunked\r\n"),
        (400, b"/", b"bad\x01value: \x01\r\n"),
        (400, b"/\xc3\xa4", b""),
        (400, b"/", b"\r\n\x81\x80" + bytes(4)),
        (431, b"/", b"x: " + b"x" * 20_000 + b"\r\n"),
        (431, b"/", b"x: y\r\n" * 130),
        (431, b"/" + b"p" * 9000, b""),
    ],
)
def test_a_handshake_for_a_websocket_that_is_not_right_is_refused(
    lab: Lab, status: int, path: bytes, wrong: bytes
) -> None:
    connection = lab.connection()
    connection.sendall(UPGRADE % (path, wrong))
    found, body = said(rest(connection))
    assert (found, body["code"]) == (status, status)
    assert lab.post() == "5" and lab.counted(lab.server.waiting) == 0


def test_a_handshake_for_a_websocket_has_an_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket_guard, "ANSWER_S", 0.05)
    connection = lab.connection()
    connection.sendall(UPGRADE % (b"/never", b""))
    assert rest(connection) == b""
    lab.loop.run(until_there_are(lab.server.waiting, 0), timeout=PATIENCE_S)


def test_handshakes_that_are_not_answered_are_counted(lab: Lab) -> None:
    most = http_guard.MAX_WAITING if lab.context is None else http_guard.MAX_WAITING_TLS
    begun = []
    for _ in range(most + 20):
        begun.append(lab.connection())
        begun[-1].sendall(UPGRADE % (b"/never", b""))
    assert lab.post() == "5"
    assert rest(begun[0]) == b"" and lab.counted(lab.server.waiting) <= most


def test_without_descriptors_who_waits_for_nothing_goes_and_the_log_says_it_once(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    silent = [lab.connection() for _ in range(5)]
    idle = lab.connection()
    idle.sendall(b"GET / HTTP/1.1\r\n\r\n")
    until(idle, b"\r\n\r\n0")
    asks = lab.connection()
    asks.sendall(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n12")

    async def scarce() -> None:
        await until_there_are(lab.server.waiting, 5)
        await until_there_are(lab.server.idle, 1)
        while len(lab.server._server.server_state.tasks) != 1:
            await asyncio.sleep(0.001)
        loop = asyncio.get_running_loop()
        for _ in range(100):  # as asyncio does it
            error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            loop.call_exception_handler({"message": "accept", "exception": error, "socket": lab.server._listener})

    lab.loop.run(scarce(), timeout=PATIENCE_S)
    assert [rest(each) for each in (*silent, idle)] == [b""] * 6
    asks.sendall(b"345")
    assert until(asks, b"\r\n\r\n5")
    (said,) = caplog.records
    assert "6 that were idle, or asked nothing yet, were closed" in said.getMessage()


def test_a_websocket_is_told_much(lab: Lab) -> None:
    connection = lab.connection()
    connection.sendall(UPGRADE % (b"/told", b""))
    received = until(connection, b"\x88\x02\x03\xe8")
    assert received.startswith(b"HTTP/1.1 101") and received.count(b"x" * 1000) == 9000
    assert lab.post() == "5"


def test_a_port_that_is_taken_is_said(lab: Lab) -> None:
    with pytest.raises(Unreachable, match=f"cannot listen on 127.0.0.1:{lab.server.port}"):
        lab.loop.run(HttpServer.open(echo, lab.server.port), timeout=PATIENCE_S)
    other = lab.loop.run(HttpServer.open(echo, last=str(lab.server.port)), timeout=PATIENCE_S)
    assert other.port != lab.server.port and repr(other) == f"<HttpServer, port {other.port}>"
    lab.loop.run(other.close(), timeout=PATIENCE_S)


# -- TLS -----------------------------------------------------------------------------------------------------


@pytest.fixture
def secure() -> Iterator[Lab]:
    lab = Lab(True)
    yield lab
    lab.close()


def test_a_handshake_has_an_end(secure: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_guard, "HANDSHAKE_S", 0.05)
    for begun in (b"", b"\x16\x03\x01\x02\x00"):
        connection = secure.bare()
        connection.sendall(begun)
        assert rest(connection) == b""
    monkeypatch.undo()
    assert secure.post() == "5" and secure.counted(secure.server.waiting) == 0


def test_handshakes_that_are_begun_keep_nobody_out(secure: Lab) -> None:
    begun = [secure.bare() for _ in range(http_guard.MAX_WAITING_TLS + 50)]
    assert secure.post() == "5" and secure.counted(secure.server.waiting) <= http_guard.MAX_WAITING_TLS
    assert rest(begun[0]) == b""


def test_plain_http_is_not_answered_where_there_is_tls(secure: Lab) -> None:
    connection = secure.bare()
    connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert not rest(connection).startswith(b"HTTP")


def test_tls_is_a_good_one(secure: Lab) -> None:
    assert secure.context is not None
    assert isinstance(secure.connection(), ssl.SSLSocket)
    for version, cipher, good in (
        (ssl.TLSVersion.TLSv1_3, None, True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", True),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", False),
        (ssl.TLSVersion.TLSv1_1, None, False),
    ):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning) if version < ssl.TLSVersion.TLSv1_2 else contextlib.nullcontext():
            context.minimum_version = context.maximum_version = version
        if cipher is not None:
            context.set_ciphers(cipher)
        with contextlib.closing(secure.bare()) as bare, contextlib.ExitStack() as stack:
            if not good:
                stack.enter_context(pytest.raises(OSError))
            with context.wrap_socket(bare) as connection:
                assert connection.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]
