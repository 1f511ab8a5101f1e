"""The device's side of an update: from a manifest to the reboot, or the installer, that puts the image in place.

`Fota` knows nothing of CoAP: it is handed a `fetch` for blocks of the payload, a place that outlives a
reset, and callbacks for what the stock client notifies on /10252/0/2 and /10252/0/3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pdmlab.errors import ManifestRejected, StorageError
from pdmlab.update import signed_version
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.candidate_form import CandidateForm
from pdmlab.update.checks import Acceptance, check, is_running
from pdmlab.update.components import MAIN, Component, Components
from pdmlab.update.der import is_digest_signature
from pdmlab.update.header import FLAG_ENCRYPTED
from pdmlab.update.installation import Installer
from pdmlab.update.interface import (
    ALLOWED,
    DEFERRED,
    Answer,
    Blocking,
    Callbacks,
    DownloadFailed,
    Fetch,
    Interrupted,
    Step,
    Trials,
    UpdateStore,
)
from pdmlab.update.manifest import Manifest, SignedManifest
from pdmlab.update.preparation import Begun, Secrets, begin
from pdmlab.update.results import FotaResult, FotaState
from pdmlab.update.transfer import BLOCK_SIZE, Transfer, on_medium
from pdmlab.update.version import Version

__all__ = [
    "ALLOWED",
    "BLOCK_SIZE",
    "DEFERRED",
    "Answer",
    "Blocking",
    "Callbacks",
    "DownloadFailed",
    "Fetch",
    "Fota",
    "Interrupted",
    "Secrets",
    "Step",
    "UpdateStore",
]

T = TypeVar("T")
_REFUSALS = {Step.DOWNLOAD: FotaResult.DOWNLOAD_REFUSED, Step.INSTALL: FotaResult.INSTALL_REFUSED}


class _Deferred(Exception):
    """The application wants to be asked later."""


class Fota:
    """One device's update client; one update at a time.

    accepts     returns what the device accepts now
    components  what it has, and who installs it
    form        how candidates are written
    trials      what the bootloader says, if it starts new images on trial
    prefetch    how many blocks it asks for while it writes one
    """

    def __init__(
        self,
        accepts: Callable[[], Acceptance],
        slot: CandidateSlot,
        fetch: Fetch,
        store: UpdateStore,
        callbacks: Callbacks,
        components: Components,
        *,
        blocking: Blocking,
        form: CandidateForm = CandidateForm(),
        secrets: Secrets = Secrets(),
        trials: Trials | None = None,
        block_size: int = BLOCK_SIZE,
        prefetch: int = 0,
    ) -> None:
        self._accepts = accepts
        self._slot = slot
        self._fetch = fetch
        self._store = store
        self._callbacks = callbacks
        self._components = components
        self._blocking = blocking
        self._form = form
        self._secrets = secrets
        self._trials = trials
        self._block_size, self._prefetch = block_size, prefetch
        self._installer = Installer(components, slot, store, secrets, trials)
        self._allowed: set[Step] = set()  # what was allowed since the last start, for the update under way
        self._deferred: Step | None = None
        self._at_work = False
        self.state = FotaState.IDLE
        self.result: FotaResult | None = None
        self.reason = ""
        """What result is about, in words."""

    def __repr__(self) -> str:
        return f"<Fota, state {self.state}, result {self.result}>"

    @property
    def busy(self) -> bool:
        """Whether an update is under way, or put off: manifests that come meanwhile are dropped."""
        return self.state is not FotaState.IDLE

    @property
    def deferred(self) -> bool:
        """Whether the application has put the update off."""
        return self._deferred is not None

    async def receive(self, der: bytes) -> None:
        """Carry out the update that a manifest (POST /10252/0/1) asks for, to the reboot or to a failure."""
        if self.busy:
            return
        self._allowed.clear()
        await self._carry_out(der, resumed=False)

    async def prepare(self) -> bool:
        """Look, before registration, for an update that a reset cut off; it then reads as state 2.

        Looks at what became of an installation, if there was one: `result` is 40 where it failed. Call `resume` after
        registration.

        Raises:
            StorageError: what was kept cannot be read or forgotten; there is nothing to resume then.
        """
        await self._blocking(self._components.load)
        der = await self._blocking(self._store.load)
        if der is not None and is_running(der, self._accepts()):
            await self._blocking(self._store.clear)  # a cut came between the last step and the forgetting
            der = None
        if der is None:
            try:
                await self._blocking(self._installer.look)
            except (DownloadFailed, ManifestRejected) as error:
                self.result, self.reason = FotaResult(error.result), error.message
            return False
        self.state = FotaState.PROCESSING_MANIFEST
        return True

    async def resume(self, *, wanted: bool = False) -> None:
        """Go on with the update that `prepare` found, or that was put off; without one, do nothing.

        wanted: by the application, which may have put it off.
        """
        if self.deferred and wanted:
            self._deferred, self.state = None, FotaState.PROCESSING_MANIFEST
        if self.state is not FotaState.PROCESSING_MANIFEST or self.deferred or self._at_work:
            return
        try:
            der = await self._blocking(self._store.load)
        except StorageError as error:
            await self._fail(FotaResult.STORAGE_READ, error.message)
            return
        if der is None:
            await self._fail(FotaResult.NOT_FOUND, "the manifest of the update under way is gone")
        else:
            await self._carry_out(der, resumed=True)

    async def refuse(self, reason: int = 0) -> None:
        """End an update that was put off (37 or 38); without one, do nothing."""
        step, self._deferred = self._deferred, None
        if step is not None:
            await self._fail(_REFUSALS[step], _refused(step, reason))

    async def _carry_out(self, der: bytes, *, resumed: bool) -> None:
        self._at_work = True
        try:
            while await self._attempt(der, resumed=resumed):
                resumed = True
        finally:
            self._at_work = False

    async def _attempt(self, der: bytes, *, resumed: bool) -> bool:
        """Carry the update out; return whether it was interrupted, and is to be resumed."""
        self.state, self.result, self.reason = FotaState.PROCESSING_MANIFEST, None, ""
        try:
            signed = check(der, self._accepts())
            manifest = signed.manifest
            if not resumed:
                await self._on_medium(FotaResult.STORAGE_WRITE, self._store.save, der)
            await self._enter(FotaState.AWAITING_DOWNLOAD_APPROVAL)
            await self._ask(Step.DOWNLOAD, manifest)
            begun = await self._on_medium(FotaResult.STORAGE_WRITE, self._begin, signed, resumed)
            if begun is not None:
                await self._enter(FotaState.DOWNLOADING)
                await self._download(manifest, begun)
            await self._enter(FotaState.AWAITING_INSTALL_APPROVAL)
            await self._ask(Step.INSTALL, manifest)
            # Only now: a reset while the application still thinks about it must not install anything.
            if begun is not None:
                await self._on_medium(FotaResult.STORAGE_WRITE, self._slot.finish)
            await self._enter(FotaState.UPDATING)
            await self._install(manifest)
        except ManifestRejected as error:
            await self._fail(FotaResult(error.result), error.message)
        except DownloadFailed as error:
            await self._fail(error.result, error.message)
        except _Deferred:
            if self._deferred is Step.DOWNLOAD:
                await self._enter(FotaState.PROCESSING_MANIFEST)
        except Interrupted:
            await self._enter(FotaState.PROCESSING_MANIFEST)
            return True
        return False

    async def _enter(self, state: FotaState) -> None:
        self.state = state
        await self._callbacks.state(state)

    async def _ask(self, step: Step, manifest: Manifest) -> None:
        if step is Step.DOWNLOAD and step in self._allowed:  # before the connection was lost
            return
        answer = await self._callbacks.authorise(step, manifest)
        if answer == DEFERRED:
            self._deferred = step
            self._allowed.clear()
            raise _Deferred
        if answer != ALLOWED:
            raise DownloadFailed(_REFUSALS[step], f"{_refused(step, answer.reason)} (version {manifest.version})")
        self._allowed.add(step)

    # -- the download ----------------------------------------------------------------------------------

    def _begin(self, signed: SignedManifest, resumed: bool) -> Begun | None:
        component = self._component(signed.manifest)
        if self._trials is not None and not resumed:
            self._trials.allow_again(signed.manifest.installed_digest)
        return begin(signed, component, self._slot, self._store, self._form, self._secrets, resumed=resumed)

    async def _download(self, manifest: Manifest, begun: Begun) -> None:
        transfer = Transfer(
            manifest,
            self._slot,
            begun.unpacker,
            self._fetch,
            self._blocking,
            block_size=self._block_size,
            prefetch=self._prefetch,
        )
        await transfer.run(begun.start, self._callbacks.progress)
        self._check_signature(manifest)
        if self._trials is not None and manifest.component == MAIN:
            await self._on_medium(FotaResult.STORAGE_READ, self._check_version, manifest)

    def _component(self, manifest: Manifest) -> Component:
        component = self._components.find(manifest.component)
        assert component is not None, "check() knows it"
        return component

    def _check_signature(self, manifest: Manifest) -> None:
        """Check the signature of the image, which is then known to have the manifest's digest."""
        if not self._form.signed:
            return
        key = self._accepts().public_key if self._trials is None else self._trials.image_key
        if not is_digest_signature(key, manifest.installed_signature or b"", manifest.installed_digest):
            raise DownloadFailed(
                FotaResult.PAYLOAD_CORRUPTED, "the image's own signature is not of the key that the device knows"
            )

    def _check_version(self, manifest: Manifest) -> None:
        """Check that the image is of the manifest's version, as its bootloader will, by what was signed; blocking."""
        header = self._slot.header()
        head = b""
        if header is not None:
            key = self._secrets.device_key() if header.flags & FLAG_ENCRYPTED else None
            head = self._slot.reader(header, key)(0, signed_version.END)
        version = Version.parse(manifest.version)
        if why := signed_version.disagreement(head, version.number, manifest.version):
            raise DownloadFailed(FotaResult.PAYLOAD_CORRUPTED, f"the image is of another version: {why}")

    async def _on_medium(self, result: FotaResult, work: Callable[..., T], *args: object) -> T:
        return await on_medium(self._blocking, result, work, *args)

    # -- the installation -----------------------------------------------------------------------------

    async def _install(self, manifest: Manifest) -> None:
        component = self._component(manifest)
        if component.name != MAIN:
            await self._on_medium(FotaResult.STORAGE_READ, self._installer.install, component, manifest)
        if component.needs_reboot:
            await self._enter(FotaState.REBOOTING)
            # What was installed shows after the reboot; until then the key says that there is something to look at.
            await self._forget(self._store.clear)
            await self._callbacks.reboot()
            return
        await self._forget(self._store.clear, self._store.clear_key, self._slot.forget)
        await self._callbacks.installed(component.name)
        self.result, self.reason = FotaResult.SUCCESS, ""
        await self._callbacks.result(self.result, f"{component.name} is {manifest.version} now")
        await self._enter(FotaState.IDLE)

    # -- ends -------------------------------------------------------------------------------------------

    async def _forget(self, *works: Callable[[], object]) -> list[str]:
        """Forget what was kept for the update; return what could not be."""
        left = []
        for work in works:
            try:
                await self._blocking(work)
            except StorageError as error:
                left.append(error.message)
        return left

    async def _fail(self, result: FotaResult, reason: str) -> None:
        left = await self._forget(self._store.clear, self._store.clear_key)
        if left:
            reason = f"{reason}; the manifest could not be forgotten: {left[0]}"
        self.result, self.reason = result, reason
        await self._callbacks.result(result, reason)
        await self._enter(FotaState.IDLE)


def _refused(step: Step, reason: int) -> str:
    return f"the application refused the {step.value}" + (f", reason {reason}" if reason else "")
