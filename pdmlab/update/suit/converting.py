"""From a vendor's manifest v3 to SUIT, and what does not carry over."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import ConfigError
from pdmlab.update.manifest import Manifest, PayloadFormat, SignedManifest
from pdmlab.update.suit.manifest import SuitManifest, of_parts


@dataclass(frozen=True)
class Converted:
    """A SUIT manifest made of a v3 one, and what was lost on the way, in words."""

    manifest: SuitManifest
    lost: tuple[str, ...]

    def sign(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        """Return the envelope signed with a P-256 key: the v3 signature covers other bytes, so it is signed anew."""
        return self.manifest.sign(key)

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(each)}</li>" for each in self.lost)
        return f"{self.manifest._repr_html_()}<p>Does not carry over:</p><ul>{items}</ul>"


def convert(signed: SignedManifest | Manifest | bytes) -> Converted:
    """Say in SUIT what a manifest v3 says of a raw image; signed: also as its bytes.

    Raises:
        ManifestRejected: the bytes are no manifest v3.
        ConfigError: its payload is a delta, encrypted or a combined package, for which SUIT's manifest alone has no
            words: they are drafts of their own (firmware encryption), or nobody's.
    """
    if isinstance(signed, bytes):
        signed = SignedManifest.parse(signed)
    manifest = signed.manifest if isinstance(signed, SignedManifest) else signed
    if manifest.format is not PayloadFormat.RAW:
        raise ConfigError(
            f"a {manifest.format.name.lower().replace('_', ' ')} payload has no words in a SUIT manifest",
            hint="convert the manifest of the whole image; for encryption there is draft-ietf-suit-firmware-encryption",
        )
    made = of_parts(
        manifest.payload_digest,
        manifest.payload_size,
        version=manifest.version,
        uri=manifest.uri,
        vendor_id=manifest.vendor_id,
        class_id=manifest.class_id,
        component=manifest.component,
    )
    return Converted(made, tuple(_losses(manifest)))


def _losses(manifest: Manifest) -> list[str]:
    lost = ["the signature: it covers the DER, so the SUIT manifest is signed anew, by whoever converts it"]
    if manifest.priority:
        lost.append(f"the priority {manifest.priority}: SUIT leaves it to whoever sends the manifest")
    if manifest.installed_signature:
        lost.append("the installed image's signature: in SUIT the manifest itself stays, and is verified at each start")
    if manifest.vendor_data:
        lost.append(
            f"{len(manifest.vendor_data)} B of vendor data: SUIT has private elements, read by their maker alone"
        )
    lost.append(
        f"the version {manifest.version} as the rule of what is newer: devices compare the sequence number made of it; "
        "the version stays as text"
    )
    return lost
