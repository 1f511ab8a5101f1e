"""Update manifests v3: what a signed file tells a device about the firmware it is to fetch.

    signed = Manifest.for_image(image, version="1.2.4", uri="/fw/1", vendor_id=v, class_id=c).sign(key)
    SignedManifest.parse(signed).verify(certificate.public_key())

The layout is mbed-cloud-client 4.13.4's (fota_manifest_v3.c) and manifest-tool 2.6.2's. Versions 1 of the format belong
to clients older than 4.7 (`pdmlab.update.manifest_v1`).
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import ConfigError
from pdmlab.update import der
from pdmlab.update.manifest_fields import (
    DIGEST_SIZE,
    ID_SIZE,
    MAX_COMPONENT,
    MAX_IMAGE,
    MAX_PRIORITY,
    MAX_URI,
    PayloadFormat,
    PayloadMetadata,
)
from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.version import is_version

__all__ = [
    "MAX_IMAGE",
    "MAX_MANIFEST",
    "MAX_URI",
    "SCHEMA_VERSION",
    "Look",
    "Manifest",
    "PayloadFormat",
    "PayloadMetadata",
    "SignedManifest",
    "checked_size",
    "table",
]

SCHEMA_VERSION = 3
MAX_MANIFEST = 4096  # the client's own limit is 503 B and its vendor data; more cannot be a manifest

_MALFORMED = FotaResult.MANIFEST_MALFORMED
Look = Callable[[str, Any], object]  # Any: each field has a type of its own
"""Looks at a field by its name in Manifest as soon as it is read, and may refuse it; the format comes as a number."""


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
        # All in a row and written out: a signature takes 20 us, and a table of rules three more.
        if len(self.vendor_id) != ID_SIZE:
            yield _MALFORMED, f"the vendor id has {len(self.vendor_id)} bytes, not {ID_SIZE}"
        if len(self.class_id) != ID_SIZE:
            yield _MALFORMED, f"the class id has {len(self.class_id)} bytes, not {ID_SIZE}"
        if not 0 <= self.priority <= MAX_PRIORITY:
            yield _MALFORMED, f"the priority {self.priority} is outside 0 to {MAX_PRIORITY}"
        if not 1 <= len(self.component.encode()) <= MAX_COMPONENT:
            yield _MALFORMED, f"the component name {self.component[:40]!r} is not 1 to {MAX_COMPONENT} characters"
        if not is_version(self.version):
            yield _MALFORMED, f"{self.version[:40]!r} is not a version"
        if len(self.payload_digest) != DIGEST_SIZE:
            yield FotaResult.CRYPTO, f"the payload digest has {len(self.payload_digest)} bytes, not {DIGEST_SIZE}"
        if not 1 <= self.payload_size <= MAX_IMAGE:
            yield _MALFORMED, f"the payload size in bytes {self.payload_size} is outside 1 to {MAX_IMAGE}"
        if not 1 <= (size := len(self.uri.encode())) <= MAX_URI:
            yield FotaResult.BAD_URI, f"the URI has {size} bytes, not 1 to {MAX_URI}"
        yield from self.later_faults()

    def later_faults(self) -> Iterator[tuple[FotaResult, str]]:
        """Name each field behind the payload's format that it does not allow, with the result a device would give."""
        if self.installed_signature and len(self.installed_signature) != der.RAW_SIGNATURE:
            yield _MALFORMED, f"the image signature has {len(self.installed_signature)} bytes, not 64"
        if (self.metadata is None) != (self.format is PayloadFormat.RAW):
            yield _MALFORMED, "payload metadata belong to every format but raw, and to no raw one"
        if self.metadata is not None:
            yield from self.metadata.faults(self.format)

    def sign(self, private_key: ec.EllipticCurvePrivateKey) -> bytes:
        """Return the DER of the manifest signed with a P-256 key; raise ConfigError if a field cannot be."""
        try:
            for _, fault in self.faults():
                raise ConfigError(f"this manifest cannot be signed: {fault}")
        except UnicodeEncodeError as error:
            raise ConfigError(f"this manifest cannot be signed: a text in it is no Unicode ({error})") from error
        signed = _written(self)
        signature = der.raw_signature(der.sign(private_key, signed))
        return checked_size(der.sequence(_VERSION + signed + der.octets(signature)))

    def with_image_signature(self, private_key: ec.EllipticCurvePrivateKey) -> Manifest:
        """Return the manifest with the signature of the image that will run, for bootloaders that check it."""
        return replace(self, installed_signature=der.sign_digest(private_key, self.installed_digest))

    def told(self) -> dict[str, str]:
        """Return what the manifest says, for people."""
        told = {
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
            told["installed image"] = f"{self.metadata.installed_size} B"
            told["installed SHA-256"] = self.metadata.installed_digest.hex()
            if self.metadata.precursor_digest is not None:
                told["precursor SHA-256"] = self.metadata.precursor_digest.hex()
        if self.vendor_data is not None:
            told["vendor data"] = self.vendor_data.hex() or "empty"
        return told

    def _repr_html_(self) -> str:
        return table(f"Update manifest v{SCHEMA_VERSION}", self.told())


_SOUND = Manifest(bytes(ID_SIZE), bytes(ID_SIZE), "0.0.1", bytes(DIGEST_SIZE), 1, "/")


def field_faults(name: str, value: Any) -> Iterator[tuple[FotaResult, str]]:
    """Name what the format does not allow of one field before the payload's format, whatever the others are."""
    return replace(_SOUND, **{name: value}).faults()


def table(caption: str, rows: Mapping[str, str]) -> str:
    """Return names and values as an HTML table."""
    body = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table><caption>{caption}</caption>{body}</table>"


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
    def parse(
        cls, data: bytes, public_key: ec.EllipticCurvePublicKey | None = None, look: Look | None = None
    ) -> SignedManifest:
        """Read a signed manifest; with public_key, check its signature before any field is looked at.

        Raises ManifestRejected, and nothing else, whatever the bytes are. Fields that are well formed but not allowed
        (`Manifest.faults`) are left to `look`, which sees each field up to the format before what follows is read.
        """
        if len(data) > MAX_MANIFEST:
            raise rejected(_MALFORMED, f"{len(data)} B are more than a manifest can have")
        try:
            reader = der.Reader(data)
            resource = reader.sequence()
            version = resource.number(der.ENUMERATED)
            if version != SCHEMA_VERSION:
                raise rejected(FotaResult.SCHEMA_UNSUPPORTED, f"it is of version {version}, not {SCHEMA_VERSION}")
            signed, signature = resource.whole(der.SEQUENCE), resource.value(der.OCTETS)
            resource.end()
            if len(signature) != der.RAW_SIGNATURE:
                raise rejected(FotaResult.MANIFEST_SIGNATURE, f"a signature has 64 bytes, not {len(signature)}")
            if public_key is not None:
                _verify(public_key, signed, signature)
            manifest = _read(der.Reader(signed).sequence(), look or (lambda name, value: None))
            return cls(manifest, signed, signature, _encryption_key(reader.rest()))
        except ValueError as error:
            raise rejected(_MALFORMED, f"no signed manifest: {error}") from error

    def verify(self, public_key: ec.EllipticCurvePublicKey) -> None:
        """Raise ManifestRejected (23) unless the P-256 key's owner signed exactly these bytes."""
        _verify(public_key, self.signed, self.signature)

    def verify_image(self, public_key: ec.EllipticCurvePublicKey, digest: bytes | None = None) -> None:
        """Raise ManifestRejected (23) unless the P-256 key's owner signed the image that will run.

        digest: its SHA-256 as it was found; left out, what the manifest says.
        """
        signature = self.manifest.installed_signature or b""
        if len(signature) != der.RAW_SIGNATURE:
            raise rejected(FotaResult.MANIFEST_SIGNATURE, "the manifest has no signature of the image")
        if not der.is_digest_signature(public_key, signature, digest or self.manifest.installed_digest):
            raise rejected(FotaResult.MANIFEST_SIGNATURE, "the image's signature does not fit the image and the key")

    def _repr_html_(self) -> str:
        return self.manifest._repr_html_()


def checked_size(data: bytes) -> bytes:
    """Return a signed manifest; raise ConfigError if it is larger than any that is read."""
    if len(data) > MAX_MANIFEST:
        raise ConfigError(f"the manifest has {len(data)} B, more than {MAX_MANIFEST}", hint="leave out vendor data")
    return data


def _verify(public_key: ec.EllipticCurvePublicKey, signed: bytes, signature: bytes) -> None:
    if not der.is_raw_signature(public_key, signature, signed):
        raise rejected(FotaResult.MANIFEST_SIGNATURE, "the signature does not fit the manifest and the key")


def _encryption_key(rest: bytes) -> bytes | None:
    """Read what a service appends for an encrypted payload: context tag [1], 16 bytes of AES key."""
    if not rest:
        return None
    if len(rest) != 18 or rest[:2] != b"\x81\x10":
        raise rejected(_MALFORMED, f"{len(rest)} B follow the manifest that belong to nothing")
    return bytes(rest[2:])


# -- the format (DER), as mbed-cloud-client 4.13 and manifest-tool 2.6.2 have it ------------------------------------
#
#   SignedResource ::= SEQUENCE { ENUMERATED 3, Manifest, signature OCTET STRING }
#   Manifest ::= SEQUENCE {
#       vendor-id OCTET STRING, class-id OCTET STRING, update-priority INTEGER, component-name UTF8String,
#       payload-version UTF8String, payload-digest OCTET STRING, payload-size INTEGER, payload-uri UTF8String,
#       payload-format ENUMERATED, installed-signature OCTET STRING OPTIONAL,
#       payload-metadata SEQUENCE {
#           installed-size INTEGER, installed-digest OCTET STRING, precursor-digest OCTET STRING OPTIONAL
#       } OPTIONAL,
#       vendor-data OCTET STRING OPTIONAL
#   }
#
# The signature covers the DER of Manifest, its header included: what was signed is kept as the bytes that came.

_VERSION = der.enumerated(SCHEMA_VERSION)
_FORMATS = {int(each): each for each in PayloadFormat}


def _written(manifest: Manifest) -> bytes:
    """Return the DER that is signed."""
    fields = [
        der.octets(manifest.vendor_id),
        der.octets(manifest.class_id),
        der.integer(manifest.priority),
        der.utf8(manifest.component),
        der.utf8(manifest.version),
        der.octets(manifest.payload_digest),
        der.integer(manifest.payload_size),
        der.utf8(manifest.uri),
        der.enumerated(manifest.format),
    ]
    # Vendor data alone would be read as the signature: both are octets, and both may be left out.
    if manifest.installed_signature is not None or (manifest.vendor_data is not None and manifest.metadata is None):
        fields.append(der.octets(manifest.installed_signature or b""))
    if manifest.metadata is not None:
        metadata = der.integer(manifest.metadata.installed_size) + der.octets(manifest.metadata.installed_digest)
        if manifest.metadata.precursor_digest is not None:
            metadata += der.octets(manifest.metadata.precursor_digest)
        fields.append(der.sequence(metadata))
    if manifest.vendor_data is not None:
        fields.append(der.octets(manifest.vendor_data))
    return der.sequence(b"".join(fields))


def _read(fields: der.Reader, look: Look) -> Manifest:
    look("vendor_id", vendor_id := fields.value(der.OCTETS))
    look("class_id", class_id := fields.value(der.OCTETS))
    look("priority", priority := fields.number())
    look("component", component := fields.text())
    look("version", version := fields.text())
    look("payload_digest", digest := fields.value(der.OCTETS))
    look("payload_size", size := fields.number())
    look("uri", uri := fields.text())
    look("format", number := fields.number(der.ENUMERATED))
    payload_format = _FORMATS.get(number)
    if payload_format is None:
        raise rejected(FotaResult.FORMAT_UNSUPPORTED, f"there is no payload format {number}")
    signature = fields.maybe(der.OCTETS)
    metadata = _read_metadata(fields.sequence()) if fields.comes(der.SEQUENCE) else None
    vendor_data = fields.maybe(der.OCTETS)
    fields.end()
    return Manifest(
        vendor_id, class_id, version, digest, size, uri, component, priority,
        payload_format, signature, metadata, vendor_data,
    )  # fmt: skip


def _read_metadata(fields: der.Reader) -> PayloadMetadata:
    metadata = PayloadMetadata(fields.number(), fields.value(der.OCTETS), fields.maybe(der.OCTETS))
    fields.end()
    return metadata
