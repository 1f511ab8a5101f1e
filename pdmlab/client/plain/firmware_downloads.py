"""A package on its way to a device: sent block by block, in one piece, or fetched; and what object 5 shows of it."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Literal

from aiocoap.numbers import codes

from pdmlab.client.plain.components import ComponentsObject
from pdmlab.client.plain.firmware_board import BoardFirmware
from pdmlab.client.plain.firmware_fetch import PROTOCOLS, PackageFetcher
from pdmlab.client.plain.firmware_store import FirmwareStore, MemoryFirmware, Record
from pdmlab.client.plain.objects import Content, Refusal, TableObject
from pdmlab.client.platform import current_platform
from pdmlab.errors import ConfigError, NoSpace, StorageError
from pdmlab.update.object5 import OBJECT, Delivery, Protocol, Result, State, Status
from pdmlab.update.packages import Firmware, PackageRejected, open_package

RAM = 64 << 10
"""A package that comes in one piece, in TLV or SenML, is held in RAM: so much of it at most (B)."""
SILENCE_S = 247.0
"""After which a package whose next block does not come is given up: EXCHANGE_LIFETIME of RFC 7252."""

PACKAGE, URI, UPDATE, STATE, RESULT, NAME, VERSION, SUPPORT, DELIVERY = 0, 1, 2, 3, 5, 6, 7, 8, 9
_AT_ONCE = (Result.NO_STORAGE, Result.NO_MEMORY, Result.BAD_URI, Result.PROTOCOL)
"""Forced results that show before a package has come; 4 shows in its middle, the others at its end, 8 on Update."""


class FirmwareDownloads(TableObject, ABC):
    """Object 5 up to state 2; `FirmwareObject` has the rest, and says what each argument is."""

    def __init__(
        self,
        store: FirmwareStore | None = None,
        *,
        delivery: Literal["pull", "push", "both"] = "both",
        protocols: Sequence[Protocol] = PROTOCOLS,
    ) -> None:
        if delivery not in ("pull", "push", "both"):
            raise ConfigError(f"firmware is not delivered by {delivery!r}", hint='"pull", "push" or "both"')
        board = current_platform.get(None)
        self.store = store or (MemoryFirmware() if board is None else BoardFirmware(board))
        self.fetcher: PackageFetcher | None = None
        self.restart: Callable[[], object] = lambda: None
        self.on_version: Callable[[str], object] = lambda version: None
        """Hears which version runs, once another one does."""
        self.on_status: Callable[[Status], object] = lambda status: None
        """Hears of each other state and result."""
        self.blocking: Callable[..., Awaitable[Any]] = _at_once
        self.spawn: Callable[[Coroutine[Any, Any, object]], asyncio.Future[object]] = asyncio.ensure_future
        self.reason = ""
        """Why the last update failed, in words."""
        self._delivery = Delivery[delivery.upper()]
        self._protocols = tuple(protocols)
        self._forced: Result | None = None
        self._firmware: Firmware | None = None
        self._package_size = 0
        self._sender: object = None
        self._received = 0
        self._turn = asyncio.Lock()
        self._transfers = 0  # each package, and each reset: whoever is late finds another number
        self._work: asyncio.Future[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unconfirmed = False
        self._mirrors: list[ComponentsObject] = []
        running = self.store.running
        supported: dict[int, int | str | bool | float | bytes] = {n: int(each) for n, each in enumerate(protocols)}
        values: dict[int, Content | Callable[..., object]] = {
            URI: "", UPDATE: self._update, STATE: 0, RESULT: 0, NAME: running.name, VERSION: running.version,
            SUPPORT: supported, DELIVERY: int(self._delivery),
        }  # fmt: skip
        super().__init__(OBJECT, {0: values})

    @property
    def state(self) -> State:
        """What /5/0/3 says."""
        return State(int(str(self._values[STATE])))

    @property
    def result(self) -> Result:
        """What /5/0/5 says."""
        return Result(int(str(self._values[RESULT])))

    @property
    def status(self) -> Status:
        """What object 5 has come to."""
        return Status(self.state, self.result, str(self._values[VERSION]), self.reason)

    @abstractmethod
    async def _update(self, arguments: str = "") -> None:
        """Install what was downloaded."""

    def _may_begin(self, how: Delivery) -> None:
        if self._delivery not in (how, Delivery.BOTH):
            raise Refusal(
                codes.METHOD_NOT_ALLOWED, f"this device takes packages by {self._delivery.name.lower()} alone"
            )
        if self.state is not State.IDLE:
            raise Refusal(codes.METHOD_NOT_ALLOWED, f'state {self.state}: write "" to /5/0/1 first')

    # -- a package on its way ------------------------------------------------------------------------------------

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = self.spawn(work)

    def _abandon(self) -> None:
        """Leave what is under way."""
        self._transfers += 1
        self._sender, self._received = None, 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        work, self._work = self._work, None
        if work is not None and not work.done():
            work.cancel()

    def _reset(self) -> None:
        """Bring state and result back to 0, as a server asks."""
        self._abandon()
        self._firmware, self.reason = None, ""
        self.store.discard()
        self._show(State.IDLE, Result.INITIAL)
        self._work = self.spawn(self._save(Record()))

    async def _save(self, record: Record) -> None:
        try:
            await self.blocking(self.store.save, record)
        except StorageError as error:
            self.reason = error.message

    async def _begin(self, sender: object) -> None:
        if self._work is None or self._work is not asyncio.current_task():
            self._abandon()
        self._sender, self._received, self.reason = sender, 0, ""
        self._transfers += 1
        self._show(State.DOWNLOADING, Result.INITIAL)
        number = self._transfers
        try:
            await self.blocking(self.store.save, Record())
            await self.blocking(self.store.begin)
        except StorageError as error:
            await self._fail(Result.NO_STORAGE, error.message)
            raise Refusal(codes.REQUEST_ENTITY_TOO_LARGE, error.message) from error
        self._still(number)

    def _still(self, number: int) -> None:
        """Raise Refusal if a package was withdrawn while something of it was written."""
        if number != self._transfers:
            raise Refusal(codes.REQUEST_ENTITY_INCOMPLETE, "the package was withdrawn")

    async def _add(self, data: bytes, total: int | None) -> None:
        forced, number, room = self._forced, self._transfers, self.store.capacity
        if forced in _AT_ONCE:
            await self._end_as_forced()
        if forced is Result.CONNECTION_LOST and self._received:
            await self._end_as_forced()
        if max(total or 0, self._received + len(data)) > room:
            words = f"a package of {total or 'more than ' + str(room)} B where {room} B fit"
            await self._fail(Result.NO_STORAGE, words)
            raise Refusal(codes.REQUEST_ENTITY_TOO_LARGE, words)
        try:
            await self.blocking(self.store.write, data)
        except NoSpace as error:
            await self._fail(Result.NO_STORAGE, error.message)
            raise Refusal(codes.REQUEST_ENTITY_TOO_LARGE, error.message) from error
        except StorageError as error:
            await self._fail(Result.NO_STORAGE, error.message)
            raise Refusal(codes.INTERNAL_SERVER_ERROR, error.message) from error
        self._still(number)
        self._received += len(data)

    async def _end_as_forced(self) -> None:
        result, self._forced = self._forced, None
        assert result is not None
        await self._fail(result, "it was told to fail so")
        raise Refusal(codes.INTERNAL_SERVER_ERROR, f"result {result}")

    def _expect_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        loop, number = asyncio.get_running_loop(), self._transfers

        def silent() -> None:
            if number == self._transfers:
                words = f"nothing came for {SILENCE_S:g} s, after {self._received} B"
                self._start(self._fail(Result.CONNECTION_LOST, words))

        self._timer = loop.call_later(SILENCE_S, silent)

    async def _complete(self) -> None:
        """Look at a package that has come whole."""
        number = self._transfers
        if self._timer is not None:
            self._timer.cancel()
        try:
            forced = self._forced
            if forced not in (None, Result.FAILED):
                self._forced = None
                raise PackageRejected(forced, "it was told to fail so")
            package = await self.blocking(self.store.package)
            firmware = await self.blocking(open_package, package, self.store.kinds)
            await self.blocking(self.store.check, firmware)
        except PackageRejected as error:
            await self._fail(error.result, error.message)
            return
        except StorageError as error:
            await self._fail(Result.NO_STORAGE, error.message)
            return
        self._still(number)
        self._sender, self._firmware, self._package_size = None, firmware, package.size
        await self._keep(State.DOWNLOADED, Result.INITIAL)

    async def _take_whole(self, data: bytes) -> None:
        await self._quietly(self._whole(data))

    async def _whole(self, data: bytes) -> None:
        await self._begin(self)
        if len(data) > RAM:
            await self._fail(Result.NO_MEMORY, f"{len(data)} B came in one piece, for which there are {RAM} B of RAM")
            return
        await self._add(data, len(data))
        await self._complete()

    async def _pull(self, uri: str) -> None:
        await self._quietly(self._fetched(uri))

    async def _fetched(self, uri: str) -> None:
        await self._begin(self)
        if self._forced in _AT_ONCE:
            await self._end_as_forced()
        try:
            if self.fetcher is None:
                raise PackageRejected(Result.CONNECTION_LOST, "the device has not been started")
            total = None
            async with contextlib.aclosing(self.fetcher.fetch(uri, self._protocols)) as parts:
                async for data, total in parts:
                    await self._add(data, total)
            if total not in (None, self._received):
                raise PackageRejected(Result.INTEGRITY, f"{self._received} B have come of {total}")
        except PackageRejected as error:
            await self._fail(error.result, error.message)
            return
        await self._complete()

    @staticmethod
    async def _quietly(work: Coroutine[Any, Any, None]) -> None:
        """Do what nobody waits for: who wrote it has its answer, and reads the result."""
        with contextlib.suppress(Refusal):
            await work

    # -- what is shown -----------------------------------------------------------------------------------------

    async def _fail(self, result: Result, reason: str) -> None:
        """End a download with a result."""
        self._transfers += 1
        self._sender, self._received, self.reason, self._firmware = None, 0, reason, None
        self.store.discard()
        await self._keep(State.IDLE, result)

    async def _keep(self, state: State, result: Result) -> None:
        """Show a state and a result, and have them outlive a restart."""
        size = self._package_size if state is State.DOWNLOADED else 0
        digest = self._firmware.digest if self._firmware is not None and state is State.DOWNLOADED else b""
        await self._save(Record(state, result, size, digest))
        self._show(state, result)

    def _show(self, state: State, result: Result) -> None:
        waiting = self._firmware if state in (State.DOWNLOADED, State.UPDATING) else None
        before, running = (self.state, self.result), self.store.running
        self._set(NAME, running.name if waiting is None else waiting.name)
        self._set(VERSION, running.version if waiting is None else str(waiting.version))
        if state is State.IDLE:
            self._set(URI, "")
        self._set(RESULT, int(result))
        self._set(STATE, int(state))
        if (state, result) != before:
            self.on_status(self.status)

    @property
    def _values(self) -> dict[int, Content]:
        return self._instances[0]

    def _set(self, resource: int, value: Content) -> None:
        if self._values.get(resource) != value:
            self._values[resource] = value
            self.changed(0, resource)
            for each in self._mirrors:
                each.mirrored(resource)


async def _at_once(work: Callable[..., Any], *given: object) -> Any:  # Any: what the work returns
    return work(*given)
