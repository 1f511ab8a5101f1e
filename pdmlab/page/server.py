"""The page's server: NiceGUI behind the door, on a socket that is open before the first request is answered."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from pdmlab.errors import ConfigError, Unreachable

LOOPBACK = "127.0.0.1"
_LOCAL = frozenset({LOOPBACK, "localhost", "::1"})


def listen(host: str, port: int, last: int = 0) -> socket.socket:
    """Listen on a port; with 0, on the last one if it is free, else on any.

    Raises:
        ConfigError: the host is no address.
        Unreachable: the port is taken, or the address is not this machine's.
    """
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError as error:
        raise ConfigError(f"{host!r} is no address to listen on", hint="127.0.0.1, or one of this machine's") from error
    for number in [last, port] if port == 0 and last else [port]:
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: else Nagle's delay stays on
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, number))
            listener.listen(128)
        except OSError as error:
            listener.close()
            if number == port:
                raise Unreachable(
                    f"the page cannot listen on {host}:{port}: {error.strerror}",
                    hint="is another program there? port 0 takes any free one",
                ) from error
            continue
        return listener
    raise AssertionError("the last number returns or raises")


def address_of(listener: socket.socket, *, secure: bool) -> str:
    """Return the URL of a page on a socket."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": LOOPBACK, "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"{'https' if secure else 'http'}://{host}:{port}"


async def serve(
    url: str,
    listener: socket.socket,
    *,
    ca: Path | None = None,
    certificate: tuple[Path, Path] | None = None,
    beside: bool = False,
    ended: asyncio.Event,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Serve the page of the service at that URL until `ended` is set; not in the main thread, whose signals are taken.

    ca: whom the service's https is signed by; certificate: files of the page's own certificate and key, for https;
    beside: the service has started it, and it ends with that.
    """
    # NiceGUI looks for a folder of its own as it is imported; it is not to make one where somebody happens to be.
    with tempfile.TemporaryDirectory(prefix="pdmlab-page-") as folder:
        os.environ["NICEGUI_STORAGE_PATH"] = folder
        import uvicorn
        from fastapi import FastAPI
        from nicegui import ui

        from pdmlab.page import views
        from pdmlab.page.door import Door
        from pdmlab.page.doorway import Doorway

        secure = certificate is not None
        own = address_of(listener, secure=secure)
        door = Door(url, ca, f"page at {own.partition('://')[2]}", beside=beside)
        views.make(door)
        app = FastAPI(openapi_url=None)
        ui.run_with(
            app,
            title="pdmlab",
            favicon=views.FAVICON,
            dark=None,
            language="en-US",
            reconnect_timeout=10.0,
            tailwind=False,
            show_welcome_message=False,
        )
        bound = str(listener.getsockname()[0])
        config = uvicorn.Config(
            Doorway(app, door, _LOCAL if ip_address(bound).is_loopback else None, secure=secure),
            log_config=None,
            access_log=False,
            ws="wsproto",
            timeout_graceful_shutdown=1,
            ssl_certfile=certificate[0] if certificate else None,
            ssl_keyfile=certificate[1] if certificate else None,
        )
        server = uvicorn.Server(config)
        task = asyncio.get_running_loop().create_task(server.serve([listener]))
        ending = asyncio.get_running_loop().create_task(ended.wait())
        try:
            while not server.started and not task.done():
                await asyncio.sleep(0.01)
            if not task.done():
                started()
            await asyncio.wait({task, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()
            await door.close()
            server.should_exit = True
            await task
