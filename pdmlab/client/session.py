"""The client at work, from register_and_connect() to close(): bootstrap, registration, and what keeps them up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from random import Random
from typing import Literal

from aiocoap import Message

from pdmlab.capture import MessageLog
from pdmlab.client.background import Background
from pdmlab.client.backoff import rebootstrapping, reconnection
from pdmlab.client.bootstrap import bootstrap
from pdmlab.client.error import Error, error_of
from pdmlab.client.fota import FirmwareUpdate, running_firmware
from pdmlab.client.hooks import Hooks
from pdmlab.client.objects import Actions, ObjectTree, standard_objects
from pdmlab.client.observation import Observations
from pdmlab.client.platform import Platform
from pdmlab.client.provisioning import Identity
from pdmlab.client.registration import UPDATE_AT, Registration
from pdmlab.client.resource import MbedCloudClientResource, Resource
from pdmlab.client.server import PARAMETERS, ResourceServer
from pdmlab.client.server_uri import ServerUri
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, Opener
from pdmlab.errors import ConfigError, PdmlabError, StorageError, TimedOut, Unreachable
from pdmlab.network.interface import NetworkInterface

_at_work: set[Session] = set()  # the loop holds tasks weakly, and an application may forget its client


class Session:
    """One client's life at its servers.

    Make and `start` it in device code; `add`, `update`, `close` and what only reads may be called from any thread.
    """

    def __init__(
        self,
        platform: Platform,
        net: NetworkInterface,
        identity: Identity,
        resources: Sequence[MbedCloudClientResource],
        hooks: Hooks,
        log: MessageLog,
    ) -> None:
        self.identity = identity
        self.is_registered = False
        self._platform = platform
        self._net = net
        self._hooks = hooks
        self._log = log
        self._random = Random(int.from_bytes(platform.random_bytes(8), "big"))
        self._backoff, self._rebootstrap = reconnection(self._random), rebootstrapping(self._random)
        self._background = Background(platform.clock)
        self._loop = platform.clock.loop
        running = running_firmware(platform)
        actions = Actions(
            self._reboot, self._factory_reset, self._update_soon, self._receive_manifest, self._ask_update
        )
        self._objects = standard_objects(identity.credentials, identity.update, str(running[0]), actions)
        self._tree = ObjectTree([], self._random)
        self._observations = Observations(self._tree, self._background, self._lose)
        self._server = ResourceServer(self._tree, self._observations, self._background)
        self._update = FirmwareUpdate(
            platform, identity, self._objects, self._observations, self, hooks, self._background, running=running
        )
        for resource in [*self._objects.resources, *resources]:
            self.add(resource)
        self._registration: Registration | None = None
        self._endpoint: Endpoint | None = None
        self._host = ""
        self._peer: Address = ("", 0)
        self._due = 0.0
        self._staying = self._lost = self._wanted = self._closing = False
        self._wake = asyncio.Event()
        self._online = asyncio.Event()
        self._task: asyncio.Task[object] | None = None

    # -- from any thread -------------------------------------------------------------------------------

    @property
    def address(self) -> Address | None:
        """Where the device can be reached: the port that its registration came from."""
        return self._endpoint.address if self._endpoint is not None else None

    def add(self, resource: Resource) -> None:
        """Offer a resource; a registered device says so with its next update.

        Raises:
            ConfigError: there is one of that path.
        """
        self._tree.add(resource)
        resource.on_change = self._changed
        if isinstance(resource, MbedCloudClientResource):
            resource.background = self._background

    def _changed(self, resource: Resource) -> None:
        self._background.defer(self._observations.changed, resource)

    def start(self) -> None:
        """Begin; call it from device code."""
        _at_work.add(self)
        self._task = self._background.spawn(self._run())
        self._task.add_done_callback(lambda _: _at_work.discard(self))

    def update(self) -> None:
        """Update the registration soon."""
        self._background.defer(self._ask_update)

    def close(self) -> None:
        """Deregister soon, and end."""
        self._background.defer(self._close)

    def _close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        if not self._staying and self._task is not None:  # there is nothing to withdraw
            self._task.cancel()
            self._background.spawn(self._end())

    # -- the client's own thread -----------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._prepare()
            while not self._closing:
                try:
                    await self._live()
                except ConfigError as error:  # credentials that make no sense make none later either
                    self.report(error_of(error), _sentence(error))
                    return
                except PdmlabError as error:
                    await self._stumbled(error)
            await self._sign_off()
            await self._end()
        finally:
            self.is_registered = False
            self._hang_up()
            self._observations.stop()

    async def _prepare(self) -> None:
        try:
            await self._update.prepare()
        except StorageError as error:
            self.report(Error.ConnectorFailedToReadCredentials, error.message)

    async def _live(self) -> None:
        """Do all that it takes to be registered, and stay so until close()."""
        if self.identity.lwm2m_uri is None:
            await self._bootstrap()
        uri = ServerUri.parse(self.identity.lwm2m_uri or "")
        opener, self._peer = await self._find(uri)
        self._hang_up()
        self._endpoint = await Endpoint.open(
            opener, self._server, parameters=PARAMETERS, seed=self._seed(self._peer), tap=self._tap
        )
        self._server.endpoint = self._endpoint
        if self._registration is None:
            self._registration = Registration(uri, self.identity.credentials.bootstrap_endpoint_name, self._tree)
        await self._sign_on(self._registration, self._endpoint)
        self._backoff.reset()
        self._rebootstrap.reset()
        self._staying, self._lost = True, False
        self._observations.connected(self._endpoint)
        self._online.set()
        try:
            await self._stay(self._registration, self._endpoint)
        finally:
            self._staying = False
            self._online.clear()

    def _tap(self, direction: Literal["in", "out"], peer: Address, message: Message, when: int) -> None:
        self._log.clock = self._platform.clock.name  # it goes live with the first real socket
        self._log(direction, peer, message, when)

    async def _find(self, uri: ServerUri) -> tuple[Opener, Address]:
        self._host = uri.host
        peer = (await self._net.resolve(uri.host), uri.port)
        return self._net.opener(peer), peer

    def _seed(self, peer: Address) -> int | None:
        """Return what the message IDs and tokens of an endpoint start from: a story repeats, real sockets do not.

        A board that starts anew on a port that it had before would be taken for its own duplicate.
        """
        return self._random.getrandbits(64) if self._net.inside(peer[0]) else None

    async def _bootstrap(self) -> None:
        credentials, identity = self.identity.credentials, self.identity
        uri = ServerUri.parse(credentials.bootstrap_server_uri)
        opener, peer = await self._find(uri)
        done = await bootstrap(
            opener,
            peer,
            uri,
            credentials.bootstrap_endpoint_name,
            identity.device_id,
            seed=self._seed(peer),
            tap=self._tap,
        )
        self._registration = None
        await self._background.blocking(lambda: identity.remember(lwm2m_uri=done.lwm2m_uri, device_id=done.device_id))
        if done.lifetime is not None:
            self._objects.lifetime.update(done.lifetime)

    async def _sign_on(self, registration: Registration, endpoint: Endpoint) -> None:
        """Tell the server that the device is there: by an update if it may still know it, else in full."""
        if not registration.location or not await registration.update(endpoint, self._peer, self._lifetime):
            await registration.register(endpoint, self._peer)
            self._observations.registered(self._peer)
        if registration.device_id != self.identity.device_id:
            await self._background.blocking(lambda: self.identity.remember(device_id=registration.device_id))
        if not self.is_registered:
            self.is_registered = True
            self._background.post(self._hooks.registered)
            self._background.spawn(self._update.resume())
        self._due = self._loop.time() + UPDATE_AT * registration.lifetime

    async def _stay(self, registration: Registration, endpoint: Endpoint) -> None:
        while True:
            await self._attention(self._due)
            if self._closing:
                return
            if self._lost:
                raise TimedOut(f"the LwM2M server at {self._peer[0]}:{self._peer[1]} does not acknowledge any more")
            await self._sign_on(registration, endpoint)

    async def _stumbled(self, error: PdmlabError) -> None:
        """Report what went wrong, and wait before the next attempt."""
        number = error_of(error)
        delay = self._backoff.next()
        if number is Error.ConnectInvalidParameters:
            delay = self._rebootstrap.next()
            await self._forget_server()
        self.report(number, _sentence(error, f"; trying again in {delay:.1f} s"))
        self._wanted = False
        until = self._loop.time() + delay
        # A server that is not in the simulation keeps the clock at the wall's pace, or an idle board would try
        # thousands of times a second.
        inside = self._net.inside(self._host)
        with contextlib.nullcontext() if inside else self._platform.clock.outside():
            while self._loop.time() < until and not (self._closing or self._wanted):
                await self._attention(until)

    async def _forget_server(self) -> None:
        self._registration = None
        try:
            await self._background.blocking(self.identity.forget_server)
        except StorageError as error:  # the next start finds it again, and is refused again
            self.report(Error.ConnectorFailedToStoreCredentials, error.message)

    async def _attention(self, until: float) -> None:
        """Wait until somebody wants something, or until a time of the loop (s)."""
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _sign_off(self) -> None:
        if self._registration is not None and self._registration.location and self._endpoint is not None:
            try:
                await self._registration.withdraw(self._endpoint, self._peer)
            except PdmlabError as error:
                self.report(error_of(error), error.message)

    async def _end(self) -> None:
        self.is_registered = False
        await self._background.call(self._hooks.unregistered)
        self._background.cancel()

    def _hang_up(self) -> None:
        self._server.endpoint = None
        self._observations.disconnected()
        if self._endpoint is not None:
            self._endpoint.abort()
            self._endpoint = None

    # -- what others want ------------------------------------------------------------------------------

    @property
    def _lifetime(self) -> int:
        value = self._objects.lifetime.value
        assert isinstance(value, int)
        return value

    def _ask_update(self) -> None:
        self._wanted = True
        self._wake.set()

    def _lose(self) -> None:
        self._lost = True
        self._wake.set()

    def report(self, error: Error, details: str) -> None:
        """Tell the application what went wrong, in its turn."""
        self._background.post(self._hooks.failed, error, details)

    async def request(self, message: Message) -> Message:
        """Ask the LwM2M server."""
        if self._endpoint is None:
            raise Unreachable("there is no connection to the LwM2M server")
        return await self._endpoint.request(message, self._peer)

    async def recover(self) -> None:
        """Connect anew, and wait until the server knows the device again."""
        if self._staying:
            self._online.clear()
            self._lose()
        await self._online.wait()

    async def _update_soon(self, payload: bytes) -> None:
        self._ask_update()

    async def _receive_manifest(self, payload: bytes) -> None:
        await self._update.receive(payload)

    async def _reboot(self, payload: bytes) -> None:
        await self._background.call(self._platform.reset)

    async def _factory_reset(self, payload: bytes) -> None:
        await self._background.blocking(self.identity.store.clear)
        await self._reboot(payload)


def _sentence(error: PdmlabError, more: str = "") -> str:
    return f"{error.message}{more}" + (f" (hint: {error.hint})" if error.hint else "")
