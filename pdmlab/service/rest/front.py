"""What every call passes first: one form of each path, a request id, the key and what it may do, limits on the body.

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

from pdmlab.errors import ServiceError
from pdmlab.service import rights
from pdmlab.service.accounts import Key
from pdmlab.service.refusal import Refused
from pdmlab.service.rest.calls import Calls
from pdmlab.service.rest.errors import hint_header, is_v2, problem

if TYPE_CHECKING:
    from pdmlab.service.core import Core

MAX_BODY = 1 << 20  # B of JSON, of a manifest or of a value: v2 allows PUT up to 1 MiB
MAX_UPLOAD = (100 << 20) + (1 << 20)  # B of an image, the vendor's 100 MB, with the form around it
MAX_LIST = (10 << 20) + (1 << 20)  # B of a list of enrollments, the vendor's 10 MB, with the form around it

POLICY_VIOLATION = 1008
"""What a WebSocket is closed with whose key is not good, or not any more."""
TRY_AGAIN_LATER = 1013
"""The same while the database is away."""

_SLASHES = re.compile(r"/{2,}")
_UPLOADS = {
    re.compile(r"/v3/firmware-images(/upload-jobs/[^/]+/chunks)?"): MAX_UPLOAD,
    re.compile(r"/v3/device-enrollments-bulk-(uploads|deletes)"): MAX_LIST,
}
_WITH_KEY = re.compile(r"/(v2|v3|lab)(/|$)")
_FOR_DEVICES = re.compile(r"/v3/firmware-(images|manifests)/[0-9a-f]{32}/[^/]+")
_IN_SUBPROTOCOL = re.compile(r"(?:^|[,\s])pelion_(ak_[A-Za-z0-9_-]{1,200})")


class Front:
    """An ASGI application in front of another.

    Clients differ in trailing slashes, and one SDK doubles them; none follows a redirect of a POST. So the
    paths are made one here, before anything looks at them.
    """

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app = app
        self._core = core
        self._calls = Calls(core.accounts, core.bus)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        path = _SLASHES.sub("/", scope["path"]).rstrip("/") or "/"
        state = {**scope.get("state", {}), "request_id": secrets.token_hex(16)}
        scope = {**scope, "path": path, "state": state}
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        respond = _identified(send, state["request_id"])
        headers = Headers(scope=scope)
        limit = _limit(scope["method"], path)
        try:
            if _WITH_KEY.match(path) and not (scope["method"] in ("GET", "HEAD") and _FOR_DEVICES.fullmatch(path)):
                state["key"] = self._key(_bearer(headers), scope["method"], path)
            if "\0" in path or b"%00" in scope["query_string"]:
                raise _refusal(path, 400, "MALFORMED_REQUEST", "a NUL is in the path or in the query")
            announced = headers.get("content-length", "0")
            if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
                raise _too_large(path, limit)
        except ServiceError as refused:  # Refused, or a database that is away
            await _refuse(path, state["request_id"], refused, respond)
            return
        receive = _limited(receive, path, limit)
        if (key := state.get("key")) is None:
            await self._app(scope, receive, respond)
            return
        with self._calls.of(key, rights.least(scope["method"], path)) as call:
            await self._app(scope, call.receiving(receive), call.sending(respond))
        if call.over and not call.started:
            await _refuse(path, state["request_id"], _refusal(path, 401, *_BAD_KEY), respond)
        elif call.over and not call.finished:
            await send({"type": "http.response.body", "body": b""})

    def _key(self, given: str, method: str, path: str) -> Key:
        """Return the key if it is good, and may do this."""
        if not given:
            raise _refusal(path, 401, "API_KEY_MISSING", "the call carries no API key: Authorization: Bearer ak_…")
        key = self._core.accounts.authenticate(given)
        if key is None:
            raise _refusal(path, 401, *_BAD_KEY)
        least = rights.least(method, path)
        if key.rights < least:
            raise _refusal(path, 403, "ACCESS_DENIED", f"this needs {rights.WANTS[least]}")
        return key

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a WebSocket on whose key is good: in the header, or where browsers can have it, in a subprotocol."""
        headers = Headers(scope=scope)
        found = _IN_SUBPROTOCOL.search(headers.get("sec-websocket-protocol", ""))
        try:
            key = self._key(_bearer(headers) or (found[1] if found else ""), "GET", scope["path"])
        except Refused:
            # Closed after it was opened: before, a client would see a status, and not the code that it looks for.
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        except ServiceError:  # the database is away
            await receive()
            await send({"type": "websocket.close", "code": TRY_AGAIN_LATER})
            return
        scope["state"]["key"] = key
        with self._calls.of(key, rights.least("GET", scope["path"])) as call:
            await self._app(scope, call.receiving(receive, "websocket.disconnect"), call.sending(send))
        if call.over and call.started:
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})


_BAD_KEY = ("INVALID_API_KEY", "the API key is unknown, revoked or not active")


def _bearer(headers: Headers) -> str:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _identified(send: Send, request_id: str) -> Send:
    async def respond(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", request_id.encode())]}
        await send(message)

    return respond


def _limited(receive: Receive, path: str, limit: int) -> Receive:
    """Count what comes: a body that announced nothing, or lied, is cut off as well."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, _too_large(path, limit).message)
        return message

    return counted


def _limit(method: str, path: str) -> int:
    """Return how large a call's body may be (B)."""
    found = (limit for pattern, limit in _UPLOADS.items() if method == "POST" and pattern.fullmatch(path))
    return next(found, MAX_BODY)


def _too_large(path: str, limit: int) -> Refused:
    return _refusal(path, 413, "PAYLOAD_TOO_LARGE", f"the body is larger than {limit} B")


def _refusal(path: str, status: int, token: str, sentence: str) -> Refused:
    """Return a refusal as its interface has it: v2 says a word, and the sentence beside it."""
    return Refused(status, token, hint=sentence) if is_v2(path) else Refused(status, sentence)


async def _refuse(path: str, request_id: str, error: ServiceError, send: Send) -> None:
    """Answer before the body is read; the connection is closed, since what is left of it cannot be told apart."""
    headers = []
    if is_v2(path):
        kind, body = b"text/plain; charset=utf-8", error.message.encode()
        headers += [(name.encode(), value.encode()) for name, value in hint_header(error).items()]
    else:
        kind, body = b"application/json", json.dumps(problem(error, request_id)).encode()
    headers += [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
