"""Manifests v1, which clients before 4.7 and the older update hub take: read, not made.

    ManifestV1.parse(open("firmware.manifest", "rb").read()).uri

What manifest-tool 1.5 creates, and `manifest-dev-tool create-v1` of 2.6. Whose signature it is, the devices find out.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pdmlab.errors import ConfigError
from pdmlab.update.manifest import MAX_IMAGE, MAX_MANIFEST, MAX_URI
from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.version import Version

MAX_TIMESTAMP = (1 << 63) - 1


@dataclass(frozen=True)
class ManifestV1:
    """The fields of a manifest v1 that say which devices it is for, and what they fetch.

    timestamp       what stands for the version: seconds since 1970 mostly, or a version's number (`Version.number`)
    vendor_id, class_id, payload_digest    16, 16 and 32 bytes
    installed_digest    SHA-256 of the image that will run: the payload itself, unless that is a delta
    """

    timestamp: int
    vendor_id: bytes
    class_id: bytes
    payload_digest: bytes
    payload_size: int
    uri: str
    installed_digest: bytes
    precursor_digest: bytes | None = None

    @classmethod
    def parse(cls, der: bytes) -> ManifestV1:
        """Read a signed manifest v1.

        Raises:
            ManifestRejected: it is none, or it is not what was signed.
        """
        if len(der) > MAX_MANIFEST:
            raise rejected(FotaResult.MANIFEST_MALFORMED, f"{len(der)} B are more than a manifest can have")
        outer, length = _decode("SignedResource", der)
        resource = bytes(outer["resource"])
        if length != len(der):
            raise rejected(FotaResult.MANIFEST_MALFORMED, f"{len(der) - length} B follow the manifest")
        if hashlib.sha256(resource).digest() != bytes(outer["signature"]["hash"]):
            raise rejected(FotaResult.MANIFEST_SIGNATURE, "the manifest has not the hash that was signed")
        fields, length = _decode("Resource", resource)
        manifest = fields["manifest"]
        payload = manifest.get("payload")
        if fields["resource-type"] != "manifest" or length != len(resource) or payload is None:
            raise rejected(FotaResult.MANIFEST_MALFORMED, "the manifest names no payload")
        reference = payload["reference"]
        return cls(
            timestamp=manifest["timestamp"],
            vendor_id=bytes(manifest["vendor-id"]),
            class_id=bytes(manifest["class-id"]),
            payload_digest=bytes(reference["hash"]),
            payload_size=reference["size"],
            uri=reference.get("uri", ""),
            installed_digest=bytes(payload.get("installed-digest") or reference["hash"]),
            precursor_digest=manifest.get("precursor-digest"),
        )

    @property
    def version(self) -> str:
        """The version that it leads to: "1.2.3" where the timestamp is the number of one, else the timestamp."""
        try:
            return str(Version.from_number(self.timestamp))
        except ConfigError:
            return str(self.timestamp)

    def faults(self) -> Iterator[str]:
        """Name each field that no device could use."""
        for name, value, size in (
            ("vendor id", self.vendor_id, 16),
            ("class id", self.class_id, 16),
            ("payload digest", self.payload_digest, 32),
            ("installed digest", self.installed_digest, 32),
        ):
            if len(value) != size:
                yield f"the {name} has {len(value)} bytes, not {size}"
        if not 0 <= self.timestamp <= MAX_TIMESTAMP:
            yield f"the timestamp {self.timestamp} is outside 0 to {MAX_TIMESTAMP}"
        if not 1 <= self.payload_size <= MAX_IMAGE:
            yield f"the payload size {self.payload_size} B is outside 1 to {MAX_IMAGE}"
        if not 1 <= len(self.uri.encode()) <= MAX_URI:
            yield f"the URI has {len(self.uri.encode())} bytes, not 1 to {MAX_URI}"


def is_v1(der: bytes) -> bool:
    """Whether bytes begin as a manifest v1 does: with a resource, where others have the number of their format."""
    header = 2 + (der[1] & 0x7F if len(der) > 1 and der[1] & 0x80 else 0)
    return der[:1] == b"\x30" and der[header : header + 1] == b"\x30"


@functools.cache
def _schema() -> Any:  # asn1tools ships no types
    import asn1tools

    text = resources.files(__package__).joinpath("manifest_v1.asn").read_text(encoding="utf-8")
    return asn1tools.compile_string(text, "der")


def _decode(name: str, data: bytes) -> tuple[dict[str, Any], int]:
    import asn1tools

    try:
        fields, length = _schema().decode_with_length(name, data)
    # Beside its own errors the decoder lets through what slicing, str() and int() of hostile bytes raise.
    except (asn1tools.Error, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise rejected(FotaResult.MANIFEST_MALFORMED, f"{name}: {error}") from error
    return fields, length


def told_as(version: str) -> frozenset[str]:
    """Return in what ways a device tells that it runs a version: as it is, as a number, and that number in three."""
    told = {version}
    if version.isdecimal():
        number = int(version)
        told.add(f"{number >> 40 & 0x7FFF}.{number >> 16 & 0xFFFFFF}.{number & 0xFFFF}")  # fota_component.c
    else:
        try:
            told.add(str(Version.parse(version).number))
        except ConfigError:
            pass
    return frozenset(told)
