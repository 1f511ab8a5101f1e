"""The client at work, from register_and_connect() to close(): bootstrap, registration, and what keeps them up."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from aiocoap import Message

from pdmlab.capture import MessageLog
from pdmlab.client.background import Background
from pdmlab.client.backoff import rebootstrapping, reconnection
from pdmlab.client.bootstrap import Asking, bootstrap
from pdmlab.client.connection import Proof, chosen, way_to
from pdmlab.client.ear import Ear
from pdmlab.client.enrollment import Renewal
from pdmlab.client.error import Error, error_of
from pdmlab.client.fota import FirmwareUpdate, running_firmware
from pdmlab.client.hooks import Hooks
from pdmlab.client.identity import Identity
from pdmlab.client.objects import CURRENT_TIME, ENROLL, Actions, ObjectTree, current_time, enrollment, standard_objects
from pdmlab.client.observation import Observations
from pdmlab.client.platform import Platform
from pdmlab.client.queue_mode import sleepy
from pdmlab.client.registration import UPDATE_AT, Registration
from pdmlab.client.resource import MbedCloudClientResource, Resource
from pdmlab.client.secure_time import SecureTime, ServerTime
from pdmlab.client.server import PARAMETERS, ResourceServer
from pdmlab.client.server_uri import ServerUri
from pdmlab.client.steps import ConnectionSteps
from pdmlab.client.transport import Transport
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.told import tells
from pdmlab.coap.transport import Address, Connection, Opener, text_of
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

T = TypeVar("T")
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
        self._transport = platform.image.transport
        self._random = Random(int.from_bytes(platform.random_bytes(8), "big"))
        self._backoff, self._rebootstrap = reconnection(self._random), rebootstrapping(self._random)
        self._background = Background(platform.clock)
        self._loop = platform.clock.loop
        running = running_firmware(platform)
        actions = Actions(
            self._reboot,
            self._factory_reset,
            self._update_soon,
            self._receive_manifest,
            self._ask_update,
            self._disable,
        )
        self._objects = standard_objects(identity.credentials, identity.update, str(running[0]), actions)
        self._tree = ObjectTree([], self._random)
        self._observations = Observations(self._tree, self._background, self._lose)
        self._server = ResourceServer(self._tree, self._observations, self._background)
        self._update = FirmwareUpdate(
            platform, identity, self._objects, self._observations, self, hooks, self._background, net, running=running
        )
        self._renewal = Renewal(identity, self._background)
        for resource in [*self._objects.resources, *resources]:
            self.add(resource)
        self._time: SecureTime | None = None
        self._told: ServerTime | None = None
        self._session: bytes | None = None  # what is to be stored, or being stored
        self._registration: Registration | None = None
        self._endpoint: Endpoint | None = None
        self._host = ""
        self._peer: Address = ("", 0)
        self._due = 0.0
        self._staying = self._wanted = self._closing = self._resting = self._chain_lost = self._associated = False
        self._lost: NetworkError | None = None
        self._storing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._online = asyncio.Event()
        self._task: asyncio.Task[object] | None = None

    # -- from any thread -------------------------------------------------------------------------------

    @property
    def address(self) -> Address | None:
        """Where anybody can reach the device: its UDP port; None over a connection, which has one other end."""
        reachable = self._endpoint is not None and not isinstance(self._peer, Connection)
        return self._endpoint.address if self._endpoint is not None and reachable else None

    @property
    def server(self) -> Address | None:
        """The LwM2M server that the device is connected to."""
        return self._peer if self._staying else None

    @property
    def time(self) -> SecureTime | None:
        """What time the device thinks it is."""
        return self._time

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
                    if self._resting:
                        await self._rest()
                except ConfigError as error:  # credentials that make no sense make none later either
                    self.report(error_of(error), _sentence(error))
                    return
                except PdmlabError as error:
                    if not await self._doubts(error):
                        await self._stumbled(error)
            await self._sign_off()
            await self._end()
        finally:
            self.is_registered = False
            self._hang_up()
            self._update.hang_up()
            self._observations.stop()

    async def _prepare(self) -> None:
        self._time = await self._background.blocking(SecureTime, self._platform.clock, self._platform.nvstore)
        try:
            await self._update.prepare()
        except StorageError as error:
            self.report(Error.ConnectorFailedToReadCredentials, error.message)

    async def _live(self) -> None:
        """Do all that it takes to be registered, and stay so until close()."""
        self._hang_up()
        if self.identity.server is None:
            await self._bootstrap()
        if self._chain_lost:
            raise HandshakeFailed(
                "the certificate chain cannot be opened",
                reason="chain lost",
                hint="the bootstrap server wrote PUT /0/0 with bare resources, which removes the client's own: PUT /0 "
                "with an object instance keeps them; the board finds them again when it is reset",
            )
        self._endpoint = await self._connect()
        self._server.endpoint = self._endpoint
        if self._registration is None:
            self._registration = self._first_registration()
        await self._sign_on(self._registration, self._endpoint)
        self._backoff.reset()
        self._rebootstrap.reset()
        self._staying = True
        self._associated = isinstance(self._peer, Connection) and self._peer.scheme == "coaps"
        self._observations.connected(self._endpoint)
        self._online.set()
        try:
            await self._stay(self._registration, self._endpoint)
        finally:
            self._staying = False
            self._online.clear()

    def _seed(self, peer: Address) -> int | None:
        """Return what the message IDs and tokens of an endpoint start from: a story repeats, real sockets do not.

        A board that starts anew on a port that it had before would be taken for its own duplicate.
        """
        return self._random.getrandbits(64) if self._net.inside(peer[0]) else None

    async def _bootstrap(self) -> None:
        credentials, identity = self.identity.credentials, self.identity
        self._steps.server = "bootstrap"
        uri, security = ServerUri.parse(credentials.bootstrap_server_uri), identity.bootstrap_security()
        opener, peer = await self._way(uri, security)
        asking = Asking(credentials.bootstrap_endpoint_name, identity.device_id, credentials.account_id)
        try:
            done = await bootstrap(opener, peer, uri, asking, steps=self._steps, seed=self._seed(peer), tap=self._ear)
        except PdmlabError:
            await self._take_time()
            raise
        await self._take_time()
        self._registration, self._chain_lost = None, done.chain_lost and bool(done.server.certificates)
        await self._store(lambda: identity.remember(done.server, device_id=done.device_id))
        await self._store(identity.remember_time, done.time, done.offset, done.zone)
        if done.time is not None:
            await self._hear(done.time, trusted=True)
        if done.lifetime is not None:
            self._objects.lifetime.update(done.lifetime)

    async def _connect(self) -> Endpoint:
        """Open a connection to the LwM2M server, by the session of the last one if it still knows that."""
        identity = self.identity
        self._steps.server = "lwm2m"
        uri, security = ServerUri.parse(identity.lwm2m_uri or ""), identity.lwm2m_security()
        session = await self._store(identity.session) if security is not None else None
        opener, self._peer = await self._way(uri, security, session, self._keep_session)
        if self._mode(security) == "udp_queue":
            opener = sleepy(opener)
        self._lost, self._ear.spoke = None, self._loop.time()
        try:
            endpoint = await Endpoint.open(
                opener, self._server, parameters=PARAMETERS, seed=self._seed(self._peer), tap=self._ear
            )
        except HandshakeFailed as error:
            if session is None:
                raise
            await self._store(identity.forget_session)  # perhaps it was to blame
            raise Unreachable(f"{error.message}; next time without the session of before", hint=error.hint) from error
        await self._take_time()
        endpoint.on_lost = self._hung_up
        if isinstance(self._peer, Connection) and self._peer.scheme == "coaps":
            self._associated = self._associated or session is not None
        return endpoint

    async def _way(
        self,
        uri: ServerUri,
        security: Security | None,
        session: bytes | None = None,
        on_session: Callable[[bytes], None] | None = None,
    ) -> tuple[Opener, Address]:
        self._host, self._told = uri.host, None
        self._ear.peer = uri.host, uri.port
        proof = None
        if security is not None:
            assert self._time is not None
            self._told = self._time.at(trusted=self._steps.server == "bootstrap" or self.identity.tells_time)
            proof = Proof(replace(security, clock=self._told, tells=tells(self._ear)), session, on_session)
        opener, peer = await way_to(self._net, uri, self._mode(security), proof, self._steps)
        self._ear.peer = peer
        return opener, peer

    async def _store(self, work: Callable[..., T], *args: object) -> T:
        """Read or write credentials, one after the other."""
        async with self._storing:
            return await self._background.blocking(work, *args)

    def _keep_session(self, session: bytes) -> None:
        """Store what the connection can go on with after a reset: a new session, or how far its numbers have come."""
        waiting, self._session = self._session, session
        if waiting is None:
            self._background.spawn(self._store_session())

    async def _store_session(self) -> None:
        while (session := self._session) is not None:
            try:
                await self._store(self.identity.remember_session, session)
            except StorageError as error:  # it costs a full handshake next time
                self.report(Error.ConnectorFailedToStoreCredentials, error.message)
            if self._session is session:
                self._session = None

    async def _take_time(self) -> None:
        """Set the device's clock by what the server has said in its handshake."""
        told, self._told = self._told, None
        if told is not None and told.heard is not None:
            await self._hear(told.heard, trusted=told.trusted)

    def _mode(self, security: Security | None) -> Transport:
        return chosen(self._transport, secure=security is not None)

    async def _hear(self, seconds: int, *, trusted: bool) -> None:
        """Take what a server says that the time is."""
        assert self._time is not None
        try:
            await self._background.blocking(lambda: self._time and self._time.hear(seconds, trusted=trusted))
        except StorageError as error:  # it is known until the next reset
            self.report(Error.ConnectorFailedToStoreCredentials, error.message)

    def _first_registration(self) -> Registration:
        identity, security = self.identity, self.identity.lwm2m_security()
        account = identity.account_id
        if security is not None and account is None:
            raise ConfigError(
                "neither the credentials nor the LwM2M server's URI name the account",
                hint="the URI that bootstrap writes needs ?aid=ACCOUNT",
            )
        return Registration(
            ServerUri.parse(identity.lwm2m_uri or ""),
            identity.endpoint_name,
            self._tree,
            account_id=account if security is not None else None,
            binding="UQ" if self._mode(security) == "udp_queue" else "U",
        )

    async def _sign_on(self, registration: Registration, endpoint: Endpoint) -> None:
        """Tell the server that the device is there: by an update if it may still know it, else in full."""
        self._wanted = False
        self._offer_what_is_known()
        if registration.location:
            with self._steps.measure("update"):
                known = await registration.update(endpoint, self._peer, self._lifetime)
        else:
            known = False
        if not known:
            with self._steps.measure("register"):
                await registration.register(endpoint, self._peer)
            self._observations.registered(self._peer)
        if registration.device_id != self.identity.device_id:
            await self._store(lambda: self.identity.remember(device_id=registration.device_id))
        if not self.is_registered:
            self.is_registered = True
            self._background.post(self._hooks.registered)
            self._background.spawn(self._update.resume())
        self._due = self._loop.time() + UPDATE_AT * registration.lifetime

    def _offer_what_is_known(self) -> None:
        """Offer what a device has only once it knows something: its time, and a certificate to renew."""
        if self._time is not None and self._time.known and self._tree.find(CURRENT_TIME) is None:
            self.add(current_time(self._time.now))
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
        stream = isinstance(self._peer, Connection) and self._peer.scheme in ("coap+tcp", "coaps+tcp")
        return self._ear.spoke + KEEP_ALIVE if stream else math.inf

    async def _ping(self, endpoint: Endpoint) -> None:
        try:
            await endpoint.ping(self._peer)
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

    async def _doubts(self, error: PdmlabError) -> bool:
        """Whether to try again at once, with a new handshake: the server may know the DTLS association no more.

        It does not answer what it cannot decrypt; so the stock client's "client hello ping", and a full registration.
        """
        if not (self._associated and isinstance(error, TimedOut)):
            return False
        self._associated, self._registration = False, None
        self._hang_up()
        await self._store(self.identity.forget_session)
        return True

    async def _stumbled(self, error: PdmlabError) -> None:
        """Report what went wrong, and wait before the next attempt."""
        number = error_of(error)
        self._hang_up()
        if self._steps.server == "lwm2m" and (number is Error.ConnectInvalidParameters or _refuses(error)):
            delay = self._rebootstrap.next()
            await self._forget_server()
        else:
            delay = self._backoff.next()
        self.report(number, _sentence(error, f"; trying again in {delay:.1f} s"))
        self._wanted = False
        await self._idle(self._loop.time() + delay)

    async def _idle(self, until: float) -> None:
        """Wait until a time of the loop (s), or until somebody wants an update."""
        # A server that is not in the simulation keeps the clock at the wall's pace, or an idle board would try
        # thousands of times a second.
        inside = self._net.inside(self._host)
        with contextlib.nullcontext() if inside else self._platform.clock.outside():
            while self._loop.time() < until and not (self._closing or self._wanted):
                await self._attention(until)

    async def _forget_server(self) -> None:
        self._registration = None
        try:
            await self._store(self.identity.forget_server)
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
        registration, endpoint = self._registration, self._endpoint
        if registration is not None and registration.location and endpoint is not None:
            try:
                await registration.withdraw(endpoint, self._peer)
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
        self._lost = why or TimedOut(f"the LwM2M server at {text_of(self._peer)} does not acknowledge any more")
        self._wake.set()

    def _hung_up(self, peer: Address, why: NetworkError) -> None:
        self._lose(Unreachable(f"the connection to the LwM2M server is lost: {why.message}", hint=why.hint))

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

    async def _disable(self, payload: bytes) -> None:
        self._resting = True
        self._wake.set()

    async def _renew(self, payload: bytes) -> bytes:
        endpoint = self._endpoint
        return await self._renewal.carry_out(payload, endpoint, self._peer)

    async def _receive_manifest(self, payload: bytes) -> None:
        await self._update.receive(payload)

    async def _reboot(self, payload: bytes) -> None:
        await self._background.call(self._platform.reset)

    async def _factory_reset(self, payload: bytes) -> None:
        await self._store(self.identity.store.factory_reset)
        await self._reboot(payload)


def _refuses(error: PdmlabError) -> bool:
    """Whether a handshake failed because one side does not believe the other."""
    return isinstance(error, HandshakeFailed) and error.reason not in _PASSING


def _sentence(error: PdmlabError, more: str = "") -> str:
    return f"{error.message}{more}" + (f" (hint: {error.hint})" if error.hint else "")
