"""Every operation of the API has an example, and every example does what it says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from pdmlab.service.rest.examples import Example, examples, filled
from tests.service.examplelab import ExampleLab, example_lab

PATIENCE_S = 20.0
"""How long what happens by itself may take: a device's answer, a campaign's step."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleLab]:
    with example_lab(tmp_path_factory.mktemp("examples")) as lab:
        yield lab


def operations(description: dict[str, Any]) -> set[str]:
    """Return the operations of an OpenAPI description, such as GET /v3/devices."""
    return {f"{method.upper()} {path}" for path, methods in description["paths"].items() for method in methods}


def test_every_operation_has_an_example_and_every_example_an_operation(lab: ExampleLab) -> None:
    there = operations(httpx.get(f"{lab.service.url}/openapi.json").json())
    assert {"without an example": sorted(there - set(examples())), "of nothing": sorted(set(examples()) - there)} == {
        "without an example": [],
        "of nothing": [],
    }


def test_every_example_does_what_it_says(lab: ExampleLab) -> None:
    known = dict(lab.known)
    wrong = []
    with httpx.Client(base_url=lab.service.url, timeout=30) as client:
        for example in examples().values():
            try:
                said = send(client, lab, example, known)
            except (KeyError, IndexError) as error:
                said = f"what it needs is not there: {error!r}"
            if said:
                wrong.append(f"{example.name}: {said}")
    assert not wrong, "\n".join(wrong)


def send(client: httpx.Client, lab: ExampleLab, example: Example, known: dict[str, str]) -> str:
    """Send an example, and again while it asks for what is not there yet; return what is wrong, or nothing."""
    end = time.monotonic() + PATIENCE_S
    while True:
        answer = client.request(
            example.method,
            example.url(known.__getitem__),
            headers={
                **({"Authorization": f"Bearer {lab.service.api_key}"} if example.key else {}),
                **filled(dict(example.headers), known),
            },
            **body(lab, example, known),
        )
        said, kept = judged(example, answer)
        if not said or example.method != "GET" or time.monotonic() > end:
            known |= kept
            return said


def body(lab: ExampleLab, example: Example, known: dict[str, str]) -> dict[str, Any]:
    """Return an example's body as httpx takes it."""
    if example.json is not None:
        return {"json": filled(example.json, known)}
    if example.files or example.form:
        files = {field: (name, (lab.folder / name).read_bytes()) for field, name in example.files.items()}
        return {"data": filled(dict(example.form), known), "files": files}
    return {"content": filled(example.body, known).encode()} if example.body is not None else {}


def judged(example: Example, answer: httpx.Response) -> tuple[str, dict[str, str]]:
    """Return what is wrong with an answer, and what is kept of it."""
    if answer.status_code != example.status:
        return f"{answer.status_code}, not {example.status}: {answer.text[:300]}", {}
    kept = {}
    for name, field in example.keep.items():
        value = answer.json()
        for step in field.split("."):
            try:
                value = value[int(step) if isinstance(value, list) else step]
            except (KeyError, IndexError):
                return f"the answer has no {field}: {answer.text[:300]}", {}
        kept[name] = str(value)
    return "", kept
