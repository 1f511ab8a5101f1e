from __future__ import annotations

import dataclasses
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import ConfigError, ManifestRejected
from pdmlab.update.checks import Acceptance, check
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata, SignedManifest
from pdmlab.update.results import FotaResult
from pdmlab.update.version import Version

KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())
VENDOR, CLASS = bytes(range(16)), bytes(range(16, 32))

# Made by hand from the layout of fota_manifest_v3.c: the signed part of a raw-image manifest.
GOLDEN = bytes.fromhex(
    "306a"  # Manifest ::= SEQUENCE, 106 B
    "0410" + VENDOR.hex() + "0410" + CLASS.hex() + "020100"  # vendor, class, priority 0
    "0c044d41494e" + "0c05312e322e33" + "0420" + "aa" * 32  # MAIN, 1.2.3, digest
    + "02020400" + "0c09" + b"http://x/".hex()  # 1024 B, URI
    + "0a0101" + "0400"  # raw, no image signature
)  # fmt: skip


def raw(**changes: object) -> Manifest:
    whole = Manifest(VENDOR, CLASS, "1.2.3", b"\xaa" * 32, 1024, "http://x/")
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def accepts(**changes: object) -> Acceptance:
    device = Acceptance(KEY.public_key(), VENDOR, CLASS, {"MAIN": Version(1, 2, 2)}, storage_size=4096)
    return dataclasses.replace(device, **changes)  # type: ignore[arg-type]


def result_of(der: bytes, device: Acceptance | None = None) -> FotaResult:
    with pytest.raises(ManifestRejected) as caught:
        check(der, device or accepts())
    return FotaResult(caught.value.result)


def test_the_signed_bytes_are_those_of_the_stock_format() -> None:
    assert SignedManifest.parse(raw().sign(KEY)).signed == GOLDEN


def test_the_outer_sequence_is_version_manifest_and_64_bytes_of_signature() -> None:
    der = raw().sign(KEY)
    assert der[:6] == bytes.fromhex("3081b10a0103") and der[6:-66] == GOLDEN and der[-66:-64] == b"\x04\x40"


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    form = draw(st.sampled_from(PayloadFormat))
    digest, size = st.binary(min_size=32, max_size=32), st.integers(1, 0xFFFF_FFFF)
    metadata = None
    if form is not PayloadFormat.RAW:
        precursor = draw(digest) if form is PayloadFormat.DELTA else None
        metadata = PayloadMetadata(draw(size), draw(digest), precursor)
    part = st.integers(0, 999)
    text = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)
    return Manifest(
        vendor_id=draw(st.binary(min_size=16, max_size=16)),
        class_id=draw(st.binary(min_size=16, max_size=16)),
        version=f"{draw(part)}.{draw(part)}.{draw(part)}",
        payload_digest=draw(digest),
        payload_size=draw(size),
        uri=draw(text)[:255],
        component=draw(text)[:8],
        priority=draw(st.integers(0, 0xFFFF_FFFF)),
        format=form,
        installed_signature=draw(st.sampled_from([b"", bytes(64)])),
        metadata=metadata,
        vendor_data=draw(st.none() | st.binary(max_size=100)),
    )


@given(manifests())
def test_every_manifest_reads_back_as_it_was_signed(manifest: Manifest) -> None:
    signed = SignedManifest.parse(manifest.sign(KEY))
    signed.verify(KEY.public_key())
    assert signed.manifest == manifest


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_rejected_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ManifestRejected):
        SignedManifest.parse(data)


WHOLE = raw().sign(KEY)


@given(st.data())
def test_any_change_of_a_signed_manifest_is_rejected(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(WHOLE) - 1))
    end = data.draw(st.integers(at, len(WHOLE)))
    changed = WHOLE[:at] + data.draw(st.binary(max_size=20)) + WHOLE[end:]
    if changed != WHOLE:
        with pytest.raises(ManifestRejected):
            check(changed, accepts())


@given(st.data())
def test_hostile_fields_under_a_good_signature_raise_nothing_else(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(GOLDEN) - 1))
    inner = GOLDEN[:at] + data.draw(st.binary(max_size=8)) + GOLDEN[data.draw(st.integers(at, len(GOLDEN))) :]
    try:
        check(sealed(inner), accepts())
    except ManifestRejected as error:
        assert error.result in FotaResult.__members__.values()


def sealed(inner: bytes, version: int = 3) -> bytes:
    """Sign arbitrary bytes as if they were a manifest."""
    r, s = decode_dss_signature(KEY.sign(inner, ec.ECDSA(SHA256())))
    body = bytes([10, 1, version]) + inner + b"\x04\x40" + r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return b"\x30\x81" + bytes([len(body)]) + body


@pytest.mark.parametrize(
    ("der", "result"),
    [
        (b"", FotaResult.MANIFEST_MALFORMED),
        (WHOLE + b"\x00", FotaResult.MANIFEST_MALFORMED),
        (bytes(5000), FotaResult.MANIFEST_MALFORMED),
        (WHOLE.replace(b"\x0a\x01\x03", b"\x0a\x01\x01", 1), FotaResult.SCHEMA_UNSUPPORTED),
        (WHOLE.replace(b"http", b"HTTP"), FotaResult.MANIFEST_SIGNATURE),
        (raw().sign(ec.derive_private_key(7, ec.SECP256R1())), FotaResult.MANIFEST_SIGNATURE),
        (raw(vendor_id=bytes(16)).sign(KEY), FotaResult.VENDOR_MISMATCH),
        (raw(class_id=bytes(16)).sign(KEY), FotaResult.CLASS_MISMATCH),
        (raw(component="METER").sign(KEY), FotaResult.UNKNOWN_COMPONENT),
        (raw(version="1.2.2").sign(KEY), FotaResult.VERSION_TOO_OLD),
        (raw(version="1.1.999").sign(KEY), FotaResult.VERSION_TOO_OLD),
        (raw(vendor_data=b"x").sign(KEY), FotaResult.VENDOR_DATA_TOO_BIG),
        (raw(payload_size=4097).sign(KEY), FotaResult.NO_STORAGE),
        (sealed(GOLDEN.replace(b"\x0a\x01\x01", b"\x0a\x01\x02")), FotaResult.FORMAT_UNSUPPORTED),
        (sealed(GOLDEN.replace(b"\x0c\x09http://x/", b"\x0c\x00").replace(b"\x30\x6a", b"\x30\x61")),
         FotaResult.BAD_URI),
        (sealed(GOLDEN.replace(b"1.2.3", b"1.2.x")), FotaResult.MANIFEST_MALFORMED),
    ],
)  # fmt: skip
def test_a_bad_manifest_gets_the_stock_result_code(der: bytes, result: FotaResult) -> None:
    assert result_of(der) is result


def test_of_several_faults_the_first_in_the_stock_order_is_reported() -> None:
    faulty = raw(vendor_id=bytes(16), class_id=bytes(16), component="METER", payload_size=9999)
    assert result_of(faulty.sign(ec.derive_private_key(7, ec.SECP256R1()))) is FotaResult.MANIFEST_SIGNATURE
    assert result_of(faulty.sign(KEY)) is FotaResult.VENDOR_MISMATCH
    assert result_of(dataclasses.replace(faulty, vendor_id=VENDOR).sign(KEY)) is FotaResult.CLASS_MISMATCH
    ours = dataclasses.replace(faulty, vendor_id=VENDOR, class_id=CLASS)
    assert result_of(ours.sign(KEY)) is FotaResult.UNKNOWN_COMPONENT


def test_an_acceptable_manifest_is_accepted() -> None:
    assert check(WHOLE, accepts()).manifest == raw()


def test_the_key_that_a_service_appends_is_kept_beside_the_signed_fields() -> None:
    aes_key = b"sixteen bytes it"
    signed = SignedManifest.parse(WHOLE + b"\x81\x10" + aes_key, KEY.public_key())
    assert signed.encryption_key == aes_key and aes_key.decode() not in repr(signed)


@pytest.mark.parametrize(
    "change",
    [
        {"uri": "x" * 256},
        {"uri": ""},
        {"uri": "http://x/\udcff"},  # a byte of a command line that is no UTF-8
        {"component": "NINECHARS"},
        {"version": "1.2"},
        {"version": "1.2.1000"},
        {"payload_size": 0},
        {"vendor_id": b""},
        {"format": PayloadFormat.DELTA},
    ],
)
def test_what_the_format_does_not_allow_is_not_signed(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        raw(**change).sign(KEY)


def test_a_manifest_shows_its_fields_in_a_cell_and_escapes_them() -> None:
    shown = raw(uri="http://x/<b>")._repr_html_()
    assert "1.2.3" in shown and "http://x/&lt;b&gt;" in shown


def test_an_image_is_described_by_its_size_and_digest() -> None:
    manifest = Manifest.for_image(b"image", version="1.0.0", uri="/fw", vendor_id=VENDOR, class_id=CLASS)
    assert manifest.payload_size == 5 and manifest.payload_digest == hashlib.sha256(b"image").digest()


def test_every_result_has_a_meaning_and_advice() -> None:
    assert all(result.meaning and result.advice for result in FotaResult)


@given(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999))
def test_versions_keep_their_order_as_numbers(major: int, minor: int, patch: int) -> None:
    version, other = Version(major, minor, patch), Version(1, 500, 2)
    assert Version.from_number(version.number) == version == Version.parse(str(version))
    assert (version < other) == (version.number < other.number)


def test_version_1_2_3_has_the_number_of_the_stock_client() -> None:
    assert Version(1, 2, 3).number == 0x0080_0100_0002_0003


@given(st.integers(0, 2**64 - 1))
def test_a_number_is_one_version_or_none(number: int) -> None:
    try:
        assert Version.from_number(number).number == number
    except ConfigError:
        pass
