"""Firmware update: manifests to /10252/0/1, states out, blocks in by CoAP or by HTTP, the reboot."""

from __future__ import annotations

from typing import Protocol

from pdmlab.client import firmware_blocks
from pdmlab.client.background import Background
from pdmlab.client.error import Error, error_of_update
from pdmlab.client.firmware_blocks import FirmwareBlocks
from pdmlab.client.hooks import Hooks
from pdmlab.client.identity import Identity
from pdmlab.client.observation import Observations
from pdmlab.client.platform import Platform
from pdmlab.client.update_hooks import UpdateHooks
from pdmlab.client.update_objects import fota_objects
from pdmlab.errors import ImageRejected
from pdmlab.network.interface import NetworkInterface
from pdmlab.update.checks import Acceptance
from pdmlab.update.download import Fota, Step
from pdmlab.update.header import MAX_HEADER_SIZE, NO_PRECURSOR, FirmwareHeader
from pdmlab.update.http_download import HttpDownload
from pdmlab.update.manifest import Manifest
from pdmlab.update.results import FotaResult, FotaState, rejected
from pdmlab.update.version import Version

COMPONENT = "MAIN"
NO_RESULT = -1
"""What /10252/0/3 says while an update is under way."""


class Connection(firmware_blocks.Connection, Protocol):
    """The registered connection to the LwM2M server, and the application behind the client."""

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
        self._version, digest = running_firmware(platform)
        self._platform = platform
        self._identity = identity
        self.objects = fota_objects(identity.update, str(self._version), self.receive)
        self._observations = observations
        self._connection = connection
        self._hooks = UpdateHooks(hooks, background)
        self._background = background
        self._http = HttpDownload(net.connect_stream)
        self._blocks = FirmwareBlocks(connection)
        self._fota = Fota(
            self._accepts,
            platform.candidate,
            self._fetch,
            identity,
            self,
            blocking=background.blocking,
            running=lambda: digest,
        )

    async def receive(self, manifest: bytes) -> None:
        """Carry out the update that a manifest asks for; the server has its answer already."""
        if not self._fota.busy:
            self.objects.result.update(NO_RESULT)
            await self._fota.receive(manifest)

    async def prepare(self) -> None:
        """Look, before registration, for an update that a reset cut off."""
        if self._identity.update is not None and await self._fota.prepare():
            self.objects.state.update(int(self._fota.state))

    def hang_up(self) -> None:
        """Drop the connection that an image comes by, if it has one of its own."""
        self._http.close()

    async def resume(self) -> None:
        """Go on with it, once registered."""
        await self._fota.resume()

    def _accepts(self) -> Acceptance:
        update = self._identity.update
        if update is None:
            raise rejected(FotaResult.MANIFEST_SIGNATURE, "the image has no update certificate")
        storage = self._platform.candidate.capacity
        return Acceptance(
            update.public_key, update.vendor_id, update.class_id, {COMPONENT: self._version}, storage_size=storage
        )

    async def _fetch(self, uri: str, number: int, size: int) -> tuple[bytes, bool, int | None]:
        if self._platform.image.download_protocol == "http":
            return await self._http.fetch(uri, number, size)
        return await self._blocks.fetch(uri, number, size)

    # -- what the update tells (update.download.Callbacks) -------------------------------------------

    async def state(self, state: FotaState) -> None:
        """Notify the new state; go on only when the server has it."""
        self.objects.state.update(int(state))
        while not await self._observations.tell(self.objects.state):
            await self._connection.recover()

    async def result(self, result: FotaResult, reason: str) -> None:
        """Notify the result, and tell the application."""
        error = error_of_update(result)
        if result is FotaResult.MANIFEST_SIGNATURE and self._identity.update is None:
            error = Error.UpdateWarningCertificateNotFound
        self._connection.report(error, f"{reason} (/10252/0/3 is {int(result)})")
        self.objects.result.update(int(result))
        while not await self._observations.tell(self.objects.result):
            await self._connection.recover()

    async def authorise(self, step: Step, manifest: Manifest) -> bool:
        """Ask the application; without a callback everything is allowed."""
        return await self._hooks.authorise(step)

    def progress(self, done: int, total: int) -> None:
        """Tell the application how far it is."""
        self._hooks.progress(done, total)

    async def reboot(self) -> None:
        """Restart into the bootloader, after what the application still has to hear."""
        await self._background.call(self._platform.reset)


def running_firmware(platform: Platform) -> tuple[Version, bytes]:
    """Read version and SHA-256 of the running image from its header in flash; blocking."""
    try:
        header = FirmwareHeader.parse(platform.flash.read(platform.layout.header_offset, MAX_HEADER_SIZE))
    except ImageRejected:
        return Version(0, 0, 0), NO_PRECURSOR
    return header.version, header.digest
