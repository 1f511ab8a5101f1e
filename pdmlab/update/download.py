"""The device's side of an update: from a manifest to the reboot that installs the image.

`Fota` knows nothing of CoAP: it is handed a `fetch` for blocks of the image, a place that outlives a
reset for the manifest, and callbacks for what the stock client notifies on /10252/0/2 and /10252/0/3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Protocol, TypeVar

from pdmlab.errors import ImageRejected, ManifestRejected, NetworkError, ResponseError, StorageError, UpdateError
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.checks import Acceptance, check, is_running
from pdmlab.update.header import NO_PRECURSOR
from pdmlab.update.manifest import Manifest
from pdmlab.update.results import FotaResult, FotaState

T = TypeVar("T")

BLOCK_SIZE = 512  # SN_COAP_MAX_BLOCKWISE_PAYLOAD_SIZE of the stock client (B)
BUSY_DELAYS_S = (1, 2, 4, 8, 10)  # the stock client waits 1 to 10 s, doubling, after a 5.03


class Step(Enum):
    """What an application may allow or refuse."""

    DOWNLOAD = "download"
    INSTALL = "install"


class Fetch(Protocol):
    """Fetch block `number` of `size` bytes from uri: its bytes, whether more follow, the whole size if known.

    Raises ResponseError or NetworkError, which are result 24, or DownloadFailed with a result of its own.
    """

    def __call__(self, uri: str, number: int, size: int) -> Awaitable[tuple[bytes, bool, int | None]]: ...


class Blocking(Protocol):
    """Run blocking device code from a coroutine: `DeviceClock.blocking`."""

    def __call__(self, work: Callable[..., T], *args: object) -> Awaitable[T]: ...


class ManifestStore(Protocol):
    """Keeps the manifest of the update under way over a reset (the client: KCM item FOTA_MANIFEST_KEY)."""

    def load(self) -> bytes | None:
        """Return the kept manifest."""
        ...

    def save(self, manifest: bytes) -> None:
        """Keep a manifest."""
        ...

    def clear(self) -> None:
        """Forget it."""
        ...


class Callbacks(Protocol):
    """What the update tells, and asks; each is awaited, so that a notification is acknowledged before the next step."""

    async def state(self, state: FotaState) -> None:
        """Take the new value of /10252/0/2."""
        ...

    async def result(self, result: FotaResult, reason: str) -> None:
        """Take the value of /10252/0/3, and the sentence behind it for the console."""
        ...

    async def authorise(self, step: Step, manifest: Manifest) -> bool:
        """Say whether the application allows this step now."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Take how much of the image has been fetched (B)."""
        ...

    async def reboot(self) -> None:
        """Restart the board into its bootloader."""
        ...


class DownloadFailed(UpdateError):
    """An update ends with a result; a `fetch` raises it where the result is not 24 (download failed)."""

    def __init__(self, result: FotaResult, reason: str) -> None:
        super().__init__(reason)
        self.result = result


class Fota:
    """One device's update client; one update at a time.

    accepts  returns what the device accepts now
    running  returns the SHA-256 of the active image, which the candidate's header names as its precursor
    """

    def __init__(
        self,
        accepts: Callable[[], Acceptance],
        slot: CandidateSlot,
        fetch: Fetch,
        store: ManifestStore,
        callbacks: Callbacks,
        *,
        blocking: Blocking,
        running: Callable[[], bytes] = lambda: NO_PRECURSOR,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        self._accepts = accepts
        self._slot = slot
        self._fetch = fetch
        self._store = store
        self._callbacks = callbacks
        self._blocking = blocking
        self._running = running
        self._block_size = block_size
        self.state = FotaState.IDLE
        self.result: FotaResult | None = None

    @property
    def busy(self) -> bool:
        """Whether an update is under way: manifests that come meanwhile are dropped, as in the stock client."""
        return self.state is not FotaState.IDLE

    async def receive(self, der: bytes) -> None:
        """Carry out the update that a manifest (POST /10252/0/1) asks for, to the reboot or to a failure."""
        if self.busy:
            return
        await self._carry_out(der, resumed=False)

    async def prepare(self) -> bool:
        """Look, before registration, for an update that a reset cut off; it then reads as state 2.

        Forgets a manifest whose firmware runs by now. Call `resume` after registration.

        Raises:
            StorageError: what was kept cannot be read or forgotten; there is nothing to resume then.
        """
        der = await self._blocking(self._store.load)
        if der is None:
            return False
        if is_running(der, self._accepts()):
            await self._blocking(self._store.clear)
            return False
        self.state = FotaState.PROCESSING_MANIFEST
        return True

    async def resume(self) -> None:
        """Go on with the update that `prepare` found; without one, do nothing."""
        if self.state is not FotaState.PROCESSING_MANIFEST:
            return
        try:
            der = await self._blocking(self._store.load)
        except StorageError as error:
            await self._fail(FotaResult.STORAGE_READ, error.message)
            return
        if der is not None:
            await self._carry_out(der, resumed=True)

    async def _carry_out(self, der: bytes, *, resumed: bool) -> None:
        self.state, self.result = FotaState.PROCESSING_MANIFEST, None
        try:
            manifest = check(der, self._accepts()).manifest
            if not resumed:
                await self._on_medium(FotaResult.STORAGE_WRITE, self._store.save, der)
            await self._enter(FotaState.AWAITING_DOWNLOAD_APPROVAL)
            await self._ask(Step.DOWNLOAD, manifest, FotaResult.DOWNLOAD_REFUSED)
            await self._enter(FotaState.DOWNLOADING)
            await self._download(manifest, resumed=resumed)
            await self._enter(FotaState.AWAITING_INSTALL_APPROVAL)
            await self._ask(Step.INSTALL, manifest, FotaResult.INSTALL_REFUSED)
            await self._enter(FotaState.UPDATING)
            # Only now: a reset while the application still thinks about it must not install anything.
            await self._on_medium(FotaResult.STORAGE_WRITE, self._slot.finish)
            await self._enter(FotaState.REBOOTING)
        except ManifestRejected as error:
            await self._fail(FotaResult(error.result), error.message)
        except DownloadFailed as error:
            await self._fail(error.result, error.message)
        else:
            await self._callbacks.reboot()

    async def _enter(self, state: FotaState) -> None:
        self.state = state
        await self._callbacks.state(state)

    async def _ask(self, step: Step, manifest: Manifest, refusal: FotaResult) -> None:
        if not await self._callbacks.authorise(step, manifest):
            raise DownloadFailed(refusal, f"the application refused the {step.value} of version {manifest.version}")

    async def _download(self, manifest: Manifest, *, resumed: bool) -> None:
        slot, size = self._slot, self._block_size
        start = slot.resume if resumed else slot.begin
        running = await self._blocking(self._running)
        await self._on_medium(FotaResult.STORAGE_WRITE, lambda: start(manifest, precursor=running))
        while slot.position < manifest.payload_size:
            number, skip = divmod(slot.position, size)
            data, more, total = await self._block(manifest.uri, number)
            if total is not None and total != manifest.payload_size:
                raise DownloadFailed(
                    FotaResult.PAYLOAD_CORRUPTED,
                    f"{manifest.uri} has {total} B, the manifest says {manifest.payload_size}",
                )
            fresh = data[skip:]
            after = slot.position + len(fresh)
            if after > manifest.payload_size or (more and len(data) != size):
                raise DownloadFailed(
                    FotaResult.PAYLOAD_CORRUPTED, f"block {number} of {manifest.uri} has {len(data)} B of {size}"
                )
            if not more and after < manifest.payload_size:
                raise DownloadFailed(
                    FotaResult.DOWNLOAD_FAILED, f"{manifest.uri} ended after {after} of {manifest.payload_size} B"
                )
            await self._on_medium(FotaResult.STORAGE_WRITE, slot.write, slot.position, fresh)
            self._callbacks.progress(slot.position, manifest.payload_size)
        await self._on_medium(FotaResult.STORAGE_READ, slot.verify)

    async def _block(self, uri: str, number: int) -> tuple[bytes, bool, int | None]:
        for delay in (*BUSY_DELAYS_S, None):
            try:
                return await self._fetch(uri, number, self._block_size)
            except ResponseError as error:
                if delay is None or not error.code.startswith("5.03"):
                    raise DownloadFailed(
                        FotaResult.DOWNLOAD_FAILED, f"block {number} of {uri}: {error.message}"
                    ) from error
                await asyncio.sleep(delay)
            except NetworkError as error:
                raise DownloadFailed(FotaResult.DOWNLOAD_FAILED, f"block {number} of {uri}: {error.message}") from error
        raise AssertionError("the last attempt returns or raises")

    async def _on_medium(self, result: FotaResult, work: Callable[..., object], *args: object) -> None:
        try:
            await self._blocking(work, *args)
        except ImageRejected as error:
            raise DownloadFailed(FotaResult.PAYLOAD_CORRUPTED, error.message) from error
        except StorageError as error:
            raise DownloadFailed(result, error.message) from error

    async def _fail(self, result: FotaResult, reason: str) -> None:
        try:
            await self._blocking(self._store.clear)
        except StorageError as error:
            reason = f"{reason}; the manifest could not be forgotten: {error.message}"
        self.result = result
        await self._callbacks.result(result, reason)
        await self._enter(FotaState.IDLE)
