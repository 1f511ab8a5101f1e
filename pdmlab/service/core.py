"""The service without its HTTP: what devices talk to, and what REST asks of it.

    core = Core("sqlite:////tmp/lab.sqlite")
    await core.start(bootstrap=udp(), lwm2m=udp())
    ...
    await core.stop()

All of it runs on the loop on which it was started, and its database calls are synchronous there. On a
DeviceClock's loop, with openers of Fabric hosts, it runs in virtual time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa

from pdmlab.capture import MessageLog
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Opener
from pdmlab.errors import ServiceError
from pdmlab.service.accounts import Accounts
from pdmlab.service.bootstrap import Bootstrap
from pdmlab.service.campaigns import Campaigns
from pdmlab.service.channels import Channels
from pdmlab.service.delivery import Delivery
from pdmlab.service.directory import Directory
from pdmlab.service.downloads import Downloads
from pdmlab.service.firmware import Firmware
from pdmlab.service.observations import Observations
from pdmlab.service.registrations import Registrations
from pdmlab.service.requests import Requests
from pdmlab.service.resources import Resources
from pdmlab.service.routes import routes
from pdmlab.service.schema import accounts
from pdmlab.service.store import Store

_ACCOUNT = sa.select(accounts.c.id).where(accounts.c.id == sa.bindparam("account"))

PARAMETERS = TransmissionParameters(block_size=512)
"""The stock client's largest block."""


class Core:
    """Bootstrap server, LwM2M server, directory, values, queues and campaigns over one database.

    now     returns Unix seconds
    seed    makes ids, tokens and message IDs repeat; None makes them unguessable
    log     sees every CoAP message
    """

    def __init__(
        self,
        database: str | sa.URL = "sqlite://",
        *,
        now: Callable[[], float] = time.time,
        seed: int | None = None,
        log: MessageLog | None = None,
        parameters: TransmissionParameters = PARAMETERS,
    ) -> None:
        self.now = now
        self.seed = seed
        self.log = log
        self.parameters = parameters
        self.store = Store(database, now=now, seed=seed)
        self.directory = Directory(self)
        self.resources = Resources(self)
        self.registrations = Registrations(self)
        self.delivery = Delivery(self)
        self.requests = Requests(self)
        self.observations = Observations(self)
        self.downloads = Downloads(self)
        self.campaigns = Campaigns(self)
        self.bootstrap = Bootstrap(self)
        self.accounts = Accounts(self.store)
        self.channels = Channels(self.store)
        self.firmware = Firmware(self)
        self._endpoints: dict[str, Endpoint] = {}
        self._accounts: set[str] = set()

    def __repr__(self) -> str:
        state = f"{self.bootstrap_uri}, {self.lwm2m_uri}" if self._endpoints else "not started"
        return f"<Core on {self.store!r}, {state}>"

    async def start(self, *, bootstrap: Opener, lwm2m: Opener) -> None:
        """Open the database and both CoAP ports, and go on with whatever was under way.

        Raises:
            ServiceError: the database cannot be used.
            Unreachable: a port cannot be opened.
        """
        self.store.open()
        try:
            for number, (name, opener) in enumerate({"bootstrap": bootstrap, "lwm2m": lwm2m}.items()):
                self._endpoints[name] = await Endpoint.open(
                    opener,
                    parameters=self.parameters,
                    seed=None if self.seed is None else self.seed + number,
                    tap=self.log.of(name) if self.log is not None else None,
                )
            self.registrations.load()
            self.lwm2m.on_unasked = self.observations.notified
            for endpoint in self._endpoints.values():
                endpoint.handler = routes(self, endpoint)
            self.requests.resume()
            self.observations.resume()
            self.campaigns.resume()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop everything; what is under way goes on at the next start. A second call does nothing."""
        self.channels.drain()
        for part in (self.campaigns, self.observations, self.requests, self.bootstrap):
            await part.close()
        self.registrations.close()
        for endpoint in self._endpoints.values():
            await endpoint.close()
        self._endpoints.clear()
        self.store.close()

    @property
    def lwm2m(self) -> Endpoint:
        """The endpoint that devices register at, and are asked from.

        Raises:
            ServiceError: the service is not started.
        """
        return self._endpoint("lwm2m")

    def _endpoint(self, name: str) -> Endpoint:
        try:
            return self._endpoints[name]
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
        """Where devices bootstrap, as their credentials have it."""
        return f"{_uri(self._endpoint('bootstrap'))}?aid={self.account_id}"

    @property
    def lwm2m_uri(self) -> str:
        """Where devices register; bootstrap adds the account and the device."""
        return _uri(self.lwm2m)


def _uri(endpoint: Endpoint) -> str:
    host, port = endpoint.address
    return f"coap://[{host}]:{port}" if ":" in host else f"coap://{host}:{port}"
