"""The way from a device to its server: by the transport of its build, through its network interface.

The clock of a device matters here. It believes the time in a certificate only as far as it knows what time it is, and
learns the time from the very handshake in which the certificate comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pdmlab.client.server_uri import ServerUri
from pdmlab.client.steps import ConnectionSteps
from pdmlab.client.transport import Transport
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Address, Connection, DatagramSocket, Opener

if TYPE_CHECKING:
    from pdmlab.network.bytestream import ByteStream
    from pdmlab.network.interface import NetworkInterface


@dataclass(frozen=True)
class Proof:
    """What to prove oneself with, and the session to go on with if there is one; on_session takes a new one."""

    security: Security
    session: bytes | None = field(default=None, repr=False)
    on_session: Callable[[bytes], None] | None = None


def chosen(transport: Transport | None, *, secure: bool) -> Transport:
    """Return the build's transport; unless it says, TLS with security and UDP without, as plain labs speak it."""
    return transport or ("tcp" if secure else "udp")


async def way_to(
    net: NetworkInterface, uri: ServerUri, transport: Transport, proof: Proof | None, steps: ConnectionSteps
) -> tuple[Opener, Address]:
    """Resolve a server's name and return an opener of connections to it, and its name as a peer.

    Raises:
        NetworkError: the interface is not connected, or the name cannot be resolved.
    """
    with steps.measure("resolve name"):
        host = await net.resolve(uri.host)
    remote = host, uri.port
    if transport == "tcp":
        return _stream(net, remote, proof, steps)
    if proof is None:
        return net.opener(remote), remote
    return _dtls(net, remote, proof, steps)


def _stream(
    net: NetworkInterface, remote: Address, proof: Proof | None, steps: ConnectionSteps
) -> tuple[Opener, Address]:
    connected = 0

    async def connect(remote: Address) -> ByteStream:
        nonlocal connected
        with steps.measure("TCP connect"):
            stream = await net.connect_stream(remote)
        connected = steps.now()
        return stream

    if proof is None:
        from pdmlab.coap.tcp import tcp_to

        return tcp_to(remote, connect=connect, framing="length"), Connection(*remote, "coap+tcp")
    from pdmlab.coap.tls import tls_to

    opener = tls_to(remote, proof.security, connect=connect, session=proof.session, on_session=proof.on_session)

    async def open_(on_message: Callable[[bytes, Address], None]) -> DatagramSocket:
        try:
            opened = await opener(on_message)
        except BaseException:
            if connected:
                steps.note("TLS handshake", connected, ok=False)
            raise
        steps.note("TLS handshake", connected)
        return opened

    return open_, Connection(*remote, "coaps+tcp")


def _dtls(net: NetworkInterface, remote: Address, proof: Proof, steps: ConnectionSteps) -> tuple[Opener, Address]:
    from pdmlab.coap.dtls import STOCK_TIMING, dtls_to

    opener = dtls_to(
        net.opener(remote),
        remote,
        proof.security,
        session=proof.session,
        on_session=proof.on_session,
        timing=STOCK_TIMING,
    )

    async def open_(on_message: Callable[[bytes, Address], None]) -> DatagramSocket:
        with steps.measure("DTLS handshake"):
            return await opener(on_message)

    return open_, Connection(*remote, "coaps")
