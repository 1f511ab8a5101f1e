"""The running service: the core and its REST API on one loop in a thread of its own, and its home on disk."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import inspect
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeVar

from pdmlab import running, settings
from pdmlab import service as package
from pdmlab.aio import LoopThread
from pdmlab.capture import DeviceLog, KeyLog, MessageLog
from pdmlab.coap.transport import Opener
from pdmlab.errors import ConfigError
from pdmlab.lwm2m.dialect import LwM2M
from pdmlab.service.associations import Associations
from pdmlab.service.callback_hosts import LOOPBACK as LOOPBACK_HOSTS
from pdmlab.service.core import Core
from pdmlab.service.deployment_offer import check_delivery
from pdmlab.service.engine import read_url, shown
from pdmlab.service.home import DEVELOPER_FOLDER, KEY_FILE, Home
from pdmlab.service.http import HttpServer, tls
from pdmlab.service.image_server import ImageServer
from pdmlab.service.openers import Wanted, server_opener
from pdmlab.service.page import Page
from pdmlab.service.pki import Role
from pdmlab.service.reach import LOOPBACK, Reach, url_host
from pdmlab.service.shared_keys import SharedKey
from pdmlab.service.store import Rows
from pdmlab.update.credentials import RESOURCES_FILE, Credentials, UpdateResources
from pdmlab.update.developer import Developer

T = TypeVar("T")

DOMAIN, MODEL = "pdmlab.example", "lab"
"""Whose update keys the lab's own are."""
_STARTING = 30.0  # s


@dataclass(frozen=True)
class Ports:
    """Numbers of the service's ports, by the keywords of `serve`; 0 where none is asked for, or none is open."""

    port: int = 0
    https_port: int = 0
    coaps_port: int = 0
    coaps_bootstrap_port: int = 0
    coap_port: int = 0
    bootstrap_port: int = 0
    image_port: int = 0


class Service:
    """A service that runs until it is closed, or the process ends.

    Devices reach it by DTLS and TLS; on loopback, and only there, without security too.

    url             of the REST API, on loopback
    https_url       of the REST API by HTTPS, where others reach it; None on loopback
    api_key         an administrator's key, also in the file `api-key` of its folder
    bootstrap_uri   where devices bootstrap; lwm2m_uri: where they register
    plain_bootstrap_uri, plain_lwm2m_uri    the same without security; None where there is no such port
    image_url       where boards elsewhere fetch firmware images; None on loopback, where the REST API has them
    addresses       by which devices reach it, the one in their credentials first
    ca_file         the certificate of its CA, for programs that are to trust it
    core            everything but HTTP; it belongs to the service's own thread: use `call`
    log             the messages of both servers, decoded; device_log() has those of one device
    """

    def __init__(
        self,
        *,
        name: str = "default",
        database: str | None = None,
        host: str | None = None,
        address: str | None = None,
        ports: Ports = Ports(),
        keylog: Path | str | None = None,
    ) -> None:
        self.name = name
        self.reach = Reach.at(host or LOOPBACK, address)
        self._home = Home(name, database)
        self.folder = self._home.folder
        self.log = MessageLog(endpoint="service", now=time.time_ns, dialect=LwM2M())
        self._asked = self._possible(ports)
        with contextlib.ExitStack() as undo:
            undo.callback(self._home.lock().close)
            self._keylog = KeyLog(keylog) if keylog is not None else None
            if self._keylog is not None:
                undo.callback(self._keylog.close)
            # Who may call from elsewhere must not have the service call what only this machine can reach.
            may_be_called = settings.load().text("callback_hosts") or (LOOPBACK_HOSTS if self.reach.loopback else "")
            self.core = Core(self._home.database, log=self.log, callback_hosts=may_be_called, node=name)
            self.core.campaigns.prefer = check_delivery(settings.load().text("firmware_delivery"))
            self._thread = LoopThread(f"service-{name}")
            undo.callback(self._thread.close)
            undo.callback(self._stop)
            self._http: HttpServer | None = None
            self._https: HttpServer | None = None
            self._images: ImageServer | None = None
            self._page: Page | None = None
            self._thread.run(self._start(), timeout=_STARTING)
            self._undo = undo.pop_all()
        package._running[name] = self
        running.announce(name, self.url, self.api_key)
        atexit.register(self.close)

    def _possible(self, ports: Ports) -> Ports:
        """Return the ports if they can all be opened at that reach."""
        closed: tuple[str, ...]
        if self.reach.loopback:
            closed, why = ("image_port", "https_port"), "on loopback the REST API has the images, by plain HTTP"
        else:
            closed, why = ("coap_port", "bootstrap_port"), "without security it listens on loopback alone"
        for each in closed:
            if getattr(ports, each):
                raise ConfigError(f"the service opens no {each} at {self.reach.host}: {why}", hint=f"leave {each} out")
        return ports

    async def _start(self) -> None:
        core, store = self.core, self.core.store
        core.open()
        # Ports are each process's own.
        self._mine = f"@{self.name}" if store.shared else ""
        facts = store.facts().items()
        self._facts = {name.removesuffix(self._mine): value for name, value in facts if name.endswith(self._mine)}
        core.reachable_at = self.reach.address
        core.pki.addresses = self.reach.addresses
        await core.start(
            bootstrap=self._opener("bootstrap", "coaps_bootstrap_port", "bootstrap_port"),
            lwm2m=self._opener("lwm2m", "coaps_port", "coap_port"),
        )
        if not self.reach.loopback:
            wanted = self._wanted("image_port")
            self._images = await ImageServer.open(core.firmware.open, self.reach.host, wanted.asked, wanted.last)
            core.firmware.url = f"http://{url_host(self.reach.address)}:{self._images.port}"
        from pdmlab.service.rest.app import make_app

        app = make_app(core)
        self._http = await HttpServer.open(app, self._asked.port, self._facts.get("port"))
        self.url = f"http://{LOOPBACK}:{self._http.port}"
        self.https_url: str | None = None
        if not self.reach.loopback:
            context, last = tls(*core.pki.https()), self._facts.get("https_port")
            self._https = await HttpServer.open(
                app, self._asked.https_port, last, host=self.reach.host, context=context
            )
            self.https_url = f"https://{url_host(self.reach.address)}:{self._https.port}"
        self.account_id = core.account_id
        self.bootstrap_uri, self.lwm2m_uri = core.bootstrap_uri, core.lwm2m_uri
        self.plain_bootstrap_uri = core.uri("bootstrap", secure=False) if self.reach.loopback else None
        self.plain_lwm2m_uri = core.uri("lwm2m", secure=False).partition("?")[0] if self.reach.loopback else None
        self.image_url, self.addresses = core.firmware.url, self.reach.addresses
        self.api_key = self._home.api_key(core)
        self.ca_file = self._home.ca_file(core.pki.pem)
        self._endpoint_name = self._facts.get("developer_endpoint") or store.ids.new()
        self._ports = Ports(
            port=self._http.port,
            https_port=_port_of(self.https_url),
            coaps_port=_port_of(self.lwm2m_uri),
            coaps_bootstrap_port=_port_of(self.bootstrap_uri),
            coap_port=_port_of(self.plain_lwm2m_uri),
            bootstrap_port=_port_of(self.plain_bootstrap_uri),
            image_port=_port_of(self.image_url),
        )
        # A port that is closed this time is not forgotten.
        now = {what: str(number) for what, number in dataclasses.asdict(self._ports).items() if number}
        if changed := (now | {"developer_endpoint": self._endpoint_name}).items() - self._facts.items():
            with store.begin():
                for what, value in changed:
                    store.remember(f"{what}{self._mine}", value)
        self._home.keep_port(self._http.port)

    def _opener(self, role: Role, secure: str, plain: str) -> Opener:
        return server_opener(
            self.reach.host,
            dataclasses.replace(self.core.security(role), keylog=self._keylog),
            Associations(self.core.store, f"{role}{self._mine}"),
            self._wanted(secure),
            self._wanted(plain) if self.reach.loopback else None,
        )

    def _wanted(self, what: str) -> Wanted:
        return Wanted(getattr(self._asked, what), int(self._facts.get(what, 0)))

    def _stop(self) -> None:
        if self._thread.running:
            self._thread.run(self._shut(), timeout=_STARTING)

    async def _shut(self) -> None:
        self.core.channels.drain()
        self.core.live.close()
        for each in (self._http, self._https, self._images):
            if each is not None:
                await each.close()
        await self.core.stop()

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

    def credentials(self, *, secure: bool = True, endpoint_name: str | None = None) -> Credentials:
        """Return what a device must have compiled in to come here.

        Each endpoint name has a certificate and a key of its own, made when they are first asked for; without a name,
        those of the lab's own boards. A device that is built with other ones starts anew, as a device never seen.

        secure: False for coap://, which a lab on loopback has.

        Raises:
            ServiceError: the service is not reached so; the endpoint name has more than 64 characters.
        """
        name = self._endpoint_name if endpoint_name is None else endpoint_name

        def made() -> Credentials:
            developers = self.core.developers
            return developers.credentials(developers.of_endpoint(self.account_id, name), secure=secure)

        found: Credentials = self.call(made)
        return found

    def psk(self, identity: str, key: bytes | None = None) -> SharedKey:
        """Let a plain LwM2M client in by a pre-shared key; without one, the identity's key, or a new one of 16 B.

        >>> service.psk("desk1").hex  # doctest: +SKIP
        '5f3b…'

        Raises:
            ServiceError: the identity is not 1 to 128 printable ASCII characters, or the key not 16 to 64 B.
        """
        made: SharedKey = self.call(self.core.shared_keys.add, self.account_id, identity, key)
        return made

    def device_log(self, device: str) -> DeviceLog:
        """Return what was said to and by a device, bootstrap included: by its id, or its endpoint name.

        >>> service.device_log("desk1").lines()  # doctest: +SKIP
        """
        return self.log.of_device(device)

    def page(self, *, port: int = 0, started: Callable[[str], object] | None = None) -> Page:
        """Start the live page beside the service, in a process of its own, or return it; it ends with the service.

        >>> service.page().open()  # doctest: +SKIP

        port: 0 takes the one it had last, or any free one; started: called with its address, once it answers.
        """
        if self._page is None or not self._page.running:

            def up(url: str) -> None:
                self._thread.call_soon(self._page_is_up, url)
                if started is not None:
                    started(url)

            if self._page is not None:
                self._page.close()
            self._page = Page(self.url, self.api_key, port=port, last=int(self._facts.get("page_port", 0)), started=up)
        return self._page

    def _page_is_up(self, url: str) -> None:
        self.core.page_url = url
        with self.core.store.begin():
            self.core.store.remember(f"page_port{self._mine}", str(_port_of(url)))

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

    def nodes(self) -> Rows:
        """Return the processes that share the database: name, alive, devices, heartbeat, started_at and addresses."""
        found: Rows = self.call(self.core.nodes.list)
        return found

    def must_be(
        self, host: str | None, address: str | None, ports: Ports, keylog: Path | str | None, database: str | None
    ) -> None:
        """Raise ConfigError if the service is another than was asked for; None is any, and so is a port of 0."""
        asked, found = dataclasses.asdict(ports), dataclasses.asdict(self._ports)
        asked |= {"host": host, "address": address, "keylog": None if keylog is None else Path(keylog)}
        found |= {"host": self.reach.host, "address": self.reach.address}
        asked["database"] = None if database is None else shown(read_url(database))
        found["database"] = shown(self.core.store.url)
        found["keylog"] = None if self._keylog is None else self._keylog.path
        for what, wanted in asked.items():
            if wanted not in (0, None, found[what]):
                raise ConfigError(
                    f"the service {self.name!r} runs already, with {what}={found[what]}, not {wanted}",
                    hint="close it first, or take another name",
                )

    def close(self) -> None:
        """Stop the service; what it knows stays on disk. A second call does nothing."""
        atexit.unregister(self.close)
        if self._page is not None:
            self._page.close()
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
        uris = f"devices at {self.bootstrap_uri} and {self.lwm2m_uri}"
        api = " and ".join(filter(None, (self.url, self.https_url)))
        return f"<Service {self.name!r} at {api}, {uris}; {self.security}>"

    @property
    def security(self) -> str:
        """What is secure, in words."""
        if self.reach.loopback:
            return "TLS and DTLS at coaps://; plain coap:// on loopback only"
        return (
            "TLS and DTLS alone, REST API by HTTPS; firmware images by plain HTTP, signed by their manifests; plain"
            " REST API on loopback only"
        )

    def _repr_html_(self) -> str:
        rows = {
            "REST API": self.url if self.running else "closed",
            "REST API for others": self.https_url or "",
            "API key": str(self.folder / KEY_FILE),
            "bootstrap server": self.bootstrap_uri,
            "LwM2M server": self.lwm2m_uri,
            "without security": " ".join(filter(None, (self.plain_bootstrap_uri, self.plain_lwm2m_uri))),
            "firmware images": self.image_url or "",
            "CA certificate": str(self.ca_file),
            "account": self.account_id,
            "kept in": str(self.folder),
            "database": shown(self.core.store.url) if self.core.store.shared else "",
        }
        body = "".join(
            f"<tr><th>{name}</th><td><code>{escape(value)}</code></td></tr>" for name, value in rows.items() if value
        )
        caption = f"Service <b>{escape(self.name)}</b>: {escape(self.security)}"
        return f"<table><caption>{caption}</caption>{body}</table>"


def _port_of(uri: str | None) -> int:
    found = re.search(r":(\d+)(?:\?|$)", uri or "")
    return int(found[1]) if found else 0
