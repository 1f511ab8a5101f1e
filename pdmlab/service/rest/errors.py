"""What the REST API says when it cannot do what was asked: JSON for v3, plain-text tokens for v2, never a traceback."""

from __future__ import annotations

import logging
import re
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from pdmlab.errors import ConfigError, ManifestRejected, PdmlabError, ServiceError
from pdmlab.service.engine import conflict
from pdmlab.service.refusal import Refused

_log = logging.getLogger(__name__)

TYPES = {
    400: "bad_request",
    401: "invalid_apikey",
    403: "access_denied",
    404: "not_found",
    405: "method_not_supported",
    406: "not_acceptable",
    409: "duplicate",
    412: "precondition_failed",
    413: "validation_error",
    415: "unsupported_media_type",
    429: "rate_limit_exceeded",
    500: "internal_server_error",
    503: "system_unavailable",
}
"""The vendor's word for each status; 413 has none of its own."""

HINT_HEADER = "x-pdmlab-hint"
"""Header of a v2 error that says what its token means here."""

_FIELDS = 50  # of an error's list
_LONGEST = 1000  # characters of a sentence
_UNFIT = re.compile(r"[^\x20-\x7e]+")  # for a header


class Invalid(Refused):
    """The 400 for wrong fields: (name, message) of each."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        text = "; ".join(f"{name}: {message}" for name, message in fields[:5])
        super().__init__(400, text or "the request is not valid", type="validation_error")
        self.fields = fields


def is_v2(path: str) -> bool:
    """Tell whether a path is one of the older interface, whose errors are plain text."""
    return path == "/v2" or path.startswith("/v2/")


def problem(error: ServiceError, request_id: str) -> dict[str, Any]:
    """Return an error as v3's JSON has it; the hint is part of the sentence."""
    body: dict[str, Any] = {
        "object": "error",
        "code": error.status,
        "type": error.problem.get("type") or TYPES.get(error.status, "bad_request"),
        "message": (f"{error.message} ({error.hint})" if error.hint else error.message)[:_LONGEST],
        "request_id": request_id,
    }
    if isinstance(error, Invalid):
        body["fields"] = [
            {"name": name[:_LONGEST], "message": message[:_LONGEST]} for name, message in error.fields[:_FIELDS]
        ]
    return body


def hint_header(error: ServiceError) -> dict[str, str]:
    """Return the header in which a v2 error has its sentence: the body is the vendor's token alone."""
    return {HINT_HEADER: _UNFIT.sub("?", error.hint[:_LONGEST])} if error.hint else {}


def handle_errors(app: FastAPI) -> None:
    """Let the application turn whatever is raised into an answer of the right shape."""
    # What is wrong with an upload is for its sender, who is told; python-multipart would tell the terminal as well.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    app.add_exception_handler(PdmlabError, _of_ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(sa.exc.IntegrityError, _conflict)
    app.add_exception_handler(Exception, _unexpected)


def _answer(request: Request, error: ServiceError, headers: dict[str, str] | None = None) -> Response:
    if is_v2(request.url.path):
        # The body is the vendor's token alone, which clients compare; the sentence goes beside it.
        return PlainTextResponse(error.message, error.status, {**hint_header(error), **(headers or {})})
    return JSONResponse(problem(error, request.state.request_id), error.status, headers)


async def _of_ours(request: Request, error: Exception) -> Response:
    """Say what the service's own code refused: its sentence, its hint and its status are for the caller."""
    assert isinstance(error, PdmlabError)
    if isinstance(error, ServiceError):
        return _answer(request, error)
    if isinstance(error, ConfigError | ManifestRejected):
        return _answer(request, Refused(400, error.message, type="validation_error", hint=error.hint))
    _log.error("request %s failed", request.state.request_id, exc_info=error)
    return _answer(request, Refused(500, error.message, hint=error.hint))


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    invalid = Invalid(*((".".join(map(str, each["loc"][1:])) or "body", str(each["msg"])) for each in error.errors()))
    if is_v2(request.url.path):
        return _answer(request, Refused(400, "MALFORMED_JSON_CONTENT", hint=invalid.message))
    return _answer(request, invalid)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and is_v2(request.url.path):  # FastAPI, of a body that it cannot read
        return _answer(request, Refused(400, "MALFORMED_JSON_CONTENT", hint="the body is no JSON"))
    token, message = {
        404: ("NOT_FOUND", f"there is no {request.url.path[:200]} here"),
        405: ("METHOD_NOT_ALLOWED", f"{request.method} is no method of {request.url.path[:200]}"),
    }.get(error.status_code, (str(error.detail), str(error.detail)))
    if is_v2(request.url.path):
        return _answer(request, Refused(error.status_code, token, hint=message), dict(error.headers or {}))
    return _answer(request, Refused(error.status_code, message), dict(error.headers or {}))


_CONFLICTS = {401: "INVALID_API_KEY", 404: "DEVICE_NOT_FOUND", 409: "CONFLICT"}
"""v2's tokens for what was made or deleted by another call in the same moment."""


async def _conflict(request: Request, error: Exception) -> Response:
    """Say what another call, perhaps at another process, has done between this one's look and its write."""
    assert isinstance(error, sa.exc.IntegrityError)
    refused = conflict(error)
    if refused is None:
        return await _unexpected(request, error)
    if is_v2(request.url.path):
        return _answer(request, Refused(refused.status, _CONFLICTS[refused.status], hint=refused.message))
    return _answer(request, refused)


async def _unexpected(request: Request, error: Exception) -> Response:
    _log.error("request %s failed", request.state.request_id, exc_info=error)
    return _answer(request, Refused(500, "the service made a mistake; its log has the request id"))
