"""The API's description as one page of plain HTML: it needs no script, and nothing from another machine."""

from __future__ import annotations

from html import escape

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

_STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
summary{cursor:pointer;padding:.3em 0}code{background:#f3f3f3;padding:.1em .3em}b{display:inline-block;width:5em}
table{border-collapse:collapse;margin:.4em 0 1em 5em}td,th{text-align:left;padding:.15em .8em .15em 0}
details p{margin:.2em 0 .4em 5em}"""


def add_docs(app: FastAPI) -> None:
    """Serve the page at /docs; /openapi.json has the same for programs."""

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page(app))


def page(app: FastAPI) -> str:
    """Return the page."""
    description = app.openapi()
    sections: dict[str, list[str]] = {}
    for path, methods in description["paths"].items():
        for method, call in methods.items():
            sections.setdefault(call.get("tags", ["Other"])[0], []).append(_call(path, method, call))
    body = "".join(f"<h2>{escape(tag)}</h2>{''.join(calls)}" for tag, calls in sections.items())
    title, text = (escape(description["info"][name]) for name in ("title", "description"))
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p>{text}</p><p>For programs: <a href='/openapi.json'>openapi.json</a></p>{body}</html>"
    )


def _call(path: str, method: str, call: dict[str, object]) -> str:
    rows = [
        f"<tr><td><code>{escape(each['name'])}</code></td><td>{escape(each['in'])}</td>"
        f"<td>{escape(each.get('description') or '')}</td></tr>"
        for each in call.get("parameters", ())  # type: ignore[attr-defined]  # OpenAPI: a list of objects
    ]
    if "requestBody" in call:
        kinds = ", ".join(call["requestBody"]["content"])  # type: ignore[index]  # OpenAPI: an object
        rows.append(f"<tr><td>body</td><td></td><td>{escape(kinds)}</td></tr>")
    answers = ", ".join(str(status) for status in call["responses"] if status != "422")  # type: ignore[attr-defined]
    rows.append(f"<tr><td>answers</td><td></td><td>{answers}; others say why</td></tr>")
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> {escape(str(call.get('summary', '')))}"
        f"</summary><p>{escape(str(call.get('description', '')))}</p><table>{''.join(rows)}</table></details>"
    )
