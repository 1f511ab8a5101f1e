"""What every request passes first: one form of each path, a request id, the key, and a limit on the body.

All of that is settled before the body is read, so that nobody without a key can make the service take one.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pdmlab.service.refusal import Refused
from pdmlab.service.rest.errors import is_v2, problem

if TYPE_CHECKING:
    from pdmlab.service.core import Core

MAX_BODY = 1 << 20  # B of JSON, of a manifest or of a value: v2 allows PUT up to 1 MiB
MAX_UPLOAD = (100 << 20) + (1 << 20)  # B of an image, the vendor's 100 MB, with the form around it

_SLASHES = re.compile(r"/{2,}")
_UPLOADS = re.compile(r"/v3/firmware-images(/upload-jobs/[^/]+/chunks)?")
_WITH_KEY = re.compile(r"/(v2|v3|lab)(/|$)")
_FOR_DEVICES = re.compile(r"/v3/firmware-(images|manifests)/[0-9a-f]{32}/[^/]+")


class Front:
    """An ASGI application in front of another.

    Clients differ in trailing slashes, and one SDK doubles them; none follows a redirect of a POST. So the
    paths are made one here, before anything looks at them.
    """

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app = app
        self._core = core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = _SLASHES.sub("/", scope["path"]).rstrip("/") or "/"
        state = {**scope.get("state", {}), "request_id": secrets.token_hex(16)}
        scope = {**scope, "path": path, "state": state}
        respond = _identified(send, state["request_id"])
        headers = Headers(scope=scope)
        limit = MAX_UPLOAD if scope["method"] == "POST" and _UPLOADS.fullmatch(path) else MAX_BODY
        try:
            if _WITH_KEY.match(path) and not (scope["method"] in ("GET", "HEAD") and _FOR_DEVICES.fullmatch(path)):
                state["key"] = self._key(headers.get("authorization", ""))
            announced = headers.get("content-length", "0")
            if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
                raise _too_large(limit)
        except Refused as refused:
            await _refuse(path, state["request_id"], refused, respond)
            return
        await self._app(scope, _limited(receive, limit), respond)

    def _key(self, authorization: str) -> object:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise Refused(401, "the call carries no API key: Authorization: Bearer ak_…")
        key = self._core.accounts.authenticate(given.strip())
        if key is None:
            raise Refused(401, "the API key is unknown, revoked or not active")
        return key


def _identified(send: Send, request_id: str) -> Send:
    async def respond(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id.encode())]}
        await send(message)

    return respond


def _limited(receive: Receive, limit: int) -> Receive:
    """Count what comes: a body that announced nothing, or lied, is cut off as well."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, _too_large(limit).message)
        return message

    return counted


def _too_large(limit: int) -> Refused:
    return Refused(413, f"the body is larger than {limit} B")


async def _refuse(path: str, request_id: str, error: Refused, send: Send) -> None:
    """Answer before the body is read; the connection is closed, since what is left of it cannot be told apart."""
    if is_v2(path):
        kind, body = b"text/plain; charset=utf-8", error.message.encode()
    else:
        kind, body = b"application/json", json.dumps(problem(error, request_id)).encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
