"""The judge itself: what it lets pass, and what it does not."""

from __future__ import annotations

import json

import pytest

from tests.vendor.description import OPERATIONS, find, problems
from tests.vendor.watching import judge


def test_all_operations_of_the_vendor_are_there() -> None:
    assert len(OPERATIONS) == 260
    assert all("{" not in name.split()[0] for name in OPERATIONS)


@pytest.mark.parametrize(
    ("call", "operation"),
    [
        ("GET /v3/devices/", "GET /v3/devices"),
        ("GET /v3/devices/0123/", "GET /v3/devices/{id}"),
        ("PUT /v2/subscriptions/0123//1/0/1", "PUT /v2/subscriptions/{device-id}/{resourcePath}"),
        ("GET /v3/api-keys/me", "GET /v3/api-keys/me"),
        ("GET /v3/firmware-images/upload-jobs", "GET /v3/firmware-images/upload-jobs"),
        ("GET /lab/log", None),
    ],
)
def test_calls_are_found_whatever_their_slashes(call: str, operation: str | None) -> None:
    found = find(*call.split())
    assert (found.name if found is not None else None) == operation


@pytest.mark.parametrize(
    ("value", "shape", "said"),
    [
        ("x" * 5, "string <=4", "5 long"),
        ("", "string:date-time", "no date-time"),
        ("2020-01-01T00:00:00+00:00", "string:date-time", "not in UTC"),
        ("2020-01-01T00:00:00.000001Z", "string:date-time", ""),
        (True, "integer", "no integer"),
        (1 << 40, "integer:int32", "no int32"),
        ("lost", "enum:new|completed", "none of new, completed"),
        ("abc", "string ~[a-f0-9]{32}", "no id"),
        ({"a": 1}, ["string"], "no list"),
    ],
)
def test_a_value_of_another_type_is_a_problem(value: object, shape: object, said: str) -> None:
    found = " ".join(problems(value, shape, "it"))
    assert (said in found) if said else not found


def test_an_answer_without_a_required_field_or_with_another_status_is_a_problem() -> None:
    kept = {"id": "a" * 32, "object": "api-key", "name": "x", "key": "ak_", "etag": "1"}
    assert judge("GET", "/v3/api-keys/me", 200, "application/json", json.dumps(kept).encode()) == []
    del kept["key"]
    (found,) = judge("GET", "/v3/api-keys/me", 200, "application/json", json.dumps(kept).encode())
    assert "answer.key is required" in found
    assert "202 is none of" in judge("GET", "/v3/api-keys/me", 202, "application/json", b"")[0]
