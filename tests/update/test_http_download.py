"""Images over plain HTTP: in one connection, from where the download is, and 41 for whatever goes wrong."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from pdmlab.clock import DeviceClock
from pdmlab.network.bytestream import ByteStream
from pdmlab.network.fabric import Fabric
from pdmlab.network.fileserver import serve_files
from pdmlab.network.link import Link
from pdmlab.update.download import DownloadFailed
from pdmlab.update.http_download import PATIENCE, HttpDownload, Stream
from pdmlab.update.results import FotaResult

IMAGE = bytes(number * 7 % 251 for number in range(10_000))
BLOCK = 512
URI = "http://files:8080/fw/1.bin"


class Side:
    """A server of the fabric that a test scripts, or a file server; and a board's host beside it."""

    def __init__(self) -> None:
        self.clock = DeviceClock()
        fabric = Fabric(self.clock)
        link = Link(latency=1_000_000)
        self.files, self.board = fabric.host("files", link), fabric.host("board", link)
        self.connections = 0
        self.heard = b""

    async def connect(self, peer: tuple[str, int]) -> Stream:
        self.connections += 1
        return await self.board.connect((self.files.address, peer[1]))

    def play(self, story: Callable[[], Awaitable[None]]) -> None:
        with self.clock:
            self.clock.call_async(story())

    def answers(self, *parts: bytes, close: bool = True) -> None:
        """Answer every connection with these bytes, whatever it asks."""

        def connected(stream: ByteStream) -> None:
            def event() -> None:
                while data := stream.read_now(4096):
                    self.heard += data
                if b"\r\n\r\n" in self.heard and not sent:
                    sent.append(True)
                    for part in parts:
                        stream.write_now(part)
                    if close:
                        stream.close()

            sent: list[bool] = []
            stream.on_event = event
            event()

        self.files.listen(8080, connected)


@pytest.fixture
def side() -> Side:
    return Side()


async def fetch_all(download: HttpDownload, first: int = 0) -> bytes:
    image, number, more = b"", first, True
    while more:
        block, more, total = await download.fetch(URI, number, BLOCK)
        assert total == len(IMAGE) and (len(block) == BLOCK or not more)
        image += block
        number += 1
    return image


def test_an_image_comes_in_one_connection(side: Side) -> None:
    async def story() -> None:
        serve_files(side.files, {"/fw/1.bin": IMAGE}, 8080)
        assert await fetch_all(HttpDownload(side.connect)) == IMAGE
        assert side.connections == 1

    side.play(story)


def test_the_request_says_where_it_begins(side: Side) -> None:
    async def story() -> None:
        side.answers(
            b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 1024-1028/1029\r\n\r\nhello"
        )
        assert await HttpDownload(side.connect).fetch(URI, 2, BLOCK) == (b"hello", False, 1029)
        assert side.heard == b"GET /fw/1.bin HTTP/1.1\r\nHost: files:8080\r\nAccept: */*\r\nRange: bytes=1024-\r\n\r\n"

    side.play(story)


def test_a_download_goes_on_in_the_middle(side: Side) -> None:
    async def story() -> None:
        serve_files(side.files, {"/fw/1.bin": IMAGE}, 8080)
        assert await fetch_all(HttpDownload(side.connect), first=7) == IMAGE[7 * BLOCK :]

    side.play(story)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"], "answered 'HTTP/1.1 404 Not Found'"),
        ([b"HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n"], "302 Found"),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], "answered 'SSH-2.0-OpenSSH'"),
        ([b"HTTP/1.1 200 OK\r\nContent-Le"], "ended before an answer"),
        ([OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"], "does not say how long"),
        ([OK + b"Content-Length: 99999999999999\r\n\r\n"], "does not say how long"),
        ([OK + b"Content-Length: -1\r\n\r\n"], "does not say how long"),
        ([OK + b"Content-Length: 600\r\n\r\n", bytes(100)], "ended after 100 of 600 B"),
        ([b"x" * 9000], "does not end in 8192 B"),
    ],
)
def test_whatever_a_server_says_wrong_is_result_41(side: Side, parts: list[bytes], words: str) -> None:
    async def story() -> None:
        side.answers(*parts)
        with pytest.raises(DownloadFailed, match=words) as caught:
            await HttpDownload(side.connect).fetch(URI, 0, BLOCK)
        assert caught.value.result is FotaResult.INTERNAL

    side.play(story)


def test_a_server_that_knows_no_ranges_does_not_spoil_an_image(side: Side) -> None:
    async def story() -> None:
        side.answers(OK + b"Content-Length: 10000\r\n\r\n" + IMAGE)
        with pytest.raises(DownloadFailed, match="to bytes from 512 on"):
            await HttpDownload(side.connect).fetch(URI, 1, BLOCK)

    side.play(story)


def test_a_server_that_falls_silent_is_given_up(side: Side) -> None:
    async def story() -> None:
        side.answers(OK + b"Content-Length: 600\r\n\r\n", close=False)
        begun = asyncio.get_running_loop().time()
        with pytest.raises(DownloadFailed, match="nothing came for 60 s"):
            await HttpDownload(side.connect).fetch(URI, 0, BLOCK)
        assert asyncio.get_running_loop().time() - begun == pytest.approx(PATIENCE)

    side.play(story)


def test_nobody_there_is_result_41(side: Side) -> None:
    async def story() -> None:
        with pytest.raises(DownloadFailed, match="refuse"):
            await HttpDownload(side.connect).fetch(URI, 0, BLOCK)

    side.play(story)


@pytest.mark.parametrize(
    "uri",
    ["https://files:8080/1", "http://files:0/1", "http://files:70000/1", "http://a@b/1", "/fw/1", "http://f/\r\nX: y"],
)
def test_what_is_no_plain_http_is_not_fetched(side: Side, uri: str) -> None:
    async def story() -> None:
        with pytest.raises(DownloadFailed, match="nothing that this client fetches"):
            await HttpDownload(side.connect).fetch(uri, 0, BLOCK)
        assert side.connections == 0

    side.play(story)


@pytest.fixture
def real_server() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(IMAGE)))
            self.end_headers()
            self.wfile.write(IMAGE)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_pythons_own_server_is_understood(real_server: int) -> None:
    class Real:
        def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.read, self.writer = reader.read, writer

        async def write(self, data: bytes) -> None:
            self.writer.write(data)

        def abort(self) -> None:
            self.writer.close()

    async def story() -> None:
        async def connect(peer: tuple[str, int]) -> Stream:
            return Real(*await asyncio.open_connection(*peer))

        download, image, number, more = HttpDownload(connect), b"", 0, True
        while more:
            block, more, _ = await download.fetch(f"http://127.0.0.1:{real_server}/any", number, BLOCK)
            image += block
            number += 1
        assert image == IMAGE

    asyncio.run(story())
