"""Firmware images by plain HTTP: bytes in, bytes out; what is no request for an image gets nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import Unreachable
from pdmlab.service import image_server
from pdmlab.service.image_server import MAX_HEAD, ImageServer, respond

ID = "0123456789abcdef0123456789abcdef"
IMAGE = bytes(range(256)) * 400  # 102400 B
PATH = f"/v3/firmware-images/{ID}/firmware.bin"

Conversation = Callable[[bytes], Coroutine[Any, Any, bytes]]


class Whole:
    """An image in memory."""

    size = len(IMAGE)

    def read(self, start: int, stop: int) -> bytes:
        return IMAGE[start:stop]


def images(id: str) -> Whole | None:
    return Whole() if id == ID else None


async def said(port: int, *requests: bytes, close: bool = True) -> bytes:
    """Send requests in one connection; return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(requests))
    if close:
        writer.write_eof()
    heard = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    return heard


def talk(*requests: bytes) -> bytes:
    async def run() -> bytes:
        server = await ImageServer.open(images, "127.0.0.1")
        try:
            return await said(server.port, *requests)
        finally:
            await server.close()

    return asyncio.run(run())


def test_an_image_is_sent_whole_or_from_where_the_client_is() -> None:
    # What the stock client's libcurl sends, and what it sends when it goes on.
    get = f"GET {PATH} HTTP/1.1\r\nHost: 192.0.2.1:8080\r\nAccept: */*\r\n\r\n".encode()
    resume = f"GET {PATH} HTTP/1.1\r\nHost: 192.0.2.1:8080\r\nRange: bytes=102390-\r\nAccept: */*\r\n\r\n".encode()
    assert talk(get, resume) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 102400\r\nContent-Type: application/octet-stream\r\n"
        b"Accept-Ranges: bytes\r\n\r\n" + IMAGE + b"HTTP/1.1 206 Partial Content\r\nContent-Length: 10\r\n"
        b"Content-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n"
        b"Content-Range: bytes 102390-102399/102400\r\n\r\n" + IMAGE[-10:]
    )


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        ("bytes=0-0", 206, IMAGE[:1]),
        ("bytes=10-19", 206, IMAGE[10:20]),
        ("bytes=102399-200000", 206, IMAGE[-1:]),
        ("bytes=-5", 206, IMAGE[-5:]),
        ("bytes=-200000", 206, IMAGE),
        ("bytes=102400-", 416, b""),
        ("bytes=20-10", 416, b""),
        ("bytes=0-1,5-6", 200, IMAGE),
        ("lines=0-1", 200, IMAGE),
        ("bytes=-", 200, IMAGE),
        (f"bytes={'9' * 19}-", 200, IMAGE),
    ],
)
def test_one_range_of_bytes_is_understood(wanted: str, status: int, content: bytes) -> None:
    answer = respond(f"GET {PATH} HTTP/1.1\r\nRANGE:  {wanted} \r\n\r\n", images)
    assert (answer.status, b"".join(answer.body())) == (status, content)
    if status == 416:
        assert answer.headers == {"Content-Range": "bytes */102400"}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (f"GET /v3/firmware-images/{'0' * 32}/firmware.bin HTTP/1.1", 404),
        (f"GET /v3/firmware-images/{ID} HTTP/1.1", 404),
        (f"GET /v3/firmware-images/{ID.upper()}/x HTTP/1.1", 404),
        (f"GET {PATH}?x HTTP/1.1", 404),
        (f"GET http://elsewhere{PATH} HTTP/1.1", 404),
        ("GET /v3/firmware-images HTTP/1.1", 404),
        ("GET /v3/devices HTTP/1.1", 404),
        ("GET / HTTP/1.1", 404),
        ("GET /v3/firmware-manifests/0123456789abcdef0123456789abcdef/m HTTP/1.1", 404),
        (f"POST {PATH} HTTP/1.1", 405),
        (f"DELETE {PATH} HTTP/1.1", 405),
        ("OPTIONS * HTTP/1.1", 405),
        ("CONNECT 192.0.2.1:22 HTTP/1.1", 405),
        (f"GET {PATH}", 400),
        (f"GET {PATH} HTTP/2.0", 400),
        (f"get {PATH} HTTP/1.1", 400),
        (f"GET {PATH} HTTP/1.1\r\nContent-Length: 5", 400),
        (f"GET {PATH} HTTP/1.1\r\nTransfer-Encoding: chunked", 400),
        ("", 400),
    ],
)
def test_nothing_but_an_image_is_answered(request_: str, status: int) -> None:
    answer = respond(f"{request_}\r\n\r\n", images)
    assert (answer.status, b"".join(answer.body())) == (status, b"")
    assert answer.keep == (status == 404)
    if not answer.keep:
        assert b"\r\nConnection: close\r\n" in answer.head


def test_head_tells_the_size_and_old_clients_are_let_go() -> None:
    assert talk(f"HEAD {PATH} HTTP/1.0\r\n\r\n".encode()) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 102400\r\nContent-Type: application/octet-stream\r\n"
        b"Accept-Ranges: bytes\r\nConnection: close\r\n\r\n"
    )


def test_who_sends_no_end_or_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert talk(b"GET /" + b"a" * (4 * MAX_HEAD)) == b""
    assert talk(b"GET / HTTP/1.1\r\n") == b""
    monkeypatch.setattr(image_server, "PATIENCE", 0.05)

    async def run() -> bytes:
        server = await ImageServer.open(images, "127.0.0.1")
        try:
            return await said(server.port, b"GET / HT", close=False)  # returns when the server has closed it
        finally:
            await server.close()

    assert asyncio.run(run()) == b""


def test_who_takes_nothing_is_dropped_and_holds_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_server, "PATIENCE", 0.1)
    held: list[int] = []
    huge = bytes(64 << 20)

    async def run() -> None:
        server = await ImageServer.open(lambda id: huge, "127.0.0.1")
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.transport.pause_reading()
        writer.write(f"GET {PATH} HTTP/1.1\r\n\r\n".encode())
        while not server._conversations:
            await asyncio.sleep(0)
        (task,) = server._conversations
        waiting = [each for each in asyncio.all_tasks() if each is task]
        await asyncio.wait(waiting, timeout=30)
        held.append(len(server._conversations))
        writer.transport.abort()
        await server.close()

    asyncio.run(run())
    assert held == [0]


def test_one_address_does_not_take_all_connections() -> None:
    async def run() -> tuple[int, list[bytes]]:
        server = await ImageServer.open(images, "127.0.0.1")
        opened = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(image_server.MAX_FROM_ONE + 5)]
        ended = await asyncio.gather(*(reader.read(-1) for reader, _ in opened[image_server.MAX_FROM_ONE :]))
        there = len(server._conversations)
        for _, writer in opened:
            writer.transport.abort()
        await server.close()
        return there, ended

    assert asyncio.run(run()) == (image_server.MAX_FROM_ONE, [b""] * 5)


def test_the_last_port_is_taken_again_if_it_is_free() -> None:
    async def run() -> None:
        first = await ImageServer.open(images, "127.0.0.1")
        other = await ImageServer.open(images, "127.0.0.1", last=first.port)
        assert other.port != first.port
        with pytest.raises(Unreachable, match=f"cannot listen on 127.0.0.1:{first.port} for firmware images"):
            await ImageServer.open(images, "127.0.0.1", first.port)
        port = first.port
        await first.close()
        again = await ImageServer.open(images, "127.0.0.1", last=port)
        assert again.port == port
        await other.close()
        await again.close()

    asyncio.run(run())


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200), st.sampled_from(["", f"GET {PATH} HTTP/1.1\r\n", "GET / HTTP/1.1\r\nRange: bytes="]))
def test_no_head_raises(text: str, start: str) -> None:
    respond(f"{start}{text}\r\n\r\n", images)
