"""Every operation of the API has an example, and every example does what it says, in each of its spellings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import pdmlab
from pdmlab.cloud import Listing
from pdmlab.errors import PdmlabError
from pdmlab.service.rest.examples import Example, examples
from tests.service.examplelab import ExampleLab, example_lab
from tests.tools import program


@pytest.fixture
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
    with httpx.Client(timeout=30) as client:
        ask = lab.by_http(client)
        wrong = [f"{example.name}: {what}" for example in examples().values() if (what := lab.send(example, ask))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.debian
@pytest.mark.slow
def test_every_line_for_curl_can_be_pasted(lab: ExampleLab) -> None:
    program("curl")
    wrong = [f"{each.name}: {what}" for each in examples().values() if (what := lab.send(each, lab.by_curl))]
    assert not wrong, "\n".join(wrong)


def test_every_line_for_the_python_client_does_the_same(lab: ExampleLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.folder)
    wrong = []
    with httpx.Client(timeout=30) as client, pdmlab.Cloud(lab.service.url, lab.service.api_key) as cloud:
        ask = lab.by_http(client)
        for example in examples().values():
            said = by_cloud(lab, cloud, example) if example.cloud else lab.send(example, ask)
            if said:
                wrong.append(f"{example.name}: {said}")
    assert not wrong, "\n".join(wrong)


def by_cloud(lab: ExampleLab, cloud: pdmlab.Cloud, example: Example) -> str:
    """Run an example's line of Python, and keep what later ones mean; return what is wrong, or nothing."""
    try:
        result = eval(example.cloud, {"cloud": cloud, "Path": Path, **lab.known})
        if isinstance(result, Listing):
            result = result.first()
    except (PdmlabError, NameError, AttributeError, TypeError) as error:
        return f"{example.cloud}: {error!r}"
    for name, field in example.keep.items():
        kept = kept_of(result, field.removeprefix("data.0."))
        if kept is None:
            return lab.send(example, lab.by_http(cloud._rest._client))
        lab.known[name] = kept
    return ""


def kept_of(result: Any, field: str) -> str | None:
    """Return a field of what a call returned, None if it returned nothing with fields."""
    fields = getattr(result, "fields", {})
    return str(fields[field]) if field in fields else None
