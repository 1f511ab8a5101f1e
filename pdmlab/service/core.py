"""The service without its HTTP: what devices talk to, and what REST asks of it.

    core = Core("sqlite:////tmp/lab.sqlite")
    await core.start(bootstrap=udp(), lwm2m=udp())
    ...
    await core.stop()

All of it runs on the loop on which it was started, and its database calls are synchronous there. On a
DeviceClock's loop, with openers of Fabric hosts, it runs in virtual time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import get_args

import sqlalchemy as sa

from pdmlab.capture import MessageLog, Tap
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.security import Security
from pdmlab.coap.together import Together
from pdmlab.coap.told import tells
from pdmlab.coap.transport import Address, ConnectionSocket, DatagramSocket, Identity, Opener, Scheme, scheme_of
from pdmlab.errors import ServiceError
from pdmlab.service.accounts import Accounts
from pdmlab.service.belief import Belief
from pdmlab.service.bootstrap import Bootstrap
from pdmlab.service.bulk import Bulks
from pdmlab.service.bus import Bus
from pdmlab.service.callback_hosts import LOOPBACK, CallbackHosts
from pdmlab.service.callback_sender import HttpSender
from pdmlab.service.callbacks import Callbacks
from pdmlab.service.campaigns import Campaigns
from pdmlab.service.channels import Channels
from pdmlab.service.counting import Counting, counted
from pdmlab.service.credentials import Credentials
from pdmlab.service.delivery import Delivery
from pdmlab.service.developers import Developers
from pdmlab.service.device_groups import DeviceGroups
from pdmlab.service.directory import Directory
from pdmlab.service.downloads import Downloads
from pdmlab.service.enrollment import Enrollments
from pdmlab.service.est import Est
from pdmlab.service.factory import Factory
from pdmlab.service.firmware import Firmware
from pdmlab.service.issuers import Issuers
from pdmlab.service.live import Live
from pdmlab.service.metrics import Metrics
from pdmlab.service.nodes import Nodes
from pdmlab.service.observations import Observations
from pdmlab.service.pki import Pki, Role
from pdmlab.service.queries import Queries
from pdmlab.service.refusals import Refusals
from pdmlab.service.registrations import Registrations
from pdmlab.service.requests import Requests
from pdmlab.service.resources import Resources
from pdmlab.service.routes import routes
from pdmlab.service.schema import accounts
from pdmlab.service.shared_keys import SharedKeys
from pdmlab.service.store import Store
from pdmlab.service.trusted import TrustedCertificates
from pdmlab.service.unanswered import Unanswered
from pdmlab.service.uploads import Uploads
from pdmlab.service.websockets import WebSockets

_ACCOUNT = sa.select(accounts.c.id).where(accounts.c.id == sa.bindparam("account"))

PARAMETERS = TransmissionParameters(block_size=512)
"""The stock client's largest block."""


class Core:
    """Bootstrap server, LwM2M server, directory, values, queues and campaigns over one database.

    now     returns Unix seconds
    seed    makes ids, tokens and message IDs repeat; None makes them unguessable
    log     sees every CoAP message
    callback_hosts  whom callbacks may call: see callback_hosts.py
    node    the name of this process among those that share the database
    """

    def __init__(
        self,
        database: str | sa.URL = "sqlite://",
        *,
        now: Callable[[], float] = time.time,
        seed: int | None = None,
        log: MessageLog | None = None,
        parameters: TransmissionParameters = PARAMETERS,
        callback_hosts: str = LOOPBACK,
        node: str = "service",
    ) -> None:
        self.now = now
        self.seed = seed
        self.log = log
        self.parameters = parameters
        self.reachable_at: str | None = None
        """The address that devices are told; None for the one that is listened on."""
        self.page_url: str | None = None
        """Where people look at the service, if a page runs beside it."""
        self.store = Store(database, now=now, seed=seed)
        self.bus = Bus(self.store, node)
        self.nodes = Nodes(self, node)
        self.metrics = Metrics(self)
        self.pki = Pki(self.store)
        self.shared_keys = SharedKeys(self)
        self.trusted = TrustedCertificates(self)
        self.developers = Developers(self)
        self.belief = Belief(self)
        self.factory = Factory(self)
        self.credentials = Credentials(self)
        self.directory = Directory(self)
        self.device_groups = DeviceGroups(self.store)
        self.queries = Queries(self.store)
        self.enrollments = Enrollments(self)
        self.bulks = Bulks(self)
        self.resources = Resources(self)
        self.registrations = Registrations(self)
        self.delivery = Delivery(self)
        self.requests = Requests(self)
        self.unanswered = Unanswered(self)
        self.observations = Observations(self)
        self.downloads = Downloads(self)
        self.campaigns = Campaigns(self)
        self.bootstrap = Bootstrap(self)
        self.issuers = Issuers(self)
        self.est = Est(self)
        self.refusals = Refusals(self)
        self.accounts = Accounts(self.store, self.bus)
        self.channels = Channels(self.store, self.bus)
        self.nodes.on_news.append(self.channels.wake_all)
        self.websockets = WebSockets(self.channels, self.bus)
        sender = HttpSender(CallbackHosts.parse(callback_hosts), lambda: self.pki.pem.decode())
        self.callbacks = Callbacks(self.channels, self.bus, sender)
        self.firmware = Firmware(self)
        self.uploads = Uploads(self)
        self.live = Live(log)
        self._endpoints: dict[Role, Endpoint] = {}
        self._addresses: dict[Role, dict[Scheme, Address]] = {}
        self._taps: dict[Role, Tap] = {} if log is None else {role: log.of(role) for role in get_args(Role)}
        self._accounts: set[str] = set()

    def __repr__(self) -> str:
        state = f"{self.bootstrap_uri}, {self.lwm2m_uri}" if self._endpoints else "not started"
        return f"<Core on {self.store!r}, {state}>"

    def open(self) -> None:
        """Open the database, and see to it that it has what every service has; once is enough.

        Raises:
            ServiceError: the database cannot be used.
        """
        self.store.open()
        with self.store.alone():
            self.pki.open()
            self.accounts.open()

    async def start(self, *, bootstrap: Opener, lwm2m: Opener) -> None:
        """Open the database and both CoAP ports, and go on with whatever was under way.

        Raises:
            ServiceError: the database cannot be used.
            PortBusy: another process of this name uses the database.
            Unreachable: a port cannot be opened.
        """
        self.store.open()
        try:
            self.open()
            await self.nodes.join()
            openers: dict[Role, Opener] = {"bootstrap": bootstrap, "lwm2m": lwm2m}
            for number, (role, opener) in enumerate(openers.items()):
                self._endpoints[role] = await Endpoint.open(
                    self._noting(role, opener),
                    parameters=self.parameters,
                    seed=None if self.seed is None else self.seed + number,
                    tap=Counting(self, role, self._taps.get(role)),
                )
            self.registrations.load()
            self.lwm2m.on_unasked = self.observations.notified
            self.lwm2m.on_lost = self.registrations.lost
            self._endpoint("bootstrap").on_lost = self.bootstrap.lost
            for name, endpoint in self._endpoints.items():
                endpoint.handler = routes(self, name, endpoint)
            self.channels.resume()
            self.callbacks.resume()
            self.est.resume()
            self.requests.resume()
            self.observations.resume()
            self.uploads.resume()
            self.campaigns.resume()
            self.bulks.resume()
            self.nodes.begin({role: self.uri(role).partition("?")[0] for role in openers})
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything; what is under way goes on at the next start. A second call does nothing."""
        self.channels.drain()
        await self.callbacks.close()
        self.live.close()
        for part in (
            self.bulks,
            self.campaigns,
            self.uploads,
            self.observations,
            self.requests,
            self.est,
            self.bootstrap,
        ):
            await part.close()
        self.registrations.close()
        for endpoint in self._endpoints.values():
            await endpoint.close()
        self._endpoints.clear()
        self.metrics.close()
        self.nodes.leave()
        self.store.close()

    @property
    def lwm2m(self) -> Endpoint:
        """The endpoint that devices register at, and are asked from.

        Raises:
            ServiceError: the service is not started.
        """
        return self._endpoint("lwm2m")

    def security(self, role: Role) -> Security:
        """Return what one of the two servers proves itself with, and whom it believes; the database must be open."""
        tap = self._taps.get(role)
        told = None if tap is None else tells(tap, self.credentials.who)
        return dataclasses.replace(
            self.pki.security(role),
            psk_of=self.shared_keys.of,
            judges=self.belief.judge(role),
            tells=counted(self, role, told),
        )

    def part(self, identity: Identity, why: str) -> None:
        """End the connections of whoever has proved to be somebody, at both servers."""
        for endpoint in self._endpoints.values():
            endpoint.part(identity, why)

    def _noting(self, role: Role, opener: Opener) -> Opener:
        """Note by what schemes a role's socket is reached, and where."""

        async def open_(on_message: Callable[[bytes, Address], None]) -> DatagramSocket | ConnectionSocket:
            socket = await opener(on_message)
            sockets = socket.sockets if isinstance(socket, Together) else {scheme_of(socket.address): socket}
            self._addresses[role] = {scheme: each.address for scheme, each in sockets.items()}
            if role in self._taps:
                self._taps[role].here = dict(self._addresses[role].items())
            return socket

        return open_

    def _endpoint(self, role: Role) -> Endpoint:
        try:
            return self._endpoints[role]
        except KeyError:
            raise ServiceError("the service is not started", status=503, hint="await core.start(...)") from None

    def knows_account(self, account_id: str) -> bool:
        """Whether there is such an account."""
        if account_id not in self._accounts:
            if self.store.row(_ACCOUNT, account=account_id) is None:
                return False
            self._accounts.add(account_id)
        return True

    @property
    def account_id(self) -> str:
        """The default account's id."""
        return self.store.account_id

    @property
    def bootstrap_uri(self) -> str:
        """Where devices bootstrap, as their credentials have it: with security, unless there is none."""
        return self.uri("bootstrap")

    @property
    def lwm2m_uri(self) -> str:
        """Where devices register, with security, unless there is none; bootstrap adds the account."""
        return self.uri("lwm2m").partition("?")[0]

    def address(self, role: Role, scheme: Scheme) -> str:
        """Return where a server is reached by a scheme, SCHEME://HOST:PORT, as devices see it.

        Raises:
            ServiceError: it is not reached by that.
        """
        if scheme not in self._addresses.get(role, {}):
            raise ServiceError(f"the {role} server is not reached by {scheme}", status=503)
        host, port = self._addresses[role][scheme]
        host = self.reachable_at or host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def uri(self, role: Role, *, secure: bool | None = None, account_id: str | None = None) -> str:
        """Return a server's URI for devices of an account: coaps:// if secure, coap:// if not; None takes the better.

        Raises:
            ServiceError: the service is not started, or is not reached so.
        """
        self._endpoint(role)
        schemes: dict[bool, tuple[Scheme, ...]] = {True: ("coaps", "coaps+tcp"), False: ("coap", "coap+tcp")}
        addresses = self._addresses[role]
        for wanted in (True, False) if secure is None else (secure,):
            for scheme in schemes[wanted]:
                if scheme in addresses:
                    where = self.address(role, scheme).partition("://")[2]
                    return f"{'coaps' if wanted else 'coap'}://{where}?aid={account_id or self.account_id}"
        raise ServiceError(
            f"the {role} server is not reached {'by DTLS or TLS' if secure else 'without security'}",
            status=503,
            hint=None if secure else "plain CoAP is for loopback alone: use coaps://, or serve() without a host",
        )
