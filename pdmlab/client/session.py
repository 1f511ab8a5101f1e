"""The client at work, from register_and_connect() to close(): bootstrap, registration, and what keeps them up."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

from aiocoap import Message

from pdmlab.capture import MessageLog
from pdmlab.client.background import Background
from pdmlab.client.backoff import rebootstrapping, reconnection
from pdmlab.client.connector import Connector
from pdmlab.client.ear import Ear
from pdmlab.client.enrollment import Renewal
from pdmlab.client.error import Error, error_of
from pdmlab.client.fota import FirmwareUpdate
from pdmlab.client.hooks import Hooks
from pdmlab.client.hub import HubUpdate
from pdmlab.client.identity import Identity
from pdmlab.client.objects import CURRENT_TIME, ENROLL, Actions, ObjectTree, current_time, enrollment, standard_objects
from pdmlab.client.observation import Observations
from pdmlab.client.platform import Platform
from pdmlab.client.registration import UPDATE_AT, Registration
from pdmlab.client.resource import MbedCloudClientResource, Resource
from pdmlab.client.secure_time import SecureTime
from pdmlab.client.server import ResourceServer
from pdmlab.client.steps import ConnectionSteps
from pdmlab.client.update_words import UpdateWords
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, Connection, text_of
from pdmlab.errors import (
    ConfigError,
    HandshakeFailed,
    NetworkError,
    PdmlabError,
    StorageError,
    TimedOut,
    Unreachable,
)
from pdmlab.network.interface import NetworkInterface

KEEP_ALIVE = 540.0
"""MBED_CLIENT_TCP_KEEPALIVE_INTERVAL: after so long without a word of its own, the device pings the server (s)."""
DISABLED = 86_400.0
"""How long a device stays away that its server has disabled (s): LwM2M 1.0's default for /1/0/5, which it has not."""
_PASSING = ("timed out", "closed", "chain lost")
"""Reasons of a failed handshake that say nothing against the device's credentials."""

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
        steps: ConnectionSteps,
    ) -> None:
        self.identity = identity
        self.is_registered = False
        self._platform = platform
        self._net = net
        self._hooks = hooks
        self._steps = steps
        self._ear = Ear(log, platform.clock)
        steps.on_step = self._ear.step
        self._random = Random(int.from_bytes(platform.random_bytes(8), "big"))
        self._backoff, self._rebootstrap = reconnection(self._random), rebootstrapping(self._random)
        self._background = Background(platform.clock)
        self._loop = platform.clock.loop
        actions = Actions(
            self._reboot,
            self._factory_reset,
            self._update_soon,
            self._ask_update,
            self._disable,
        )
        self._tree = ObjectTree([], self._random)
        self._observations = Observations(self._tree, self._background, self._lose)
        self._server = ResourceServer(self._tree, self._observations, self._background)
        self._server.words = self._words = UpdateWords(platform, self._background)
        update_client = HubUpdate if platform.bootloader.kind == "mbed" else FirmwareUpdate
        self._update = update_client(platform, identity, self._observations, self, hooks, self._background, net)
        self._objects = standard_objects(identity.credentials, self._update.objects, actions)
        self._renewal = Renewal(identity, self._background)
        self._connector = Connector(
            platform, net, identity, self._background, self._ear, steps, self._random, self.report
        )
        for resource in [*self._objects.resources, *resources]:
            self.add(resource)
        self._registration: Registration | None = None
        self._endpoint: Endpoint | None = None
        self._due = 0.0
        self.registrations = 0
        """How often the device has registered in full."""
        self._staying = self._wanted = self._closing = self._resting = False
        self._lost: NetworkError | None = None
        self._wake = asyncio.Event()
        self._online = asyncio.Event()
        self._task: asyncio.Task[object] | None = None

    # -- from any thread -------------------------------------------------------------------------------

    @property
    def address(self) -> Address | None:
        """Where anybody can reach the device: its UDP port; None over a connection, which has one other end."""
        reachable = self._endpoint is not None and not isinstance(self._connector.peer, Connection)
        return self._endpoint.address if self._endpoint is not None and reachable else None

    @property
    def server(self) -> Address | None:
        """The LwM2M server that the device is connected to."""
        return self._connector.peer if self._staying else None

    @property
    def time(self) -> SecureTime | None:
        """What time the device thinks it is."""
        return self._connector.time

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

    def resume_update(self) -> None:
        """Go on with a firmware update that the application has put off."""
        if isinstance(self._update, FirmwareUpdate):
            self._background.defer(self._spawn_update, self._update.resume, True)

    def refuse_update(self, reason: int) -> None:
        """End a firmware update that the application has put off."""
        if isinstance(self._update, FirmwareUpdate):
            self._background.defer(self._spawn_update, self._update.refuse, reason)

    def _spawn_update(self, work: Callable[[Any], Coroutine[Any, Any, None]], argument: object) -> None:
        self._background.spawn(work(argument))

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
                    if self._resting:
                        await self._rest()
                except ConfigError as error:  # credentials that make no sense make none later either
                    self.report(error_of(error), _sentence(error))
                    return
                except PdmlabError as error:
                    if await self._connector.doubts(error):
                        self._registration = None  # and in full: the server has lost more than the connection
                    else:
                        await self._stumbled(error)
            await self._sign_off()
            await self._end()
        finally:
            self.is_registered = False
            self._hang_up()
            self._update.hang_up()
            self._observations.stop()

    async def _prepare(self) -> None:
        await self._connector.prepare()
        try:
            await self._update.prepare()
        except StorageError as error:
            self.report(Error.ConnectorFailedToReadCredentials, error.message)

    async def _live(self) -> None:
        """Do all that it takes to be registered, and stay so until close()."""
        self._hang_up()
        if self.identity.server is None:
            self._registration = None
            done = await self._connector.bootstrap()
            if done.lifetime is not None:
                self._objects.lifetime.update(done.lifetime)
        self._lost = None
        self._endpoint = await self._connector.connect(self._server, self._hung_up)
        self._server.endpoint = self._endpoint
        if self._registration is None:
            self._registration = Registration.of(self.identity, self._tree, self._connector.binding)
        await self._sign_on(self._registration, self._endpoint)
        self._backoff.reset()
        self._rebootstrap.reset()
        self._staying = True
        self._connector.registered()
        self._observations.connected(self._endpoint)
        self._online.set()
        try:
            await self._stay(self._registration, self._endpoint)
        finally:
            self._staying = False
            self._online.clear()

    async def _sign_on(self, registration: Registration, endpoint: Endpoint) -> None:
        """Tell the server that the device is there: by an update if it may still know it, else in full."""
        self._wanted = False
        self._offer_what_is_known()
        if registration.location:
            with self._steps.measure("update"):
                known = await registration.update(endpoint, self._connector.peer, self._lifetime)
        else:
            known = False
        if not known:
            with self._steps.measure("register"):
                await registration.register(endpoint, self._connector.peer)
            self.registrations += 1
            self._observations.registered(self._connector.peer)
        if registration.device_id != self.identity.device_id:
            await self._connector.store(lambda: self.identity.remember(device_id=registration.device_id))
        if not self.is_registered:
            self.is_registered = True
            self._background.post(self._hooks.registered)
            if self._hooks.confirm_when_registered:
                self._background.spawn(self._confirm())
            self._background.spawn(self._update.resume())
        self._due = self._loop.time() + UPDATE_AT * registration.lifetime

    async def _confirm(self) -> None:
        """Have the bootloader keep a firmware that may be on trial: with a server it can be updated again."""
        try:
            await self._background.blocking(self._platform.bootloader.confirm)
        except StorageError as error:
            self.report(error_of(error), f"the firmware is not confirmed: {error.message}")

    def _offer_what_is_known(self) -> None:
        """Offer what a device has only once it knows something: its time, and a certificate to renew."""
        time = self.time
        if time is not None and time.known and self._tree.find(CURRENT_TIME) is None:
            self.add(current_time(time.now))
        if self.identity.lwm2m_security() is not None and self._tree.find(ENROLL) is None:
            self.add(enrollment(self._renew))

    async def _stay(self, registration: Registration, endpoint: Endpoint) -> None:
        while True:
            await self._attention(min(self._due, self._keep_alive))
            if self._closing or self._resting:
                return
            if self._lost is not None:
                raise self._lost
            if self._wanted or self._loop.time() >= self._due:
                await self._sign_on(registration, endpoint)
            elif self._loop.time() >= self._keep_alive:
                self._ear.spoke = self._loop.time()
                self._background.spawn(self._ping(endpoint))

    @property
    def _keep_alive(self) -> float:
        """When to ping: over a stream only."""
        return self._ear.spoke + KEEP_ALIVE if self._connector.by_stream else math.inf

    async def _ping(self, endpoint: Endpoint) -> None:
        try:
            await endpoint.ping(self._connector.peer)
        except NetworkError as error:
            if endpoint is self._endpoint:
                self._lose(error)

    async def _rest(self) -> None:
        """Deregister, and stay away for as long as a disabled device does, unless somebody wants an update."""
        await self._sign_off()
        self.is_registered = False
        self._hang_up()
        self._resting = self._wanted = False
        await self._idle(self._loop.time() + DISABLED)

    async def _stumbled(self, error: PdmlabError) -> None:
        """Report what went wrong, and wait before the next attempt."""
        number = error_of(error)
        self._hang_up()
        if self.identity.server is not None and (number is Error.ConnectInvalidParameters or _refuses(error)):
            delay = self._rebootstrap.next()
            self._registration = None
            await self._connector.forget_server()
        else:
            delay = self._backoff.next()
        self.report(number, _sentence(error, f"; trying again in {delay:.1f} s"))
        self._wanted = False
        await self._idle(self._loop.time() + delay)

    async def _idle(self, until: float) -> None:
        """Wait until a time of the loop (s), or until somebody wants an update."""
        # A server that is not in the simulation keeps the clock at the wall's pace, or an idle board would try
        # thousands of times a second.
        inside = self._net.inside(self._connector.host)
        with contextlib.nullcontext() if inside else self._platform.clock.outside():
            while self._loop.time() < until and not (self._closing or self._wanted):
                await self._attention(until)

    async def _attention(self, until: float) -> None:
        """Wait until somebody wants something, or until a time of the loop (s)."""
        try:
            async with asyncio.timeout_at(until):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _sign_off(self) -> None:
        registration, endpoint = self._registration, self._endpoint
        if registration is not None and registration.location and endpoint is not None:
            try:
                await registration.withdraw(endpoint, self._connector.peer)
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

    def _lose(self, why: NetworkError | None = None) -> None:
        self._lost = why or TimedOut(
            f"the LwM2M server at {text_of(self._connector.peer)} does not acknowledge any more"
        )
        self._wake.set()

    def _hung_up(self, peer: Address, why: NetworkError) -> None:
        self._lose(Unreachable(f"the connection to the LwM2M server is lost: {why.message}", hint=why.hint))

    def report(self, error: Error, details: str) -> None:
        """Tell the application what went wrong, in its turn."""
        self._words.heard(error, details)
        self._background.post(self._hooks.failed, error, details)

    async def request(self, message: Message) -> Message:
        """Ask the LwM2M server."""
        if self._endpoint is None:
            raise Unreachable("there is no connection to the LwM2M server")
        return await self._endpoint.request(message, self._connector.peer)

    async def recover(self) -> None:
        """Connect anew, and wait until the server knows the device again."""
        if self._staying:
            self._online.clear()
            self._lose()
        await self._online.wait()

    async def _update_soon(self, payload: bytes) -> None:
        self._ask_update()

    async def _disable(self, payload: bytes) -> None:
        self._resting = True
        self._wake.set()

    async def _renew(self, payload: bytes) -> bytes:
        endpoint = self._endpoint
        return await self._renewal.carry_out(payload, endpoint, self._connector.peer)

    async def _reboot(self, payload: bytes) -> None:
        await self._background.call(self._platform.reset)

    async def _factory_reset(self, payload: bytes) -> None:
        await self._connector.store(self.identity.store.factory_reset)
        await self._reboot(payload)


def _refuses(error: PdmlabError) -> bool:
    """Whether a handshake failed because one side does not believe the other."""
    return isinstance(error, HandshakeFailed) and error.reason not in _PASSING


def _sentence(error: PdmlabError, more: str = "") -> str:
    return f"{error.message}{more}" + (f" (hint: {error.hint})" if error.hint else "")
