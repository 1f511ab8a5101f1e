"""How a device reaches a server: over its host's network or a board's, by what its account says."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol

from pdmlab.client.plain.accounts import Account
from pdmlab.coap.transport import Address, Connection, Opener, udp
from pdmlab.errors import Unreachable
from pdmlab.network.bytestream import ByteStream


class Network(Protocol):
    """How a device reaches a server: a board's network interface is one."""

    async def resolve(self, name: str) -> str:
        """Return the numeric address of a name."""
        ...

    def opener(self, remote: Address) -> Opener:
        """Return an opener of datagram sockets towards a server."""
        ...

    def inside(self, host: str) -> bool:
        """Return whether a host is in a simulation."""
        ...

    async def connect_stream(self, remote: Address) -> ByteStream:
        """Connect a byte stream to a server."""
        ...


class HostNetwork:
    """The network of the machine that this runs on."""

    async def resolve(self, name: str) -> str:
        """See Network.

        Raises:
            Unreachable: the name is not known.
        """
        try:
            return str(ipaddress.ip_address(name))
        except ValueError:
            pass
        try:
            found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        except OSError as error:
            raise Unreachable(f"the name {name!r} is not known here: {error}") from error
        addresses = [str(each[4][0]) for each in found]
        return next((each for each in addresses if ":" not in each), addresses[0])

    def inside(self, host: str) -> bool:
        """See Network."""
        return False

    def opener(self, remote: Address) -> Opener:
        """See Network."""
        address = ipaddress.ip_address(remote[0])
        if address.is_loopback:
            return udp(str(address))
        return udp("0.0.0.0" if address.version == 4 else "::")


async def connection(account: Account, network: Network | HostNetwork) -> tuple[Opener, Address]:
    """Return how to open a connection to an account's server, and the name of its other end.

    Raises:
        ConfigError: the account makes no sense.
        NetworkError: its name is not known.
    """
    uri, security = account.uri, account.security()
    remote = (await network.resolve(uri.host), uri.port)
    peer: Address = remote if uri.scheme == "coap" else Connection(*remote, uri.scheme)
    if not uri.stream:
        inner = network.opener(remote)
        if security is None:
            return inner, peer
        from pdmlab.coap.dtls import dtls_to

        return dtls_to(inner, remote, security), peer
    connect: Callable[[Address], Awaitable[ByteStream]] | None = getattr(network, "connect_stream", None)
    if security is None:
        from pdmlab.coap.tcp import tcp_to

        return tcp_to(remote, connect=connect, framing="rfc8323"), peer
    from pdmlab.coap.tls import tls_to

    return tls_to(remote, security, connect=connect, framing="rfc8323"), peer
