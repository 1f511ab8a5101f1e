"""Manifests by a second opinion: asn1tools reads what is written here, from the formats' schemas, and the other way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import asn1tools
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata, SignedManifest
from pdmlab.update.manifest_v1 import ManifestV1, SignedManifestV1

HERE = Path(__file__).parent
V3 = asn1tools.compile_string((HERE / "manifest.asn").read_text(encoding="utf-8"), "der")
V1 = asn1tools.compile_string((HERE / "manifest_v1.asn").read_text(encoding="utf-8"), "der")
KEY = ec.derive_private_key(11, ec.SECP256R1())
FORMATS = {"raw": 1, "delta": 5, "combined": 6, "encrypted-raw": 0x101, "encrypted-combined": 0x106}

digests = st.binary(min_size=32, max_size=32)
sizes = st.integers(1, 0xFFFF_FFFF)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    made = Manifest(
        vendor_id=draw(st.binary(min_size=16, max_size=16)),
        class_id=draw(st.binary(min_size=16, max_size=16)),
        version=".".join(str(draw(st.integers(0, 999))) for _ in range(3)),
        payload_digest=draw(digests),
        payload_size=draw(sizes),
        uri=draw(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=1, max_size=80)),
        component=draw(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)),
        priority=draw(st.integers(0, 0xFFFF_FFFF)),
        installed_signature=draw(st.sampled_from([b"", bytes(range(64)), None])),
        vendor_data=draw(st.none() | st.binary(max_size=200)),
    )
    form = draw(st.sampled_from(PayloadFormat))
    if form is PayloadFormat.RAW:
        return made
    precursor = draw(digests) if form is PayloadFormat.DELTA else None
    return replace(made, format=form, metadata=PayloadMetadata(draw(sizes), draw(digests), precursor))


@settings(deadline=None, max_examples=60)
@given(manifests())
def test_asn1tools_reads_a_manifest_v3_as_it_was_meant_and_writes_the_same_bytes(made: Manifest) -> None:
    der = made.sign(KEY)
    outer = V3.decode("SignedResource", der)
    fields: dict[str, Any] = V3.decode("Manifest", outer["manifest"])
    assert outer["manifest-version"] == "v3" and len(outer["signature"]) == 64
    assert V3.encode("Manifest", fields) == outer["manifest"]
    assert (fields["vendor-id"], fields["class-id"]) == (made.vendor_id, made.class_id)
    assert (fields["payload-uri"], fields["component-name"]) == (made.uri, made.component)
    assert FORMATS[fields["payload-format"]] == made.format
    assert fields.get("payload-metadata", {}).get("precursor-digest") == (
        made.metadata.precursor_digest if made.metadata else None
    )
    again = SignedManifest.parse(V3.encode("SignedResource", outer), KEY.public_key()).manifest
    if made.installed_signature is None:  # which vendor data need before them, where no metadata are between
        again = replace(again, installed_signature=again.installed_signature or None)
    assert again == made


@pytest.mark.parametrize("priority", [None, 5])
def test_asn1tools_reads_a_manifest_v1_as_it_was_meant_and_writes_the_same_bytes(priority: int | None) -> None:
    made = ManifestV1.for_image(
        b"image", timestamp=1_700_000_000, uri="http://127.0.0.1/fw", vendor_id=bytes(16), class_id=b"c" * 16,
        priority=priority, vendor_data=b"words",
    )  # fmt: skip
    der = made.sign(KEY, b"certificate")
    fields: dict[str, Any] = V1.decode("SignedResource", der)
    assert V1.encode("SignedResource", fields) == der
    assert SignedManifestV1.parse(V1.encode("SignedResource", fields)).manifest == made
