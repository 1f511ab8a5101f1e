"""CoAP over DTLS 1.2 (RFC 7252 section 9): `dtls` for a server, `dtls_to` for a client, over any socket of datagrams.

OpenSSL shakes hands and is then let go; the records are our own (docs/decisions/0015).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pdmlab.coap.dtls_client import DtlsClient
from pdmlab.coap.dtls_handshake import MTU, STOCK_TIMING, Timing
from pdmlab.coap.dtls_server import DtlsServer, Limits
from pdmlab.coap.dtls_store import MemoryStore, Store
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Address, Opener
from pdmlab.errors import ConfigError

__all__ = [
    "MTU",
    "STOCK_TIMING",
    "DtlsClient",
    "DtlsServer",
    "Limits",
    "MemoryStore",
    "Store",
    "Timing",
    "dtls",
    "dtls_to",
]


def dtls(
    inner: Opener,
    security: Security,
    *,
    store: Store | None = None,
    timing: Timing | None = None,
    limits: Limits | None = None,
    mtu: int = MTU,
) -> Opener:
    """Return an opener of a server's socket; its peers are `Connection`s with the scheme "coaps".

    With a store, associations go on when the server starts anew, and closing it does not end them.
    mtu: B of the largest datagram of a handshake, at least 256.

    The opener raises ConfigError when a certificate or key is of no use, and what the inner opener raises.
    """

    _check_mtu(mtu)

    async def open_(on_message: Callable[[bytes, Address], None]) -> DtlsServer:
        server = DtlsServer(security, on_message, store, timing or Timing(), limits or Limits(), mtu)
        await server.open(inner)
        return server

    return open_


def dtls_to(
    inner: Opener,
    remote: Address,
    security: Security,
    *,
    session: bytes | None = None,
    on_session: Callable[[bytes], None] | None = None,
    handshake: bool = False,
    timing: Timing | None = None,
    mtu: int = MTU,
    now: float | None = None,
) -> Opener:
    """Return an opener of a client's socket; its one peer is `Connection(*remote, "coaps")`.

    When it is open, the handshake is complete. A `session` that `on_session` was given before goes on without any,
    as the stock client does after a reset; if the server knows of it no more, it does not answer. With `handshake`
    the session is offered for an abbreviated one. `on_session` gets secret bytes after the handshake and, so that
    no number is used twice, again every thousand messages; with it, closing the socket does not end the association.

    now: by which certificates are judged (s since 1970), instead of `security.clock`'s or the real time.

    The opener raises HandshakeFailed, ConfigError when a certificate or key is of no use, and what the inner
    opener raises.
    """

    _check_mtu(mtu)

    async def open_(on_message: Callable[[bytes, Address], None]) -> DtlsClient:
        client = DtlsClient(remote, security, on_message, on_session, timing or Timing(), mtu, now)
        try:
            await client.open(inner, session, shake_hands=handshake)
        except (Exception, asyncio.CancelledError):
            client.close()
            raise
        return client

    return open_


def _check_mtu(mtu: int) -> None:
    if mtu < 256:  # OpenSSL's least, with the headers of IP and UDP
        raise ConfigError(f"no DTLS handshake fits into datagrams of {mtu} B", hint="at least 256")
