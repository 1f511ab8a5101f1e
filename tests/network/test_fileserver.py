from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.clock import DeviceClock
from pdmlab.network.fabric import Fabric
from pdmlab.network.fileserver import respond, serve_files
from pdmlab.network.link import Link

FILES = {"/f": b"0123456789"}


def test_a_get_on_the_wire() -> None:
    response, keep = respond("GET /f HTTP/1.1\r\nHost: downloads.pdmlab", FILES)
    assert keep
    assert response == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\nAccept-Ranges: bytes\r\n\r\n0123456789"
    )


@pytest.mark.parametrize(
    ("header", "status", "content_range", "body"),
    [
        ("bytes=2-4", 206, "bytes 2-4/10", b"234"),
        ("bytes=7-", 206, "bytes 7-9/10", b"789"),
        ("bytes=-3", 206, "bytes 7-9/10", b"789"),
        ("bytes=8-99", 206, "bytes 8-9/10", b"89"),
        ("bytes=10-", 416, "bytes */10", b""),
        ("bytes=4-2", 416, "bytes */10", b""),
        ("bytes=-", 200, None, b"0123456789"),
        ("lines=1-2", 200, None, b"0123456789"),
    ],
)
def test_ranges_as_rfc_9110_has_them(header: str, status: int, content_range: str | None, body: bytes) -> None:
    response, _ = respond(f"GET /f HTTP/1.1\nRange: {header}", FILES)
    head, _, content = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert content == body
    assert (f"Content-Range: {content_range}".encode() in head) == (content_range is not None)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [("POST /f HTTP/1.1", 501), ("GET /g HTTP/1.1", 404), ("hello", 400), ("HEAD /f HTTP/1.1", 200)],
)
def test_other_requests_get_their_status(request_line: str, status: int) -> None:
    assert respond(request_line, FILES)[0].startswith(b"HTTP/1.1 %d " % status)


@given(st.text())
def test_no_head_makes_the_server_fall_over(head: str) -> None:
    assert respond(head, FILES)[0].startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\n\n\0"], ids=["CRLF", "LF", "LF and a stray NUL"])
def test_two_requests_on_one_connection_as_stock_suites_have_ended_them(end: bytes, clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    serve_files(fabric.host("downloads"), FILES)
    board = fabric.host("board", Link(latency=1000))

    async def talk() -> bytes:
        stream = await board.connect(("downloads", 80))
        await stream.write(b"GET /f HTTP/1.1" + end + b"GET /f HTTP/1.1\r\nConnection: close" + end)
        got = b""
        while piece := await stream.read(4096):
            got += piece
        stream.close()
        return got

    assert clock.call_async(talk()).count(b"\r\n\r\n0123456789") == 2
