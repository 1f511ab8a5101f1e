"""Firmware images and manifests as the service has them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from pdmlab.cloud.answers import parsed
from pdmlab.cloud.both import M, both
from pdmlab.cloud.item import Collection, Item, moment, number, text
from pdmlab.errors import ConfigError
from pdmlab.update.files import MAX_IMAGE, read_file

ONE_REQUEST = 100 << 20  # B; larger images go in chunks
CHUNK = 6 << 20  # B, as the stock tool sends them


class FirmwareImage(Item[M]):
    """An uploaded image; `url` is what its manifest names, size in B, checksum is SHA-256.

    Once it is deleted, devices that still download it get no more.
    """

    PATH = "/v3/firmware-images"
    SHOWN = ("name", "description", "datafile_size", "datafile_checksum", "datafile", "created_at")

    description = text("What people say of it.")

    @property
    def url(self) -> str:
        """Where devices fetch it by HTTP."""
        return str(self.fields["datafile"])

    @property
    def short_url(self) -> str:
        """Where devices fetch it by CoAP."""
        return str(self.fields["short_datafile"])

    @property
    def size(self) -> int:
        """Size in bytes."""
        return int(self.fields["datafile_size"])

    @property
    def checksum(self) -> str:
        """Its SHA-256, 64 hex digits."""
        return str(self.fields["datafile_checksum"])

    @property
    def encrypted(self) -> tuple[bytes, int] | None:
        """SHA-256 and size (B) of what devices fetch, if that is encrypted: `developer.sign(…, encrypted=…)`."""
        if not self.fields.get("datafile_encryption"):
            return None
        digest, size = self.fields["encrypted_datafile_checksum"], self.fields["encrypted_datafile_size"]
        return bytes.fromhex(str(digest)), int(size)


class FirmwareImages(Collection[FirmwareImage[M], M]):
    """The account's images: `cloud.firmware_images()`."""

    ITEM = FirmwareImage
    COLUMNS = ("id", "name", "datafile_size", "datafile_checksum", "datafile", "created_at")

    async def _upload(self, name: str, image: bytes | Path | str, encrypt: bool) -> FirmwareImage[M]:
        path, data = FirmwareImage.PATH, image if isinstance(image, bytes) else _contents(Path(image))
        if len(data) <= ONE_REQUEST:
            fields = {"name": name, "datafile_encryption": "true" if encrypt else "false"}
            answer = await self._rest.call("POST", path, data=fields, files={"datafile": (f"{name}.bin", data)})
            return FirmwareImage(self._rest, parsed(answer, f"POST {path}"))
        begun = await self._rest.post(f"{path}/upload-jobs", {"name": name, "datafile_encryption": encrypt})
        job = f"{path}/upload-jobs/{begun['id']}"
        for start in range(0, len(data) + CHUNK, CHUNK):  # the last chunk is empty, and ends the upload
            chunk = data[start : start + CHUNK]
            md5 = base64.b64encode(hashlib.md5(chunk, usedforsecurity=False).digest()).decode()
            await self._rest.call("POST", f"{job}/chunks", content=chunk, headers={"Content-MD5": md5})
            if not chunk:
                break
        return await self._get(str((await self._rest.get(job))["firmware_image_id"]))

    @both
    async def create(self, name: str, image: bytes | Path | str, *, encrypt: bool = False) -> FirmwareImage[M]:
        """Upload an image, in one request or in chunks: its bytes, or the file that has them.

        encrypt: devices are to fetch it encrypted; `encrypted` of what is returned goes into its manifest.
        """
        return await self._upload(name, image, encrypt)


class FirmwareManifest(Item[M]):
    """An uploaded manifest; once it is deleted, campaigns that have started keep their copy."""

    PATH = "/v3/firmware-manifests"
    SHOWN = ("name", "description", "device_class", "datafile_size", "datafile", "timestamp", "created_at")

    description = text("What people say of it.")
    device_class = text("The class of the devices that it is for, 32 hex digits.")
    timestamp = moment("The version of an older manifest, as a time.")
    datafile_size = number("Size in bytes.")


class FirmwareManifests(Collection[FirmwareManifest[M], M]):
    """The account's manifests: `cloud.manifests()`."""

    ITEM = FirmwareManifest
    COLUMNS = ("id", "name", "device_class", "datafile_size", "datafile", "created_at")

    async def _upload(self, name: str, der: bytes, key_table: bytes | None = None) -> FirmwareManifest[M]:
        path, files = FirmwareManifest.PATH, {"datafile": (f"{name}.der", der)}
        if key_table is not None:
            files["key_table"] = (f"{name}.keys", key_table)
        answer = await self._rest.call("POST", path, data={"name": name}, files=files)
        return FirmwareManifest(self._rest, parsed(answer, f"POST {path}"))

    @both
    async def create(self, name: str, der: bytes, *, key_table: bytes | None = None) -> FirmwareManifest[M]:
        """Upload a signed manifest, such as `service.developer.sign(image, version="1.0.1", uri=image.url)`.

        key_table: of an encrypted image, the keys that devices get.
        """
        return await self._upload(name, der, key_table)


def _contents(file: Path) -> bytes:
    try:
        return read_file(file, MAX_IMAGE, "an image")
    except ConfigError as error:
        raise ConfigError(f"the image {error.message}", hint=error.hint) from error
