"""Calls of a service's REST API with one key, on the page's loop; every failure is an error that says what to try."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from pdmlab.cloud.answers import HINT_HEADER, no_answer, refusal
from pdmlab.errors import PdmlabError, ServiceError

TIMEOUT_S = 20.0
"""What one answer of the service may take; a poll for news has a time of its own."""


class Api:
    """A service's address and a key.

    away_since  when the service was first not reached (Unix s, host clock); None while it answers
    trouble     why it was not reached, in words
    """

    def __init__(self, url: str, key: str, ca: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self.away_since: float | None = None
        self.trouble = ""
        verify: ssl.SSLContext | bool = False
        if self.url.startswith("https:"):
            verify = ssl.create_default_context(cafile=None if ca is None else str(ca))
        self._client = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(TIMEOUT_S, pool=None),
            limits=httpx.Limits(max_connections=200, max_keepalive_connections=20),
            trust_env=False,  # a proxy has no business between a desk and itself
            verify=verify,
        )

    def __repr__(self) -> str:
        return f"<Api {self.url}>"

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,  # whatever JSON can hold
        params: dict[str, str] | None = None,
        data: dict[str, str] | None = None,
        files: dict[str, tuple[str, bytes]] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Make a call and return its answer, which is a 2xx.

        Raises:
            ServiceError: the service answered with an error.
            Unreachable, TimedOut: it did not answer.
        """
        try:
            answer = await self._client.request(
                method,
                path,
                json=json,
                params=params,
                data=data,
                files=files,
                timeout=httpx.USE_CLIENT_DEFAULT if timeout is None else httpx.Timeout(10.0, read=timeout),
            )
        except httpx.TransportError as error:
            raise self._away(error, method, path) from error
        except RuntimeError as error:  # httpx, of a client that is closed
            raise ServiceError("you have signed out meanwhile", status=401) from error
        self.away_since, self.trouble = None, ""
        if not answer.is_success:
            raise refusal(answer.status_code, answer.text, f"{method} {path}", answer.headers.get(HINT_HEADER))
        return answer

    async def get(self, path: str, **params: str | int) -> Any:  # Any: whatever JSON can hold
        """Return the JSON that GET answers with; raises as `call` does."""
        answer = await self.call("GET", path, params={name: str(value) for name, value in params.items()})
        try:
            return answer.json()
        except ValueError as error:
            raise ServiceError(
                f"GET {path}: the answer is no JSON", status=200, hint="is the address a device-management service's?"
            ) from error

    async def lines(self, path: str, **params: str | int) -> AsyncIterator[str]:
        """Yield the lines of a stream of events until it ends; raises as `call` does."""
        given = {name: str(value) for name, value in params.items()}
        try:
            async with self._client.stream("GET", path, params=given, timeout=httpx.Timeout(10.0, read=60.0)) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise refusal(answer.status_code, answer.text, f"GET {path}")
                async for line in answer.aiter_lines():
                    yield line
        except httpx.TransportError as error:
            raise self._away(error, "GET", path) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _away(self, error: httpx.TransportError, method: str, path: str) -> PdmlabError:
        wrapped = no_answer(error, method, self.url + path, TIMEOUT_S)
        if self.away_since is None:
            self.away_since = time.time()
        self.trouble = wrapped.message
        return wrapped
