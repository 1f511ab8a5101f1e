"""aiocoap's own client and server over TCP (RFC 8323), against ours."""

from __future__ import annotations

import asyncio
import socket

import aiocoap
from aiocoap import Message, resource
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.tcp import tcp, tcp_to
from pdmlab.coap.transport import Address, Connection

BODY = bytes(i * 7 % 251 for i in range(4096))


def test_aiocoaps_client_asks_and_observes_us_over_tcp() -> None:
    async def run() -> None:
        watching: list[tuple[Address, bytes]] = []

        async def handler(message: Message, peer: Address) -> Message:
            if message.code == codes.PUT:
                return Message(code=codes.CHANGED, payload=b"%d" % sum(message.payload))
            if message.opt.observe == 0:
                watching.append((peer, message.token))
                return Message(code=codes.CONTENT, payload=b"0", observe=1)
            return Message(code=codes.CONTENT, payload=BODY)

        endpoint = await Endpoint.open(tcp(), handler)
        base = f"coap+tcp://127.0.0.1:{endpoint.address[1]}"
        context = await aiocoap.Context.create_client_context(transports=["tcpclient"])
        large = await context.request(Message(code=codes.GET, uri=base + "/large")).response
        assert large.payload == BODY
        put = await context.request(Message(code=codes.PUT, uri=base + "/large", payload=BODY)).response
        assert put.payload == b"%d" % sum(BODY)
        asking = context.request(Message(code=codes.GET, uri=base + "/value", observe=0))
        assert (await asking.response).payload == b"0"
        peer, token = watching[0]
        told = asyncio.ensure_future(anext(aiter(asking.observation)))
        await asyncio.sleep(0)
        endpoint.notify(peer, Message(code=codes.CONTENT, payload=b"1", observe=2), token)
        assert (await asyncio.wait_for(told, 60)).payload == b"1"
        assert endpoint.malformed == 0
        await context.shutdown()
        await endpoint.close()

    asyncio.run(run())


class Large(resource.Resource):
    async def render_get(self, request: Message) -> Message:
        return Message(payload=BODY)

    async def render_put(self, request: Message) -> Message:
        return Message(code=codes.CHANGED, payload=b"%d" % sum(request.payload))


def test_we_ask_aiocoaps_server_over_tcp() -> None:
    async def run() -> None:
        site = resource.Site()
        site.add_resource(("large",), Large())
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        context = await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", port), transports=["tcpserver"])
        to = Connection("127.0.0.1", port, "coap+tcp")
        client = await Endpoint.open(tcp_to(to, framing="rfc8323"))
        assert (await client.request(Message(code=codes.GET, uri_path=("large",)), to)).payload == BODY
        put = await client.request(Message(code=codes.PUT, uri_path=("large",), payload=BODY), to)
        assert put.payload == b"%d" % sum(BODY)
        assert client.malformed == 0
        await client.close()
        await context.shutdown()

    asyncio.run(run())
