"""Firmware images and manifests as the service has them."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from pdmlab.cloud.rest import Rest, parsed

ONE_REQUEST = 100 << 20  # B; larger images go in chunks
CHUNK = 6 << 20  # B, as the stock tool sends them


@dataclass(frozen=True)
class FirmwareImage:
    """An uploaded image; `url` is what its manifest names, size in B, checksum is SHA-256."""

    id: str
    name: str
    url: str
    short_url: str
    size: int
    checksum: str
    _rest: Rest = field(repr=False, compare=False)

    def delete(self) -> None:
        """Delete it; devices that still download it get no more."""
        self._rest.call("DELETE", f"/v3/firmware-images/{self.id}")


@dataclass(frozen=True)
class FirmwareManifest:
    """An uploaded manifest."""

    id: str
    name: str
    device_class: str
    _rest: Rest = field(repr=False, compare=False)

    def delete(self) -> None:
        """Delete it; campaigns that have started keep their copy."""
        self._rest.call("DELETE", f"/v3/firmware-manifests/{self.id}")


def upload_image(rest: Rest, name: str, data: bytes) -> FirmwareImage:
    """Upload an image, in one request or in chunks."""
    path = "/v3/firmware-images"
    if len(data) <= ONE_REQUEST:
        answer = rest.call("POST", path, data={"name": name}, files={"datafile": (f"{name}.bin", data)})
        return _image(rest, parsed(answer, f"POST {path}"))
    jobs = f"{path}/upload-jobs"
    job = parsed(rest.call("POST", jobs, body={"name": name}), f"POST {jobs}")["id"]
    for start in range(0, len(data) + CHUNK, CHUNK):  # the last chunk is empty, and ends the upload
        chunk = data[start : start + CHUNK]
        md5 = base64.b64encode(hashlib.md5(chunk, usedforsecurity=False).digest()).decode()
        rest.call("POST", f"{jobs}/{job}/chunks", content=chunk, headers={"Content-MD5": md5})
        if not chunk:
            break
    return _image(rest, rest.get(f"{path}/{rest.get(f'{jobs}/{job}')['firmware_image_id']}"))


def upload_manifest(rest: Rest, name: str, der: bytes) -> FirmwareManifest:
    """Upload a signed manifest."""
    path = "/v3/firmware-manifests"
    answer = rest.call("POST", path, data={"name": name}, files={"datafile": (f"{name}.der", der)})
    made = parsed(answer, f"POST {path}")
    return FirmwareManifest(made["id"], made["name"], made["device_class"], rest)


def _image(rest: Rest, made: dict[str, Any]) -> FirmwareImage:
    return FirmwareImage(
        made["id"],
        made["name"],
        made["datafile"],
        made["short_datafile"],
        made["datafile_size"],
        made["datafile_checksum"],
        rest,
    )
