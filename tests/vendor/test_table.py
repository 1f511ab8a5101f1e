"""docs/rest-api.md has every operation of the vendor's description, and tells the truth about each."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from pdmlab.service.rest.examples import examples
from tests.vendor.description import OPERATIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "rest-api.md"
_ROW = re.compile(r"\| `(?P<name>(?:GET|PUT|POST|DELETE) /\S+)` \| (?P<kind>[^|]+?) \| (?P<why>[^|]+?) \|")
_TEST = re.compile(r"`(tests/\S+?\.py)::(\w+)`")


@cache
def rows() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        row = _ROW.match(line)
        if row is not None:
            assert row["name"] not in found, f"{row['name']} stands there twice"
            found[row["name"]] = row["kind"], row["why"]
    return found


@cache
def ours() -> list[str]:
    """Operations of this service, as "GET /v3/devices/{device_id}": each has an example, which its own test sees to."""
    return list(examples())


def pattern(operation: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{[^}]+\}$", ".+", re.sub(r"\{[^}]+\}(?!$)", "[^/]+", operation)))


def answered(operation: str) -> bool:
    """Tell whether a route of ours is there for an operation of the vendor's, and not only for its neighbour."""
    call = re.sub(r"\{[^}]+\}", "x", operation)
    shape = re.sub(r"\{[^}]+\}", "{}", operation)
    same = [each for each in ours() if re.sub(r"\{[^}]+\}", "{}", each) == shape]
    return bool(same) or any(pattern(each).fullmatch(call) for each in ours() if "/me" in call)


@cache
def _tests_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_")}


def test_every_operation_has_a_row() -> None:
    assert set(rows()) == set(OPERATIONS)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_row_tells_the_truth(name: str) -> None:
    kind, why = rows()[name]
    assert kind in ("done", "different", "not offered")
    assert answered(name) == (kind != "not offered"), f"{kind}: there is {'a' if answered(name) else 'no'} route"
    if kind == "not offered":
        assert len(why.split()) > 3, "why not?"
        return
    named = _TEST.findall(why)
    assert named, "which test shows it?"
    for file, test in named:
        assert test in _tests_in(file), f"{file} has no {test}"
    if kind == "different":
        assert len(_TEST.sub("", why).split()) > 3, "how is it different, and why?"


def test_what_the_vendor_does_not_have_is_told_apart() -> None:
    """Whatever else the service has stands on the page as well, in the section of its own."""
    described = {re.sub(r"\{[^}]+\}", "{}", name) for name in OPERATIONS}
    text = PAGE.read_text(encoding="utf-8")
    own = [each for each in ours() if re.sub(r"\{[^}]+\}", "{}", each) not in described]
    own = [each for each in own if not any(pattern(each).fullmatch(re.sub(r"\{[^}]+\}", "x", n)) for n in OPERATIONS)]
    missing = [each for each in own if f"`{each}`" not in text]
    assert not missing, "\n".join(missing)
