"""Manifests v1 as bytes: the DER of update-client-hub 1.4.1 and manifest-tool 2.6.2, read and written."""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.update import der
from pdmlab.update.results import FotaResult, rejected

if TYPE_CHECKING:
    from pdmlab.update.manifest_v1 import ManifestV1

#   SignedResource ::= SEQUENCE { resource Resource, signature SEQUENCE {
#       hash OCTET STRING, signatures SEQUENCE OF SEQUENCE { OCTET STRING, SEQUENCE OF Certificate }, macs ANY OPTIONAL
#   } }
#   Resource ::= SEQUENCE { uri UTF8String OPTIONAL, type ENUMERATED 0, Manifest }
#   Manifest ::= SEQUENCE {
#       version ENUMERATED 1, description UTF8String OPTIONAL, timestamp INTEGER, vendor-id OCTET STRING,
#       class-id OCTET STRING, device-id OCTET STRING, nonce OCTET STRING, vendor-info OCTET STRING,
#       precursor-digest OCTET STRING OPTIONAL, apply-period SEQUENCE { INTEGER, INTEGER } OPTIONAL,
#       apply-immediately BOOLEAN, priority INTEGER OPTIONAL, encryption-mode ENUMERATED,
#       aliases SEQUENCE OF ANY, dependencies SEQUENCE OF ANY, Payload
#   }
#   Payload ::= SEQUENCE {
#       format ENUMERATED, encryption-info SEQUENCE OPTIONAL, storage-identifier UTF8String,
#       reference SEQUENCE { hash OCTET STRING, uri UTF8String OPTIONAL, size INTEGER },
#       installed-size INTEGER OPTIONAL, installed-digest OCTET STRING OPTIONAL, version UTF8String OPTIONAL
#   }
#   Certificate ::= SEQUENCE { fingerprint OCTET STRING, uri UTF8String OPTIONAL }
#
# The hash is that of Resource, its header included; each signature is over the same bytes. Where the format has the
# choice between an ENUMERATED and an OBJECT IDENTIFIER, nobody has ever sent the latter.

FORMAT_VERSION = 1


class FormatV1(IntEnum):
    """How the payload makes the image; the others that the format names have never been used."""

    RAW = 1
    DELTA = 5


class SecurityV1(IntEnum):
    """How a manifest is kept from change, and its payload from being read; NONE and the shared keys are not made here.

    The format calls it encryptionMode.
    """

    ECC_AES_128_CTR = 1
    ECC = 2
    NONE = 3
    PSK = 4
    PSK_AES_128_CCM = 5


def is_v1(data: bytes) -> bool:
    """Whether bytes begin as a manifest v1 does: with a resource, where others have the number of their format."""
    header = 2 + (data[1] & 0x7F if len(data) > 1 and data[1] & 0x80 else 0)
    return data[:1] == b"\x30" and data[header : header + 1] == b"\x30"


def written(manifest: ManifestV1) -> bytes:
    """Return the DER of a manifest's resource, which is what is signed; whatever its fields say."""
    reference = der.octets(manifest.payload_digest) + der.utf8(manifest.uri) + der.integer(manifest.payload_size)
    payload = der.enumerated(manifest.format) + der.utf8(manifest.storage) + der.sequence(reference)
    if manifest.installed_size is not None:
        payload += der.integer(manifest.installed_size)
    if manifest.format == FormatV1.DELTA:
        payload += der.octets(manifest.installed_digest)
    strings = (manifest.vendor_id, manifest.class_id, manifest.device_id, manifest.nonce, manifest.vendor_data)
    fields = [
        der.enumerated(FORMAT_VERSION),
        b"" if manifest.description is None else der.utf8(manifest.description),
        der.integer(manifest.timestamp),
        *map(der.octets, strings),
        b"" if manifest.precursor_digest is None else der.octets(manifest.precursor_digest),
        der.boolean(manifest.apply_immediately),
        b"" if manifest.priority is None else der.integer(manifest.priority),
        der.enumerated(manifest.security),
        der.sequence(b""),  # aliases
        der.sequence(b""),  # dependencies
        der.sequence(payload),
    ]
    return der.sequence(der.enumerated(0) + der.sequence(b"".join(fields)))


def sealed(resource: bytes, private_key: ec.EllipticCurvePrivateKey, certificate: bytes) -> bytes:
    """Return a resource with its hash and its signature, which the certificate (DER) is for."""
    reference = der.sequence(der.octets(hashlib.sha256(certificate).digest()) + der.utf8(""))
    block = der.sequence(der.octets(der.sign(private_key, resource)) + der.sequence(reference))
    signature = der.sequence(der.octets(hashlib.sha256(resource).digest()) + der.sequence(block))
    return der.sequence(resource + signature)


def read_signatures(seal: der.Reader) -> list[tuple[bytes, bytes]]:
    """Read what follows the hash: each signature, and the SHA-256 of the certificate that it is checked with."""
    signatures, blocks = [], seal.sequence()
    while blocks.comes(der.SEQUENCE):
        block = blocks.sequence()
        signature, certificates = block.value(der.OCTETS), block.sequence()
        first = certificates.sequence() if certificates.comes(der.SEQUENCE) else None
        signatures.append((signature, b"" if first is None else first.value(der.OCTETS)))
    blocks.end()
    return signatures


def read_resource(resource: der.Reader, record: type[ManifestV1]) -> ManifestV1:
    """Read what is signed, and make a record of it.

    Raises:
        ManifestRejected: it is of another version (result 28).
        ValueError: it is no manifest.
    """
    resource.maybe(der.UTF8)
    if resource.number(der.ENUMERATED) != 0:
        raise ValueError("the resource is no manifest")
    fields = resource.sequence()
    resource.end()
    version = fields.number(der.ENUMERATED)
    if version != FORMAT_VERSION:
        raise rejected(FotaResult.SCHEMA_UNSUPPORTED, f"the manifest is of version {version}, not {FORMAT_VERSION}")
    description = fields.text() if fields.comes(der.UTF8) else None
    timestamp, vendor_id, class_id = fields.number(), fields.value(der.OCTETS), fields.value(der.OCTETS)
    device_id, nonce, vendor_data = fields.value(der.OCTETS), fields.value(der.OCTETS), fields.value(der.OCTETS)
    precursor_digest = fields.maybe(der.OCTETS)
    fields.maybe(der.SEQUENCE)  # the period when it may be applied: no device looks at it
    apply_immediately = fields.value(der.BOOLEAN) != b"\x00"
    priority = fields.number() if fields.comes(der.INTEGER) else None
    security = fields.number(der.ENUMERATED)
    fields.sequence()  # aliases
    fields.sequence()  # dependencies
    payload = fields.sequence()
    fields.end()
    payload_format = payload.number(der.ENUMERATED)
    payload.maybe(der.SEQUENCE)  # how it is encrypted
    storage, reference = payload.text(), payload.sequence()
    digest, uri, size = reference.value(der.OCTETS), _optional_text(reference), reference.number()
    reference.end()
    installed_size = payload.number() if payload.comes(der.INTEGER) else None
    installed_digest = payload.maybe(der.OCTETS)
    payload.maybe(der.UTF8)  # a version in words
    payload.end()
    return record(
        timestamp, vendor_id, class_id, digest, size, uri, installed_digest or digest, precursor_digest, installed_size,
        payload_format, security, priority, vendor_data, description, device_id, nonce, apply_immediately, storage,
    )  # fmt: skip


def _optional_text(reader: der.Reader) -> str:
    return reader.text() if reader.comes(der.UTF8) else ""
