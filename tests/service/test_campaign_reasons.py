"""Every end of a device's update is explained: what it is, what it likely comes from, what to do."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.service.campaign_reasons import ADVICE, reason
from pdmlab.service.campaign_words import EVENTS, failure
from pdmlab.update import hub, object5
from pdmlab.update.manifest import Manifest
from pdmlab.update.results import FotaResult

FAILURES = [result for result in FotaResult if result is not FotaResult.SUCCESS]


@pytest.mark.parametrize("result", FAILURES, ids=lambda result: str(int(result)))
def test_each_result_of_the_stock_client_has_meaning_cause_and_advice(result: FotaResult) -> None:
    event_type, _ = failure(int(result))
    why = reason(event_type, int(result))
    assert why is not None and why.result == result
    assert why.meaning == result.meaning and why.advice == result.advice and len(why.cause) > 20


def test_results_of_the_older_hub_and_of_object_5_are_explained_by_their_own_lists() -> None:
    for number in (101, 210, 221, 315, 499, 512):
        why = reason(failure(number)[0], number)
        assert why is not None and (why.meaning, why.advice) == hub.explain(number)
    for result in object5.Result:
        why = reason(f"UPD5_FAIL_{int(result)}", int(result))
        assert why is not None and (why.meaning, why.advice) == object5.explain(int(result))
        assert why.cause or result in (object5.Result.INITIAL, object5.Result.SUCCESS)


def test_the_services_own_ends_are_explained_and_what_goes_on_is_not() -> None:
    ends = [each for each in EVENTS if "_FAIL_" in each or "_SKIPPED_" in each]
    assert set(ends) == set(ADVICE)
    assert all(reason(each, None) for each in ends)
    assert reason("UPD4_INFO_101", None) is None and reason("UPD4_SUCCESS_100", None) is None
    unknown = reason("UPD4_FAIL_77", 77)
    assert unknown is not None and unknown.meaning == "a result that no list has"


def test_causes_are_of_events_that_there_are() -> None:
    text = resources.files("pdmlab.service").joinpath("campaign_causes.toml").read_text(encoding="utf-8")
    for event_type in tomllib.loads(text):
        why = reason(event_type, None)
        assert why is not None and "no list has" not in why.meaning, event_type


def test_a_malformed_manifest_that_signs_no_image_is_said_to_want_one() -> None:
    ids = {"vendor_id": bytes(16), "class_id": bytes(16)}
    key = ec.generate_private_key(ec.SECP256R1())
    manifest = Manifest.for_image(b"image", version="1.0.1", uri="/fw", **ids)
    plain, signed = manifest.sign(key), manifest.with_image_signature(key).sign(key)
    for sent, wanted in ((plain, True), (signed, False), (b"no manifest", False), (None, False)):
        why = reason("UPD4_FAIL_22", 22, sent)
        assert why is not None
        assert ("--sign-image" in why.advice, "--sign-image" in failure(22, sent)[1]) == (wanted, wanted)
    assert "--sign-image" not in failure(23, plain)[1]
