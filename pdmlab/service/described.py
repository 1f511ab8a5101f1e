"""What the service reads out of a manifest, v3 or v1: whom it is for, what to fetch, and what will run then."""

from __future__ import annotations

from dataclasses import dataclass

from pdmlab.errors import ConfigError
from pdmlab.update.manifest import SignedManifest
from pdmlab.update.manifest_v1 import ManifestV1, is_v1

_LAST_TIME = 253_402_300_799  # Unix s: the year 9999 ends


@dataclass(frozen=True)
class Described:
    """A manifest's fields; ids and digests in hex, sizes in B.

    schema_version  3 or 1
    version         "1.2.3", or what a manifest v1 has instead: a number of seconds, mostly
    made_at         Unix s; None for a manifest v3, which carries a version and no time
    """

    schema_version: int
    vendor_id: str
    device_class: str
    version: str
    component: str
    payload_uri: str
    payload_size: int
    payload_digest: str
    installed_digest: str
    made_at: float | None = None

    @classmethod
    def of(cls, der: bytes) -> Described:
        """Read a signed manifest; whose signature it is, the devices find out.

        Raises:
            ManifestRejected: it is no manifest.
            ConfigError: it is one that no device could take.
        """
        return _v1(ManifestV1.parse(der)) if is_v1(der) else _v3(der)


def _v3(der: bytes) -> Described:
    manifest = SignedManifest.parse(der).manifest
    _must_have_no([fault for _, fault in manifest.faults()], manifest.uri + manifest.component)
    return Described(
        schema_version=3,
        vendor_id=manifest.vendor_id.hex(),
        device_class=manifest.class_id.hex(),
        version=manifest.version,
        component=manifest.component,
        payload_uri=manifest.uri,
        payload_size=manifest.payload_size,
        payload_digest=manifest.payload_digest.hex(),
        installed_digest=manifest.installed_digest.hex(),
    )


def _v1(manifest: ManifestV1) -> Described:
    _must_have_no(list(manifest.faults()), manifest.uri)
    return Described(
        schema_version=1,
        vendor_id=manifest.vendor_id.hex(),
        device_class=manifest.class_id.hex(),
        version=manifest.version,
        component="MAIN",  # it has no other
        payload_uri=manifest.uri,
        payload_size=manifest.payload_size,
        payload_digest=manifest.payload_digest.hex(),
        installed_digest=manifest.installed_digest.hex(),
        made_at=float(manifest.timestamp) if manifest.timestamp <= _LAST_TIME else None,
    )


def _must_have_no(faults: list[str], texts: str) -> None:
    if "\0" in texts:
        faults.append("a text in it has a NUL")
    if faults:
        raise ConfigError(f"the manifest cannot be used: {faults[0]}")
