"""The API's description as one page, /docs: what each call does, takes and answers, and an example to paste.

Plain HTML from /openapi.json and examples.toml; style and script are in it, nothing comes from another machine.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse

from pdmlab.service.rest.context import base_url
from pdmlab.service.rest.describing import Fields, fields_of, kind_of, limits_of
from pdmlab.service.rest.examples import Example, examples

Object = dict[str, Any]  # Any: what JSON holds

_CONDITION = re.compile(r"(.+)__(eq|neq|gte|lte|in|nin|like)")
_CODE = re.compile(r"`([^`]+)`")


_HOST = re.compile(r"https?://[\w.:\[\]-]+")
_ANY_HOST = "http://host.invalid"
"""Stands in the page, which is made once, for the address that its reader came by."""


def add_docs(app: FastAPI) -> None:
    """Serve the page at /docs, and the same for programs at /openapi.json."""

    @functools.cache
    def described() -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False).encode()

    @functools.cache
    def made() -> str:
        return page(app.openapi())

    # Both are made in a thread when they are first asked for: on the loop, devices would wait for them.

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return Response(await asyncio.to_thread(described), media_type="application/json")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        text, host = await asyncio.to_thread(made), base_url(request)
        # The caller says the host, and a reader pastes it into a shell.
        return HTMLResponse(text.replace(_ANY_HOST, host) if _HOST.fullmatch(host) else text)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> Response:
        """Say that there is none: browsers ask for it unasked, and call a 404 an error."""
        return Response(status_code=204)


def page(description: Object) -> str:
    """Return the page, for any address of the service."""
    parts: dict[str, list[tuple[str, str, Object]]] = {}
    for path, methods in description["paths"].items():
        for method, call in methods.items():
            parts.setdefault(call.get("tags", ["Other"])[0], []).append((method.upper(), path, call))
    fields = Fields(description)
    links = "".join(
        f'<a href="#{_anchor(tag)}">{escape(tag)} <small>{len(calls)}</small></a>' for tag, calls in parts.items()
    )
    sections = "".join(
        f'<section id="{_anchor(tag)}"><h2>{escape(tag)}</h2>'
        + "".join(_call(*call, fields) for call in calls)
        + "</section>"
        for tag, calls in parts.items()
    )
    info, folder = description["info"], files(__package__)
    return (
        (folder / "docs.html")
        .read_text("utf-8")
        .replace("{{title}}", escape(info["title"]))
        .replace("{{about}}", escape(info["description"]))
        .replace("{{host}}", _ANY_HOST)
        .replace("{{links}}", links)
        .replace("{{sections}}", sections)
    )


def _call(method: str, path: str, call: Object, fields: Fields) -> str:
    summary, example = str(call.get("summary", "")), examples().get(f"{method} {path}")
    words = f"{method} {path} {summary} {call.get('description', '')}".lower()
    shown_path = re.sub(r"(\{\w+\})", r"<i>\1</i>", escape(path).replace("/", "/<wbr>"))
    body = "".join(
        (
            *(f"<p>{_prose(text)}</p>" for text in str(call.get("description", "")).split("\n\n")),
            f"<p class='needs'>{_needs(call)}</p>",
            _examples(example) if example is not None else "",
            _parameters(call.get("parameters", ())),
            _body(call.get("requestBody"), fields),
            _answers(call["responses"]),
        )
    )
    return (
        f'<details class="call" id="{_anchor(f"{method} {path}")}" data-words="{escape(words)}">'
        f'<summary><b class="{method.lower()}">{method}</b><code>{shown_path}</code>'
        f"<span>{escape(summary)}</span></summary><div>{body}</div></details>"
    )


def _needs(call: Object) -> str:
    wanted = call.get("x-needs")
    return f"Needs {escape(str(wanted))}." if wanted else "Needs no key."


def _parameters(parameters: Iterable[Object]) -> str:
    """Return a table of parameters; conditions on a field are one row."""
    rows, conditions = [], dict[str, list[str]]()
    for each in parameters:
        condition = _CONDITION.fullmatch(each["name"])
        if condition is not None and not each.get("required"):
            conditions.setdefault(condition[1], []).append(condition[2])
            continue
        schema = each.get("schema", {})
        name = f"<code>{escape(each['name'])}</code>{' <em>required</em>' if each.get('required') else ''}"
        limits = limits_of(schema)
        rows.append((name, each["in"], _prose(kind_of(schema)), _sentences(each.get("description", ""), limits)))
    table = _table("Parameters", ("name", "in", "type", "meaning"), rows)
    if not conditions:
        return table
    shown = "".join(
        f"<li><code>{escape(name)}</code> <small>{' '.join(f'__{each}' for each in operators)}</small></li>"
        for name, operators in conditions.items()
    )
    title = "Conditions: fields, and what may follow their names"
    return f"{table}<details class='inner'><summary>{title}</summary><ul>{shown}</ul></details>"


def _body(body: Object | None, fields: Fields) -> str:
    if body is None:
        return ""
    found = ""
    for kind, content in body["content"].items():
        rows = [
            (
                f"<code>{escape(row.name)}</code>{' <em>required</em>' if row.required else ''}",
                _prose(row.kind),
                _sentences(row.description, row.limits),
            )
            for row in fields_of(content.get("schema", {}), fields)
        ]
        title = f"Body <small>{escape(kind)}</small>"
        found += _table(title, ("field", "type", "meaning"), rows)
    return found


def _answers(responses: Object) -> str:
    rows = []
    for status, answer in responses.items():
        kinds = ", ".join(answer.get("content", {}))
        meaning = f"{_prose(answer['description'])} <small>{escape(kinds)}</small>"
        rows.append((f"<code class='s{status[0]}'>{status}</code>", meaning))
    return _table("Answers", ("status", "meaning"), rows)


def _examples(example: Example) -> str:
    lines = [("curl", example.curl(_ANY_HOST))]
    if example.cloud:
        lines.append(("Python", example.cloud))
    return f"<h3>Example <small>answered with {example.status}</small></h3>" + "".join(
        f"<div class='line'><small>{kind}</small><pre>{escape(line)}</pre><button>copy</button></div>"
        for kind, line in lines
    )


def _table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{each}</th>" for each in heads)
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h3>{title}</h3><div class='wide'><table><tr>{head}</tr>{cells}</table></div>"


def _sentences(description: str, limits: str) -> str:
    return " ".join(filter(None, (_prose(description), f"<small>{escape(limits)}</small>" if limits else "")))


def _prose(text: str) -> str:
    """Return text with what stands between backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
