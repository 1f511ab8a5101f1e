"""A device's side of an update in a few lines: what the stock client notifies, fetches and does, to the reboot.

As the stock client does, it takes a manifest while it is busy with one, and ignores it, and refuses a version that is
not newer than its own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

from aiocoap.numbers import codes
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.update.manifest import Manifest, SignedManifest
from pdmlab.update.manifest_v1 import ManifestV1
from pdmlab.update.results import FotaResult, FotaState
from pdmlab.update.version import Version
from tests.service.corelab import RESULT, STATE, VERSION, CoreLab, FakeDevice, request

BLOCK = 512
IMAGE = bytes(number * 31 % 256 for number in range(20_000))
KEY = ec.generate_private_key(ec.SECP256R1())
S = FotaState


class Updatable:
    """What a device does with a manifest; `fail_at` is a state after which it reports `result`."""

    def __init__(self, lab: CoreLab, device: FakeDevice) -> None:
        self.lab, self.device = lab, device
        self.fail_at: FotaState | None = None
        self.result = FotaResult.MANIFEST_SIGNATURE
        self.installs = True
        self.manifests = 0
        self.installed: list[str] = []
        """Versions that it has installed, one after the other."""
        self.boot_s = 3.0
        self.image = b""
        self.on_block: Callable[[int], Awaitable[None]] | None = None
        self.downloaded = 0
        device.values |= {STATE: b"1", RESULT: b"-1", "/14/0/0": b"MAIN", "/10252/0/1": b""}
        device.aobs |= {STATE: 600, RESULT: 601}
        device.on_manifest = self.update

    async def update(self, der: bytes) -> None:
        self.manifests += 1
        if self.device.values[STATE] not in (b"1", b"2"):
            return  # busy: it is taken, and ignored
        manifest = SignedManifest.parse(der).manifest
        self.device.values[STATE] = str(int(S.PROCESSING_MANIFEST)).encode()
        if self.fail_at is S.PROCESSING_MANIFEST:
            return await self.fail()
        if Version.parse(manifest.version) <= Version.parse(self.device.values[VERSION].decode()):
            return await self.fail(FotaResult.VERSION_TOO_OLD)
        for state in (S.AWAITING_DOWNLOAD_APPROVAL, S.DOWNLOADING):
            await self.tell(state)
            if self.fail_at is state:
                return await self.fail()
        self.image = await self.fetch(manifest.uri, manifest.payload_size)
        assert hashlib.sha256(self.image).digest() == manifest.payload_digest
        for state in (S.AWAITING_INSTALL_APPROVAL, S.UPDATING, S.REBOOTING):
            await self.tell(state)
            if self.fail_at is state:
                return await self.fail()
        await self.restart(version=manifest.version if self.installs else None)

    async def tell(self, state: FotaState) -> None:
        assert await self.device.notify(STATE, str(int(state))) == "acknowledged"

    async def fail(self, result: FotaResult | None = None) -> None:
        await self.device.notify(RESULT, str(int(result or self.result)))
        await self.tell(S.IDLE)

    async def fetch(self, uri: str, size: int) -> bytes:
        image = b""
        while True:
            ask = request(codes.GET, "fw", content_format=0)
            ask.opt.proxy_uri, ask.opt.max_age = uri, 0
            ask.opt.block2 = (len(image) // BLOCK, False, 5)
            answer = await self.device.endpoint.request(ask, self.device.service)
            assert answer.code == codes.CONTENT, answer.payload
            assert answer.opt.size2 == size and answer.opt.block2.block_number == len(image) // BLOCK
            image += answer.payload
            self.downloaded = len(image)
            if self.on_block is not None:
                await self.on_block(answer.opt.block2.block_number)
            if not answer.opt.block2.more:
                return image

    async def restart(self, *, version: str | None = None, state: FotaState = S.IDLE) -> None:
        """Lose everything in RAM, boot, and register again."""
        self.device.power_off()
        await asyncio.sleep(self.boot_s)
        await self.device.power_on()
        self.device.values[STATE], self.device.values[RESULT] = str(int(state)).encode(), b"-1"
        if version is not None:
            self.installed.append(version)
            self.device.values[VERSION] = version.encode()
        await self.device.register()


async def updatable(lab: CoreLab, name: str = "desk1", *, registered: bool = True) -> Updatable:
    device = await lab.device(name)
    update = Updatable(lab, device)
    await device.bootstrap()
    if registered:
        await device.register()
    return update


def manifest_v3(image: bytes, uri: str, version: str) -> bytes:
    return Manifest.for_image(image, version=version, uri=uri, vendor_id=bytes(16), class_id=bytes(16)).sign(KEY)


def manifest_v1(image: bytes, uri: str, version: str) -> bytes:
    """Return a manifest v1; nobody here checks whose signature it has."""
    ids = {"vendor_id": bytes(16), "class_id": bytes(16)}
    return ManifestV1.for_image(image, timestamp=int(version), uri=uri, **ids).sign(KEY, b"certificate")


def publish(
    lab: CoreLab,
    version: str = "1.1.0",
    *,
    image: bytes = IMAGE,
    device_filter: str = "",
    sign: Callable[[bytes, str, str], bytes] = manifest_v3,
    **fields: str,
) -> str:
    """Upload an image and its manifest, and make a campaign of them; return its id."""
    account, firmware = lab.core.account_id, lab.core.firmware
    uri = f"coap://service/fw/{firmware.add_image(account, 'image', image)['id']}"
    row = firmware.add_manifest(account, "manifest", sign(image, uri, version))
    campaign = lab.core.campaigns.create(
        account, device_filter=device_filter, name="update", root_manifest_id=row["id"], **fields
    )
    return str(campaign["id"])
