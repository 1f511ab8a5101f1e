"""Every operation of the API has an example, and every example does what it says."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from pdmlab.service.rest.examples import examples
from tests.service.examplelab import ExampleLab, example_lab


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExampleLab]:
    with example_lab(tmp_path_factory.mktemp("examples")) as lab:
        yield lab


def test_every_operation_has_an_example_and_every_example_an_operation(lab: ExampleLab) -> None:
    paths = httpx.get(f"{lab.service.url}/openapi.json").json()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert {"without an example": sorted(there - set(examples())), "of nothing": sorted(set(examples()) - there)} == {
        "without an example": [],
        "of nothing": [],
    }


def test_every_example_does_what_it_says(lab: ExampleLab) -> None:
    with httpx.Client(base_url=lab.service.url, timeout=30) as client:
        said = {example.name: lab.send(client, example) for example in examples().values()}
    wrong = [f"{name}: {what}" for name, what in said.items() if what]
    assert not wrong, "\n".join(wrong)
