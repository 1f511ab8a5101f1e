"""Calls of the REST API over HTTP, with every failure as an error that says what to try."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from pdmlab import running, settings
from pdmlab.errors import ConfigError, NetworkError, ServiceError, TimedOut, Unreachable

PAGE = 1000  # items asked for at once; the service gives no more
KEY_VARIABLE = "CLOUD_SDK_API_KEY"
HINT_HEADER = "x-pdmlab-hint"
"""Where our own service says what a v2 token means."""

_KEY = re.compile(r"[\x21-\x7e]+")  # what may stand in a header
_WITH_PASSWORD = re.compile(r"([a-z][a-z0-9+.-]*://)?[^/?#]*@", re.I)
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


class Rest:
    """A service's address and a key, and the calls that can be made with them; never shows the key."""

    def __init__(
        self,
        host: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """timeout: what one answer may take (s); transport: another way to the service than a socket."""
        self.host, self._key = find_service(host, api_key)
        self.timeout = timeout
        self._client = httpx.Client(
            base_url=self.host,
            headers=self.headers,
            timeout=timeout,
            transport=transport,
            trust_env=False,  # a proxy has no business between a desk and itself
            verify=self.host.startswith("https:"),  # to make ready for TLS takes 70 ms
        )

    @property
    def headers(self) -> dict[str, str]:
        """What every call carries; it holds the key."""
        return {"Authorization": f"Bearer {self._key}"}

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,  # whatever JSON can hold
        parameters: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        files: Mapping[str, tuple[str, bytes]] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Make a call and return its answer, which is a 2xx.

        Raises:
            ServiceError: the service answered with an error.
            Unreachable, TimedOut: it did not answer.
            ConfigError: it is closed.
        """
        if self._client.is_closed:
            raise ConfigError(f"this Cloud of {self.host} is closed", hint="make another: pdmlab.Cloud(…)")
        try:
            answer = self._client.request(
                method, path, json=body, params=parameters, data=data, files=files, content=content, headers=headers
            )
        except httpx.TransportError as error:
            raise no_answer(error, method, self.host + path, self.timeout) from error
        if not answer.is_success:
            hint = answer.headers.get(HINT_HEADER)
            raise refusal(answer.status_code, answer.text, f"{method} {path}", hint)
        return answer

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """Return the JSON object that GET answers with; raises as `call` does."""
        return parsed(self.call("GET", path, parameters=parameters), f"GET {path}")

    def items(self, path: str, **parameters: str) -> Iterator[dict[str, Any]]:
        """Yield what a list holds, page by page; raises as `call` does."""
        after: dict[str, str] = {}
        while True:
            page = self.get(path, limit=str(PAGE), **parameters, **after)
            yield from page["data"]
            if not page["has_more"] or not page["data"]:
                return
            after = {"after": str(page["data"][-1]["id"])}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __repr__(self) -> str:
        return f"<Rest {self.host}>"


def find_service(host: str | None, api_key: str | None) -> tuple[str, str]:
    """Return host and key: as given, else from the settings, else those of the service that runs here.

    CLOUD_SDK_API_KEY comes last: it may well be another service's.

    Raises:
        ConfigError: one of them is missing or cannot be one.
    """
    known = settings.load(host=host, api_key=api_key)
    address, key = known.text("host").strip().rstrip("/"), known.text("api_key").strip()
    if not address:
        address, its_key = running.nearest() or ("", "")
        key = key or its_key
    key = key or os.environ.get(KEY_VARIABLE, "").strip()
    if not address:
        raise ConfigError(
            "there is no service to ask: the setting host is empty, and none runs here",
            hint="pdmlab.serve() or `pdmlab service` starts one; or set PDMLAB_HOST",
        )
    if _WITH_PASSWORD.match(address):
        raise ConfigError(
            "the host has a user name or a password in it, which would be shown wherever the host is",
            hint="keys go into api_key or PDMLAB_API_KEY; write the host as http://127.0.0.1:8080",
        )
    if not _is_url(address):
        raise ConfigError(f"the host {address!r} is no URL", hint="write it as http://127.0.0.1:8080")
    if not key:
        raise ConfigError(
            f"there is no API key for {address}", hint=f"give api_key=, or set PDMLAB_API_KEY or {KEY_VARIABLE}"
        )
    if not _KEY.fullmatch(key):
        raise ConfigError(
            "the API key has characters that none has", hint="was it copied with a line break or quotation marks?"
        )
    return address, key


def _is_url(address: str) -> bool:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and url.host != ""


def no_answer(error: httpx.TransportError, method: str, url: str, timeout: float) -> NetworkError:
    """Return our error for a call without an answer."""
    if isinstance(error, httpx.TimeoutException):
        return TimedOut(f"{method} {url}: no answer in {timeout:.0f} s", hint="is the service busy, or stopped?")
    return Unreachable(
        f"{method} {url}: {error or type(error).__name__}",
        hint="is the service running? `pdmlab service` or pdmlab.serve() starts one and says its address",
    )


def refusal(status: int, text: str, what: str, hint: str | None = None) -> ServiceError:
    """Return our error for an answer that is one: JSON in v3, a token in v2; hint: what the service said of it."""
    try:
        problem = json.loads(text)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"message": text.strip()[:200]} if text.strip() else {}
    said = problem.get("message") or problem.get("type") or "no reason given"
    hint = _TOKEN_HINTS.get(str(said)) or hint or _HINTS.get(status)
    return ServiceError(f"{what}: {status}, {said}", status=status, problem=problem, hint=hint)


def parsed(answer: httpx.Response, what: str) -> dict[str, Any]:
    """Return an answer's JSON object; raise ServiceError if it is none."""
    try:
        body = answer.json()
    except ValueError as error:
        raise ServiceError(
            f"{what}: the answer is no JSON", status=answer.status_code, hint="is the host a device-management service?"
        ) from error
    if not isinstance(body, dict):
        raise ServiceError(f"{what}: the answer is no object", status=answer.status_code)
    return body
