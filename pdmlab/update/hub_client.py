"""The device's side of an update with the older update hub: from a manifest v1 to the reboot that installs the image.

`Hub` knows nothing of CoAP, as `download.Fota` does not: it is handed a `fetch` for blocks of the payload, the storage
location, and callbacks for what the stock hub notifies. Its states come in the stock order: 2 when the manifest is
accepted, 3, 4 when the storage is erased, 5 when the payload is there, 6, 7, 8; a failure is a result and then state 1
(update_client_hub_state_machine.c, and the numbers of update_client_hub_error_handler.c).

It keeps nothing over a reset: a board that is reset in mid-update is idle again, and is sent the manifest again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from pdmlab.errors import ImageRejected, ManifestRejected, NetworkError, ResponseError, StorageError, UpdateError
from pdmlab.update import hub
from pdmlab.update.candidate_v2 import StorageLocation, UpdateStorage
from pdmlab.update.header_v2 import FirmwareHeaderV2
from pdmlab.update.hub import HubResult
from pdmlab.update.hub_checks import BAD_URI, WRONG_PRECURSOR, HubAcceptance, check_v1
from pdmlab.update.interface import ALLOWED, DEFERRED, Answer, Blocking, Fetch, Step
from pdmlab.update.manifest_v1 import FormatV1, ManifestV1
from pdmlab.update.payloads.delta import DeltaUnpacker
from pdmlab.update.payloads.interface import Raw, ReadActive, Unpacker
from pdmlab.update.results import FotaState
from pdmlab.update.transfer import BLOCK_SIZE

_AFTER_PROCESSING = (hub.ROLLBACK, WRONG_PRECURSOR, BAD_URI)
"""Results of what the hub looks at only when it has told that the manifest is one for this device (state 2)."""

_REFUSED = {Step.DOWNLOAD: HubResult.DOWNLOAD_REFUSED, Step.INSTALL: HubResult.INSTALL_REFUSED}
_PUT_OFF = {Step.DOWNLOAD: HubResult.DOWNLOAD_UNAVAILABLE, Step.INSTALL: HubResult.INSTALL_UNAVAILABLE}


class HubCallbacks(Protocol):
    """What the update tells, and asks; each is awaited, so that a notification is acknowledged before the next step."""

    async def state(self, state: FotaState) -> None:
        """Take the new value of /10252/0/2; raise NetworkError if the server does not acknowledge it."""
        ...

    async def result(self, result: int, reason: str) -> None:
        """Take the value of /10252/0/3, and the sentence behind it for the console."""
        ...

    async def authorise(self, step: Step, manifest: ManifestV1) -> Answer:
        """Ask the application whether this step may be; its answer may take as long as it likes."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Take how much of the payload has been fetched (B)."""
        ...

    async def reboot(self) -> None:
        """Restart the board into its bootloader."""
        ...


class UpdateEnded(UpdateError):
    """An update ends with a result of the hub's."""

    def __init__(self, result: HubResult, reason: str) -> None:
        super().__init__(reason)
        self.result = result


class Hub:
    """One device's update client; one update at a time.

    accepts      returns what the device accepts now
    read_active  reads the running image: what a delta takes over
    """

    def __init__(
        self,
        accepts: Callable[[], HubAcceptance],
        storage: UpdateStorage,
        fetch: Fetch,
        callbacks: HubCallbacks,
        *,
        blocking: Blocking,
        read_active: ReadActive,
        block_size: int = BLOCK_SIZE,
    ) -> None:
        self._accepts = accepts
        self._storage = storage
        self._fetch = fetch
        self._callbacks = callbacks
        self._blocking = blocking
        self._read_active = read_active
        self._block_size = block_size
        self.state = FotaState.IDLE
        self.result: int | None = None

    def __repr__(self) -> str:
        return f"<Hub: state {self.state}, result {self.result}>"

    @property
    def busy(self) -> bool:
        """Whether an update is under way: manifests that come meanwhile are dropped, as in the stock hub."""
        return self.state is not FotaState.IDLE

    async def receive(self, der: bytes) -> None:
        """Carry out the update that a manifest (POST /10252/0/1) asks for, to the reboot or to a failure."""
        if self.busy:
            return
        self.state, self.result = FotaState.PROCESSING_MANIFEST, None
        try:
            await self._carry_out(der)
        except ManifestRejected as error:
            await self._fail(error.result, error.message)
        except UpdateEnded as error:
            await self._fail(error.result, error.message)
        except NetworkError as error:
            await self._fail(HubResult.CONNECTION_FAILURE, f"state {self.state} was not acknowledged: {error.message}")
        else:
            await self._callbacks.reboot()

    async def _carry_out(self, der: bytes) -> None:
        manifest = await self._accepted(der)
        await self._enter(FotaState.AWAITING_DOWNLOAD_APPROVAL)
        await self._ask(Step.DOWNLOAD, manifest)
        location = await self._begin(manifest)
        await self._enter(FotaState.DOWNLOADING)
        await self._download(location, manifest)
        await self._enter(FotaState.DOWNLOADED)
        await self._on_medium(HubResult.WRITE_FAILURE, location.verify)
        await self._enter(FotaState.AWAITING_INSTALL_APPROVAL)
        await self._ask(Step.INSTALL, manifest)
        await self._enter(FotaState.UPDATING)
        await self._on_medium(HubResult.ACTIVATION_FAILURE, location.finish)
        await self._enter(FotaState.REBOOTING)

    async def _accepted(self, der: bytes) -> ManifestV1:
        """Return the manifest, with state 2 told as soon as it is known to be signed, and for this device."""
        try:
            manifest = check_v1(der, self._accepts())
        except ManifestRejected as error:
            if error.result in _AFTER_PROCESSING:
                await self._enter(FotaState.PROCESSING_MANIFEST)
            raise
        await self._enter(FotaState.PROCESSING_MANIFEST)
        return manifest

    async def _enter(self, state: FotaState) -> None:
        self.state = state
        await self._callbacks.state(state)

    async def _ask(self, step: Step, manifest: ManifestV1) -> None:
        answer = await self._callbacks.authorise(step, manifest)
        if answer == ALLOWED:
            return
        what = f"the {step.value} of version {manifest.version}"
        if answer == DEFERRED:
            raise UpdateEnded(_PUT_OFF[step], f"the application put {what} off, and the hub keeps nothing for later")
        because = f", for its reason {answer.reason}" if answer.reason else ""
        raise UpdateEnded(_REFUSED[step], f"the application refused {what}{because}")

    async def _begin(self, manifest: ManifestV1) -> StorageLocation:
        header = FirmwareHeaderV2(_image_size(manifest), manifest.timestamp, manifest.installed_digest)
        try:
            location = self._storage.location(manifest.storage)
            await self._blocking(location.begin, header)
            return location
        except ImageRejected as error:
            raise UpdateEnded(HubResult.NO_STORAGE, error.message) from error
        except StorageError as error:
            raise UpdateEnded(HubResult.WRITE_FAILURE, error.message) from error

    async def _download(self, location: StorageLocation, manifest: ManifestV1) -> None:
        unpacker = self._unpacker(manifest)
        done, total = 0, manifest.payload_size
        while done < total:
            data, more = await self._block(manifest.uri, done // self._block_size)
            after = done + len(data)
            # The stock hub finds this out by the digest, at the end.
            if after > total or (more and len(data) != self._block_size):
                raise UpdateEnded(
                    HubResult.HASH_ERROR, f"{manifest.uri} has other blocks than the manifest's {total} B"
                )
            if not more and after < total:
                raise UpdateEnded(HubResult.NO_ROUTE, f"{manifest.uri} ended after {after} of {total} B")
            await self._store(location, unpacker.feed, data)
            done = after
            self._callbacks.progress(done, total)
        await self._store(location, unpacker.finish)

    def _unpacker(self, manifest: ManifestV1) -> Unpacker:
        if manifest.format == FormatV1.DELTA:
            return DeltaUnpacker(self._read_active, _image_size(manifest))
        return Raw()

    async def _store(self, location: StorageLocation, unpack: Callable[..., Iterable[bytes]], *data: bytes) -> None:
        def store() -> None:
            for piece in unpack(*data):
                location.write(location.position, piece)

        try:
            await self._blocking(store)
        except ManifestRejected as error:
            raise UpdateEnded(HubResult.BAD_DATA_FORMAT, error.message) from error
        except StorageError as error:
            raise UpdateEnded(HubResult.WRITE_FAILURE, error.message) from error

    async def _block(self, uri: str, number: int) -> tuple[bytes, bool]:
        try:
            data, more, _ = await self._fetch(uri, number, self._block_size)
        except (ResponseError, NetworkError) as error:
            # Whatever its source says, the stock source manager finds no other one.
            raise UpdateEnded(HubResult.NO_ROUTE, f"block {number} of {uri}: {error.message}") from error
        return data, more

    async def _on_medium(self, result: HubResult, work: Callable[[], object]) -> None:
        try:
            await self._blocking(work)
        except ImageRejected as error:
            raise UpdateEnded(HubResult.HASH_ERROR, error.message) from error
        except StorageError as error:
            raise UpdateEnded(result, error.message) from error

    async def _fail(self, result: int, reason: str) -> None:
        self.result = result
        await self._callbacks.result(result, reason)
        self.state = FotaState.IDLE
        try:
            await self._callbacks.state(FotaState.IDLE)
        except NetworkError:
            pass  # the registration tells it


def _image_size(manifest: ManifestV1) -> int:
    if manifest.format == FormatV1.DELTA and manifest.installed_size is not None:
        return manifest.installed_size
    return manifest.payload_size


class Patience:
    """How the stock hub's HTTP source waits before it tries again where it was: 5 s, doubling to an hour, for 7 days.

    ARM_UC_HTTP_RESUME_DEFAULT_* of arm_uc_http_socket.h.
    """

    FIRST_S, FACTOR, MOST_S, IN_ALL_S = 5.0, 2, 3600.0, 7 * 24 * 3600.0

    def __init__(self, sleep: Callable[[float], Awaitable[None]], now: Callable[[], float]) -> None:
        self._sleep, self._now = sleep, now

    async def persist(
        self, attempt: Callable[[], Awaitable[tuple[bytes, bool, int | None]]]
    ) -> tuple[bytes, bool, int | None]:
        """Attempt until it works; raise what it raised last once time is up."""
        delay, end = self.FIRST_S, self._now() + self.IN_ALL_S
        while True:
            try:
                return await attempt()
            except (UpdateError, NetworkError):
                if self._now() + delay > end:
                    raise
            await self._sleep(delay)
            delay = min(delay * self.FACTOR, self.MOST_S)
