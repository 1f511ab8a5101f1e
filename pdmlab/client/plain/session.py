"""A device from start to close: bootstrapped if need be, and registered at each server that it has an account for."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, Literal, TypeAlias, TypeVar

from aiocoap.numbers import codes

from pdmlab.client.plain.accounts import Account, accounts_of
from pdmlab.client.plain.bootstrapping import bootstrap
from pdmlab.client.plain.connecting import HostNetwork, Network
from pdmlab.client.plain.firmware import FirmwareObject
from pdmlab.client.plain.firmware_fetch import PackageFetcher
from pdmlab.client.plain.kept_accounts import KeptAccounts
from pdmlab.client.plain.link import LONGEST_PAUSE, RETRY_AFTER, ServerLink
from pdmlab.client.plain.objects import Lwm2mObject, Refusal, TableObject
from pdmlab.client.plain.standard import Server, ServerObject, StatisticsObject
from pdmlab.client.plain.tree import ObjectTree
from pdmlab.coap.endpoint import Endpoint, Tap
from pdmlab.coap.transport import Address
from pdmlab.errors import BootstrapFailed, ConfigError, PdmlabError, StorageError, Unreachable
from pdmlab.lwm2m.paths import Path

T = TypeVar("T")
_Work: TypeAlias = "asyncio.Future[Any]"  # tasks, whatever comes of them


class Session:
    """One device at work; make it and `run` it on its loop.

    on_registered  hears of each registration at a server, with the link to it
    on_error       hears of what went wrong, and is tried again
    """

    def __init__(
        self,
        endpoint_name: str,
        security: TableObject,
        servers: ServerObject,
        others: Iterable[Lwm2mObject],
        *,
        version: str,
        queue_mode: bool,
        network: Network | HostNetwork,
        tap: Tap,
        seed: int | None = None,
        kept: KeptAccounts | None = None,
    ) -> None:
        self.endpoint_name = endpoint_name
        self.version = version
        self.queue_mode = queue_mode
        self.network = network
        self.security = security
        self.servers = servers
        self.tree = ObjectTree([security, servers, *others])
        self.random = Random(seed)
        self.links: list[ServerLink] = []
        self.on_registered: Callable[[ServerLink], object] = lambda link: None
        self.on_error: Callable[[PdmlabError], object] = lambda error: None
        self.error: PdmlabError | None = None
        self.bootstraps = 0
        """How often a bootstrap server has finished."""
        self._tap = tap
        self._seed = seed
        self._kept = kept
        self._closing = self._bootstrap_wanted = self._restarting = False
        self._wake = asyncio.Event()
        self._at_work: dict[_Work, ServerLink | None] = {}
        self.online = asyncio.Event()
        """Set once a server knows the device."""
        self._parting: Endpoint | None = None  # to the bootstrap server, which may not have heard the last answer
        self._statistics = [each for each in self.tree if isinstance(each, StatisticsObject)]
        self._firmware = next((each for each in self.tree if isinstance(each, FirmwareObject)), None)
        if self._firmware is not None:
            self._firmware.fetcher = PackageFetcher(network, lambda: self.links, self.tap, self.seed, self.random)
        self.tree.on_change = self._changed
        servers.on_execute = self._execute

    def __repr__(self) -> str:
        return f"<Session {self.endpoint_name}, {', '.join(map(repr, self.links)) or 'no server'}>"

    # -- what links need -----------------------------------------------------------------------------------

    def seed(self, peer: Address) -> int | None:
        """Return what message IDs and tokens towards a peer start from."""
        if self._seed is None or not self.network.inside(peer[0]):
            return None
        return self.random.getrandbits(64) ^ int.from_bytes(hashlib.sha256(repr(peer).encode()).digest()[:8], "big")

    def tap(self, direction: Literal["in", "out"], peer: Address, data: bytes, when: int) -> None:
        """See each message, count it, and hand it on."""
        for each in self._statistics:
            each.count(direction, len(data))
        self._tap(direction, peer, data, when)

    def report(self, error: PdmlabError) -> None:
        """Hear what went wrong."""
        self.error = error
        self._tell(self.on_error, error)

    def registered(self, link: ServerLink) -> None:
        """Hear that a server knows the device now."""
        self._part()
        self.online.set()
        if self._firmware is not None:
            self._firmware.spawn(self._firmware.registered())
        self._tell(self.on_registered, link)

    def _tell(self, listener: Callable[[T], object], what: T) -> None:
        try:
            listener(what)
        except Exception as error:  # a listener's defect ends no registration; the loop reports it
            context = {"message": f"what hears of {self.endpoint_name} failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)

    # -- what others want ------------------------------------------------------------------------------------

    def _changed(self, path: Path) -> None:
        for link in self.links:
            link.changed(path)

    def _execute(self, instance: int, what: Server) -> None:
        if what == Server.BOOTSTRAP:
            if self._bootstrap_account() is None:
                raise Refusal(codes.METHOD_NOT_ALLOWED, "there is no account of a bootstrap server")
            self.bootstrap()
        for link in self.links:
            if link.instance == instance and what == Server.UPDATE:
                link.update()
            elif link.instance == instance and what == Server.DISABLE:
                link.disable()

    def update(self) -> None:
        """Update all registrations."""
        for link in self.links:
            link.update()

    def bootstrap(self) -> None:
        """Ask the bootstrap server again."""
        self._bootstrap_wanted = True
        self._wake.set()

    def restart(self) -> None:
        """Hang up without a word and begin anew, as after a reset."""
        self._restarting = True
        self._wake.set()

    def close(self) -> None:
        """Deregister everywhere, and end."""
        self._closing = True
        self._wake.set()
        for work, link in self._at_work.items():
            if link is not None and link.online:
                link.close()
            else:  # there is nothing to withdraw
                work.cancel()

    async def send(self, paths: list[Path | None]) -> None:
        """Send values to every server that knows the device and takes them; raises as ServerLink.send if none does."""
        refused: list[PdmlabError] = []
        for link in self.links:
            try:
                await link.send(paths)
            except PdmlabError as error:
                refused.append(error)
        if len(refused) == len(self.links):
            raise refused[0] if refused else Unreachable(f"{self.endpoint_name} is not registered anywhere")

    # -- at work -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Be managed until `close`.

        Raises:
            ConfigError: the accounts make no sense, and no bootstrap server could write others.
        """
        failures = 0
        try:
            if self._firmware is not None:
                await self._firmware.prepare()
            if self._kept is not None:
                await self._kept.restore(self.tree)
            while not self._closing:
                accounts = [each for each in accounts_of(self.security) if not each.bootstrap]
                if accounts and not self._bootstrap_wanted:
                    await self._serve(accounts)
                elif await self._bootstrap():
                    failures, self._bootstrap_wanted = 0, False
                else:
                    failures += 1
                    await self._attention(min(RETRY_AFTER * 2 ** (failures - 1), LONGEST_PAUSE))
        finally:
            self._part()
            if self._firmware is not None:
                self._firmware.stop()

    def _bootstrap_account(self) -> Account | None:
        return next((each for each in accounts_of(self.security) if each.bootstrap), None)

    async def _bootstrap(self) -> bool:
        account = self._bootstrap_account()
        if account is None:
            raise ConfigError(
                f"{self.endpoint_name} has an account neither of a server nor of a bootstrap server",
                hint="give it the URI of one of them",
            )
        self._part()
        asking = asyncio.ensure_future(
            bootstrap(account, self.tree, self.endpoint_name, self.version, self.network, seed=self.seed, tap=self.tap)
        )
        self._at_work = {asking: None}
        try:
            await asyncio.wait([asking])
        finally:
            asking.cancel()
        if asking.cancelled():
            return False
        error = asking.exception()
        if isinstance(error, PdmlabError):
            self.report(error)
            return False
        self._parting = asking.result()
        self.bootstraps += 1
        if self._kept is not None:
            try:
                await self._kept.save(self.tree)
            except StorageError as cannot:  # it is told anew after each restart then
                self.report(cannot)
        return True

    def _part(self) -> None:
        """Close the connection to the bootstrap server."""
        if self._parting is not None:
            self._parting.abort()
            self._parting = None

    async def _serve(self, accounts: list[Account]) -> None:
        """Be registered at these servers until close, bootstrap or restart, or until none of them takes the device."""
        self._restarting = False
        self.links = []
        for account in accounts:
            instance = self.servers.instance_of(account.short_id)
            if instance is None:
                self.report(BootstrapFailed(f"/0/{account.instance} is of a server that /1 does not describe"))
                continue
            self.links.append(ServerLink(self, account, instance))
        tasks: list[_Work] = [asyncio.ensure_future(link.run()) for link in self.links]
        self._at_work = dict(zip(tasks, self.links, strict=True))
        try:
            while not self._restarting and not self._bootstrap_wanted and not all(each.done() for each in tasks):
                waking = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait(
                    [waking, *(each for each in tasks if not each.done())], return_when="FIRST_COMPLETED"
                )
                waking.cancel()
                self._wake.clear()
        finally:
            for each in tasks:
                each.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, PdmlabError):
                raise error
        if self._closing or self._restarting or self._bootstrap_wanted:
            return
        # Nobody takes the device: who manages it is a question for the bootstrap server, if there is one.
        if self._bootstrap_account() is not None:
            self._bootstrap_wanted = True
        else:
            await self._attention(LONGEST_PAUSE)

    async def _attention(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
