"""Firmware update by the older update hub: manifests v1 to /10252/0/1, states out, blocks in, the reboot.

For boards whose bootloader reads headers v2. What the hub decides is in `pdmlab.update.hub_client`; here are its
resources, its connection, and what it asks of the application.
"""

from __future__ import annotations

import asyncio

from pdmlab.client.background import Background
from pdmlab.client.block_size import block_size
from pdmlab.client.error import error_of_hub
from pdmlab.client.firmware_blocks import FirmwareBlocks
from pdmlab.client.fota import NO_RESULT, Connection
from pdmlab.client.hooks import Hooks
from pdmlab.client.identity import Identity
from pdmlab.client.observation import Observations
from pdmlab.client.platform import Platform
from pdmlab.client.update_hooks import UpdateHooks
from pdmlab.client.update_objects import hub_objects
from pdmlab.errors import ImageRejected, ManifestRejected, TimedOut
from pdmlab.network.interface import NetworkInterface
from pdmlab.update import bootloaders, hub
from pdmlab.update.bootloaders.interface import ImageHeader
from pdmlab.update.candidate_v2 import UpdateStorage
from pdmlab.update.http_download import HttpDownload
from pdmlab.update.hub_checks import NO_CERTIFICATE, HubAcceptance
from pdmlab.update.hub_client import Hub, Patience
from pdmlab.update.interface import Answer, DownloadFailed, Step
from pdmlab.update.manifest_v1 import ManifestV1
from pdmlab.update.results import FotaState


class HubUpdate:
    """One device's update hub, wired to its resources and its connection."""

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
        storage = platform.candidate
        assert isinstance(storage, UpdateStorage)
        self._platform = platform
        self._identity = identity
        self._observations = observations
        self._connection = connection
        self._background = background
        self._hooks = UpdateHooks(hooks, background)
        self._http = HttpDownload(net.connect_stream)
        self._blocks = FirmwareBlocks(connection)
        self._patience = Patience(asyncio.sleep, platform.clock.loop.time)
        self._running = running_header(platform)
        area = platform.layout.bootloader
        self.objects = hub_objects(
            identity.update, self._running, platform.flash.read(area.offset, area.size), self.receive
        )
        self._hub = Hub(
            self._accepts,
            storage,
            self._fetch,
            self,
            blocking=background.blocking,
            block_size=block_size(platform.image.options),
            read_active=lambda position, size: platform.flash.read(platform.layout.app_offset + position, size),
        )

    async def receive(self, manifest: bytes) -> None:
        """Carry out the update that a manifest asks for; the server has its answer already."""
        if not self._hub.busy:
            self.objects.result.update(NO_RESULT)
            await self._hub.receive(manifest)

    async def prepare(self) -> None:
        """Do nothing: the hub keeps nothing of an update over a reset."""

    async def resume(self, *, wanted: bool = False) -> None:
        """Do nothing: the hub begins anew, with the manifest that it is sent again."""

    async def refuse(self, reason: int) -> None:
        """Do nothing: the hub puts nothing off; it waits for an answer."""

    def hang_up(self) -> None:
        """Drop the connection that an image comes by, if it has one of its own."""
        self._http.close()

    def _accepts(self) -> HubAcceptance:
        update, running = self._identity.update, self._running
        if update is None:
            meaning, advice = hub.explain(NO_CERTIFICATE)
            raise ManifestRejected(
                f"manifest rejected with result {NO_CERTIFICATE} ({meaning}): the image has no update certificate",
                result=NO_CERTIFICATE,
                hint=advice,
            )
        version, digest = (0, bytes(32)) if running is None else (running.version_number, running.digest)
        return HubAcceptance(update.default_certificate, update.vendor_id, update.class_id, version, digest)

    async def _fetch(self, uri: str, number: int, size: int) -> tuple[bytes, bool, int | None]:
        if self._platform.image.download_protocol != "http":
            return await self._blocks.fetch(uri, number, size)
        try:
            return await self._patience.persist(lambda: self._http.fetch(uri, number, size))
        except DownloadFailed as error:
            raise TimedOut(f"{error.message}; tried again for {self._patience.IN_ALL_S / 86400:g} days") from error

    # -- what the update tells (update.hub_client.HubCallbacks) ----------------------------------------

    async def state(self, state: FotaState) -> None:
        """Notify the new state; go on only when the server has it."""
        self.objects.state.update(int(state))
        if not await self._observations.tell(self.objects.state):
            raise TimedOut(f"the server did not acknowledge state {state}")

    async def result(self, result: int, reason: str) -> None:
        """Notify the result, however long that takes, and tell the application."""
        self._connection.report(error_of_hub(result), f"{reason} (/10252/0/3 is {result})")
        self.objects.result.update(result)
        while not await self._observations.tell(self.objects.result):
            await self._connection.recover()

    async def authorise(self, step: Step, manifest: ManifestV1) -> Answer:
        """Ask the application, and wait for its answer; without a callback everything is allowed."""
        return await self._hooks.ask(step)

    def progress(self, done: int, total: int) -> None:
        """Tell the application how far it is."""
        self._hooks.progress(done, total)

    async def reboot(self) -> None:
        """Restart into the bootloader, after what the application still has to hear."""
        await self._background.call(self._platform.reset)


def running_header(platform: Platform) -> ImageHeader | None:
    """Read the running image's header, in its bootloader's layout; None if there is none. Blocking."""
    area = platform.layout.header
    try:
        return bootloaders.header_of(platform.bootloader.kind, platform.flash.read(area.offset, area.size))
    except ImageRejected:
        return None
