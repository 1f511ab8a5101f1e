"""aiocoap's own client and server on loopback, against our endpoint."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import aiocoap
import pytest
from aiocoap import Message, resource
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, udp

BODY = bytes(i * 7 % 251 for i in range(4096))


async def handler(message: Message, peer: Address) -> Message:
    if message.code == codes.GET:
        return Message(code=codes.CONTENT, payload=BODY if message.opt.uri_path == ("large",) else b"hello")
    return Message(code=codes.CHANGED, payload=b"%d" % sum(message.payload))


def with_aiocoaps_client(story: Callable[[aiocoap.Context, str, Endpoint], Awaitable[None]]) -> None:
    async def run() -> None:
        endpoint = await Endpoint.open(udp(), handler)
        context = await aiocoap.Context.create_client_context(transports=["simple6"])
        try:
            await story(context, f"coap://127.0.0.1:{endpoint.address[1]}", endpoint)
        finally:
            await context.shutdown()
            await endpoint.close()

    asyncio.run(run())


def test_aiocoaps_client_asks_us() -> None:
    async def story(context: aiocoap.Context, base: str, endpoint: Endpoint) -> None:
        small = await context.request(Message(code=codes.GET, uri=base + "/small")).response
        assert small.payload == b"hello"
        large = await context.request(Message(code=codes.GET, uri=base + "/large")).response
        assert large.payload == BODY
        put = await context.request(Message(code=codes.PUT, uri=base + "/large", payload=BODY)).response
        assert (put.code, put.payload) == (codes.CHANGED, b"%d" % sum(BODY))
        assert endpoint.malformed == 0

    with_aiocoaps_client(story)


def test_aiocoaps_client_observes_us() -> None:
    async def story(context: aiocoap.Context, base: str, endpoint: Endpoint) -> None:
        watching: list[tuple[Address, bytes]] = []

        async def observable(message: Message, peer: Address) -> Message:
            if message.opt.observe == 0:
                watching.append((peer, message.token))
            return Message(code=codes.CONTENT, payload=b"0", observe=1 if message.opt.observe == 0 else None)

        endpoint.handler = observable
        asking = context.request(Message(code=codes.GET, uri=base + "/a", observe=0))
        assert (await asking.response).payload == b"0"
        peer, token = watching[0]
        results: list[str] = []
        told = []
        for n in (2, 3):
            endpoint.notify(
                peer, Message(code=codes.CONTENT, payload=b"%d" % n, observe=n), token, on_result=results.append
            )
        async for notification in asking.observation:
            told.append(notification.payload)
            if notification.payload == b"3":
                break
        assert told[-1] == b"3"
        asking.observation.cancel()
        while len(results) < 2:
            await asyncio.sleep(0.01)
        assert results == ["acknowledged"] * 2

    with_aiocoaps_client(story)


class Kept(resource.ObservableResource):  # type: ignore[misc]  # aiocoap has no types
    """aiocoap's idea of a resource with a body."""

    body = BODY

    async def render_get(self, request: Message) -> Message:
        return Message(payload=self.body)

    async def render_put(self, request: Message) -> Message:
        self.body = request.payload
        self.updated_state()
        return Message(code=codes.CHANGED)


class Slow(resource.Resource):  # type: ignore[misc]
    async def render_get(self, request: Message) -> Message:
        await asyncio.sleep(0.3)
        return Message(payload=b"done")


@pytest.mark.parametrize("block_size", [None, 64])
def test_we_ask_aiocoaps_server(block_size: int | None) -> None:
    async def run() -> None:
        site = resource.Site()
        site.add_resource(["kept"], Kept())
        site.add_resource(["slow"], Slow())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            server = probe.getsockname()
        context = await aiocoap.Context.create_server_context(site, bind=server, transports=["simplesocketserver"])
        endpoint = await Endpoint.open(udp())
        try:
            get = Message(code=codes.GET, uri_path=("kept",))
            response = await endpoint.request(get, server, block_size=block_size)
            assert (response.code, response.payload) == (codes.CONTENT, BODY)
            told: asyncio.Queue[Message] = asyncio.Queue()
            observation = await endpoint.observe(get, server, told.put_nowait)
            assert (observation.active, observation.first.payload) == (True, BODY)
            put = Message(code=codes.PUT, uri_path=("kept",), payload=BODY[::-1])
            response = await endpoint.request(put, server, block_size=block_size)
            assert response.code == codes.CHANGED
            assert (await asyncio.wait_for(told.get(), 60)).payload == BODY[::-1]
            await observation.cancel()
            slow = await endpoint.request(Message(code=codes.GET, uri_path=("slow",)), server)
            assert slow.payload == b"done"
        finally:
            await endpoint.close()
            await context.shutdown()

    asyncio.run(run())
