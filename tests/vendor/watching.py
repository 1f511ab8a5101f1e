"""Every answer of a service in the tests is held against the vendor's description: status, fields and types."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from pdmlab.service.rest import app, front
from tests.vendor.description import find, problems

ALSO = {("PUT /v2/endpoints/{device-id}/{resourcePath}", 204), ("POST /v2/endpoints/{device-id}/{resourcePath}", 204)}
"""Statuses that the description leaves out: with noResp there is nothing to wait for, as its GET has it."""

_found: list[str] = []


def judge(method: str, path: str, status: int, kind: str, body: bytes) -> list[str]:
    """Return what in an answer is not as the vendor describes it; nothing for what the vendor does not have."""
    operation = find(method, path)
    if operation is None or not operation.answers or not 200 <= status < 300:
        return []
    said = f"{method} {path}: {status}"
    if (operation.name, status) in ALSO:
        return []
    if str(status) not in operation.answers:
        return [f"{said} is none of {', '.join(operation.answers)}"]
    shape = operation.answers[str(status)]
    if shape is None or not body or "json" not in kind:
        return []
    return [f"{said}: answer{each}" for each in problems(json.loads(body), shape)]


class Watched:
    """The application in front of which it stands, listened to."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._front = front.Front(*arguments, **options)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(("/v2/", "/v3/")):
            await self._front(scope, receive, send)
            return
        start: dict[str, Any] = {}
        parts: list[bytes] = []

        async def listening(message: Any) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    kind = dict(start["headers"]).get(b"content-type", b"").decode()
                    _found.extend(judge(scope["method"], scope["path"], start["status"], kind, b"".join(parts)))
            await send(message)

        await self._front(scope, receive, listening)


@pytest.fixture(scope="session", autouse=True)
def watched() -> Iterator[None]:
    """Listen to every service that the tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "Front", Watched)
        yield


@pytest.fixture(autouse=True)
def answers_as_the_vendor_has_them(watched: None) -> Iterator[None]:
    """Fail the test in which an answer was another than the vendor describes."""
    _found.clear()
    yield
    different, _found[:] = list(dict.fromkeys(_found)), []
    assert not different, "\n".join(different)
