"""libcoap's own client and server on loopback, against our endpoint."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.router import Router
from pdmlab.coap.transport import Address, udp
from pdmlab.errors import NetworkError
from tests.tools import program

pytestmark = pytest.mark.debian

CLIENT = ("coap-client-notls", "coap-client-openssl", "coap-client-gnutls", "coap-client")
SERVER = ("coap-server-notls", "coap-server-openssl", "coap-server-gnutls", "coap-server")
BODY = bytes(i * 7 % 251 for i in range(4096))


# -- coap-client asks us -----------------------------------------------------------------------------


class Shelf:
    """Resources that libcoap's client can read, replace, post to and observe."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {"large": BODY, "small": b"hello"}
        self.methods: list[str] = []
        self.observer: tuple[Address, bytes] | None = None

    async def __call__(self, message: Message, peer: Address) -> Message:
        path = "/".join(message.opt.uri_path)
        self.methods.append(f"{message.code} {path}")
        if message.code == codes.GET:
            response = Message(code=codes.CONTENT, payload=self.kept[path])
            if message.opt.observe == 0:
                self.observer = peer, message.token
                response.opt.observe = 1
            return response
        self.kept[path] = message.payload
        if message.code == codes.POST:
            return Message(code=codes.CREATED, payload=message.payload[::-1], location_path=("made", path))
        return Message(code=codes.CHANGED)


Ask = Callable[..., Awaitable[bytes]]


def with_client(story: Callable[[Endpoint, Shelf, Ask], Awaitable[None]]) -> None:
    """Run a story with an endpoint on loopback and coap-client to ask it: ask("get", "path", *options)."""
    client = program(*CLIENT)

    async def run() -> None:
        shelf = Shelf()
        endpoint = await Endpoint.open(udp(), shelf, parameters=TransmissionParameters(ack_timeout=0.5))

        async def ask(method: str, path: str, *options: str) -> bytes:
            uri = f"coap://127.0.0.1:{endpoint.address[1]}/{path}"
            process = await asyncio.create_subprocess_exec(
                client, "-B", "20", "-m", method, *options, uri, stdout=asyncio.subprocess.PIPE
            )
            out, _ = await process.communicate()
            assert process.returncode == 0
            return out

        try:
            await story(endpoint, shelf, ask)
        finally:
            await endpoint.close()

    asyncio.run(run())


def test_coap_client_gets_puts_and_posts() -> None:
    async def story(endpoint: Endpoint, shelf: Shelf, ask: Ask) -> None:
        assert (await ask("get", "small")).rstrip(b"\n") == b"hello"
        await ask("put", "small", "-e", "other")
        assert shelf.kept["small"] == b"other"
        assert (await ask("post", "small", "-e", "abc", "-N")).rstrip(b"\n") == b"cba"
        assert endpoint.malformed == 0

    with_client(story)


@pytest.mark.parametrize("options", [(), ("-b", "64"), ("-N",)], ids=["as it comes", "64 B blocks", "non-confirmable"])
def test_coap_client_gets_4_kib(tmp_path: Path, options: tuple[str, ...]) -> None:
    async def story(endpoint: Endpoint, shelf: Shelf, ask: Ask) -> None:
        got = tmp_path / "got"
        await ask("get", "large", *options, "-o", str(got))
        assert got.read_bytes() == BODY
        assert shelf.methods == ["GET large"]  # once, whatever the number of blocks

    with_client(story)


@pytest.mark.parametrize("options", [(), ("-b", "64")], ids=["as it comes", "64 B blocks"])
def test_coap_client_puts_and_posts_4_kib(tmp_path: Path, options: tuple[str, ...]) -> None:
    async def story(endpoint: Endpoint, shelf: Shelf, ask: Ask) -> None:
        body, back = tmp_path / "body", tmp_path / "back"
        body.write_bytes(BODY)
        await ask("put", "put", *options, "-f", str(body))
        await ask("post", "post", *options, "-f", str(body), "-o", str(back))
        assert shelf.kept["put"] == shelf.kept["post"] == BODY
        assert back.read_bytes() == BODY[::-1]
        assert shelf.methods == ["PUT put", "POST post"]

    with_client(story)


def test_coap_client_observes() -> None:
    async def story(endpoint: Endpoint, shelf: Shelf, ask: Ask) -> None:
        async def tell() -> str:
            while shelf.observer is None:
                await asyncio.sleep(0.01)
            peer, token = shelf.observer
            done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            for n, on_result in ((2, None), (3, done.set_result)):
                value = Message(code=codes.CONTENT, payload=b"told %d;" % n, observe=n)
                endpoint.notify(peer, value, token, on_result=on_result)
            return await done

        said, outcome = await asyncio.gather(ask("get", "small", "-s", "1", "-w"), tell())
        assert said.split() == [b"hello", b"told", b"2;", b"told", b"3;"]
        assert outcome == "acknowledged"

    with_client(story)


def test_coap_client_lists_what_a_router_has_and_is_told_what_it_has_not() -> None:
    client = program(*CLIENT)

    async def run() -> bytes:
        router = Router()

        @router.on(codes.GET, ".well-known/core")
        async def core(message: Message, peer: Address) -> Message:
            return Message(code=codes.CONTENT, payload=b"</rd>,</bs>", content_format=40)

        endpoint = await Endpoint.open(udp(), router)
        said = b""
        for path in (".well-known/core", "nothing"):
            process = await asyncio.create_subprocess_exec(
                *(client, "-B", "20", "-w", f"coap://127.0.0.1:{endpoint.address[1]}/{path}"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said += (await process.communicate())[0]
        await endpoint.close()
        return said

    said = asyncio.run(run())
    assert b"</rd>,</bs>" in said
    assert b"4.04" in said


# -- we ask coap-server ------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Address]:
    """libcoap's example server, on a port that was free a moment ago."""
    path = program(*SERVER)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([path, "-A", "127.0.0.1", "-p", str(port), "-d", "10"], stderr=subprocess.DEVNULL)
    try:
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait()


def with_server(peer: Address, story: Callable[[Endpoint], Awaitable[None]]) -> None:
    async def run() -> None:
        # Many short tries: it may not have bound its port yet.
        endpoint = await Endpoint.open(udp(), parameters=TransmissionParameters(ack_timeout=0.05, max_retransmit=8))
        try:
            await endpoint.request(Message(code=codes.GET, uri_path=(".well-known", "core")), peer)
            await story(endpoint)
        except NetworkError as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.fail(str(error))
        finally:
            await endpoint.close()

    asyncio.run(run())


@pytest.mark.parametrize("block_size", [None, 64, 1024])
def test_coap_server_takes_and_gives_4_kib(server: Address, block_size: int | None) -> None:
    async def story(endpoint: Endpoint) -> None:
        for path in ("example_data", "made"):
            put = Message(code=codes.PUT, uri_path=(path,), payload=BODY)
            response = await endpoint.request(put, server, block_size=block_size)
            assert response.code in (codes.CREATED, codes.CHANGED)
            get = Message(code=codes.GET, uri_path=(path,))
            response = await endpoint.request(get, server, block_size=block_size)
            assert (response.code, response.payload) == (codes.CONTENT, BODY)

    with_server(server, story)


def test_coap_server_answers_separately_and_refuses(server: Address) -> None:
    async def story(endpoint: Endpoint) -> None:
        response = await endpoint.request(Message(code=codes.GET, uri_path=("async",), uri_query=("1",)), server)
        assert (response.code, response.payload) == (codes.CONTENT, b"done")
        response = await endpoint.request(Message(code=codes.GET, uri_path=("nothing",)), server)
        assert response.code == codes.NOT_FOUND
        response = await endpoint.request(Message(code=codes.POST, uri_path=("time",)), server)
        assert response.code == codes.METHOD_NOT_ALLOWED

    with_server(server, story)


def test_coap_server_is_observed(server: Address) -> None:
    async def story(endpoint: Endpoint) -> None:
        told: asyncio.Queue[Message] = asyncio.Queue()
        observation = await endpoint.observe(Message(code=codes.GET, uri_path=("time",)), server, told.put_nowait)
        assert observation.active
        notification = await asyncio.wait_for(told.get(), 60)
        assert notification.payload
        assert notification.opt.observe > observation.first.opt.observe
        answer = await observation.cancel()
        assert answer is not None
        assert answer.opt.observe is None

    with_server(server, story)
