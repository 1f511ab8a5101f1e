"""Manifests v1, as manifest-tool 2.6.2 makes them: what is read out of them, and that nothing else is taken for one."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ConfigError, ManifestRejected
from pdmlab.update.manifest_v1 import ManifestV1, SignedManifestV1, is_v1, told_as
from pdmlab.update.results import FotaResult
from tests.update.wrong import CERTIFICATE, KEY, STRANGERS, STRANGERS_KEY

# manifest-dev-tool create-v1 -u http://h/fw -p fw.bin -v 1700000000
PLAIN = bytes.fromhex(
    "308201233081860a01003081800a010102046553f100041006d5dec74bbf401c801383e8c4ed73ff0410c5562bb27b3540618c325eec954461"
    "380400040004000101ff0a01023000300030410a01010c0764656661756c74303304208ff957c6898d162c900a68151e652563ee2e85b67f62"
    "68c3535099a0eedf65830c0b687474703a2f2f682f66770202138830819704207285fc45cfacef96977c9e28c086239dec085e4a6adef6e6f6"
    "16ceb7dcdc10293073307104473045022100fba81779593ee8de5a0e3af45a2b3c61493050efc895d47581f8db63d59f873d02207261e431c0"
    "3314759518a2f4652db8da554013f06c199764e1d25b6fdc3042b9302630240420718f143bafc6c5220cd377275eb8b38ac7dd868b9dc94360"
    "281b61f25dd687cb0c00"
)
# the same with --fw-migrate-ver 1.2.3
MIGRATING = bytes.fromhex(
    "3082012730818a0a01003081840a010102080080010000020003041006d5dec74bbf401c801383e8c4ed73ff0410c5562bb27b3540618c325e"
    "ec954461380400040004000101ff0a01023000300030410a01010c0764656661756c74303304208ff957c6898d162c900a68151e652563ee2e"
    "85b67f6268c3535099a0eedf65830c0b687474703a2f2f682f66770202138830819704207bec67ce1ac8cd6cd20709211cf973f5d37eb26391"
    "6f3ef4e263e966b7bdbb4a3073307104473045022100819d5ae6b0837db17501301e06a23791bd3febf6bcac670d3f7d30bab5c60e4702200c"
    "7e2409472805ec3a853eb71e28ee878bec1b04c17fa5d2488088e33d7b50e6302630240420718f143bafc6c5220cd377275eb8b38ac7dd868b"
    "9dc94360281b61f25dd687cb0c00"
)
# of a patch that manifest-delta-tool made, with -v 1700000001
DELTA = bytes.fromhex(
    "3082016c3081cf0a01003081c90a010102046553f101041006d5dec74bbf401c801383e8c4ed73ff0410c5562bb27b3540618c325eec954461"
    "3804000400040004204f6f44fdde34e4c771cadcbf4e0dcd5a82efeb0aa258ad249e0252f448b29a8a0101ff0a01023000300030680a01050c"
    "0764656661756c7430330420899fd94af4917e64549098cdcd538f20aa3a791361ebab8f5298e683ff0424700c0b687474703a2f2f682f6677"
    "02020657020300ea75042068d13286e91f422e27e20478040e9fa4e9f9df12223b95cbfeaae2a4fcdbfe10308197042075ee58d969db699431"
    "a396e66b9871cd060d8f615d64ef31dd86f7ee1919a8703073307104473045022100f11b312421c483006b85383ec533ae2b691988acfbf9c2"
    "05a13deae0fd0c708f02203cc731c856d0bcd84f70cd9940ffb381e425f7a4054f51c77afdd12fe044bf27302630240420718f143bafc6c522"
    "0cd377275eb8b38ac7dd868b9dc94360281b61f25dd687cb0c00"
)
VENDOR, CLASS = "06d5dec74bbf401c801383e8c4ed73ff", "c5562bb27b3540618c325eec95446138"


@pytest.mark.parametrize(
    ("der", "version", "size"), [(PLAIN, "1700000000", 5000), (MIGRATING, "1.2.3", 5000), (DELTA, "1700000001", 1623)]
)
def test_what_the_stock_tool_writes_is_read(der: bytes, version: str, size: int) -> None:
    manifest = ManifestV1.parse(der)
    assert is_v1(der) and list(manifest.faults()) == []
    assert (manifest.version, manifest.payload_size, manifest.uri) == (version, size, "http://h/fw")
    assert (manifest.vendor_id.hex(), manifest.class_id.hex()) == (VENDOR, CLASS)


def test_a_delta_names_what_it_applies_to_and_what_it_makes() -> None:
    delta, plain = ManifestV1.parse(DELTA), ManifestV1.parse(PLAIN)
    assert delta.precursor_digest is not None and delta.precursor_digest.hex().startswith("4f6f44fdde34e4c7")
    assert delta.installed_digest.hex().startswith("68d13286e91f422e") and delta.payload_digest[:2] == b"\x89\x9f"
    assert plain.precursor_digest is None and plain.installed_digest == plain.payload_digest


@pytest.mark.parametrize("der", [PLAIN, MIGRATING, DELTA])
def test_what_the_stock_tool_signed_is_written_again_to_the_byte(der: bytes) -> None:
    theirs = SignedManifestV1.parse(der)
    mine = SignedManifestV1.parse(theirs.manifest.sign(KEY, CERTIFICATE))
    assert mine.signed == theirs.signed and mine.digest == theirs.digest
    mine.verify(CERTIFICATE)
    mine.verify(KEY.public_key())


@given(
    st.builds(
        ManifestV1,
        timestamp=st.integers(0, (1 << 63) - 1),
        vendor_id=st.binary(min_size=16, max_size=16),
        class_id=st.binary(min_size=16, max_size=16),
        payload_digest=st.just(bytes(32)),
        payload_size=st.integers(1, 0xFFFF_FFFF),
        uri=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255),
        installed_digest=st.just(bytes(32)),
        priority=st.none() | st.integers(0, 0xFFFF_FFFF),
        vendor_data=st.binary(max_size=200),
        description=st.none() | st.text(max_size=50),
        device_id=st.binary(max_size=16),
        nonce=st.binary(max_size=16),
        apply_immediately=st.booleans(),
    )
)
def test_every_manifest_reads_back_as_it_was_signed(manifest: ManifestV1) -> None:
    signed = SignedManifestV1.parse(manifest.sign(KEY, CERTIFICATE))
    signed.verify(CERTIFICATE)
    assert signed.manifest == manifest and ManifestV1.parse(manifest.sign(KEY, CERTIFICATE)) == manifest
    assert all(f"<th>{name}</th>" in manifest._repr_html_() for name in manifest.told())


def test_who_else_signed_is_refused() -> None:
    whole = ManifestV1.parse(PLAIN)
    for key, certificate in ((STRANGERS_KEY, STRANGERS), (STRANGERS_KEY, CERTIFICATE)):
        with pytest.raises(ManifestRejected) as rejected:
            SignedManifestV1.parse(whole.sign(key, certificate)).verify(CERTIFICATE)
        assert rejected.value.result == int(FotaResult.MANIFEST_SIGNATURE)
    with pytest.raises(ConfigError, match=r"no X\.509"):
        SignedManifestV1.parse(PLAIN).verify(b"no certificate")
    with pytest.raises(ConfigError, match="cannot be signed"):
        dataclasses.replace(whole, uri="").sign(KEY, CERTIFICATE)
    with pytest.raises(ConfigError, match="more than"):
        dataclasses.replace(whole, vendor_data=bytes(4096)).sign(KEY, CERTIFICATE)


def test_a_manifest_that_is_not_what_was_signed_is_refused() -> None:
    with pytest.raises(ManifestRejected) as rejected:
        ManifestV1.parse(PLAIN.replace(b"http://h", b"http://x"))
    assert rejected.value.result == int(FotaResult.MANIFEST_SIGNATURE)


def test_fields_that_no_device_could_use_are_named() -> None:
    whole = ManifestV1.parse(PLAIN)
    odd = ManifestV1(-1, b"v", b"c", b"", 0, "", b"")
    assert list(whole.faults()) == []
    assert len(list(odd.faults())) == 7


@given(st.integers(0, len(DELTA) - 1), st.integers(0, 255), st.integers(0, len(DELTA)))
@settings(max_examples=300, deadline=None)
def test_whatever_comes_is_read_or_refused(at: int, byte: int, length: int) -> None:
    broken = bytearray(DELTA)
    broken[at] = byte
    for der in (bytes(broken), bytes(broken[:length]), _signed_again(broken)):
        is_v1(der)
        try:
            list(ManifestV1.parse(der).faults())
        except ManifestRejected:
            pass


def _signed_again(der: bytearray) -> bytes:
    """Put the right hash beside a resource that was changed, so that its fields are looked at."""
    resource = der[4 : 4 + 0xCF + 3]
    at = 4 + len(resource) + 5
    der[at : at + 32] = hashlib.sha256(resource).digest()
    return bytes(der)


def test_a_device_may_tell_a_version_as_a_number_too() -> None:
    assert told_as("1.2.3") == {"1.2.3", "36029896530722819"}
    assert told_as("1700000000") == {"1700000000", "0.25939.61696"}
    assert told_as("none") == {"none"}
