"""The key's notification channel: /v2/notification."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from pdmlab.service.refusal import Refused
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json

router = APIRouter(tags=["Notifications"])


@router.get("/v2/notification/pull", summary="Wait for news", response_model=None)
async def pull(core: TheCore, key: TheKey, request: Request) -> Response:
    """What has come for the key; held until something does. 204 after a while: ask again.

    The first poll opens the channel. It closes when nobody has polled for ten minutes.
    """
    poll = asyncio.ensure_future(core.channels.pull(key.id, request.app.state.hold_s))
    gone = asyncio.ensure_future(_gone(request))
    taken = False
    try:
        await asyncio.wait({poll, gone}, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            # Nobody is there any more: what comes now is for the next poll.
            return Response(status_code=204)
        found, taken = poll.result(), True
        return Response(status_code=204) if found is None else JSONResponse(found)
    finally:
        poll.cancel()
        gone.cancel()
        await asyncio.gather(poll, gone, return_exceptions=True)
        if not taken and not poll.cancelled() and poll.exception() is None and (lost := poll.result()):
            # It came in the moment in which the caller went away.
            core.channels.put(key.id, lost)


async def _gone(request: Request) -> None:
    """Return when the caller has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.delete("/v2/notification/pull", summary="Close the channel")
async def delete_pull(core: TheCore, key: TheKey) -> Response:
    """Close the channel with all that waits in it; an open poll ends with 410."""
    return PlainTextResponse("REMOVED" if core.channels.delete(key.id) else "ALREADY_DELETED")


@router.get("/v2/notification/channel", summary="Get the channel's kind")
async def get_channel(core: TheCore, key: TheKey) -> Json:
    """How the key hears news: LONG_POLLING; 404 if it has no channel."""
    kind = core.channels.kind(key.id)
    if kind is None:
        raise Refused(404, "CHANNEL_NOT_FOUND", hint="the first poll opens one")
    return {"delivery_mechanism": kind}
