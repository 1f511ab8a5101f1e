"""Firmware update: manifests to /10252/0/1, states out, blocks in by CoAP or by HTTP, the reboot."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from aiocoap import Message
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.client import firmware_blocks
from pdmlab.client.background import Background
from pdmlab.client.block_size import block_size
from pdmlab.client.error import Error, error_of_update
from pdmlab.client.firmware_blocks import FirmwareBlocks
from pdmlab.client.hooks import Hooks
from pdmlab.client.identity import Identity
from pdmlab.client.observation import Observations
from pdmlab.client.platform import Platform
from pdmlab.client.prefetching import prefetch
from pdmlab.client.update_hooks import UpdateHooks
from pdmlab.client.update_objects import fota_objects
from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.network.interface import NetworkInterface
from pdmlab.storage.kv.nvstore import root_of_trust
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import TrialStarts
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.candidate_form import CandidateForm
from pdmlab.update.checks import Acceptance
from pdmlab.update.components import MAIN, Component, Components
from pdmlab.update.download import Fota
from pdmlab.update.header import MAX_HEADER_SIZE, NO_PRECURSOR
from pdmlab.update.http_download import HttpDownload
from pdmlab.update.interface import Answer, Interrupted, Step, Trials
from pdmlab.update.manifest import Manifest
from pdmlab.update.preparation import Secrets
from pdmlab.update.results import FotaResult, FotaState, rejected
from pdmlab.update.version import Version

NO_RESULT = -1
"""What /10252/0/3 says while an update is under way."""


class Connection(firmware_blocks.Connection, Protocol):
    """The registered connection to the LwM2M server, and the application behind the client."""

    @property
    def registrations(self) -> int:
        """How often the device has registered in full."""
        ...

    def update(self) -> None:
        """Update the registration soon."""
        ...

    def report(self, error: Error, details: str) -> None:
        """Tell the application what went wrong."""
        ...


class FirmwareUpdate:
    """One device's update client, wired to its resources and its connection."""

    def __init__(
        self,
        platform: Platform,
        identity: Identity,
        observations: Observations,
        connection: Connection,
        hooks: Hooks,
        background: Background,
        net: NetworkInterface,
    ) -> None:
        slot = platform.candidate
        assert isinstance(slot, CandidateSlot)
        self._platform = platform
        self._identity = identity
        self._observations = observations
        self._connection = connection
        self._hooks = UpdateHooks(hooks, background)
        self._background = background
        self._http = HttpDownload(net.connect_stream)
        self._blocks = FirmwareBlocks(self)
        self._slot = slot
        self._components = Components(main_component(platform), hooks.components, identity)
        trials = trials_of(platform)
        self._form = CandidateForm.of_image(platform.image.options)
        if trials is not None:
            self._form = replace(self._form, signed=True)
        self.objects = fota_objects(identity.update, self._components, self.receive)
        ahead = prefetch(platform.image.options)
        self._fota = Fota(
            self._accepts,
            slot,
            self._fetch,
            identity,
            self,
            self._components,
            blocking=background.blocking,
            form=self._form,
            secrets=Secrets(lambda: root_of_trust(platform.nvstore, platform.random_bytes), platform.random_bytes),
            trials=trials,
            block_size=block_size(platform.image.options),
            prefetch=min(ahead, 1) if self._over_http else ahead,  # a stream's next bytes come anyhow
        )

    def __repr__(self) -> str:
        return f"<FirmwareUpdate, {self._fota!r}, {self._components!r}>"

    async def receive(self, manifest: bytes) -> None:
        """Carry out the update that a manifest asks for; the server has its answer already."""
        if not self._fota.busy:
            self.objects.result.update(NO_RESULT)
            await self._fota.receive(manifest)

    async def prepare(self) -> None:
        """Look, before registration, for an update that a reset cut off, and for what became of an installation."""
        if self._identity.update is None:
            return
        if await self._fota.prepare():
            self.objects.state.update(int(self._fota.state))
        elif self._fota.result is not None:
            self._tell(self._fota.result, self._fota.reason)
        self._show_versions()

    def hang_up(self) -> None:
        """Drop the connection that an image comes by, if it has one of its own."""
        self._http.close()

    async def resume(self, wanted: bool = False) -> None:
        """Go on with it, once registered; wanted: by the application, which may have put it off."""
        await self._fota.resume(wanted=wanted)

    async def refuse(self, reason: int) -> None:
        """End an update that the application has put off."""
        await self._fota.refuse(reason)

    def _accepts(self) -> Acceptance:
        update = self._identity.update
        if update is None:
            raise rejected(FotaResult.MANIFEST_SIGNATURE, "the image has no update certificate")
        return Acceptance(
            update.public_key,
            update.vendor_id,
            update.class_id,
            self._components.current,
            digests={each.name: each.digest() for each in self._components if each.digest and each.read},
            parts=frozenset(each.name for each in self._components if each.parts),
            signed=self._form.signed,
        )

    @property
    def _over_http(self) -> bool:
        return self._platform.image.download_protocol == "http"

    async def _fetch(self, uri: str, number: int, size: int) -> tuple[bytes, bool, int | None]:
        if self._over_http:
            return await self._http.fetch(uri, number, size)
        return await self._blocks.fetch(uri, number, size)

    # -- the way that blocks come by (firmware_blocks.Connection) ----------------------------------------

    async def request(self, message: Message) -> Message:
        """Ask the server."""
        return await self._connection.request(message)

    async def recover(self) -> None:
        """Wait until the server knows the device again; raise Interrupted if it had forgotten it."""
        before = self._connection.registrations
        await self._connection.recover()
        if self._connection.registrations != before:
            raise Interrupted

    # -- what the update tells (update.interface.Callbacks) ----------------------------------------------

    async def state(self, state: FotaState) -> None:
        """Notify the new state; go on only when the server has it."""
        self.objects.state.update(int(state))
        while not await self._observations.tell(self.objects.state):
            await self._connection.recover()

    async def result(self, result: FotaResult, reason: str) -> None:
        """Notify the result, and tell the application."""
        self._tell(result, reason)
        while not await self._observations.tell(self.objects.result):
            await self._connection.recover()

    def _tell(self, result: FotaResult, reason: str) -> None:
        self.objects.result.update(int(result))
        if result is FotaResult.SUCCESS:
            return
        error = error_of_update(result)
        if result is FotaResult.MANIFEST_SIGNATURE and self._identity.update is None:
            error = Error.UpdateWarningCertificateNotFound
        self._connection.report(error, f"{reason} (/10252/0/3 is {int(result)})")

    async def authorise(self, step: Step, manifest: Manifest) -> Answer:
        """Ask the application; without a callback everything is allowed."""
        return await self._hooks.ask(step, manifest)

    def progress(self, done: int, total: int) -> None:
        """Tell the application how far it is."""
        self._hooks.progress(done, total)

    async def reboot(self) -> None:
        """Restart into the bootloader, after what the application still has to hear."""
        await self._background.call(self._platform.reset)

    async def installed(self, component: str) -> None:
        """Show the component's new version, and let the server see it in the registration."""
        self._show_versions()
        self._connection.update()

    def _show_versions(self) -> None:
        for resource, version in zip(self.objects.versions, self._components.current.values(), strict=True):
            if resource.value != str(version):
                resource.update(str(version))


def trials_of(platform: Platform) -> Trials | None:
    """Return what the bootloader says of trials, if it is one that has them."""
    bootloader = platform.bootloader
    if not isinstance(bootloader, TrialStarts):
        return None
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bootloader.image_key)
    return Trials(key, bootloader.rejected, bootloader.allow_again)


def main_component(platform: Platform) -> Component:
    """Describe the firmware that runs, by its header in flash; blocking."""
    try:
        data = platform.flash.read(platform.layout.header_offset, MAX_HEADER_SIZE)
        header = bootloaders.header_of(platform.bootloader.kind, data)  # which writes its first part only
        version, digest = Version.from_number(header.version_number), header.digest
    except (ImageRejected, ConfigError):
        version, digest = Version(0, 0, 0), NO_PRECURSOR
    return Component(
        MAIN,
        str(version),
        needs_reboot=True,
        read=lambda position, size: platform.flash.read(platform.layout.app_offset + position, size),
        digest=lambda: digest,
    )
