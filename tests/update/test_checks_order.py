"""Of two things that are wrong with a manifest a device tells the one that the stock client comes to first."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from pdmlab.errors import ManifestRejected
from pdmlab.update import der
from pdmlab.update.checks import check
from pdmlab.update.manifest import PayloadFormat, _written
from pdmlab.update.results import FotaResult
from tests.update.wrong import CLASS, DELTA, DEVICE, KEY, RIGHT, STRANGERS_KEY, VENDOR, sealed

SEAL = {"schema": {"version": 1}, "signature": {"key": STRANGERS_KEY}}
"""What is wrong around the fields."""

FAULTS: list[tuple[str, dict[str, Any], FotaResult]] = [
    ("schema", {}, FotaResult.SCHEMA_UNSUPPORTED),
    ("signature", {}, FotaResult.MANIFEST_SIGNATURE),
    # as the fields come
    ("vendor", {"vendor_id": CLASS}, FotaResult.VENDOR_MISMATCH),
    ("class", {"class_id": VENDOR}, FotaResult.CLASS_MISMATCH),
    ("priority of 33 bits", {"priority": 1 << 32}, FotaResult.MANIFEST_MALFORMED),
    ("long component", {"component": "MAIN WITH"}, FotaResult.MANIFEST_MALFORMED),
    ("version in words", {"version": "new"}, FotaResult.MANIFEST_MALFORMED),
    ("version above 999", {"version": "1.1000.0"}, FotaResult.INTERNAL),
    ("digest of 33 bytes", {"payload_digest": bytes(33)}, FotaResult.CRYPTO),
    ("size of nothing", {"payload_size": 0}, FotaResult.MANIFEST_MALFORMED),
    ("long URI", {"uri": "/" * 256}, FotaResult.BAD_URI),
    ("format that nobody has", {"format": 2}, FotaResult.FORMAT_UNSUPPORTED),
    ("format that the device has not", {"format": PayloadFormat.ENCRYPTED_RAW}, FotaResult.FORMAT_UNSUPPORTED),
    ("image signature of 63 bytes", {"installed_signature": bytes(63)}, FotaResult.MANIFEST_MALFORMED),
    (
        "installed digest of 31 bytes",
        {"format": PayloadFormat.DELTA, "metadata": replace(DELTA, installed_digest=bytes(31))},
        FotaResult.CRYPTO,
    ),
    ("vendor data", {"vendor_data": b"x"}, FotaResult.VENDOR_DATA_TOO_BIG),
    # all has been read
    ("component", {"component": "METER"}, FotaResult.UNKNOWN_COMPONENT),
    ("version that runs", {"version": "1.2.2"}, FotaResult.VERSION_TOO_OLD),
    ("precursor", {"format": PayloadFormat.DELTA, "metadata": DELTA}, FotaResult.PRECURSOR_MISMATCH),
    ("image for a larger board", {"payload_size": 4097}, FotaResult.NO_STORAGE),
]
"""In the order in which mbed-cloud-client 4.13 looks: fota_manifest_v3.c, then handle_manifest() in fota.c."""

PAIRS = [
    pytest.param(first, second, id=f"{first[0]} and {second[0]}")
    for first, second in itertools.combinations(FAULTS, 2)
    if not set(first[1]) & set(second[1])  # a field is wrong in one way at a time
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_the_first_of_two_faults_is_told(
    first: tuple[str, dict[str, Any], FotaResult], second: tuple[str, dict[str, Any], FotaResult]
) -> None:
    around: dict[str, Any] = SEAL.get(first[0], {}) | SEAL.get(second[0], {})
    with pytest.raises(ManifestRejected) as caught:
        check(sealed(_written(replace(RIGHT, **(first[1] | second[1]))), **around), DEVICE)
    assert caught.value.result == first[2]


@pytest.mark.parametrize(
    ("vendor", "class_id", "result"),
    [
        (CLASS, CLASS, FotaResult.VENDOR_MISMATCH),
        (VENDOR, VENDOR, FotaResult.CLASS_MISMATCH),
        (VENDOR, CLASS, FotaResult.MANIFEST_MALFORMED),
    ],
)
def test_what_is_no_der_is_told_when_it_is_come_to(vendor: bytes, class_id: bytes, result: FotaResult) -> None:
    fields = der.octets(vendor) + der.octets(class_id) + b"no more DER"
    with pytest.raises(ManifestRejected) as caught:
        check(sealed(der.sequence(fields)), DEVICE)
    assert caught.value.result == result


def test_what_follows_a_manifest_is_looked_at_last() -> None:
    for manifest, result in (
        (RIGHT.sign(STRANGERS_KEY), FotaResult.MANIFEST_SIGNATURE),
        (replace(RIGHT, vendor_id=CLASS).sign(KEY), FotaResult.VENDOR_MISMATCH),
        (RIGHT.sign(KEY), FotaResult.MANIFEST_MALFORMED),
    ):
        with pytest.raises(ManifestRejected) as caught:
            check(manifest + b"no key", DEVICE)
        assert caught.value.result == result
