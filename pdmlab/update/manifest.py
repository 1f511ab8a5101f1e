"""Update manifests v3: what a signed file tells a device about the firmware it is to fetch.

    signed = Manifest.for_image(image, version="1.2.4", uri="/fw/1", vendor_id=v, class_id=c).sign(key)
    SignedManifest.parse(signed).verify(certificate.public_key())

The layout is mbed-cloud-client 4.13.4's (fota_manifest_v3.c) and manifest-tool 2.6.2's; the schema is
manifest.asn. Versions 1 of the format belong to clients older than 4.7.
"""

from __future__ import annotations

import functools
import hashlib
import html
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from importlib import resources
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from pdmlab.errors import ConfigError
from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.version import Version

SCHEMA_VERSION = 3
MAX_COMPONENT = 8
MAX_URI = 255
MAX_MANIFEST = 4096  # the client's own limit is 503 B and its vendor data; more cannot be a manifest
MAX_IMAGE = 0xFFFF_FFFF  # the firmware header's size field has 32 bits


class PayloadFormat(IntEnum):
    """How the payload makes the image."""

    RAW = 1
    DELTA = 5
    COMBINED = 6
    ENCRYPTED_RAW = 0x101
    ENCRYPTED_COMBINED = 0x106


@dataclass(frozen=True)
class PayloadMetadata:
    """The image that a payload which is not raw unpacks to (size in B, SHA-256), and what a delta applies to."""

    installed_size: int
    installed_digest: bytes
    precursor_digest: bytes | None = None


@dataclass(frozen=True)
class Manifest:
    """The signed fields of an update: which devices it is for, and what they fetch and check.

    vendor_id, class_id  16 bytes each
    payload_digest       SHA-256 of the payload as it is fetched
    payload_size         bytes to fetch
    installed_signature  ECDSA r||s over the installed image's digest, or empty; None leaves the field out
    """

    vendor_id: bytes
    class_id: bytes
    version: str
    payload_digest: bytes
    payload_size: int
    uri: str
    component: str = "MAIN"
    priority: int = 0
    format: PayloadFormat = PayloadFormat.RAW
    installed_signature: bytes | None = b""
    metadata: PayloadMetadata | None = None
    vendor_data: bytes | None = None

    @classmethod
    def for_image(
        cls, image: bytes, *, version: str, uri: str, vendor_id: bytes, class_id: bytes, component: str = "MAIN"
    ) -> Manifest:
        """Describe a raw image, fetched from uri."""
        return cls(vendor_id, class_id, version, hashlib.sha256(image).digest(), len(image), uri, component=component)

    @property
    def installed_digest(self) -> bytes:
        """Return the SHA-256 of the image that will run."""
        return self.metadata.installed_digest if self.metadata else self.payload_digest

    @property
    def installed_size(self) -> int:
        """Return the size of the image that will run (B)."""
        return self.metadata.installed_size if self.metadata else self.payload_size

    def faults(self) -> Iterator[tuple[FotaResult, str]]:
        """Name each field that the format does not allow, with the result a device would give."""
        malformed = FotaResult.MANIFEST_MALFORMED
        for name, value in (("vendor id", self.vendor_id), ("class id", self.class_id)):
            if len(value) != 16:
                yield malformed, f"the {name} has {len(value)} bytes, not 16"
        if not 1 <= len(self.component.encode()) <= MAX_COMPONENT:
            yield malformed, f"the component name {self.component[:40]!r} is not 1 to {MAX_COMPONENT} characters"
        try:
            Version.parse(self.version)
        except ConfigError as error:
            yield malformed, error.message
        if not 0 <= self.priority <= 0xFFFF_FFFF:
            yield malformed, f"the priority {self.priority} is outside 0 to 4294967295"
        if len(self.payload_digest) != 32:
            yield malformed, f"the payload digest has {len(self.payload_digest)} bytes, not 32"
        if not 1 <= self.payload_size <= MAX_IMAGE:
            yield malformed, f"the payload size {self.payload_size} B is outside 1 to {MAX_IMAGE}"
        if len(self.installed_signature or b"") not in (0, 64):
            yield malformed, f"the image signature has {len(self.installed_signature or b'')} bytes, not 64"
        yield from self._metadata_faults(malformed)
        if not 1 <= len(self.uri.encode()) <= MAX_URI:
            yield FotaResult.BAD_URI, f"the URI has {len(self.uri.encode())} bytes, not 1 to {MAX_URI}"

    def _metadata_faults(self, malformed: FotaResult) -> Iterator[tuple[FotaResult, str]]:
        if (self.metadata is None) != (self.format is PayloadFormat.RAW):
            yield malformed, "payload metadata belong to every format but raw, and to no raw one"
        if self.metadata is None:
            return
        if not 1 <= self.metadata.installed_size <= MAX_IMAGE:
            yield malformed, f"the installed size {self.metadata.installed_size} B is outside 1 to {MAX_IMAGE}"
        if len(self.metadata.installed_digest) != 32:
            yield malformed, f"the installed digest has {len(self.metadata.installed_digest)} bytes, not 32"
        precursor = self.metadata.precursor_digest
        if (precursor is None) == (self.format is PayloadFormat.DELTA) or len(precursor or bytes(32)) != 32:
            yield malformed, "a precursor digest of 32 bytes belongs to a delta, and to nothing else"

    def sign(self, private_key: ec.EllipticCurvePrivateKey) -> bytes:
        """Return the DER of the manifest signed with a P-256 key; raise ConfigError if a field cannot be."""
        for _, fault in self.faults():
            raise ConfigError(f"this manifest cannot be signed: {fault}")
        if not isinstance(private_key.curve, ec.SECP256R1):
            raise ConfigError(
                f"manifests are signed with P-256 keys; this one is on {private_key.curve.name}",
                hint="`pdmlab dm init` makes the right kind of key",
            )
        signed = bytes(_schema().encode("Manifest", _to_fields(self)))
        r, s = utils.decode_dss_signature(private_key.sign(signed, ec.ECDSA(SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        outer = {"manifest-version": "v3", "manifest": signed, "signature": signature}
        return bytes(_schema().encode("SignedResource", outer))

    def _repr_html_(self) -> str:
        rows = {
            "component": self.component,
            "version": self.version,
            "payload": f"{self.payload_size} B, {self.format.name.lower().replace('_', ' ')} ({int(self.format)})",
            "payload SHA-256": self.payload_digest.hex(),
            "URI": self.uri,
            "vendor id": self.vendor_id.hex(),
            "class id": self.class_id.hex(),
            "priority": str(self.priority),
            "image signature": (self.installed_signature or b"").hex() or "none",
        }
        if self.metadata:
            rows["installed image"] = f"{self.metadata.installed_size} B"
            rows["installed SHA-256"] = self.metadata.installed_digest.hex()
            if self.metadata.precursor_digest is not None:
                rows["precursor SHA-256"] = self.metadata.precursor_digest.hex()
        if self.vendor_data is not None:
            rows["vendor data"] = self.vendor_data.hex() or "empty"
        body = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
        return f"<table><caption>Update manifest v{SCHEMA_VERSION}</caption>{body}</table>"


@dataclass(frozen=True)
class SignedManifest:
    """A manifest as it came: its fields, the bytes that were signed, the signature (r||s).

    encryption_key: the 16-byte AES key that a service appends for encrypted payloads; not signed.
    """

    manifest: Manifest
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    encryption_key: bytes | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, der: bytes, public_key: ec.EllipticCurvePublicKey | None = None) -> SignedManifest:
        """Read a signed manifest; with public_key, check its signature before any field is looked at.

        Raises ManifestRejected, and nothing else, whatever the bytes are. Fields that are well formed
        but not allowed (`Manifest.faults`) are left to `pdmlab.update.checks.check`.
        """
        if len(der) > MAX_MANIFEST:
            raise rejected(FotaResult.MANIFEST_MALFORMED, f"{len(der)} B are more than a manifest can have")
        outer, length = _decode("SignedResource", der)
        signed, signature = bytes(outer["manifest"]), bytes(outer["signature"])
        key = _encryption_key(der[length:])
        if public_key is not None:
            _verify(public_key, signed, signature)
        fields, length = _decode("Manifest", signed)
        if length != len(signed) or bytes(_schema().encode("Manifest", fields)) != signed:
            raise rejected(FotaResult.MANIFEST_MALFORMED, "the manifest is BER, not DER, or has unknown fields")
        return cls(_from_fields(fields), signed, signature, key)

    def verify(self, public_key: ec.EllipticCurvePublicKey) -> None:
        """Raise ManifestRejected (23) unless the P-256 key's owner signed exactly these bytes."""
        _verify(public_key, self.signed, self.signature)

    def _repr_html_(self) -> str:
        return self.manifest._repr_html_()


def _verify(public_key: ec.EllipticCurvePublicKey, signed: bytes, signature: bytes) -> None:
    if len(signature) != 64:
        raise rejected(FotaResult.MANIFEST_SIGNATURE, f"a signature has 64 bytes, this one {len(signature)}")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        public_key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise rejected(FotaResult.MANIFEST_SIGNATURE, "the signature does not fit the manifest and the key") from error


def _encryption_key(rest: bytes) -> bytes | None:
    """Read what a service appends for an encrypted payload: context tag [1], 16 bytes of AES key."""
    if not rest:
        return None
    if len(rest) != 18 or rest[:2] != b"\x81\x10":
        raise rejected(FotaResult.MANIFEST_MALFORMED, f"{len(rest)} B follow the manifest that belong to nothing")
    return bytes(rest[2:])


@functools.cache
def _schema() -> Any:  # asn1tools ships no types
    import asn1tools

    return asn1tools.compile_string(
        resources.files(__package__).joinpath("manifest.asn").read_text(encoding="utf-8"), "der"
    )


_ENUM_RESULTS = {
    "manifest-version": FotaResult.SCHEMA_UNSUPPORTED,
    "payload-format": FotaResult.FORMAT_UNSUPPORTED,
}


def _decode(name: str, data: bytes) -> tuple[dict[str, Any], int]:
    """Decode one DER value and say how long it is; whatever the decoder dislikes becomes ManifestRejected."""
    import asn1tools

    try:
        fields, length = _schema().decode_with_length(name, data)
    # Beside its own errors the decoder lets through what slicing, str() and int() of hostile bytes raise.
    except (asn1tools.Error, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        where = [getattr(step, "name", "") for step in getattr(error, "location", [])]
        unknown_value = "enumeration value" in str(error)
        result = _ENUM_RESULTS.get(where[0] if where else "") if unknown_value else None
        raise rejected(result or FotaResult.MANIFEST_MALFORMED, f"{name}: {error}") from error
    return fields, length


_FORMAT_NAMES = {form: form.name.lower().replace("_", "-") for form in PayloadFormat}


def _to_fields(manifest: Manifest) -> dict[str, Any]:
    metadata = manifest.metadata and {
        "installed-size": manifest.metadata.installed_size,
        "installed-digest": manifest.metadata.installed_digest,
        "precursor-digest": manifest.metadata.precursor_digest,
    }
    fields = {
        "vendor-id": manifest.vendor_id,
        "class-id": manifest.class_id,
        "update-priority": manifest.priority,
        "component-name": manifest.component,
        "payload-version": manifest.version,
        "payload-digest": manifest.payload_digest,
        "payload-size": manifest.payload_size,
        "payload-uri": manifest.uri,
        "payload-format": _FORMAT_NAMES[manifest.format],
        "installed-signature": manifest.installed_signature,
        "payload-metadata": metadata and {name: value for name, value in metadata.items() if value is not None},
        "vendor-data": manifest.vendor_data,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _from_fields(fields: dict[str, Any]) -> Manifest:
    metadata = fields.get("payload-metadata")
    return Manifest(
        vendor_id=fields["vendor-id"],
        class_id=fields["class-id"],
        priority=fields["update-priority"],
        component=fields["component-name"],
        version=fields["payload-version"],
        payload_digest=fields["payload-digest"],
        payload_size=fields["payload-size"],
        uri=fields["payload-uri"],
        format=next(form for form, name in _FORMAT_NAMES.items() if name == fields["payload-format"]),
        installed_signature=fields.get("installed-signature"),
        metadata=metadata
        and PayloadMetadata(metadata["installed-size"], metadata["installed-digest"], metadata.get("precursor-digest")),
        vendor_data=fields.get("vendor-data"),
    )
