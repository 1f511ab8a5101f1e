"""The two ways in which a key hears news, on the loop of its channel: by long polls, and by a websocket."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import Any, Protocol

import httpx

from pdmlab.cloud.answers import ID_HEADER, no_answer, refusal, refused
from pdmlab.cloud.mailbox import Event
from pdmlab.cloud.resubscribing import Call
from pdmlab.errors import PdmlabError, ServiceError, Unreachable

HOLD_S = 90.0
"""How long a poll may be held before the service is thought dead; it answers every 30 s or so."""
PULL = "/v2/notification/pull"
WEBSOCKET = "/v2/notification/websocket"
MAX_MESSAGE = 64 << 20  # B: the service keeps 50 MB for a channel

SHARED = (
    "another program polls with the same key, and may get what was meant for this one: give each a key of its own, "
    "such as cloud.create_api_key('mine')"
)
_CLOSED = {
    1001: "another websocket has taken the key's channel over",
    1008: "the API key is not, or no longer, good",
    1011: "the channel is gone",
}

CALL_S = 10.0

Deliver = Callable[[dict[str, list[Event]]], None]


def caller(client: httpx.AsyncClient) -> Call:
    """Return what makes other calls than those that wait for news."""

    async def call(method: str, path: str) -> httpx.Response:
        try:
            answer = await client.request(method, path, timeout=CALL_S)
        except httpx.TransportError as error:
            raise no_answer(error, method, f"{client.base_url}{path[1:]}", CALL_S) from error
        if not answer.is_success:
            raise refused(answer, f"{method} {path}")
        return answer

    return call


class Ear(Protocol):
    """A way of hearing; `listen` returns when it has heard all that came for now, or what went wrong."""

    async def listen(self, client: httpx.AsyncClient, deliver: Deliver) -> PdmlabError | None:
        """Hear once, and deliver every message; return why no more came, None if all is well."""
        ...

    async def leave(self, client: httpx.AsyncClient) -> None:
        """Tell the service that nobody listens any more, where it has to be told."""
        ...


class Poll:
    """A GET that the service holds until something has come."""

    async def listen(self, client: httpx.AsyncClient, deliver: Deliver) -> PdmlabError | None:
        try:
            answer = await client.get(PULL)
        except httpx.TransportError as error:
            return no_answer(error, "GET", f"{client.base_url}{PULL[1:]}", HOLD_S)
        if answer.status_code == 200:
            try:
                deliver(answer.json())
            except (ValueError, AttributeError, KeyError, TypeError):
                return ServiceError(f"GET {PULL}: the answer is no notification message", status=200)
            return None
        if answer.is_success:
            return None
        said = refused(answer, f"GET {PULL}")
        if answer.status_code == 409:
            said.hint = SHARED
        return said

    async def leave(self, client: httpx.AsyncClient) -> None:
        """Nothing: a poll that is given up leaves the key's channel to the next one."""


class Websocket:
    """A websocket on which messages come by themselves."""

    def __init__(self, headers: dict[str, str], verify: ssl.SSLContext | bool) -> None:
        self._headers, self._verify = headers, verify

    async def listen(self, client: httpx.AsyncClient, deliver: Deliver) -> PdmlabError | None:
        try:
            answer = await client.put(WEBSOCKET)
        except httpx.TransportError as error:
            return no_answer(error, "PUT", f"{client.base_url}{WEBSOCKET[1:]}", 10.0)
        if not answer.is_success:
            return refused(answer, f"PUT {WEBSOCKET}")
        return await self._heard(client.base_url, deliver)

    async def _heard(self, base: httpx.URL, deliver: Deliver) -> PdmlabError:
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

        url = str(base.copy_with(scheme="wss" if base.scheme == "https" else "ws", path=f"{WEBSOCKET}-connect"))
        options: dict[str, Any] = {"additional_headers": self._headers, "max_size": MAX_MESSAGE, "proxy": None}
        if base.scheme == "https":
            options["ssl"] = self._verify
        try:
            async with connect(url, **options) as socket:
                async for message in socket:
                    deliver(json.loads(message))
        except ConnectionClosed:
            pass
        except InvalidStatus as error:
            answer = error.response
            return refusal(
                answer.status_code,
                (answer.body or b"").decode("utf-8", "replace"),
                f"GET {WEBSOCKET}-connect",
                request_id=answer.headers.get(ID_HEADER),
            )
        except (ValueError, AttributeError, KeyError, TypeError):
            return ServiceError(f"{url}: what came is no notification message", status=200)
        except (OSError, WebSocketException) as error:
            return Unreachable(f"{url}: {error}", hint="is the service running?")
        return _ended(url, socket.close_code)

    async def leave(self, client: httpx.AsyncClient) -> None:
        """Close the channel: as long as it is there, the key cannot poll."""
        try:
            await client.delete(WEBSOCKET)
        except httpx.TransportError:
            pass  # then the service is gone, or closes it by itself


def _ended(url: str, code: int | None) -> PdmlabError:
    """Return what the end of a websocket means."""
    said = _CLOSED.get(code or 0)
    if said is None:
        return Unreachable(f"{url}: the service closed the websocket ({code})")
    return ServiceError(f"{url}: {said}", status={1008: 401, 1011: 404}.get(code or 0, 409), hint=SHARED)
