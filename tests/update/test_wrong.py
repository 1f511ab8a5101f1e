"""Every manifest that is wrong in one thing ends with the number of the stock client, and every right one is taken."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ManifestRejected
from pdmlab.update.checks import check
from pdmlab.update.hub import explain
from pdmlab.update.hub_checks import BAD_CERTIFICATE, MALFORMED, NO_VENDOR, WRONG_CLASS, WRONG_SECURITY, check_v1
from pdmlab.update.manifest_v1_der import written
from tests.update.wrong import BOARD, CERTIFICATE, DEVICE, KEY, RIGHT, RIGHT_V1, WRONG, sealed_v1, v1


@pytest.mark.parametrize("name", WRONG)
def test_the_fota_client_reports_the_stock_number(name: str) -> None:
    with pytest.raises(ManifestRejected) as caught:
        check(WRONG[name].v3(), DEVICE)
    assert caught.value.result == WRONG[name].result and caught.value.hint == WRONG[name].result.advice


@pytest.mark.parametrize("name", [name for name, wrong in WRONG.items() if wrong.hub is not None])
def test_the_update_hub_reports_the_stock_number(name: str) -> None:
    make, number = WRONG[name].v1, WRONG[name].hub
    assert make is not None and number is not None
    with pytest.raises(ManifestRejected) as caught:
        check_v1(make(), BOARD)
    assert caught.value.result == number and caught.value.hint == explain(number)[1]


def test_what_is_wrong_in_nothing_is_taken() -> None:
    assert check(RIGHT.sign(KEY), DEVICE).manifest == RIGHT
    assert check_v1(RIGHT_V1.sign(KEY, CERTIFICATE), BOARD) == RIGHT_V1


def test_the_hub_takes_a_manifest_for_all_classes_of_its_vendor_and_none_without_a_vendor() -> None:
    assert check_v1(v1(class_id=b"")(), BOARD).class_id == b""
    for fields, number in (({"vendor_id": b""}, NO_VENDOR), ({"vendor_id": b"", "class_id": bytes(16)}, WRONG_CLASS)):
        with pytest.raises(ManifestRejected) as caught:
            check_v1(v1(**fields)(), BOARD)
        assert caught.value.result == number


@pytest.mark.parametrize(
    ("security", "number"), [(0, WRONG_SECURITY), (1, WRONG_SECURITY), (3, MALFORMED), (5, MALFORMED)]
)
def test_the_hub_takes_signed_manifests_of_plain_payloads_alone(security: int, number: int) -> None:
    with pytest.raises(ManifestRejected) as caught:
        check_v1(v1(security=security)(), BOARD)
    assert caught.value.result == number


def test_a_certificate_that_is_none_is_told_by_its_own_number() -> None:
    board = dataclasses.replace(BOARD, certificate=b"no certificate")
    with pytest.raises(ManifestRejected) as caught:
        check_v1(RIGHT_V1.sign(KEY, b"no certificate"), board)
    assert caught.value.result == BAD_CERTIFICATE


def test_a_hub_without_deltas_refuses_them_by_format() -> None:
    with pytest.raises(ManifestRejected) as caught:
        check_v1(WRONG["precursor"].v1(), dataclasses.replace(BOARD, formats=frozenset({1})))  # type: ignore[misc]
    assert caught.value.result == MALFORMED


RESOURCE = written(RIGHT_V1)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_hostile_fields_under_a_good_signature_end_with_a_number_of_the_hub(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(RESOURCE) - 1))
    rest = RESOURCE[data.draw(st.integers(at, len(RESOURCE))) :]
    try:
        check_v1(sealed_v1(RESOURCE[:at] + data.draw(st.binary(max_size=8)) + rest), BOARD)
    except ManifestRejected as error:
        assert 200 <= error.result <= 230 or error.result == 307
