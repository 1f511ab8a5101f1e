"""The device at one LwM2M server: connected, registered, updated, disabled for a while, asleep between updates."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.plain.accounts import Account
from pdmlab.client.plain.answering import DeviceManagement, answer
from pdmlab.client.plain.attributes import AttributeTable
from pdmlab.client.plain.connecting import HostNetwork, Network, connection
from pdmlab.client.plain.observing import Observations
from pdmlab.client.plain.reading import values_at
from pdmlab.client.plain.registering import Registration, Terms, refused, time_to_update
from pdmlab.client.plain.standard import Server, ServerObject
from pdmlab.client.plain.tree import SERVER, ObjectTree
from pdmlab.coap.endpoint import Endpoint, Tap
from pdmlab.coap.exchange import Outcome
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address, DatagramSocket, Opener
from pdmlab.errors import ConfigError, Lwm2mError, NetworkError, PdmlabError, Unreachable
from pdmlab.lwm2m.attributes import NotificationAttributes
from pdmlab.lwm2m.content import SENML_CBOR
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.payload import encode_all

PARAMETERS = TransmissionParameters(max_body=1 << 20)
DISABLE_TIMEOUT = 86400  # s, the default of /1/x/5
RETRIES, RETRY_AFTER, LONGEST_PAUSE = 5, 60, 3600  # /1/x/17 and 18 (s), doubled each time; the last is an estimate

State = Literal["connecting", "registered", "disabled", "waiting", "ended"]


class Device(Protocol):
    """What a link needs of the device that it belongs to."""

    endpoint_name: str
    version: str
    queue_mode: bool
    network: Network | HostNetwork
    tree: ObjectTree
    servers: ServerObject
    random: Random

    def seed(self, peer: Address) -> int | None:
        """Return what message IDs and tokens towards a peer start from."""
        ...

    @property
    def tap(self) -> Tap:
        """Sees each message."""
        ...

    def report(self, error: PdmlabError) -> None:
        """Hear what went wrong."""
        ...

    def registered(self, link: ServerLink) -> None:
        """Hear that a server knows the device now."""
        ...


@dataclass(eq=False)
class _Wanted:
    """What somebody wants of a link."""

    update: bool = False
    disable: bool = False
    close: bool = False


class ServerLink:
    """One account at work; `run` ends after `close`, or raises when it gives up."""

    def __init__(self, device: Device, account: Account, instance: int) -> None:
        self.account = account
        self.instance = instance
        self.state: State = "connecting"
        self.registration = Registration(device.endpoint_name, device.tree, account.uri.queries)
        self.attributes = AttributeTable()
        self.observations = Observations(device.tree, self.attributes, self)
        self.management = DeviceManagement(
            device.tree, self.attributes, self.observations, ours=instance, version=lambda: device.version
        )
        self._device = device
        self._loop = asyncio.get_running_loop()
        self._endpoint: Endpoint | None = None
        self._peer: Address = ("", 0)
        self._wanted = _Wanted()
        self._wake = asyncio.Event()
        self._heard = self._loop.time()
        self._due: float | None = None

    def __repr__(self) -> str:
        return f"<ServerLink {self.account.short_id} at {self.account.uri.host}:{self.account.uri.port}, {self.state}>"

    # -- what others want ----------------------------------------------------------------------------------

    def update(self) -> None:
        """Update the registration now."""
        self._want(update=True)

    def disable(self) -> None:
        """Deregister, and stay away for /1/x/5."""
        self._want(disable=True)

    def close(self) -> None:
        """Deregister, and end."""
        self._want(close=True)

    def _want(self, **what: bool) -> None:
        for name in what:
            setattr(self._wanted, name, True)
        self._wake.set()

    def changed(self, path: Path) -> None:
        """Hear that something is new below a path: tell observers, and the server if its list is another now."""
        self.observations.changed(path)
        mine = path.object == SERVER and path.instance == self.instance
        if path.resource is None or (mine and path.resource in (Server.LIFETIME, Server.BINDING)):
            self.update()

    @property
    def address(self) -> Address | None:
        """Where the server reaches the device."""
        return self._endpoint.address if self._endpoint is not None else None

    def reaches(self, scheme: str, remote: Address) -> bool:
        """Whether this is the server at an address, and the device may ask it."""
        return self.online and self.account.uri.scheme == scheme and tuple(self._peer)[:2] == tuple(remote)[:2]

    async def request(self, message: Message) -> Message:
        """Ask the server.

        Raises:
            NetworkError: it does not answer, or the device is not registered there.
        """
        if self._endpoint is None or not self.online:
            raise Unreachable(f"not registered at server {self.account.short_id}")
        return await self._endpoint.request(message, self._peer)

    # -- the line that observations use ----------------------------------------------------------------------

    @property
    def online(self) -> bool:
        """See observing.Line."""
        return self.state == "registered" and self._endpoint is not None

    @property
    def stores(self) -> bool:
        """See observing.Line."""
        return bool(self._number(Server.STORING, True))

    @property
    def defaults(self) -> NotificationAttributes:
        """See observing.Line; without /1/x/2 pmin is 0, and without /1/x/3 there is no pmax."""
        pmin, pmax = self._number(Server.PMIN, 0), self._number(Server.PMAX, 0)
        return NotificationAttributes(pmin=pmin or None).under(NotificationAttributes(pmax=pmax or None))

    def notify(self, message: Message, token: bytes, on_result: Callable[[Outcome], None]) -> None:
        """See observing.Line."""
        if self._endpoint is not None:
            self._endpoint.notify(self._peer, message, token, on_result=on_result)

    def unheard(self) -> None:
        """See observing.Line: an update finds out whether the server is still there."""
        self.update()

    def _number(self, resource: Server, default: int) -> int:
        return self._device.servers.number(self.instance, resource, default)

    # -- at work -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Register, and stay registered until `close`.

        Raises:
            PdmlabError: the server did not take the device, however often it tried (/1/x/17).
        """
        failures = 0
        try:
            await self._pause(self.account.hold_off)
            while not self._wanted.close:
                try:
                    await self._connect()
                    await self._register()
                    failures = 0
                    await self._stay()
                except PdmlabError as error:
                    self._hang_up()
                    failures += 1
                    self._device.report(error)
                    # An account that makes no sense makes none later either.
                    if isinstance(error, ConfigError) or failures > self._number(Server.RETRY_COUNT, RETRIES):
                        raise
                    self.state = "waiting"
                    first = self._number(Server.RETRY_TIMER, RETRY_AFTER)
                    await self._pause(min(first * 2 ** (failures - 1), LONGEST_PAUSE))
        finally:
            self.state = "ended"
            self.observations.cancel_all()
            self._hang_up()

    async def _connect(self) -> None:
        self.state = "connecting"
        opener, self._peer = await connection(self.account, self._device.network)
        self._endpoint = await Endpoint.open(
            self._drowsy(opener), self._serve, parameters=PARAMETERS, seed=self._device.seed(self._peer), tap=self._tap
        )
        self._endpoint.on_lost = lambda peer, why: self._want(update=True)
        self._endpoint.takes_blocks = lambda request, peer: peer == self._peer and self.management.streams(request)

    def _hang_up(self) -> None:
        if self._endpoint is not None:
            self._endpoint.abort()
            self._endpoint = None

    async def _serve(self, request: Message, peer: Address) -> Message | None:
        if peer != self._peer:
            return answer(codes.UNAUTHORIZED, "this device is managed from elsewhere")
        return await self.management(request, peer)

    def _terms(self) -> Terms:
        device = self._device
        binding = device.servers.text(self.instance, Server.BINDING).replace("Q", "") or "U"
        # One server, one transport: what the URI says counts, whatever else the device could do.
        binding = "T" if self.account.uri.stream else binding
        return Terms(self._number(Server.LIFETIME, 86400), binding, device.version, device.queue_mode)

    async def _register(self) -> None:
        assert self._endpoint is not None
        self.observations.cancel_all()
        self._wanted.update = False
        await self.registration.register(self._endpoint, self._peer, self._terms())
        self.state = "registered"
        self._plan()
        self._device.registered(self)

    def _plan(self) -> None:
        lifetime = self.registration.terms.lifetime
        wait = time_to_update(lifetime, PARAMETERS.max_transmit_wait)
        self._due = self._loop.time() + wait if lifetime else None  # 0 is for ever

    async def _stay(self) -> None:
        """Keep the registration up until `close`; raise when the server does not answer any more."""
        while True:
            await self._attention(self._due)
            assert self._endpoint is not None
            if self._wanted.close:
                await self._withdraw()
                return
            if self._wanted.disable:
                await self._stay_away()
                continue
            self._wanted.update = False
            if not self._endpoint.connected(self._peer):
                raise Unreachable(f"the connection to {self.account.uri.host}:{self.account.uri.port} has ended")
            if await self.registration.update(self._endpoint, self._peer, self._terms()):
                self._plan()
                self.observations.flush()
            else:
                await self._register()

    async def _withdraw(self) -> None:
        endpoint = self._endpoint
        assert endpoint is not None
        try:
            await self.registration.withdraw(endpoint, self._peer)
        except (NetworkError, Lwm2mError) as error:
            self._device.report(error)

    async def _stay_away(self) -> None:
        await self._withdraw()
        self.state, self._wanted.disable = "disabled", False
        self._hang_up()
        await self._pause(self._number(Server.DISABLE_TIMEOUT, DISABLE_TIMEOUT))
        if not self._wanted.close:
            await self._connect()
            await self._register()

    async def _attention(self, until: float | None) -> None:
        """Wait until somebody wants something, or until a time of the loop (s)."""
        if not (self._wanted.close or self._wanted.disable or self._wanted.update):
            try:
                async with asyncio.timeout_at(until):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    async def _pause(self, seconds: float) -> None:
        until = self._loop.time() + seconds
        while self._loop.time() < until and not self._wanted.close:
            self._wanted.update = self._wanted.disable = False  # there is nothing to update or leave
            await self._attention(until)

    # -- queue mode ---------------------------------------------------------------------------------------------

    def _drowsy(self, opener: Opener) -> Opener:
        """Return an opener of a socket that hears nothing while the device sleeps."""
        if not self._device.queue_mode:
            return opener

        async def open_(on_message: Callable[[bytes, Address], None]) -> DatagramSocket:
            def heard(data: bytes, peer: Address) -> None:
                if not self.asleep:
                    self._heard = self._loop.time()
                    on_message(data, peer)

            return await opener(heard)

        return open_

    @property
    def asleep(self) -> bool:
        """Whether nothing has gone either way for MAX_TRANSMIT_WAIT (93 s), in queue mode."""
        return self._device.queue_mode and self._loop.time() > self._heard + PARAMETERS.max_transmit_wait

    def _tap(self, direction: Literal["in", "out"], peer: Address, data: bytes, when: int) -> None:
        if direction == "out":
            self._heard = self._loop.time()
        self._device.tap(direction, peer, data, when)

    # -- telling without being asked ------------------------------------------------------------------------------

    async def send(self, paths: list[Path | None]) -> None:
        """Send values to the server (POST /dp), which has not asked for them.

        Raises:
            Lwm2mError: the server does not want any (/1/x/23), refuses these, or nothing of them can be read.
            NetworkError: it does not answer, or the device is not registered.
        """
        if self._number(Server.MUTE_SEND, False):
            raise Lwm2mError("the server has muted Send", hint=f"/1/{self.instance}/23 is true; it may write false")
        if self._endpoint is None or not self.online:
            raise Unreachable(f"not registered at server {self.account.short_id}")
        values = values_at(self._device.tree, paths)
        if not values:
            raise Lwm2mError(f"nothing can be read of {', '.join(str(each or '/') for each in paths)}")
        payload = encode_all(values, self._device.tree.type_of, SENML_CBOR, None)
        request = Message(code=codes.POST, uri_path=("dp",), content_format=SENML_CBOR, payload=payload)
        response = await self._endpoint.request(request, self._peer)
        if not response.code.is_successful():
            raise refused(response, "/dp")
