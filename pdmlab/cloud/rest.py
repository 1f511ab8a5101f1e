"""Two ways to the REST API over HTTP, one that blocks and one that is awaited, with every failure as an error.

Both have coroutines for their methods; those of the one that blocks never wait (see both.py).
"""

from __future__ import annotations

import asyncio
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import httpx

from pdmlab.cloud.answers import Object, is_about_certificates, listed, no_answer, parsed, refused
from pdmlab.cloud.finding import find_service
from pdmlab.cloud.mailbox import AwaitedMailbox, BlockingMailbox, Mailbox
from pdmlab.errors import ConfigError

PAGE = 1000  # items asked for at once; the service gives no more
AGAIN_S = (0.05, 0.2)
"""Waits before a call is made again: where nothing was connected, or where GET's answer was cut off."""


Kind: TypeAlias = Literal["poll", "websocket"]
"""How a key hears news."""


class Rest(ABC):
    """A service's address and a key, and the calls that can be made with them; never shows the key."""

    blocks: ClassVar[bool]
    """Whether its coroutines never wait."""

    def __init__(
        self, host: str | None, api_key: str | None, *, ca: Path | str | None, timeout: float, channel: Kind
    ) -> None:
        place = find_service(host, api_key, ca)
        self.channel = channel
        self.host, self._key, self.verify = place.host, place.key, place.verify
        self.timeout = timeout

    @property
    def headers(self) -> dict[str, str]:
        """What every call carries; it holds the key."""
        return {"Authorization": f"Bearer {self._key}"}

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait for seconds."""

    @abstractmethod
    def mailbox(self) -> Mailbox:
        """Return a mailbox whose `get` waits in this way."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it is closed."""

    @abstractmethod
    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Make an HTTP call; options are httpx's."""

    async def call(
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
        if self.closed:
            raise ConfigError(f"this Cloud of {self.host} is closed", hint="make another: pdmlab.Cloud(…)")
        options = {"json": body, "params": parameters, "data": data, "files": files, "content": content}
        for wait in (*AGAIN_S, None):
            try:
                answer = await self._send(method, path, headers=headers, **options)
                break
            except httpx.TransportError as error:
                if wait is None or not _may_be_repeated(method, error):
                    raise no_answer(error, method, self.host + path, self.timeout) from error
                await self.sleep(wait)
        if not answer.is_success:
            raise refused(answer, f"{method} {path}")
        return answer

    async def get(self, path: str, **parameters: str) -> Object:
        """Return the JSON object that GET answers with; raises as `call` does."""
        return parsed(await self.call("GET", path, parameters=parameters), f"GET {path}")

    async def get_list(self, path: str, **parameters: str) -> list[Object]:
        """Return the JSON array that GET answers with; raises as `call` does."""
        return listed(await self.call("GET", path, parameters=parameters), f"GET {path}")

    async def post(self, path: str, body: Any = None) -> Object:  # whatever JSON can hold
        """Return the JSON object that POST answers with; raises as `call` does."""
        return parsed(await self.call("POST", path, body=body), f"POST {path}")

    async def put(self, path: str, body: Any) -> Object:  # whatever JSON can hold
        """Return the JSON object that PUT answers with; raises as `call` does."""
        return parsed(await self.call("PUT", path, body=body), f"PUT {path}")

    async def pages(self, path: str, parameters: Mapping[str, str], limit: int | None = None) -> AsyncIterator[Object]:
        """Yield the pages of a list, of at most limit items in all; raises as `call` does."""
        after: dict[str, str] = {}
        while True:
            size = PAGE if limit is None else min(PAGE, max(2, limit))
            page = await self.get(path, **{"limit": str(size), **parameters, **after})
            if limit is not None:
                page["data"] = page["data"][:limit]
                limit -= len(page["data"])
            yield page
            if not page["has_more"] or not page["data"] or limit == 0:
                return
            # Shared keys have no ids; their lists say how to go on.
            after = {"after": str(page.get("continuation_marker") or page["data"][-1]["id"])}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}>"


class Blocking(Rest):
    """The way that blocks until the answer is there."""

    blocks = True

    def __init__(
        self,
        host: str | None = None,
        api_key: str | None = None,
        *,
        ca: Path | str | None = None,
        timeout: float = 30.0,
        channel: Kind = "poll",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """timeout: what one answer may take (s); transport: another way to the service than a socket."""
        super().__init__(host, api_key, ca=ca, timeout=timeout, channel=channel)
        self._client = httpx.Client(
            base_url=self.host,
            headers=self.headers,
            timeout=timeout,
            transport=transport,
            trust_env=False,  # a proxy has no business between a desk and itself
            verify=self.verify,
        )
        weakref.finalize(self, self._client.close)  # notebooks close nothing

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def mailbox(self) -> Mailbox:
        return BlockingMailbox()

    async def close(self) -> None:
        self._client.close()

    @property
    def closed(self) -> bool:
        return self._client.is_closed

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._client.request(method, path, **options)


class Awaited(Rest):
    """The way that is awaited, on the running loop."""

    blocks = False

    def __init__(
        self,
        host: str | None = None,
        api_key: str | None = None,
        *,
        ca: Path | str | None = None,
        timeout: float = 30.0,
        channel: Kind = "poll",
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """timeout: what one answer may take (s); transport: another way to the service than a socket."""
        super().__init__(host, api_key, ca=ca, timeout=timeout, channel=channel)
        self._client = httpx.AsyncClient(
            base_url=self.host,
            headers=self.headers,
            timeout=timeout,
            transport=transport,
            trust_env=False,
            verify=self.verify,
        )

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def mailbox(self) -> Mailbox:
        return AwaitedMailbox()

    async def close(self) -> None:
        await self._client.aclose()

    @property
    def closed(self) -> bool:
        return self._client.is_closed

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self._client.request(method, path, **options)


def _may_be_repeated(method: str, error: httpx.TransportError) -> bool:
    """Tell whether a call can do no harm a second time, and may do better then."""
    if isinstance(error, httpx.ConnectError):
        return not is_about_certificates(error)
    return method == "GET" and not isinstance(error, httpx.TimeoutException | httpx.UnsupportedProtocol)
