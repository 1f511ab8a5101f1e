"""The REST API's HTTP server on the loop that all the rest of the service runs on."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import uvicorn

from pdmlab.errors import ServiceError, Unreachable

_GRACE = 2  # s that a request may still take when the server closes
_SAID = 4096  # B of a message from a websocket's client, who has nothing to say


class HttpServer:
    """A running server on loopback; make it with `await HttpServer.open(...)`."""

    def __init__(self, app: Any, listener: socket.socket) -> None:  # Any: an ASGI application has no common type
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                log_level=logging.INFO,  # below that, the websockets' headers are logged, and keys are among them
                access_log=False,
                http="httptools",
                ws="websockets-sansio",
                ws_max_size=_SAID,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=_GRACE,
            )
        )
        self._task = asyncio.get_running_loop().create_task(self._server.serve(sockets=[listener]))

    @classmethod
    async def open(cls, app: Any, port: int = 0, last: str | None = None) -> HttpServer:
        """Listen on the port asked for; on the last one, or any, if none was. Requests are answered on return.

        Raises:
            Unreachable: the port is taken.
        """
        server = cls(app, _listen(port, last))
        while not server._server.started:
            if server._task.done():
                raise ServiceError("the HTTP server did not start", status=503) from server._task.exception()
            await asyncio.sleep(0.002)
        return server

    async def close(self) -> None:
        """Answer what is under way, and stop."""
        self._server.should_exit = True
        await self._task
        self._listener.close()


def _listen(port: int, last: str | None) -> socket.socket:
    for number in ([int(last)] if port == 0 and last is not None else []) + [port]:
        # With the protocol named: of a socket made without it, uvicorn does not turn Nagle's delay off.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", number))
            listener.listen(1024)
        except OSError as error:
            listener.close()
            if number == port:
                raise Unreachable(
                    f"cannot listen on 127.0.0.1:{port}: {error.strerror}",
                    hint="is another program there? port 0 takes any free one",
                ) from error
            continue
        return listener
    raise AssertionError("the last number returns or raises")
