"""Connections of a device to its two servers, and what has to be kept for the next: credentials, sessions, the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import TypeVar

from pdmlab.client.background import Background
from pdmlab.client.bootstrap import Asking, Bootstrapped, bootstrap
from pdmlab.client.connection import Proof, chosen, way_to
from pdmlab.client.ear import Ear
from pdmlab.client.error import Error
from pdmlab.client.identity import Identity
from pdmlab.client.platform import Platform
from pdmlab.client.queue_mode import sleepy
from pdmlab.client.secure_time import SecureTime, ServerTime
from pdmlab.client.server import PARAMETERS
from pdmlab.client.server_uri import ServerUri
from pdmlab.client.steps import ConnectionSteps
from pdmlab.client.transport import Transport
from pdmlab.coap.endpoint import Endpoint, Handler
from pdmlab.coap.security import Security
from pdmlab.coap.told import placed, tells
from pdmlab.coap.transport import Address, Connection, Opener
from pdmlab.errors import HandshakeFailed, NetworkError, PdmlabError, StorageError, TimedOut, Unreachable
from pdmlab.network.interface import NetworkInterface

T = TypeVar("T")
STREAMS = ("coap+tcp", "coaps+tcp")


class Connector:
    """Opens one connection after the other. `report` hears of what goes wrong on the way and does not end it.

    peer: the server of the last connection; host: its name. time: what time the device thinks it is.
    """

    def __init__(
        self,
        platform: Platform,
        net: NetworkInterface,
        identity: Identity,
        background: Background,
        ear: Ear,
        steps: ConnectionSteps,
        random: Random,
        report: Callable[[Error, str], object],
    ) -> None:
        self.peer: Address = ("", 0)
        self.host = ""
        self.time: SecureTime | None = None
        self._platform = platform
        self._net = net
        self._identity = identity
        self._background = background
        self._ear = ear
        self._steps = steps
        self._random = random
        self._report = report
        self._told: ServerTime | None = None
        self._session: bytes | None = None  # what is to be stored, or being stored
        self._storing = asyncio.Lock()
        self._associated = self._chain_lost = False

    async def prepare(self) -> None:
        """Find out what time it is, as far as it was saved."""
        self.time = await self._background.blocking(SecureTime, self._platform.clock, self._platform.nvstore)

    # -- the bootstrap server ------------------------------------------------------------------------------

    async def bootstrap(self) -> Bootstrapped:
        """Ask who manages the device, store what the server writes, and return it.

        Raises:
            BootstrapFailed, HandshakeFailed, NetworkError: see bootstrap().
            StorageError: it cannot be stored.
        """
        identity, credentials = self._identity, self._identity.credentials
        self._steps.server = "bootstrap"
        uri = ServerUri.parse(credentials.bootstrap_server_uri)
        opener, peer = await self._way(uri, identity.bootstrap_security(), trusted=True)
        asking = Asking(credentials.bootstrap_endpoint_name, identity.device_id, credentials.account_id)
        try:
            done = await bootstrap(opener, peer, uri, asking, steps=self._steps, seed=self._seed(peer), tap=self._ear)
        except PdmlabError:
            await self._take_time()
            raise
        await self._take_time()
        self._chain_lost = done.chain_lost and bool(done.server.certificates)
        await self.store(lambda: identity.remember(done.server, device_id=done.device_id))
        await self.store(identity.remember_time, done.time, done.offset, done.zone)
        if done.time is not None:
            await self._hear(done.time, trusted=True)
        return done

    # -- the LwM2M server ------------------------------------------------------------------------------------

    async def connect(self, handler: Handler, on_lost: Callable[[Address, NetworkError], None]) -> Endpoint:
        """Open a connection to the LwM2M server, by the session of the last one if it still knows that.

        Raises:
            HandshakeFailed, NetworkError: there is no way to it.
        """
        identity = self._identity
        self._steps.server = "lwm2m"
        if self._chain_lost:
            raise HandshakeFailed(
                "the certificate chain cannot be opened",
                reason="chain lost",
                hint="the bootstrap server wrote PUT /0/0 with bare resources, which removes the client's own: PUT /0 "
                "with an object instance keeps them; the board finds them again when it is reset",
            )
        uri, security = ServerUri.parse(identity.lwm2m_uri or ""), identity.lwm2m_security()
        session = await self.store(identity.session) if security is not None else None
        opener, self.peer = await self._way(uri, security, session, self._keep_session, trusted=identity.tells_time)
        if self._mode(security) == "udp_queue":
            opener = sleepy(opener)
        self._ear.spoke = self._background.loop.time()
        try:
            endpoint = await Endpoint.open(
                opener, handler, parameters=PARAMETERS, seed=self._seed(self.peer), tap=self._ear
            )
        except HandshakeFailed as error:
            if session is None:
                raise
            await self.store(identity.forget_session)  # perhaps it was to blame
            raise Unreachable(f"{error.message}; next time without the session of before", hint=error.hint) from error
        endpoint.on_lost = on_lost
        self._associated = self._associated or (self._scheme == "coaps" and session is not None)
        await self._take_time()
        return endpoint

    def registered(self) -> None:
        """Note that the server knows the connection."""
        self._associated = self._scheme == "coaps"

    async def doubts(self, error: PdmlabError) -> bool:
        """Whether to try again at once, with a new handshake: the server may know the DTLS association no more.

        It does not answer what it cannot decrypt; so the stock client's "client hello ping", and a full registration.
        """
        if not (self._associated and isinstance(error, TimedOut)):
            return False
        self._associated = False
        await self.store(self._identity.forget_session)
        return True

    @property
    def by_stream(self) -> bool:
        """Whether the last connection is TCP or TLS."""
        return self._scheme in STREAMS

    @property
    def binding(self) -> str:
        """What registration says of it: U, or UQ in queue mode; over TCP it is U as well."""
        return "UQ" if self._mode(self._identity.lwm2m_security()) == "udp_queue" else "U"

    @property
    def _scheme(self) -> str:
        return self.peer.scheme if isinstance(self.peer, Connection) else "coap"

    # -- what is kept ------------------------------------------------------------------------------------------

    async def store(self, work: Callable[..., T], *args: object) -> T:
        """Read or write credentials, one after the other; blocking."""
        async with self._storing:
            return await self._background.blocking(work, *args)

    async def forget_server(self) -> None:
        """End the credentials: the device bootstraps again."""
        try:
            await self.store(self._identity.forget_server)
        except StorageError as error:  # the next start finds it again, and is refused again
            self._report(Error.ConnectorFailedToStoreCredentials, error.message)

    def _keep_session(self, session: bytes) -> None:
        """Store what the connection can go on with after a reset: a new session, or how far its numbers have come."""
        waiting, self._session = self._session, session
        if waiting is None:
            self._background.spawn(self._store_session())

    async def _store_session(self) -> None:
        while (session := self._session) is not None:
            try:
                await self.store(self._identity.remember_session, session)
            except StorageError as error:  # it costs a full handshake next time
                self._report(Error.ConnectorFailedToStoreCredentials, error.message)
            if self._session is session:
                self._session = None

    # -- the way -------------------------------------------------------------------------------------------------

    async def _way(
        self,
        uri: ServerUri,
        security: Security | None,
        session: bytes | None = None,
        on_session: Callable[[bytes], None] | None = None,
        *,
        trusted: bool,
    ) -> tuple[Opener, Address]:
        self.host, self._told, proof = uri.host, None, None
        self._ear.peer = uri.host, uri.port
        if security is not None:
            assert self.time is not None
            self._told = self.time.at(trusted=trusted)
            proof = Proof(replace(security, clock=self._told, tells=tells(self._ear)), session, on_session)
        opener, peer = await way_to(self._net, uri, self._mode(security), proof, self._steps)
        self._ear.peer = peer
        return placed(opener, self._ear), peer

    def _mode(self, security: Security | None) -> Transport:
        return chosen(self._platform.image.transport, secure=security is not None)

    def _seed(self, peer: Address) -> int | None:
        """Return what the message IDs and tokens of an endpoint start from: a story repeats, real sockets do not.

        A board that starts anew on a port that it had before would be taken for its own duplicate.
        """
        return self._random.getrandbits(64) if self._net.inside(peer[0]) else None

    async def _take_time(self) -> None:
        """Set the device's clock by what the server has said in its handshake."""
        told, self._told = self._told, None
        if told is not None and told.heard is not None:
            await self._hear(told.heard, trusted=told.trusted)

    async def _hear(self, seconds: int, *, trusted: bool) -> None:
        time = self.time
        assert time is not None
        try:
            await self._background.blocking(lambda: time.hear(seconds, trusted=trusted))
        except StorageError as error:  # it is known until the next reset
            self._report(Error.ConnectorFailedToStoreCredentials, error.message)
