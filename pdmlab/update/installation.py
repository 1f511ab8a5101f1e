"""Installations: what the application installs itself from the candidate slot, and what became of the last one."""

from __future__ import annotations

from pdmlab.errors import ImageRejected, StorageError
from pdmlab.update import installing
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.checks import COMBINED
from pdmlab.update.components import MAIN, Component, Components, Installation
from pdmlab.update.interface import DownloadFailed, Trials, UpdateStore
from pdmlab.update.manifest import Manifest
from pdmlab.update.preparation import Secrets
from pdmlab.update.results import FotaResult


class Installer:
    """Installs a device's components other than MAIN, which is the bootloader's; all of it blocks."""

    def __init__(
        self, components: Components, slot: CandidateSlot, store: UpdateStore, secrets: Secrets, trials: Trials | None
    ) -> None:
        self._components = components
        self._slot = slot
        self._store = store
        self._secrets = secrets
        self._trials = trials

    def __repr__(self) -> str:
        return f"<Installer of {self._components!r}>"

    def install(self, component: Component, manifest: Manifest) -> None:
        """Verify the candidate once more, and give it to the component's installer.

        Raises:
            DownloadFailed: (40) the installer, or the verification after it, refuses.
            ManifestRejected: a package does not fit the component.
            ImageRejected: the candidate is not what it was.
            StorageError: a medium fails.
        """
        whole = self._candidate(component, manifest.vendor_data or b"")
        combined = manifest.format in COMBINED
        installing.install(component, whole, combined=combined)
        if not component.needs_reboot:
            installing.verify(component, whole, combined=combined)
            self._components.renew(component.name, whole.version)

    def look(self) -> None:
        """See, at a start, what became of the installation before it, if there was one.

        The stored key says that there was. It goes, and with it the candidate, once that is settled.

        Raises:
            DownloadFailed: (40) the image does not run.
            ManifestRejected: a package does not fit the component any more.
            StorageError: a medium fails; it is looked at again at the next start.
        """
        if self._store.load_key() is None:
            return
        settled = True
        try:
            settled = self._runs()
        except StorageError:
            settled = False
            raise
        finally:
            if settled:
                self._store.clear_key()
                if self._trials is None:
                    self._slot.forget()

    def _runs(self) -> bool:
        """Return whether it is settled that the image runs: one on trial may still be taken back."""
        candidate = self._slot.read()
        component = None if candidate is None else self._components.find(candidate.component)
        if candidate is None or component is None:
            return True
        header = candidate.header
        if component.name == MAIN:
            return self._main_runs(component, header.digest, str(header.version))
        try:
            installing.verify(component, self._candidate(component), combined=bool(component.parts))
        except ImageRejected as error:
            raise DownloadFailed(FotaResult.INSTALL_FAILED, error.message) from error
        self._components.renew(component.name, header.version)
        return True

    def _main_runs(self, component: Component, digest: bytes, version: str) -> bool:
        if self._trials is not None and (why := self._trials.rejected(digest)) is not None:
            raise DownloadFailed(FotaResult.INSTALL_FAILED, f"version {version}: {why}")
        if component.digest is None or component.digest() == digest:
            return self._trials is None
        running = self._components.current[MAIN]
        raise DownloadFailed(
            FotaResult.INSTALL_FAILED,
            f"version {version} was not installed: {running} runs; the bootloader's log says why",
        )

    def _candidate(self, component: Component, vendor_data: bytes = b"") -> Installation:
        header = self._slot.header()
        if header is None:
            raise ImageRejected("the candidate's header is gone")
        key = self._secrets.device_key()
        if self._slot.digest(header, key) != header.digest:
            raise ImageRejected("the candidate is not any more what was downloaded")
        read = self._slot.reader(header, key)
        return Installation(component.name, header.version, header.size, "", vendor_data, read)
