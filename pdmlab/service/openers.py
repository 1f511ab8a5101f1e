"""The sockets of the service's two servers: DTLS and TLS under one number; plain UDP and TCP under another.

Both transports of a pair have the same number, so that credentials name one address whichever a device is built
for. The plain pair is there on loopback alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from pdmlab.coap.dtls import dtls
from pdmlab.coap.security import Security
from pdmlab.coap.tcp import tcp
from pdmlab.coap.tls import tls
from pdmlab.coap.together import Together
from pdmlab.coap.transport import Address, ConnectionSocket, DatagramSocket, Opener, Scheme, udp
from pdmlab.errors import Unreachable
from pdmlab.service.associations import Associations

_TRIES = 32  # of numbers that are free for UDP, until one is free for TCP too

OnMessage: TypeAlias = Callable[[bytes, Address], None]
Sockets: TypeAlias = dict[Scheme, DatagramSocket | ConnectionSocket]
Pair: TypeAlias = dict[Scheme, Callable[[int], Opener]]
"""Two transports, each as the function that makes its opener for a port."""


@dataclass(frozen=True)
class Wanted:
    """A port: the one that was asked for, and the one that was had last; 0 for none."""

    asked: int = 0
    last: int = 0


def server_opener(
    host: str, security: Security, associations: Associations, secure: Wanted, plain: Wanted | None
) -> Opener:
    """Return the opener of one server; plain is None where it is to have no transport without security.

    Raises:
        Unreachable: (the opener) a port that was asked for is taken.
    """
    secured: Pair = {
        "coaps": lambda port: dtls(udp(host, port), security, store=associations),
        "coaps+tcp": lambda port: tls(host, port, security),
    }
    unsecured: Pair = {"coap": lambda port: udp(host, port), "coap+tcp": lambda port: tcp(host, port)}

    async def open_(on_message: OnMessage) -> Together:
        opened: Sockets = {}
        try:
            if plain is not None:
                opened |= await _somewhere(unsecured, plain, on_message)
            opened |= await _somewhere(secured, secure, on_message)
        except BaseException:
            _close(opened)
            raise
        return Together(opened)

    return open_


async def _somewhere(pair: Pair, wanted: Wanted, on_message: OnMessage) -> Sockets:
    """Open both at the port asked for; else at the last one, or at one that is free for both."""
    if wanted.asked:
        return await _at(wanted.asked, pair, on_message)
    for port in ([wanted.last] if wanted.last else []) + [0] * _TRIES:
        try:
            return await _at(port, pair, on_message)
        except Unreachable as error:
            taken = error
    raise taken


async def _at(port: int, pair: Pair, on_message: OnMessage) -> Sockets:
    """Open both at a port; 0 takes any that is free for the first, and the same for the second."""
    opened: Sockets = {}
    try:
        for scheme, opener in pair.items():
            opened[scheme] = await opener(port)(on_message)
            port = opened[scheme].address[1]
    except BaseException:
        _close(opened)
        raise
    return opened


def _close(sockets: Sockets) -> None:
    for each in sockets.values():
        each.close()
