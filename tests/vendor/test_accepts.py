"""Each operation takes what the vendor's description allows: every query parameter, and every field of a body.

The examples of the API say how to call each operation so that it works; here the same calls carry all the rest as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from pdmlab.service.rest.examples import Example, examples, filled
from tests.service.examplelab import ExampleLab, example_lab
from tests.vendor.description import OPERATIONS, TYPES, Operation, find

NOW, TODAY = "2026-01-02T03:04:05.000006Z", "2026-01-02"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleLab]:
    with example_lab(tmp_path_factory.mktemp("accepts")) as lab:
        yield lab


def value_of(shape: Any, name: str) -> Any:
    """Return a value that a shape allows."""
    if isinstance(shape, list):
        return []
    if shape.startswith("@"):
        return {key.removesuffix("!"): value_of(each, key) for key, each in TYPES[shape[1:]].items()}
    if shape.startswith("enum:"):
        first = shape[5:].split("|")[0]
        return int(first) if first.isdigit() else first
    kind, _, bounds = shape.partition(" ")
    kind, _, format_ = kind.partition(":")
    least = re.search(r">=(\d+)", bounds)
    match kind:
        case "integer" | "number":
            return max(int(least[1]) if least else 0, 2)
        case "boolean":
            return False
        case "object":
            return {}
    if format_ in ("date", "date-time"):
        return TODAY if format_ == "date" else NOW
    if "@" in bounds:
        return "one@example.com"
    if "{32}" in bounds:
        return "0" * 32
    if "{64}" in bounds:
        return "0" * 64
    return "x" * max(int(least[1]) if least else 1, 8)


SPECIAL_QUERY = {
    "after": None,  # an id of the list, which is tried by its own tests
    "filter": "%69d__neq=0",
    "include": "total_count",
    "order": "DESC",
    "limit": "10",
    "async-id": None,
    "interval": None,
    "period": None,  # stands instead of the next two
    "start": None,
    "end": None,
    "action": None,
}
"""Parameters whose words the description does not say in a form that a program reads; None: others try them."""

SPECIAL_FIELDS = {
    "accept": "text/plain",
    "certificate": None,
    "certificate_issuer_id": None,
    "content-type": "text/plain",
    "device_execution_mode": 1,
    "device_filter": "state=registered",
    "owner": None,
    "signature": None,
}
"""Fields with rules that are said in words only; None: it has to be a real one, which tests of its area give."""


def queries(operation: Operation, example: Example) -> Iterator[tuple[str, str]]:
    """Yield each parameter that the vendor has and the example has not, with a value."""
    for key, shape in operation.query.items():
        name = key.removesuffix("!")
        if name in example.query or SPECIAL_QUERY.get(name, "") is None:
            continue
        # What a list of values is made of, the other comparisons of the field say.
        plain = re.sub("__n?in$", "", name)
        shape = next((operation.query[k] for k in (f"{plain}__eq", f"{plain}__gte") if k in operation.query), shape)
        value = SPECIAL_QUERY.get(name) or value_of(shape[0] if isinstance(shape, list) else shape, name)
        yield name, json.dumps(value) if isinstance(value, bool | int) else str(value)


def vendors(example: Example, known: dict[str, str]) -> Operation | None:
    return find(example.method, example.url(known.__getitem__).partition("?")[0])


def test_every_query_parameter_is_taken(lab: ExampleLab) -> None:
    wrong, tried = [], 0
    with httpx.Client(base_url=lab.service.url, timeout=30) as client:
        for example in examples().values():
            said = lab.send(example, lab.by_http(client))
            assert not said, f"{example.name}: {said}"
            operation = vendors(example, lab.known)
            if operation is None or example.method != "GET":
                continue
            url = example.url(lab.known.__getitem__)
            key = {"Authorization": f"Bearer {lab.key}"}
            for name, value in queries(operation, example):
                answer = client.get(url + ("&" if "?" in url else "?") + f"{name}={value}", headers=key)
                tried += 1
                if answer.status_code != example.status:
                    wrong.append(f"{operation.name}?{name}={value}: {answer.status_code} {answer.text[:200]}")
    assert not wrong, "\n".join(wrong)
    assert tried > 300


def test_every_field_of_a_body_is_taken(lab: ExampleLab) -> None:
    wrong, tried = [], 0
    with httpx.Client(base_url=lab.service.url, timeout=30) as client:
        for example in examples().values():
            # What was changed by what came before may not be there any more: it is not waited for.
            said = lab.send(example, lab.by_http(client), patience=1)
            operation = OPERATIONS.get(example.name) or vendors(example, lab.known)
            if said or operation is None or not isinstance(example.json, dict) or not isinstance(operation.body, str):
                continue
            given = filled(example.json, lab.known)
            fields = TYPES[operation.body[1:]]
            rest = {key.removesuffix("!"): value_of(shape, key) for key, shape in fields.items()}
            rest = {name: SPECIAL_FIELDS.get(name, value) for name, value in rest.items()}
            rest = {name: value for name, value in rest.items() if value is not None}
            tried += 1
            answer = client.request(
                example.method,
                example.url(lab.known.__getitem__),
                headers={"Authorization": f"Bearer {lab.key}"},
                json={**rest, **given},
            )
            # The example before may have made one of that name: 409, which the description leaves out at some.
            if answer.status_code == 400 or str(answer.status_code) not in {*operation.answers, "409"}:
                wrong.append(f"{operation.name}: {answer.status_code} {answer.text[:300]}")
    assert not wrong, "\n".join(wrong)
    assert tried > 20
