"""The key's notification channel: /v2/notification."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from pdmlab.errors import ServiceError
from pdmlab.service.channel_table import CALLBACK, LONG_POLLING, WEB_SOCKET, Kind
from pdmlab.service.channels import Channels, Poll
from pdmlab.service.outbox import Batch
from pdmlab.service.refusal import Refused
from pdmlab.service.rest.context import TheCore, TheKey

_log = logging.getLogger(__name__)

router = APIRouter(tags=["Notifications"])

_NONE: dict[int | str, dict[str, Any]] = {404: {"description": "The key has no such channel."}}
_OTHER: dict[int | str, dict[str, Any]] = {400: {"description": "The key has a channel of another kind."}}


class Mechanism(BaseModel):
    """How a channel delivers."""

    delivery_mechanism: Kind


class Webhook(BaseModel):
    """Where a callback's messages go, and the headers that they have; 400 characters together."""

    url: str
    headers: dict[str, str] | None = None


class WebsocketChannel(BaseModel):
    """Whether a key's socket is open, and how many events wait for it."""

    status: Literal["connected", "disconnected"] = "disconnected"
    queueSize: int = 0  # the vendor's name


class NotificationMessage(BaseModel):
    """What has come; lists that would be empty are left out."""

    model_config = ConfigDict(extra="forbid")
    registrations: list[dict[str, Any]] | None = None
    reg_updates: Annotated[list[dict[str, Any]] | None, Field(alias="reg-updates")] = None
    de_registrations: Annotated[list[str] | None, Field(alias="de-registrations")] = None
    registrations_expired: Annotated[list[str] | None, Field(alias="registrations-expired")] = None
    notifications: list[dict[str, Any]] | None = None
    async_responses: Annotated[list[dict[str, Any]] | None, Field(alias="async-responses")] = None


@router.get(
    "/v2/notification/pull",
    summary="Wait for news",
    response_class=Response,
    responses={
        200: {"model": NotificationMessage, "description": "What has come."},
        204: {"description": "Nothing has."},
        **_OTHER,
        409: {"description": "Another poll of the key is open."},
        410: {"description": "The channel was deleted meanwhile."},
    },
)
async def pull(core: TheCore, key: TheKey, request: Request) -> Response:
    """What has come for the key; held until something does. 204 after a while: ask again.

    The first poll opens the channel. It closes when nobody has polled for ten minutes.
    """
    return _Pull(core.channels, key.id, request.app.state.hold_s)


class _Pull(Response):
    """The answer to a poll. Its events are let go once they were sent: those of a service that is killed are kept."""

    def __init__(self, channels: Channels, api_key_id: str, hold_s: float) -> None:
        super().__init__()
        self._channels, self._key, self._hold_s = channels, api_key_id, hold_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._channels.poll(self._key, self._hold_s) as poll:
            waiting = asyncio.ensure_future(poll.next())
            gone = asyncio.ensure_future(_gone(receive))
            try:
                await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                # If nobody is there any more, what comes now is for the next poll.
                batch = None if gone.done() else waiting.result()
                if batch is None:
                    await poll.leave()
                    await Response(status_code=204)(scope, receive, send)
                    return
                await _send(Response(batch.text, media_type="application/json"), send)
                if not gone.done():
                    await self._taken(poll, batch)
            finally:
                waiting.cancel()
                gone.cancel()
                await asyncio.gather(waiting, gone, return_exceptions=True)

    async def _taken(self, poll: Poll, batch: Batch) -> None:
        try:
            await poll.taken(batch)
        except ServiceError as error:
            _log.error("what key %s was told is told again: %s", self._key, error)


async def _send(answer: Response, send: Send) -> None:
    """Send an answer; return when little of it is left that the operating system has not taken."""
    start = {"type": "http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})  # servers wait here until their buffer is low


async def _gone(receive: Receive) -> None:
    """Return when the caller has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


@router.delete("/v2/notification/pull", summary="Close the long poll", response_class=PlainTextResponse)
async def delete_pull(core: TheCore, key: TheKey) -> Response:
    """Close the channel with all that waits in it; an open poll ends with 410. A channel of another kind stays."""
    return PlainTextResponse("REMOVED" if core.channels.delete(key.id, LONG_POLLING) else "ALREADY_DELETED")


@router.get("/v2/notification/channel", summary="Get the channel's kind", responses=_NONE)
async def get_channel(core: TheCore, key: TheKey) -> Mechanism:
    """How the key hears news: LONG_POLLING, CALLBACK or WEB_SOCKET; 404 if it has no channel."""
    kind = core.channels.kind(key.id)
    if kind is None:
        raise Refused(404, "CHANNEL_NOT_FOUND", hint="the first poll opens one; a callback or a websocket is PUT")
    return Mechanism(delivery_mechanism=cast(Kind, kind))


@router.put("/v2/notification/callback", summary="Set a callback", status_code=204)
async def put_callback(core: TheCore, key: TheKey, wanted: Webhook) -> Response:
    """Let news be sent to a URL by HTTP PUT, with the headers given, in the place of the URL that there was.

    The URL is tried first: it has to answer an empty PUT with 200 or 204. Which hosts may be called, the service's
    operator says: this machine's own, and others by PDMLAB_CALLBACK_HOSTS.
    """
    await core.callbacks.register(key.id, wanted.url, wanted.headers or {})
    return Response(status_code=204)


@router.get("/v2/notification/callback", summary="Get the callback", responses=_NONE)
async def get_callback(core: TheCore, key: TheKey) -> Webhook:
    """URL and headers as they were given; 404 if there is no callback."""
    found = core.callbacks.get(key.id)
    if found is None:
        raise _none("callback")
    return Webhook(url=found["url"], headers=found["headers"])


@router.delete("/v2/notification/callback", summary="Delete the callback", status_code=204, responses=_NONE)
async def delete_callback(core: TheCore, key: TheKey) -> Response:
    """Call the URL no more, and drop what waits; 404 if there is no callback."""
    if not core.channels.delete(key.id, CALLBACK):
        raise _none("callback")
    return Response(status_code=204)


@router.put(
    "/v2/notification/websocket",
    summary="Open a websocket channel",
    responses={**_OTHER, 201: {"model": WebsocketChannel, "description": "There was none."}},
)
async def put_websocket(core: TheCore, key: TheKey, response: Response) -> WebsocketChannel:
    """Open the channel: 201, or 200 if there is one. Its socket is …/websocket-connect."""
    new, found = core.websockets.register(key.id)
    response.status_code = 201 if new else 200
    return WebsocketChannel(**found)


@router.get("/v2/notification/websocket", summary="Get the websocket channel", responses=_NONE)
async def get_websocket(core: TheCore, key: TheKey) -> WebsocketChannel:
    """Whether a socket is open, and how many events wait; 404 if there is no such channel."""
    found = core.websockets.status(key.id)
    if found is None:
        raise _none("websocket")
    return WebsocketChannel(**found)


@router.delete("/v2/notification/websocket", summary="Delete the websocket channel", status_code=204, responses=_NONE)
async def delete_websocket(core: TheCore, key: TheKey) -> Response:
    """Close the channel and its socket, and drop what waits; 404 if there is none."""
    if not core.channels.delete(key.id, WEB_SOCKET):
        raise _none("websocket")
    return Response(status_code=204)


def _none(what: str) -> Refused:
    return Refused(404, "CHANNEL_NOT_FOUND", hint=f"this key has no {what}")
