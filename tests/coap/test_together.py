"""One endpoint over UDP, DTLS, TCP and TLS at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.dtls import dtls, dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.tcp import tcp, tcp_to
from pdmlab.coap.tls import tls, tls_to
from pdmlab.coap.together import together
from pdmlab.coap.transport import Address, Connection, Scheme, scheme_of, udp
from pdmlab.errors import HandshakeFailed, Unreachable
from tests.coap.certificates import Authority
from tests.coap.peers import SOON, echo, run

CA = Authority("Lab CA")
SERVER, CLIENT = CA.security("server"), CA.security("board-1")


def test_one_endpoint_is_reached_by_four_transports_and_reaches_back_by_each() -> None:
    async def story() -> None:
        failures: list[Address] = []
        named = replace(SERVER, names_failure=lambda peer, failure: failures.append(peer))
        server = await Endpoint.open(
            together(
                {"coap": udp(), "coaps": dtls(udp(), named), "coap+tcp": tcp(), "coaps+tcp": tls("127.0.0.1", 0, named)}
            ),
            echo,
        )
        lost: asyncio.Queue[Address] = asyncio.Queue()
        server.on_lost = lambda peer, why: lost.put_nowait(peer)
        sockets = server._socket.sockets  # type: ignore[union-attr]
        at: dict[Scheme, Address] = {scheme: each.address for scheme, each in sockets.items()}
        openers = {
            "coap": udp(),
            "coaps": dtls_to(udp(), at["coaps"], CLIENT),
            "coap+tcp": tcp_to(at["coap+tcp"]),
            "coaps+tcp": tls_to(at["coaps+tcp"], CLIENT, framing="rfc8323"),
        }
        body = bytes(range(200)) * 10
        for scheme, opener in openers.items():
            client = await Endpoint.open(opener, echo)
            to = at["coap"] if scheme == "coap" else Connection(*at[scheme], scheme)  # type: ignore[index, arg-type]
            assert (await client.request(Message(code=codes.GET, uri_path=("large",)), to)).payload == bytes(
                range(256)
            ) * 16
            await client.request(Message(code=codes.PUT, uri_path=("up",), payload=body), to)
            peer = next(each for each in server._peers._peers if scheme_of(each) == scheme)
            assert server.connected(peer)
            identity = server.identity(peer)
            assert (identity.name if identity else None) == ("board-1" if "coaps" in scheme else None)
            assert server.block_size(peer) == (512 if scheme == "coap+tcp" else 1024)
            back = await server.request(Message(code=codes.GET, uri_path=("back",)), peer)
            assert back.payload == b"back|"
            await client.close()
            if scheme != "coap":
                async with asyncio.timeout(SOON):
                    assert await lost.get() == peer
                assert not server.connected(peer)
                with pytest.raises(Unreachable):
                    await server.request(Message(code=codes.GET), peer)
        with pytest.raises(HandshakeFailed):
            await Endpoint.open(tls_to(at["coaps+tcp"], Authority("Other CA").security("x")))
        async with asyncio.timeout(SOON):
            while not failures:
                await asyncio.sleep(0.001)
        await server.close()
        assert [scheme_of(peer) for peer in failures] == ["coaps+tcp"]

    run(story)


def test_if_one_cannot_be_opened_none_stays_open() -> None:
    async def story() -> None:
        taken = await tcp()(lambda data, peer: None)
        opened = []

        async def watched(on_message):  # type: ignore[no-untyped-def]
            opened.append(await udp()(on_message))
            return opened[0]

        with pytest.raises(Unreachable, match="cannot bind TCP"):
            await Endpoint.open(together({"coap": watched, "coap+tcp": tcp(port=taken.address[1])}))
        again = await udp(port=opened[0].address[1])(lambda data, peer: None)  # the port is free
        again.close()
        taken.close()

    run(story)
