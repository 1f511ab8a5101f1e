"""CoAP over TLS 1.2: one message a record with the stock client, RFC 8323 with everyone else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

from pdmlab.coap.admission import StreamParameters
from pdmlab.coap.connections import ClientLink, OnMessage, ServerLinks
from pdmlab.coap.framing import Way
from pdmlab.coap.openssl import client_context, server_context
from pdmlab.coap.recognition import framing_for
from pdmlab.coap.security import Security
from pdmlab.coap.streams import Accept, Connect, accept_protocols, connect_protocol
from pdmlab.coap.tls_ends import TlsClientLink, TlsServerLink
from pdmlab.coap.transport import Address, Opener

_ALPN = b"coap"
"""What RFC 8323 calls itself (section 8.2); the stock client has no such extension."""


def tls(
    host: str,
    port: int,
    security: Security,
    *,
    accept: Accept | None = None,
    parameters: StreamParameters | None = None,
) -> Opener:
    """Return an opener of a server: on a real port (0: any free one), or of the connections that `accept` hands over.

    Sessions are kept in memory: after a restart of the process each peer's next handshake is a full one.

    The opener raises ConfigError when a certificate or key is of no use, and Unreachable when the port cannot be bound.
    """

    async def open_(on_message: OnMessage) -> ServerLinks:
        context = server_context(security)
        context.set_alpn_select_callback(_choose_protocol)
        links = ServerLinks("coaps+tcp", parameters or StreamParameters(), on_message, security.names_failure)
        links.listener = await accept_protocols(host, port, accept, lambda: TlsServerLink(links, context, security))
        return links

    return open_


def tls_to(
    remote: Address,
    security: Security,
    *,
    connect: Connect | None = None,
    framing: Way = "record",
    session: bytes | None = None,
    on_session: Callable[[bytes], None] | None = None,
    parameters: StreamParameters | None = None,
    now: float | None = None,
) -> Opener:
    """Return an opener of a client, whose handshake is complete when it is open; its one peer is named by `remote`.

    connect: how to get a stream to the address, such as a board's interface; a real socket unless given.
    framing: "record" (the stock client's) or "rfc8323".
    session: one that `on_session` was given before, to be resumed if the server still has it; secret bytes.
    now: by which certificates are judged (s since 1970), instead of `security.clock`'s or the real time.

    The server's chain is checked, and no name in it, as the stock client has it.
    The opener raises HandshakeFailed, Unreachable or TimedOut when there is no connection, and ConfigError when a
    certificate or key is of no use.
    """
    limits = parameters or StreamParameters()

    async def open_(on_message: OnMessage) -> ClientLink:
        context = client_context(security, now=now)
        if framing == "rfc8323":
            context.set_alpn_protos([_ALPN])
        links = ClientLink("coaps+tcp", limits, on_message, remote)
        _, link = await connect_protocol(
            remote,
            connect,
            lambda: TlsClientLink(links, framing_for(framing), context, security, session, on_session),
            limits.connect_timeout,
        )
        try:
            await link.ready
        except BaseException:
            links.close()
            raise
        return links

    return open_


def _choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:  # Any: a constant without a public type
    return _ALPN if _ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS
