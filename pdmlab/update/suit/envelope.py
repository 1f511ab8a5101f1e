"""SUIT envelopes: a manifest, who vouches for it, and what may come with it.

Layout: tag 107, map {2: authentication wrapper, 3: manifest, severable members, integrated payloads by their URI}.
The wrapper has the digest of the manifest, its byte string's head included, and COSE_Sign1 signatures (ES256) over
that digest, which is their detached payload (draft-ietf-suit-manifest-34, 8.3; RFC 9052, 4.4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from pdmlab.errors import ConfigError
from pdmlab.update.results import FotaResult, rejected
from pdmlab.update.suit import cbor
from pdmlab.update.suit.manifest import SEVERABLE, SuitManifest
from pdmlab.update.suit.members import Member, Read, members
from pdmlab.update.suit.numbers import COSE_SIGN1, ES256, TAG
from pdmlab.update.suit.numbers import Member as Label

MAX_MANIFEST = 4096
"""Largest manifest that boards here take (B); an envelope may carry a payload besides."""
MAX_SIGNATURES = 4


@dataclass(frozen=True)
class Envelope:
    """An envelope as it came.

    manifest    what its bytes say, severed members put back
    encoded     the bytes of the manifest, whose SHA-256 was signed
    wrapper     digest and COSE_Sign1 blocks, encoded
    payloads    integrated payloads by the URI that a manifest fetches them under, such as "#firmware"
    """

    manifest: SuitManifest
    encoded: bytes = field(repr=False)
    wrapper: tuple[bytes, ...] = field(repr=False)
    payloads: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, data: bytes, public_key: ec.EllipticCurvePublicKey | None = None) -> Envelope:
        """Read an envelope; with a P-256 key, check its signature before the manifest is looked at.

        Raises:
            ManifestRejected: 22 for what is no envelope, 23 for a signature that does not fit, and nothing else,
                whatever the bytes are.
        """
        found = members(lambda at, size: data[at : at + size], len(data))
        payloads = {
            member.key: data[member.offset : member.offset + member.size]
            for member in found
            if isinstance(member.key, str)
        }
        return cls.of(found, lambda at, size: data[at : at + size], public_key, payloads)

    @classmethod
    def of(
        cls,
        found: Sequence[Member],
        read: Read,
        public_key: ec.EllipticCurvePublicKey | None = None,
        payloads: Mapping[str, bytes] | None = None,
    ) -> Envelope:
        """Read the members but for integrated payloads, which may lie where they are; otherwise as parse."""
        others: dict[int, bytes] = {}
        for member in found:
            if isinstance(member.key, int):
                if member.size > MAX_MANIFEST:
                    raise cbor.malformed(f"a member of {member.size} B: boards take {MAX_MANIFEST}")
                others[member.key] = read(member.offset, member.size)
        encoded, wrapped = others.pop(Label.MANIFEST, None), others.pop(Label.AUTHENTICATION, None)
        if encoded is None or wrapped is None:
            raise cbor.malformed("the envelope has no manifest, or nothing that authenticates it")
        blocks = cbor.an_array(cbor.decode(wrapped, "the wrapper"), "the wrapper")
        wrapper = tuple(cbor.some_bytes(each, "the wrapper") for each in blocks)
        if not 1 <= len(wrapper) <= 1 + MAX_SIGNATURES:
            raise cbor.malformed("the wrapper has no digest, or too many signatures")
        if cbor.read_digest(wrapper[0], "the manifest's digest") != cbor.wrapped_digest(encoded):
            raise rejected(FotaResult.MANIFEST_SIGNATURE, "the signed digest is not that of the manifest")
        if public_key is not None:
            _verify(public_key, wrapper)
        if odd := set(others) - set(SEVERABLE):
            raise cbor.malformed(f"the envelope has members {sorted(odd)[:5]} that are not known")
        return cls(SuitManifest.decode(encoded, others), encoded, wrapper, payloads or {})

    def verify(self, public_key: ec.EllipticCurvePublicKey) -> None:
        """Raise ManifestRejected (23) unless the P-256 key's owner signed this manifest."""
        _verify(public_key, self.wrapper)

    def _repr_html_(self) -> str:
        return self.manifest._repr_html_()


def seal(manifest: SuitManifest, key: ec.EllipticCurvePrivateKey, payloads: Mapping[str, bytes] | None = None) -> bytes:
    """Encode a manifest, sign it, and return the envelope, with integrated payloads by their URI.

    Raises:
        ConfigError: the key is not on P-256, or a payload's URI does not begin with "#".
    """
    if not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError(f"ES256 signs with P-256 keys; this one is on {key.curve.name}")
    for uri in payloads or {}:
        if not uri.startswith("#"):
            raise ConfigError(f"an integrated payload {uri[:40]!r}: its URI begins with #", hint='such as "#firmware"')
    encoded = manifest.encode()
    digest = cbor.digest_of(encoded)
    protected = cbor.encode({1: ES256})
    r, s = utils.decode_dss_signature(key.sign(_to_be_signed(protected, digest), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    block = _tagged(COSE_SIGN1, [protected, {}, None, signature])
    contents: dict[int | str, bytes] = {int(Label.AUTHENTICATION): cbor.encode([digest, block])}
    contents[int(Label.MANIFEST)] = encoded
    contents.update(payloads or {})
    return _tagged(TAG, contents)


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Return COSE's Sig_structure, without external data (RFC 9052, 4.4)."""
    return cbor.encode(["Signature1", protected, b"", payload])


def _verify(public_key: ec.EllipticCurvePublicKey, wrapper: tuple[bytes, ...]) -> None:
    """Accept one good ES256 signature of the key's owner among those that there are."""
    fault = "nobody has signed it"
    for block in wrapper[1:]:
        fault = _fault(public_key, block, wrapper[0])
        if not fault:
            return
    raise rejected(FotaResult.MANIFEST_SIGNATURE, fault)


def _fault(public_key: ec.EllipticCurvePublicKey, block: bytes, digest: bytes) -> str:
    """Say what is wrong with a COSE_Sign1 block; nothing if it is good."""
    value = cbor.decode(block, "a signature block")
    if getattr(value, "tag", None) != COSE_SIGN1 or not isinstance(value.value, list | tuple) or len(value.value) != 4:
        return "a block in the wrapper is no COSE_Sign1"
    protected, _, payload, signature = value.value
    if payload is not None or not isinstance(protected, bytes) or not isinstance(signature, bytes):
        return "a signature block carries a payload of its own"
    if cbor.a_map(cbor.decode(protected, "a protected header"), "a protected header").get(1) != ES256:
        return "the signature's algorithm is not ES256"
    if len(signature) != 64:
        return f"an ES256 signature has 64 B, this one {len(signature)}"
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        public_key.verify(utils.encode_dss_signature(r, s), _to_be_signed(protected, digest), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return "the signature does not fit the manifest and the key"
    return ""


def _tagged(tag: int, value: Any) -> bytes:  # any CBOR value
    import cbor2

    return cbor.encode(cbor2.CBORTag(tag, value))
