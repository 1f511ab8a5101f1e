"""A package that a device fetches, over a connection that breaks on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.plain.accounts import Account, Uri
from pdmlab.client.plain.connecting import HostNetwork
from pdmlab.client.plain.firmware_fetch import PROTOCOLS, TRIES, PackageFetcher
from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import Unreachable
from pdmlab.update.object5 import Result
from pdmlab.update.packages import PackageRejected

PACKAGE = bytes(number * 41 % 253 for number in range(10_500))
COAP, HTTP = "coap://192.0.2.1/fw/1", "http://192.0.2.1/fw/1"


@dataclass
class Server:
    """An LwM2M server with a package, that answers so many requests (B of HTTP) at a time before it is gone."""

    answers: int = 10**6
    back: int = 10**6  # connections, or pauses, after which it is back
    etag: bytes | None = b"1"
    package: bytes = PACKAGE
    account: Account = field(default_factory=lambda: Account(0, Uri.parse("coap://192.0.2.1"), False, 3, 1))
    asked: list[int] = field(default_factory=list)
    on_return: Callable[[Server], None] = lambda self: None

    def reaches(self, scheme: str, remote: object) -> bool:
        return scheme == "coap"

    async def request(self, message: Message) -> Message:
        if self.answers == 0:
            self.back -= 1
            if self.back < 0:
                self.answers = 10**6
                self.on_return(self)
            raise Unreachable("the link is lost")
        self.answers -= 1
        block = message.opt.block2
        size = min(block.size, 512)
        start = block.block_number * block.size
        self.asked.append(start)
        answer = Message(code=codes.CONTENT, payload=self.package[start : start + size])
        answer.opt.block2 = (start // size, start + size < len(self.package), size.bit_length() - 5)
        answer.opt.etag = self.etag
        if start == 0 or self.etag is None:
            answer.opt.size2 = len(self.package)
        return answer


class Stream:
    """An HTTP connection to a server, which breaks after `answers` B of a package."""

    def __init__(self, server: Server) -> None:
        self.server, self.data = server, b""

    async def write(self, data: bytes) -> None:
        start = int(data.partition(b"bytes=")[2].partition(b"-")[0] or b"0")
        self.server.asked.append(start)
        body = self.server.package[start:]
        status = b"206 Partial Content" if start else b"200 OK"
        head = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self.data = head + body[: self.server.answers]
        self.server.answers = 10**6

    async def read(self, n: int) -> bytes:
        part, self.data = self.data[:n], self.data[n:]
        return part

    def abort(self) -> None:
        pass


class Net(HostNetwork):
    def __init__(self, server: Server) -> None:
        self.server = server

    async def connect_stream(self, remote: Any) -> Stream:
        if self.server.back < 0:
            raise Unreachable("nobody is there")
        return Stream(self.server)


def fetch(server: Server, uri: str) -> tuple[bytes, float]:
    """Return the package, and how long it took (s)."""
    fetcher = PackageFetcher(Net(server), lambda: [server], lambda *message: None, lambda peer: None, Random(1))
    got = bytearray()

    async def all_of_it() -> None:
        async for data, _ in fetcher.fetch(uri, PROTOCOLS):
            got.extend(data)

    with DeviceClock() as clock:
        clock.call_async(all_of_it())
        return bytes(got), clock.now() / SECOND


def refused(server: Server, uri: str) -> PackageRejected:
    with pytest.raises(PackageRejected) as caught:
        fetch(server, uri)
    return caught.value


@pytest.mark.parametrize("etag", [b"1", None])
def test_a_lost_link_is_waited_for_and_the_rest_asked_for_alone(etag: bytes | None) -> None:
    server = Server(answers=7, back=2, etag=etag)
    got, seconds = fetch(server, COAP)
    assert got == PACKAGE and 5 + 10 + 20 - 4 < seconds < 5 + 10 + 20 + 4
    assert server.asked == list(range(0, len(PACKAGE), 512)), "no block twice"


@pytest.mark.parametrize("change", ["etag", "size"])
def test_a_package_that_is_another_after_the_loss_is_not_put_together(change: str) -> None:
    def other(server: Server) -> None:
        server.etag = b"2" if change == "etag" else server.etag
        server.package = PACKAGE if change == "etag" else PACKAGE + b"more"

    error = refused(Server(answers=7, back=0, etag=None if change == "size" else b"1", on_return=other), COAP)
    assert error.result is Result.INTEGRITY and "changed" in error.message


def test_a_link_that_stays_lost_is_given_up_with_result_4() -> None:
    server = Server(answers=7)
    error = refused(server, COAP)
    assert error.result is Result.CONNECTION_LOST and f"after {7 * 512} B, and {TRIES} tries more" in error.message
    assert 10**6 - server.back == TRIES + 1


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    server = Server(answers=0)
    error = refused(server, COAP)
    assert error.result is Result.CONNECTION_LOST and 10**6 - server.back == 1


def test_http_goes_on_from_where_it_broke() -> None:
    server = Server(answers=3_000)
    got, seconds = fetch(server, HTTP)
    assert got == PACKAGE and server.asked == [0, 2048] and 4 < seconds < 6


def test_nobody_at_an_http_address_is_result_4_at_once() -> None:
    assert refused(Server(back=-1), HTTP).result is Result.CONNECTION_LOST
