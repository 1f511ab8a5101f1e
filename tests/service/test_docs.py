"""The API's page: every call with what it takes, answers and an example, in a browser that may go nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

import httpx
import pytest
from playwright import sync_api

from pdmlab.service import Service, serve
from pdmlab.service.rest.describing import Fields, fields_of, kind_of, limits_of
from pdmlab.service.rest.examples import examples
from tests.tools import unavailable

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serve(name="docs") as service:
        yield service


def test_every_call_is_on_the_page_with_its_lines(service: Service) -> None:
    page = httpx.get(f"{service.url}/docs").text
    for example in examples().values():
        assert escape(example.curl(service.url)) in page
        assert escape(example.cloud) in page
    assert page.count('<details class="call"') == len(examples())
    assert service.api_key not in page and "{{" not in page
    assert "export API_KEY=$(cat …/api-key)" in page


def test_a_host_that_the_caller_made_up_gets_into_no_line(service: Service) -> None:
    page = httpx.get(f"{service.url}/docs", headers={"host": 'x";$(reboot)<script>'})
    assert "reboot" not in page.text


def test_the_description_has_nothing_that_is_not_answered_here(service: Service) -> None:
    description = httpx.get(f"{service.url}/openapi.json").json()
    text = httpx.get(f"{service.url}/openapi.json").text
    assert "HTTPValidationError" not in text and description["servers"][0]["url"] == "/"
    for path, methods in description["paths"].items():
        for method, call in methods.items():
            said = call["responses"]
            assert "422" not in said and call["summary"] and call["description"], (method, path)
            assert str(examples()[f"{method.upper()} {path}"].status) in said, (method, path)
            if call.get("security"):
                assert {"401", "403"} <= set(said) and call["x-needs"]
            for each in call.get("parameters", ()):
                assert each["in"] != "path" or each["description"], (method, path, each)


def test_schemas_are_told_in_words() -> None:
    schema = {
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 9, "description": "What it is called."},
            "size": {"anyOf": [{"type": "integer", "minimum": 2}, {"type": "null"}], "default": 7},
            "kind": {"enum": ["a", "b"]},
            "word": {"type": "string", "enum": list("abcde")},
            "when": {"type": "string", "format": "date-time"},
            "inner": {"$ref": "#/components/schemas/Inner"},
            "list": {"type": "array", "items": {"$ref": "#/components/schemas/Inner"}},
        },
    }
    fields = Fields(
        {"components": {"schemas": {"Inner": {"type": "object", "properties": {"x": {"type": "boolean"}}}}}}
    )
    rows = {row.name: row for row in fields_of(schema, fields)}
    assert rows["name"].required and rows["name"].limits == "at least 1 characters, at most 9 characters"
    assert (rows["size"].kind, rows["size"].limits) == ("integer or null", "from 2, 7 if not given")
    assert rows["kind"].kind == "`a` `b`" and rows["word"].limits == "one of a, b, c, d, e"
    assert rows["when"].kind == "time" and rows["inner.x"].kind == "boolean" and rows["list[].x"].kind == "boolean"
    assert kind_of({"type": "array", "items": {"type": "string"}}) == "list of string" and limits_of({}) == ""


@pytest.mark.debian
@pytest.mark.slow
def test_a_reader_finds_a_call_and_copies_its_line(service: Service) -> None:
    if not Path(CHROMIUM).exists():
        unavailable(f"there is no {CHROMIUM}, which Debian's package chromium installs")
    with (
        sync_api.sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS) as browser,
    ):
        context = browser.new_context(viewport={"width": 420, "height": 800}, color_scheme="dark")
        asked: list[str] = []
        wrong: list[str] = []
        context.on("request", lambda request: asked.append(request.url))
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)  # a 404, too
        page.goto(f"{service.url}/docs")
        assert page.evaluate("document.documentElement.scrollWidth") == 420  # nothing hangs over the edge
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 31)"
        page.get_by_role("searchbox").fill("post campaigns/{campaign_id}/start")
        calls = page.locator(".call:visible")
        sync_api.expect(calls).to_have_count(1)
        assert [each.split()[-1] for each in page.locator("nav a:visible").all_inner_texts()] == ["1"]
        calls.locator("summary").first.click()
        sync_api.expect(calls.locator("h3").first).to_contain_text("answered with 202")
        assert page.url.endswith("#post-v3-update-campaigns-campaign-id-start")
        calls.get_by_role("button").first.click()
        sync_api.expect(calls.get_by_role("button").first).to_have_text("copied")
        page.get_by_role("searchbox").fill("no such words")
        sync_api.expect(page.locator("#none")).to_be_visible()
        page.get_by_role("searchbox").fill("")
        counts = [int(each.split()[-1]) for each in page.locator("nav a:visible").all_inner_texts()]
        assert sum(counts) == len(examples())
        page.goto(f"{service.url}/docs#get-v3-devices")
        page.reload()
        sync_api.expect(page.locator("#get-v3-devices > div")).to_be_visible()
        page.get_by_role("button", name="Open all").click()
        assert page.locator(".call[open]").count() == len(examples())
        assert page.evaluate("document.documentElement.scrollWidth") == 420
        assert not wrong and all(url.startswith(service.url) for url in asked)
        context.close()
