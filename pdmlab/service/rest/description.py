"""The API's description, /openapi.json: what FastAPI makes of the routes, completed by what holds for all of them.

A route says what is its own. Here stands what it has in common with others: what errors look like, that a list
comes in an envelope, which errors any call may meet, and that what it sends back as it is has no JSON in it.
"""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from pdmlab.service import rights
from pdmlab.service.rest.errors import HINT_HEADER, TYPES, is_v2

Object = dict[str, Any]  # Any: what JSON holds

SCHEMAS: dict[str, Object] = {
    "Error": {
        "type": "object",
        "title": "Error",
        "description": "Why a call was refused. In v2 errors are plain text: one word.",
        "required": ["object", "code", "type", "message", "request_id"],
        "properties": {
            "object": {"type": "string", "const": "error"},
            "code": {"type": "integer", "description": "The HTTP status."},
            "type": {"type": "string", "description": "The vendor's word for it: " + ", ".join(TYPES.values()) + "."},
            "message": {"type": "string", "description": "What is wrong, and what to try."},
            "request_id": {"type": "string", "description": "Finds the request in the service's log."},
            "fields": {
                "type": "array",
                "description": "What is wrong with each field.",
                "items": {
                    "type": "object",
                    "required": ["name", "message"],
                    "properties": {"name": {"type": "string"}, "message": {"type": "string"}},
                },
            },
        },
    },
    "Page": {
        "type": "object",
        "title": "Page",
        "description": "Part of a list; `after` with the last item's id asks for the next one.",
        "required": ["object", "data", "has_more", "limit", "order"],
        "properties": {
            "object": {"type": "string", "const": "list"},
            "data": {"type": "array", "items": {"type": "object", "required": ["id"]}},
            "has_more": {"type": "boolean", "description": "Whether there are items after these."},
            "limit": {"type": "integer", "minimum": 2, "maximum": 1000},
            "after": {"type": ["string", "null"]},
            "order": {"type": "string", "enum": ["ASC", "DESC"]},
            "total_count": {"type": ["integer", "null"], "description": "How many items all pages have."},
        },
    },
}

MEANINGS = {
    "200": "What was asked for.",
    "201": "Made.",
    "202": "Accepted; it goes on by itself.",
    "204": "Done; there is nothing to say.",
    "205": "The service has no value in its cache.",
    "206": "The part that was asked for.",
    "400": "Something is wrong with the path, a parameter or the body.",
    "401": "The call carries no API key, or none that is good.",
    "403": "The key may not do that.",
    "404": "There is no such thing in this account.",
    "409": "Not now, or there is one already.",
    "410": "It is gone.",
    "412": "The device does not allow that.",
    "413": "The body is too large.",
    "415": "Of this kind of body nothing is known.",
    "416": "There is no such part.",
    "423": "The device cannot be asked now.",
    "426": "It is there for websockets only.",
    "429": "There is too much already, or it came too fast.",
    "500": "The service made a mistake; its log has the request id.",
    "502": "What the device answered could not be understood.",
    "503": "The service cannot do it now.",
    "504": "The device did not answer in time.",
}


class DescribedAPI(FastAPI):
    """FastAPI with the description completed."""

    _making = (
        threading.Lock()
    )  # the description is made in threads: it takes half a second, and devices wait for nobody

    def openapi(self) -> Object:
        """Return the description; it is made once, in about half a second."""
        with self._making:
            return self._openapi()

    def _openapi(self) -> Object:
        if self.openapi_schema is None:
            description = super().openapi()
            components = description.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's 422, which is our 400
                schemas.pop(name, None)
            components["schemas"] = dict(sorted((schemas | SCHEMAS).items()))
            for path, methods in description["paths"].items():
                for method, call in methods.items():
                    _complete(path, method, call)
        return self.openapi_schema or {}


def _complete(path: str, method: str, call: Object) -> None:
    """Say of a call what holds for all."""
    answers: Object = {status: _stripped(answer) for status, answer in call["responses"].items() if status != "422"}
    names = {each["name"] for each in call.get("parameters", ())}
    if {"after", "limit", "order"} <= names and "200" in answers:
        answers["200"]["content"] = {"application/json": {"schema": {"$ref": "#/components/schemas/Page"}}}
    for status in _errors(path, method, call):
        answers.setdefault(status, {})
    for status, answer in answers.items():
        if answer.get("description") in (None, "Successful Response", HTTPStatus(int(status)).phrase):
            answer["description"] = MEANINGS.get(status, f"HTTP {status}")
        if status >= "400" and "content" not in answer:
            answer["content"] = _error(path)
            if is_v2(path):
                answer["headers"] = {HINT_HEADER: {"description": "The same in a sentence.", "schema": _TEXT}}
    call["responses"] = dict(sorted(answers.items()))
    for each in call.get("parameters", ()):
        if each["in"] == "path" and not each.get("description"):
            each["description"] = _NAMES.get(each["name"]) or _identified(each["name"])
    if call.get("security"):
        call["x-needs"] = rights.WANTS[rights.least(method.upper(), path)]


def _stripped(answer: Object) -> Object:
    """Leave out the empty schema that FastAPI gives an answer of which it knows nothing."""
    if answer.get("content") == {"application/json": {"schema": {}}}:
        return {name: value for name, value in answer.items() if name != "content"}
    return answer


def _errors(path: str, method: str, call: Object) -> set[str]:
    """Return which errors a call may be answered with, whatever it is about."""
    found = set()
    if call.get("security"):
        found |= {"401", "403"}
    if call.get("parameters") or "requestBody" in call:
        found.add("400")
    if "{" in path or "requestBody" in call:  # a body may name what is not there, too
        found.add("404")
    if "requestBody" in call:
        found.add("413")
    if method != "get":
        found.add("409")
    return found


def _identified(name: str) -> str:
    """Return what a parameter of a path is that is named after what it identifies."""
    thing = name.removesuffix("_id").replace("_", " ")
    return f"The id of {'an' if thing[0] in 'aeiou' else 'a'} {thing}."


_NAMES = {
    "path": "A resource, such as 3303/0/5700, or an instance or an object.",
    "file": "The name at the end of the address in `datafile`.",
    "name": "Which certificate: LWM2M is what the device registers with.",
    "report": "full_report.csv or errors_report.csv.",
    "endpoint_name": "What the device calls itself.",
    "summary_id": "fail, success, info or skipped.",
    "cert_id": "The id of a certificate.",
    "apikey_id": "The id of an API key.",
}

_TEXT = {"type": "string"}


def _error(path: str) -> Object:
    if is_v2(path):
        return {"text/plain": {"schema": _TEXT}}
    return {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
