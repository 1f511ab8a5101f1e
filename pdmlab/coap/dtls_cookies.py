"""How a DTLS server answers a ClientHello without keeping anything of its sender (RFC 6347 section 4.2.1)."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable

from OpenSSL import SSL

from pdmlab.coap.dtls_record import split
from pdmlab.coap.handshake import Handshake
from pdmlab.coap.openssl import connection
from pdmlab.coap.transport import Address

_LIFETIME = 300.0  # s; a cookie of the period before is taken too
_SIZE = 16  # B
# A context keeps the sessions of its handshakes, 5 KB each with certificates, and lets nobody limit them.
_SESSIONS = 256


class Greeter:
    """Sends cookies to who says hello, and tells who came back with one.

    One connection of OpenSSL's listens for all; the client that proves where it is gets it for its handshake.
    """

    def __init__(self, make_context: Callable[[], SSL.Context], mtu: int) -> None:
        self._make_context = make_context
        self._mtu = mtu
        self._context = self._new_context()
        self._taken = 0
        self._loop = asyncio.get_running_loop()
        self._secret = secrets.token_bytes(32)
        self._listener: SSL.Connection | None = None
        self._asking: Address = ("", 0)

    def __repr__(self) -> str:
        return f"<Greeter, cookies for {_LIFETIME:g} s>"

    def take(self, hello: bytes, address: Address) -> tuple[SSL.Connection | None, list[bytes]]:
        """Take the record of a ClientHello.

        Returns:
            the connection that has it, if its cookie is right, and else what to answer.
        """
        listener = self._listener = self._listener or self._new_listener()
        self._asking = address
        listener.bio_write(hello)
        try:
            listener.DTLSv1_listen()
        except SSL.WantReadError:
            try:
                return None, list(split(listener.bio_read(1 << 14)))
            except SSL.WantReadError:
                return None, []
        except SSL.Error:  # nothing that may be answered; what OpenSSL still has of it goes too
            self._listener = None
            return None, []
        self._listener = None
        self._taken += 1
        if self._taken % _SESSIONS == 0:
            self._context = self._new_context()
        return listener, []

    def _new_context(self) -> SSL.Context:
        context = self._make_context()
        context.set_cookie_generate_callback(lambda _: self._cookie(0))
        context.set_cookie_verify_callback(lambda _, cookie: self._is_cookie(cookie))
        return context

    def _new_listener(self) -> SSL.Connection:
        listener = connection(self._context, Handshake(server=True, datagrams=True))
        listener.set_ciphertext_mtu(self._mtu)
        return listener

    def _cookie(self, age: int) -> bytes:
        period = int(self._loop.time() / _LIFETIME) - age
        return hmac.digest(self._secret, repr((self._asking, period)).encode(), "sha256")[:_SIZE]

    def _is_cookie(self, cookie: bytes) -> bool:
        return any(hmac.compare_digest(cookie, self._cookie(age)) for age in (0, 1))
