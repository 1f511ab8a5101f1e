"""The REST API's server on the loop that all the rest of the service runs on: HTTP on loopback, HTTPS elsewhere."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import ssl
import tempfile
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pdmlab.errors import ServiceError, Unreachable
from pdmlab.service.http_guard import IDLE_S, MAX_WAITING, MAX_WAITING_TLS, GuardedHttp, TlsGate, Waiting
from pdmlab.service.scarcity import Scarcity
from pdmlab.service.websocket_guard import GuardedWebSocket

_GRACE = 2  # s that a request may still take when the server closes
_SAID = 4096  # B of a message from a websocket's client, who has nothing to say
# Of TLS 1.2 what hides the past from whoever gets the key later; all of TLS 1.3 does.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


def tls(certificate: bytes, private_key: bytes) -> ssl.SSLContext:
    """Return what a server proves itself with: its certificate and the key for it, both in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    with tempfile.TemporaryDirectory(prefix="pdmlab-") as folder:
        # OpenSSL takes a key from a file alone: one for its owner, and gone at once.
        file = Path(folder, "server.pem")
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM))
            out.write(
                serialization.load_der_private_key(private_key, None).private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        context.load_cert_chain(file)
    return context


class _Server(uvicorn.Server):
    """uvicorn, whose connections are guarded, and whose TLS begins with a handshake that has an end."""

    def __init__(self, config: uvicorn.Config, context: ssl.SSLContext | None, waiting: Waiting, idle: Waiting) -> None:
        super().__init__(config)
        self._context, self._waiting, self._idle = context, waiting, idle

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        made = functools.partial(
            GuardedHttp,
            self.config,
            self.server_state,
            self.lifespan.state,
            waiting=self._waiting,
            idle=self._idle,
        )
        context = self._context
        factory = made if context is None else functools.partial(TlsGate, made, context, self._waiting)
        loop = asyncio.get_running_loop()
        self.servers = [await loop.create_server(factory, sock=each) for each in sockets or ()]
        self.started = True


class HttpServer:
    """A running server; make it with `await HttpServer.open(...)`."""

    def __init__(
        self, app: Any, listener: socket.socket, context: ssl.SSLContext | None
    ) -> None:  # Any: an ASGI application has no common type
        self.port: int = listener.getsockname()[1]
        most = MAX_WAITING if context is None else MAX_WAITING_TLS
        self.waiting = Waiting(most)
        """Its connections that have not said yet what they want."""
        self.idle = Waiting(most)
        """Those that have their answer, and may ask again."""
        self._scarcity = Scarcity.watch(self.waiting, self.idle)
        self._listener = listener
        config = uvicorn.Config(
            app,
            log_config=None,
            # Below that, a line for each that speaks no HTTP; and of websockets the headers, with keys among them.
            log_level=logging.ERROR,
            access_log=False,
            proxy_headers=False,  # nobody stands before it whose word on the caller would count
            http=GuardedHttp,
            ws=GuardedWebSocket,
            ws_max_size=_SAID,
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=_GRACE,
            timeout_keep_alive=IDLE_S,
            lifespan="off",  # ours has none, and one that is cancelled while it starts is told with a traceback
        )
        self._server = _Server(config, context, self.waiting, self.idle)
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))
        self._task.add_done_callback(self._ended)

    def __repr__(self) -> str:
        return f"<HttpServer, port {self.port}>"

    @classmethod
    async def open(
        cls,
        app: Any,
        port: int = 0,
        last: str | None = None,
        *,
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
    ) -> HttpServer:
        """Listen on the port asked for; on the last one, or any, if none was. Requests are answered on return.

        context: what it proves itself with; without, it is plain HTTP, which is for loopback alone.

        Raises:
            Unreachable: the port is taken.
        """
        server = cls(app, _listen(host, port, last), context)
        while not server._server.started:
            if server._task.done():
                raise ServiceError("the HTTP server did not start", status=503) from server._task.exception()
            await asyncio.sleep(0.002)
        return server

    def _ended(self, _: asyncio.Task[None]) -> None:
        """Close the port however it ended: cancelled, uvicorn does not."""
        self._scarcity.forget(self.waiting, self.idle)
        for each in getattr(self._server, "servers", ()):
            each.close()
        self._listener.close()

    async def close(self) -> None:
        """Answer what is under way, and stop."""
        self._server.should_exit = True
        await self._task


def _listen(host: str, port: int, last: str | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for number in ([int(last)] if port == 0 and last is not None else []) + [port]:
        # With the protocol named: of a socket made without it, uvicorn does not turn Nagle's delay off.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((host, number))
            listener.listen(1024)
        except OSError as error:
            listener.close()
            if number == port:
                raise Unreachable(
                    f"cannot listen on {host}:{port}: {error.strerror}",
                    hint="is another program there? port 0 takes any free one",
                ) from error
            continue
        return listener
    raise AssertionError("the last number returns or raises")
