"""The running service: the core and its REST API on one loop in a thread of its own, and its home on disk."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import os
import re
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from pdmlab import running, settings
from pdmlab import service as package
from pdmlab.aio import LoopThread
from pdmlab.capture import MessageLog
from pdmlab.coap.transport import Address, DatagramSocket, Opener, udp
from pdmlab.errors import ConfigError, ServiceError, Unreachable
from pdmlab.filelock import FileLock
from pdmlab.service.core import Core
from pdmlab.service.http import HttpServer
from pdmlab.update.credentials import RESOURCES_FILE, Credentials, UpdateResources
from pdmlab.update.developer import Developer

T = TypeVar("T")

DATABASE, KEY_FILE, DEVELOPER_FOLDER = "pdmlab.sqlite", "api-key", "developer"
DOMAIN, MODEL = "pdmlab.example", "lab"
"""Whose update keys the lab's own are."""
_STARTING = 30.0  # s


class Service:
    """A service that runs until it is closed, or the process ends. It has NO SECURITY, and listens on loopback only.

    url             of the REST API
    api_key         an administrator's key, also in the file `api-key` of its folder
    bootstrap_uri   where devices bootstrap; lwm2m_uri: where they register
    core            everything but HTTP; it belongs to the service's own thread: use `call`
    log             the CoAP messages of both ports
    """

    def __init__(self, *, name: str = "default", port: int = 0, coap_port: int = 0, bootstrap_port: int = 0) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ConfigError(
                f"{name!r} is no name for a service", hint="use letters, digits, '.', '_' and '-', at most 64"
            )
        self.name = name
        self.folder = settings.load().folder("state") / "service" / name
        self.log = MessageLog(endpoint="service", clock="host")
        self._asked = port, coap_port, bootstrap_port
        with contextlib.ExitStack() as undo:
            undo.callback(self._lock().close)
            self.core = Core(sa.URL.create("sqlite", database=str(self.folder / DATABASE)), log=self.log)
            self._thread = LoopThread(f"service-{name}")
            undo.callback(self._thread.close)
            undo.callback(self._stop)
            self._http: HttpServer | None = None
            self._thread.run(self._start(), timeout=_STARTING)
            self._undo = undo.pop_all()
        package._running[name] = self
        running.announce(name, self.url, self.api_key)
        atexit.register(self.close)

    def _lock(self) -> FileLock:
        try:
            # Keys and credentials are in the database: for its owner only. SQLite's other files take its mode.
            self.folder.mkdir(parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            database = self.folder / DATABASE
            os.close(os.open(database, os.O_RDWR | os.O_CREAT, 0o600))
            database.chmod(0o600)
            return FileLock(
                self.folder / "lock",
                f"the service {self.name!r}",
                hint=f"use that one through Cloud(url, key), its key is in {self.folder / KEY_FILE}; or take another"
                " name: serve(name='mine')",
            )
        except OSError as error:
            raise ServiceError(
                f"the state folder {self.folder} cannot be used: {error.strerror}",
                status=503,
                hint="set PDMLAB_STATE to a folder that you may write to",
            ) from error

    async def _start(self) -> None:
        core, store = self.core, self.core.store
        port, coap_port, bootstrap_port = self._asked
        store.open()
        await core.start(
            bootstrap=_opener(bootstrap_port, store.fact("bootstrap_port")),
            lwm2m=_opener(coap_port, store.fact("coap_port")),
        )
        from pdmlab.service.rest.app import make_app

        self._http = await HttpServer.open(make_app(core), port, store.fact("port"))
        self.url = f"http://127.0.0.1:{self._http.port}"
        self.account_id = core.account_id
        self.bootstrap_uri, self.lwm2m_uri = core.bootstrap_uri, core.lwm2m_uri
        self.api_key = _kept_key(self.folder / KEY_FILE, core)
        endpoint_name = store.fact("developer_endpoint") or store.ids.new()
        facts = {"port": self._http.port, "coap_port": self._ports[1], "bootstrap_port": self._ports[2]}
        with store.begin():
            for fact, value in {**facts, "developer_endpoint": endpoint_name}.items():
                store.remember(fact, str(value))
        self._credentials = Credentials(endpoint_name, self.bootstrap_uri, self.account_id)

    def _stop(self) -> None:
        if self._thread.running:
            self._thread.run(self._shut(), timeout=_STARTING)

    async def _shut(self) -> None:
        self.core.channels.drain()
        if self._http is not None:
            await self._http.close()
        await self.core.stop()

    @property
    def _ports(self) -> tuple[int, int, int]:
        ports = [int(re.search(r":(\d+)(?:\?|$)", uri)[1]) for uri in (self.url, self.lwm2m_uri, self.bootstrap_uri)]  # type: ignore[index]
        return ports[0], ports[1], ports[2]

    # -- using it ----------------------------------------------------------------------------------------

    def call(self, work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Run a function or coroutine function of the core on the service's own thread, and wait for its result.

        >>> service.call(service.core.requests.queue)  # doctest: +SKIP
        []
        """

        async def run() -> Any:  # Any: whatever the work returns
            result = work(*args, **options)
            return await result if inspect.isawaitable(result) else result

        return self._thread.run(run())

    def credentials(self) -> Credentials:
        """Return what a device must have compiled in to come here."""
        return self._credentials

    @property
    def developer(self) -> Developer:
        """The lab's update keys, in the service's folder; made when they are first used."""
        developer = Developer(self.folder / DEVELOPER_FOLDER)
        if not (developer.folder / RESOURCES_FILE).exists():
            developer.init(DOMAIN, MODEL)
        return developer

    def update_resources(self) -> UpdateResources | None:
        """Return whose updates a device of the lab accepts."""
        return self.developer.resources

    def must_be_at(self, port: int, coap_port: int, bootstrap_port: int) -> None:
        """Raise ConfigError if one of the ports (0: any) is not the service's."""
        for what, asked, is_at in zip(
            ("port", "coap_port", "bootstrap_port"), (port, coap_port, bootstrap_port), self._ports, strict=True
        ):
            if asked not in (0, is_at):
                raise ConfigError(
                    f"the service {self.name!r} runs already, with {what}={is_at}, not {asked}",
                    hint="close it first, or take another name",
                )

    def close(self) -> None:
        """Stop the service; what it knows stays on disk. A second call does nothing."""
        atexit.unregister(self.close)
        if package._running.get(self.name) is self:
            del package._running[self.name]
            running.withdraw(self.name)
        self._undo.close()

    @property
    def running(self) -> bool:
        """Whether it has not been closed."""
        return self._thread.running

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self.running:
            return f"<Service {self.name!r}, closed>"
        return (
            f"<Service {self.name!r} at {self.url}, devices at {self.bootstrap_uri} and {self.lwm2m_uri}; "
            "NO SECURITY, loopback only>"
        )

    def _repr_html_(self) -> str:
        rows = {
            "REST API": self.url if self.running else "closed",
            "API key": str(self.folder / KEY_FILE),
            "bootstrap server": self.bootstrap_uri,
            "LwM2M server": self.lwm2m_uri,
            "account": self.account_id,
            "kept in": str(self.folder),
        }
        body = "".join(f"<tr><th>{name}</th><td><code>{escape(value)}</code></td></tr>" for name, value in rows.items())
        caption = f"Service <b>{escape(self.name)}</b>: NO SECURITY, loopback only"
        return f"<table><caption>{caption}</caption>{body}</table>"


def _opener(port: int, last: str | None) -> Opener:
    """Return an opener of the port asked for; of the last one, or any, if none was."""

    async def open_(on_datagram: Callable[[bytes, Address], None]) -> DatagramSocket:
        if port == 0 and last is not None:
            try:
                return await udp(port=int(last))(on_datagram)
            except Unreachable:
                pass  # somebody else has it now
        return await udp(port=port)(on_datagram)

    return open_


def _kept_key(file: Path, core: Core) -> str:
    """Return the administrator's key in the file if it is good, else a new one that is written there."""
    # What is no text is no key either.
    kept = file.read_text(encoding="utf-8", errors="replace").strip() if file.exists() else None
    key = core.accounts.administrator(kept)
    if key != kept:
        temporary = file.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write(key + "\n")
        os.replace(temporary, file)
    return key
