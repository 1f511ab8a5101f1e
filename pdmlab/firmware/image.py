"""Virtual firmware images: bytes that name the application, version and build that run on a virtual board.

Layout, little endian, as the linker of a Cortex-M target would place it:

| offset | bytes |
|---|---|
| 0x000 | u32 initial stack pointer, u32 reset vector (the start of every Cortex-M image) |
| 0x1e8 | u64 number of the version, as firmware headers have it (`pdmlab.update.signed_version`); 0.0.0 if it is none |
| 0x1f0 | 16 B `PELION/BSDIFF001`: which patches it can apply, where manifest-delta-tool looks for it |
| 0x200 | 8 B magic `pdmlabFW`, u32 length n of the descriptor, u32 CRC32 of name, version and build |
| 0x210 | n B descriptor: JSON, UTF-8 |
| …     | stand-in for code (`pdmlab.firmware.body`): repeatable, and alike in builds of one application |

The descriptor also carries what a stock build compiles in: the developer credentials, the update
resources, the transport of its client, and the key that an `update` test sends when it has booted
(`spdmc_ready_chk`). The Greentea host replaces that key in the image's bytes to tell old firmware
from new: so it is read from the bytes, like everything else.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from pdmlab.client.download_protocol import DownloadProtocol
from pdmlab.client.download_protocol import check as check_download_protocol
from pdmlab.client.transport import Transport
from pdmlab.client.transport import check as check_transport
from pdmlab.errors import ConfigError, ImageRejected
from pdmlab.firmware.body import code
from pdmlab.update import signed_version
from pdmlab.update.version import Version, is_version

MAGIC = b"pdmlabFW"
DESCRIPTOR_OFFSET = 0x200
PATCHES = b"PELION/BSDIFF001"
PATCHES_OFFSET = DESCRIPTOR_OFFSET - len(PATCHES)
READY_KEY = "spdmc_ready_chk"
DEFAULT_SIZE = 192 * 1024
"""Size of an image (B) unless told: of the order of a stock client application (163-177 kB of ROM on a K64F)."""

_HEAD = struct.Struct("<8sII")
_MAX_DESCRIPTOR = 64 * 1024


@dataclass(frozen=True)
class ImageInfo:
    """What an image says of itself."""

    application: str
    version: str = "1.0.0"
    build: str = "0"
    ready_key: str = READY_KEY
    credentials: Mapping[str, str] | None = field(default=None, repr=False)
    """mbed_cloud_dev_credentials.c as compiled in: name -> text, bytes as base64."""
    update_resources: Mapping[str, str] | None = field(default=None, repr=False)
    """update_default_resources.c as compiled in: name -> base64."""
    transport: Transport | None = None
    """What the client speaks, where mbed_app.json decides it."""
    download_protocol: DownloadProtocol | None = None
    """What it fetches firmware by, likewise."""
    options: Mapping[str, object] = field(default_factory=dict)
    """What else its build was given, in JSON's types: a bootloader's switches."""

    def __str__(self) -> str:
        return f"{self.application} {self.version} (build {self.build})"


def build_image(
    info: ImageInfo, *, size: int = DEFAULT_SIZE, load_address: int = 0, stack_top: int = 0x2003_0000
) -> bytes:
    """Build an image of size bytes that starts `info.application` when it lies at load_address.

    Raises:
        ConfigError: the descriptor does not fit into size.
    """
    fixed = {"application": info.application, "version": info.version, "build": info.build}
    descriptor: dict[str, object] = {**fixed, "ready_key": info.ready_key}
    if info.credentials is not None:
        descriptor["credentials"] = dict(info.credentials)
    if info.update_resources is not None:
        descriptor["update_resources"] = dict(info.update_resources)
    if info.transport is not None:
        descriptor["transport"] = info.transport
    if info.download_protocol is not None:
        descriptor["download_protocol"] = info.download_protocol
    if info.options:
        descriptor["options"] = dict(info.options)
    body = json.dumps(descriptor, separators=(",", ":"), sort_keys=True).encode()
    start = DESCRIPTOR_OFFSET + _HEAD.size
    if start + len(body) > size:
        raise ConfigError(
            f"an image of {size} B has no room for a descriptor of {len(body)} B",
            hint=f"give it at least {start + len(body)} B",
        )
    vectors = struct.pack("<II", stack_top, load_address + DESCRIPTOR_OFFSET | 1)
    image = bytearray(code(info.application, info.version, info.build, size))
    image[: len(vectors)] = vectors
    version = Version.parse(info.version if is_version(info.version) else "0.0.0")
    image[signed_version.OFFSET : signed_version.END] = signed_version.pack(version)
    image[PATCHES_OFFSET:DESCRIPTOR_OFFSET] = PATCHES
    image[DESCRIPTOR_OFFSET:start] = _HEAD.pack(MAGIC, len(body), _check(fixed))
    image[start : start + len(body)] = body
    return bytes(image)


def read_image(data: bytes) -> ImageInfo:
    """Read what an image says of itself; bytes after its end do not matter.

    Raises:
        ImageRejected: the bytes name no application, as a real board's would not for us.
    """
    head = data[DESCRIPTOR_OFFSET : DESCRIPTOR_OFFSET + _HEAD.size]
    if len(head) < _HEAD.size or not head.startswith(MAGIC):
        raise ImageRejected("the image names no application", hint="build one with pdmlab.firmware.image.build_image")
    _, length, check = _HEAD.unpack(head)
    start = DESCRIPTOR_OFFSET + _HEAD.size
    try:
        if length > _MAX_DESCRIPTOR:
            raise ValueError(f"its descriptor claims {length} B")
        descriptor = json.loads(data[start : start + length])
        fixed = {name: descriptor[name] for name in ("application", "version", "build")}
        if _check(fixed) != check:
            raise ValueError("its descriptor's checksum is wrong")
        return ImageInfo(
            **fixed,
            ready_key=descriptor.get("ready_key", READY_KEY),
            credentials=descriptor.get("credentials"),
            update_resources=descriptor.get("update_resources"),
            transport=check_transport(descriptor.get("transport")),
            download_protocol=check_download_protocol(descriptor.get("download_protocol")),
            options=dict(descriptor.get("options") or {}),
        )
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        raise ImageRejected(f"the image's descriptor cannot be read: {error}", hint="flash the image again") from error


def descriptor_size(head: bytes) -> int:
    """Return how many bytes of an image `read_image` needs, from its first 0x210 bytes."""
    if len(head) < DESCRIPTOR_OFFSET + _HEAD.size or not head[DESCRIPTOR_OFFSET:].startswith(MAGIC):
        return DESCRIPTOR_OFFSET + _HEAD.size
    length: int = _HEAD.unpack_from(head, DESCRIPTOR_OFFSET)[1]
    return DESCRIPTOR_OFFSET + _HEAD.size + min(length, _MAX_DESCRIPTOR)


def _check(fixed: Mapping[str, str]) -> int:
    return zlib.crc32(json.dumps(fixed, sort_keys=True).encode())
