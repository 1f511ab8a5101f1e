"""What the service answers, as objects or as errors that say what to try."""

from __future__ import annotations

import json
import ssl
from typing import Any

import httpx

from pdmlab.errors import NetworkError, ServiceError, TimedOut, Unreachable

HINT_HEADER = "x-pdmlab-hint"
"""Where our own service says what a v2 token means."""
ID_HEADER = "x-request-id"

Object = dict[str, Any]  # Any: what JSON holds

_HINTS = {
    401: "is the API key one of this service's, and not revoked? pdmlab.serve().api_key is an administrator's",
    403: "this is not allowed to the key, or not in the present state",
    404: "the list of what there is shows the ids that can be used",
    409: "something of that name is there already, or it is not in a state that allows this",
    413: "the service does not take that much at once",
    429: "the device's queue is full: it sleeps, or is off; look at what waits in it",
    503: "the service is shutting down, or the device cannot be reached",
}

_TOKEN_HINTS = {
    "DEVICE_NOT_CONNECTED": "the device is not registered: is the board on, and its client connected?",
    "DEVICE_NOT_FOUND": "cloud.devices() lists what there is",
    "RESOURCE_NOT_FOUND": "device.resources() lists what the device registered",
    "TOO_MANY_REQUESTS": "the device's queue is full; device.queue() shows what waits in it",
}


def no_answer(error: httpx.TransportError, method: str, url: str, timeout: float) -> NetworkError:
    """Return our error for a call without an answer."""
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(f"{method} {url}: no answer in {timeout:.0f} s", hint="is the service busy, or stopped?")
    if is_about_certificates(error):
        return Unreachable(
            f"{method} {url}: {error or type(error).__name__}",
            hint="give ca=, or set PDMLAB_CA: the file with the certificate of the service's CA, service.ca_file",
        )
    return Unreachable(
        f"{method} {url}: {error or type(error).__name__}",
        hint="is the service running? `pdmlab service` or pdmlab.serve() starts one and says its address",
    )


def is_about_certificates(error: BaseException | None) -> bool:
    """Tell whether TLS failed on the way: to try again makes nothing better."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def refused(answer: httpx.Response, what: str) -> ServiceError:
    """Return our error for an answer that is one."""
    return refusal(
        answer.status_code,
        answer.text,
        what,
        answer.headers.get(HINT_HEADER),
        request_id=answer.headers.get(ID_HEADER),
    )


def refusal(
    status: int, text: str, what: str, hint: str | None = None, *, request_id: str | None = None
) -> ServiceError:
    """Return our error for a refusal: JSON in v3, a token in v2; hint: what the service said of it."""
    try:
        problem = json.loads(text)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"message": text.strip()[:200]} if text.strip() else {}
    if request_id:
        problem.setdefault("request_id", request_id)
    said = problem.get("message") or problem.get("type") or "no reason given"
    hint = _TOKEN_HINTS.get(str(said)) or hint or _HINTS.get(status)
    return ServiceError(f"{what}: {status}, {said}", status=status, problem=problem, hint=hint)


def parsed(answer: httpx.Response, what: str) -> Object:
    """Return an answer's JSON object; raise ServiceError if it is none."""
    body = json_of(answer, what)
    if not isinstance(body, dict):
        raise ServiceError(f"{what}: the answer is no object", status=answer.status_code)
    return body


def listed(answer: httpx.Response, what: str) -> list[Object]:
    """Return an answer's JSON array of objects; raise ServiceError if it is none."""
    body = json_of(answer, what)
    if not isinstance(body, list) or not all(isinstance(each, dict) for each in body):
        raise ServiceError(f"{what}: the answer is no list of objects", status=answer.status_code)
    return body


def json_of(answer: httpx.Response, what: str) -> Any:  # what JSON holds
    """Return an answer's JSON; raise ServiceError if it has none."""
    try:
        return answer.json()
    except ValueError as error:
        raise ServiceError(
            f"{what}: the answer is no JSON", status=answer.status_code, hint="is the host a device-management service?"
        ) from error
