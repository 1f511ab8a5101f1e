"""Manifests v1, which clients before 4.7 and the older update hub take: read, signed, verified.

    signed = ManifestV1.for_image(image, timestamp=1700000000, uri="http://127.0.0.1/fw", vendor_id=v, class_id=c)
    der = signed.sign(key, certificate)
    SignedManifestV1.parse(der).verify(certificate)

What manifest-tool 1.5 creates, and `manifest-dev-tool create-v1` of 2.6. What a device with the update hub says of one
is in `pdmlab.update.hub_checks`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import ConfigError
from pdmlab.update import der
from pdmlab.update.manifest import MAX_IMAGE, MAX_MANIFEST, MAX_URI, PayloadMetadata, checked_size, table
from pdmlab.update.manifest_v1_der import (
    FORMAT_VERSION,
    FormatV1,
    SecurityV1,
    is_v1,
    read_resource,
    read_signatures,
    sealed,
    written,
)
from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.version import Version

__all__ = [
    "FORMAT_VERSION",
    "MAX_TIMESTAMP",
    "FormatV1",
    "ManifestV1",
    "SecurityV1",
    "SignatureV1",
    "SignedManifestV1",
    "certified_key",
    "is_v1",
    "told_as",
]

MAX_TIMESTAMP = (1 << 63) - 1


@dataclass(frozen=True)
class ManifestV1:
    """The fields of a manifest v1.

    timestamp       what stands for the version: seconds since 1970 mostly, or a version's number (`Version.number`)
    vendor_id, class_id, payload_digest    16, 16 and 32 bytes
    installed_digest    SHA-256 of the image that will run: the payload itself, unless that is a delta
    installed_size      its size (B); None where the manifest does not say, as of every payload that is the image
    format, security    numbers; those in `FormatV1` and `SecurityV1` are known
    nonce               16 random bytes of manifest-tool 1.x; 2.x leaves it empty
    """

    timestamp: int
    vendor_id: bytes
    class_id: bytes
    payload_digest: bytes
    payload_size: int
    uri: str
    installed_digest: bytes
    precursor_digest: bytes | None = None
    installed_size: int | None = None
    format: int = FormatV1.RAW
    security: int = SecurityV1.ECC
    priority: int | None = None
    vendor_data: bytes = b""
    description: str | None = None
    device_id: bytes = b""
    nonce: bytes = b""
    apply_immediately: bool = True
    storage: str = "default"

    @classmethod
    def for_image(
        cls,
        image: bytes,
        *,
        timestamp: int,
        uri: str,
        vendor_id: bytes,
        class_id: bytes,
        priority: int | None = None,
        vendor_data: bytes = b"",
    ) -> ManifestV1:
        """Describe a raw image, fetched from uri."""
        digest = hashlib.sha256(image).digest()
        return cls(
            timestamp, vendor_id, class_id, digest, len(image), uri, digest, priority=priority, vendor_data=vendor_data
        )

    def of_delta(self, delta: PayloadMetadata) -> ManifestV1:
        """Return the manifest with its payload as a patch: what that applies to, and what it makes."""
        return replace(
            self,
            format=FormatV1.DELTA,
            precursor_digest=delta.precursor_digest,
            installed_size=delta.installed_size,
            installed_digest=delta.installed_digest,
        )

    @classmethod
    def parse(cls, data: bytes) -> ManifestV1:
        """Read a signed manifest v1, whoever signed it.

        Raises:
            ManifestRejected: it is none, or it is not what was signed.
        """
        signed = SignedManifestV1.parse(data)
        if not signed.is_whole:
            raise rejected(FotaResult.MANIFEST_SIGNATURE, "the manifest has not the hash that was signed")
        return signed.manifest

    @property
    def version(self) -> str:
        """The version that it leads to: "1.2.3" where the timestamp is the number of one, else the timestamp."""
        try:
            return str(Version.from_number(self.timestamp))
        except ConfigError:
            return str(self.timestamp)

    @property
    def has_uri(self) -> bool:
        """Whether the URI has a length that devices take."""
        return 1 <= len(self.uri.encode()) <= MAX_URI

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
        if not self.has_uri:
            yield f"the URI has {len(self.uri.encode())} bytes, not 1 to {MAX_URI}"
        if self.priority is not None and not 0 <= self.priority <= MAX_IMAGE:
            yield f"the priority {self.priority} is outside 0 to {MAX_IMAGE}"
        if self.format == FormatV1.DELTA and not self._is_whole_delta():
            yield "a delta names the digest (32 bytes) of what it applies to, and the size of what it makes"

    def _is_whole_delta(self) -> bool:
        return len(self.precursor_digest or b"") == 32 and 1 <= (self.installed_size or 0) <= MAX_IMAGE

    def sign(self, private_key: ec.EllipticCurvePrivateKey, certificate: bytes) -> bytes:
        """Return the DER of the manifest signed with the P-256 key that the certificate (DER) is of.

        Raises:
            ConfigError: a field cannot be, or the key is not on P-256.
        """
        for fault in self.faults():
            raise ConfigError(f"this manifest cannot be signed: {fault}")
        if self.security != SecurityV1.ECC:
            raise ConfigError(f"manifests are signed in mode {SecurityV1.ECC:d}, not {self.security}")
        return checked_size(sealed(written(self), private_key, certificate))

    def told(self) -> dict[str, str]:
        """Return what the manifest says, for people."""
        told = {
            "version": self.version,
            "payload": f"{self.payload_size} B, format {self.format}",
            "payload SHA-256": self.payload_digest.hex(),
            "URI": self.uri,
            "vendor id": self.vendor_id.hex(),
            "class id": self.class_id.hex(),
            "priority": "none" if self.priority is None else str(self.priority),
        }
        if self.precursor_digest is not None:
            told["installed SHA-256"] = self.installed_digest.hex()
            told["precursor SHA-256"] = self.precursor_digest.hex()
        for name, value in (("vendor data", self.vendor_data), ("nonce", self.nonce)):
            if value:
                told[name] = value.hex()
        if self.description:
            told["description"] = self.description
        return told

    def _repr_html_(self) -> str:
        return table(f"Update manifest v{FORMAT_VERSION}", self.told())


@dataclass(frozen=True)
class SignatureV1:
    """One signature of a manifest v1 (ECDSA in DER), and the SHA-256 of the certificate that it is checked with."""

    signature: bytes = field(repr=False)
    fingerprint: bytes


@dataclass(frozen=True)
class SignedManifestV1:
    """A manifest v1 as it came: its fields, the bytes that were signed, their digest as it is told, the signatures."""

    manifest: ManifestV1
    signed: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    signatures: tuple[SignatureV1, ...]

    @classmethod
    def parse(cls, data: bytes) -> SignedManifestV1:
        """Read a signed manifest v1; nothing is verified.

        Raises:
            ManifestRejected: it is none, or of another version (result 28), or names no payload; and nothing else,
                whatever the bytes are.
        """
        if len(data) > MAX_MANIFEST:
            raise rejected(FotaResult.MANIFEST_MALFORMED, f"{len(data)} B are more than a manifest can have")
        try:
            reader = der.Reader(data)
            outer = reader.sequence()
            reader.end()
            signed, seal = outer.whole(der.SEQUENCE), outer.sequence()
            outer.end()
            digest = seal.value(der.OCTETS)
            signatures = tuple(SignatureV1(*each) for each in read_signatures(seal))
            return cls(read_resource(der.Reader(signed).sequence(), ManifestV1), signed, digest, signatures)
        except ValueError as error:
            raise rejected(FotaResult.MANIFEST_MALFORMED, f"no signed manifest v1: {error}") from error

    @property
    def is_whole(self) -> bool:
        """Whether the manifest has the digest that it tells, which is what was signed."""
        return hashlib.sha256(self.signed).digest() == self.digest

    def verify(self, signer: bytes | ec.EllipticCurvePublicKey) -> None:
        """Raise ManifestRejected (23) unless the owner of a certificate (DER), or a key, signed exactly this."""
        if isinstance(signer, bytes):
            fingerprint, key = hashlib.sha256(signer).digest(), certified_key(signer)
            if not any(each.fingerprint == fingerprint for each in self.signatures):
                raise rejected(FotaResult.MANIFEST_SIGNATURE, "another certificate's owner signed it")
        else:
            key = signer
        if not self.is_whole:
            raise rejected(FotaResult.MANIFEST_SIGNATURE, "the manifest has not the hash that was signed")
        if not self.signatures or not all(
            der.is_signature(key, each.signature, self.signed) for each in self.signatures
        ):
            raise rejected(FotaResult.MANIFEST_SIGNATURE, "the signature does not fit the manifest and the key")

    def _repr_html_(self) -> str:
        return self.manifest._repr_html_()


def certified_key(certificate: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key that an update certificate (DER) is of; raise ConfigError if it is of none that verifies."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError as error:
        raise ConfigError(f"the update certificate is no X.509 certificate in DER: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError("the update certificate's key is no elliptic-curve key")
    return key


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
