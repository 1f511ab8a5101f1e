"""A page that runs in a thread of this process, until it is closed."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Self

from pdmlab import running
from pdmlab.aio import LoopThread
from pdmlab.errors import ConfigError, ServiceError
from pdmlab.page.server import LOOPBACK, address_of, listen, serve

_STARTING = 30.0  # s


class Running:
    """The page of the service at a URL; there is one in a process, since its library is made so.

    url  where browsers find it
    """

    _only = threading.Lock()

    def __init__(
        self,
        service: str,
        *,
        host: str = LOOPBACK,
        port: int = 0,
        last: int = 0,
        ca: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
        beside: bool = False,
    ) -> None:
        """port: 0 takes the last one, if it is free, or any; certificate: files of its own, and of the key, for https;
        beside: the service has started it, and it ends with that.

        Raises:
            ConfigError: a page runs in this process already, or the host is no address.
            Unreachable: the port is taken, or the address is not this machine's.
        """
        if not self._only.acquire(blocking=False):
            raise ConfigError("a page runs in this process already", hint="close it first, or start another process")
        with contextlib.ExitStack() as undo:
            undo.callback(self._only.release)
            listener = undo.enter_context(listen(host, port, last))
            self.service, self.url = service, address_of(listener, secure=certificate is not None)
            self._thread = undo.enter_context(LoopThread("page"))
            started, ended = asyncio.Event(), asyncio.Event()

            async def start() -> asyncio.Task[None]:
                task = asyncio.get_running_loop().create_task(
                    serve(
                        service,
                        listener,
                        ca=ca,
                        certificate=certificate,
                        beside=beside,
                        ended=ended,
                        started=started.set,
                    )
                )
                waiting = asyncio.get_running_loop().create_task(started.wait())
                await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if task.done():
                    raise ServiceError("the page did not start", status=503) from task.exception()
                return task

            task = self._thread.run(start(), timeout=_STARTING)

            async def end() -> None:
                ended.set()
                await task

            undo.callback(lambda: self._thread.run(end(), timeout=_STARTING))
            self._undo = undo.pop_all()

    def link(self, api_key: str) -> str:
        """Return an address that opens the page signed in with this key, once and within two minutes.

        Raises:
            ServiceError: the service does not know the key, or does not answer.
        """
        return running.page_link(self.url, api_key)

    def close(self) -> None:
        """End the page, with all that is open in it."""
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Running page of {self.service} at {self.url}>"
