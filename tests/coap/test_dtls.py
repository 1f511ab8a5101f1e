"""DTLS over a network in memory, on a virtual clock; both ends are ours, or the test speaks in bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.dtls import Limits, Timing, dtls, dtls_to
from pdmlab.coap.dtls_association import MemoryStore
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Address, Connection
from pdmlab.errors import HandshakeFailed, NetworkError, TimedOut
from tests.coap.certificates import Authority
from tests.coap.lossy import Lossy

SERVER: Address = ("192.0.2.1", 5684)
CLIENT: Address = ("192.0.2.9", 40000)
CA = Authority()
KEYS = {b"device-1": b"0123456789abcdef", b"device-2": b"another key of 2"}
PSK_SERVER = Security(psk_of=KEYS.get)
PSK_CLIENT = Security(psk=(b"device-1", KEYS[b"device-1"]))
CERTIFIED_SERVER = CA.security("server")
CERTIFIED_CLIENT = CA.security("client")


class Service:
    """An endpoint over DTLS that answers with who asks."""

    def __init__(self, network: Lossy, security: Security) -> None:
        self.network = network
        self.failures: list[HandshakeFailed] = []
        self.security = replace(security, names_failure=lambda peer, failure: self.failures.append(failure))
        self.lost: list[Address] = []
        self.peers: list[Address] = []

    async def open(self, **options: object) -> Endpoint:
        opener = dtls(self.network.opener(SERVER), self.security, **options)  # type: ignore[arg-type]
        self.endpoint = await Endpoint.open(opener, self.answer, seed=1)
        self.endpoint.on_lost = lambda peer, why: self.lost.append(peer)
        return self.endpoint

    async def answer(self, message: Message, peer: Address) -> Message:
        self.peers.append(peer)
        identity = self.endpoint.identity(peer)
        assert identity is not None
        return Message(code=codes.CONTENT, payload=message.payload or identity.name.encode())


async def connect(network: Lossy, security: Security, address: Address = CLIENT, **options: object) -> Endpoint:
    return await Endpoint.open(dtls_to(network.opener(address), SERVER, security, **options), seed=2)  # type: ignore[arg-type]


async def ask(client: Endpoint, payload: bytes = b"") -> bytes:
    message = Message(code=codes.POST if payload else codes.GET, payload=payload)
    answer: bytes = (await client.request(message, Connection(*SERVER, "coaps"))).payload
    return answer


async def settle() -> None:
    """Let what was sent last arrive."""
    await asyncio.sleep(1)


@pytest.mark.parametrize(
    ("server", "client", "name"),
    [(PSK_SERVER, PSK_CLIENT, b"device-1"), (CERTIFIED_SERVER, CERTIFIED_CLIENT, b"client")],
    ids=["psk", "certificates"],
)
async def test_both_ends_prove_who_they_are(server: Security, client: Security, name: bytes) -> None:
    network = Lossy(1)
    service = Service(network, server)
    endpoint = await service.open()
    device = await connect(network, client)
    assert await ask(device) == name
    assert await ask(device, bytes(5000)) == bytes(5000)
    peer = Connection(*SERVER, "coaps")
    assert device.connected(peer)
    assert not endpoint.connected(peer)
    identity = device.identity(peer)
    if server is CERTIFIED_SERVER:
        assert identity is not None
        assert (identity.kind, identity.name) == ("certificate", "server")
    await device.close()
    await settle()
    assert service.lost == [service.peers[0]]
    await endpoint.close()
