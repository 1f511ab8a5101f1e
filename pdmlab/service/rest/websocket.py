"""The websocket on which a key hears its news: /v2/notification/websocket-connect."""

from __future__ import annotations

import asyncio
from typing import cast

from fastapi import APIRouter, Response, WebSocket
from fastapi.responses import PlainTextResponse
from starlette.websockets import WebSocketDisconnect

from pdmlab.errors import ServiceError
from pdmlab.service.accounts import Key
from pdmlab.service.core import Core
from pdmlab.service.rest.context import TheKey
from pdmlab.service.websockets import Close

router = APIRouter(tags=["Notifications"])

PATH = "/v2/notification/websocket-connect"
SUBPROTOCOL = "wss"
"""What is agreed on with clients that have the key among the subprotocols: that one is not repeated."""


@router.get(PATH, summary="Open the websocket", status_code=426, responses={101: {"description": "It is open."}})
async def get_websocket(key: TheKey) -> Response:
    """Answer a call that asks for no websocket: 426."""
    return PlainTextResponse("UPGRADE_REQUIRED", 426, {"Upgrade": "websocket", "Connection": "Upgrade"})


@router.websocket(PATH)
async def open_websocket(websocket: WebSocket) -> None:
    """Send the key's news, each NotificationMessage in a text frame of its own; PUT …/websocket comes first.

    The key is in Authorization, or among the subprotocols: `wss, pelion_ak_…`. What the client sends is not looked at.
    """
    core = cast(Core, websocket.app.state.core)
    # A socket that cannot be served is opened first: of a handshake that fails, clients show no reason.
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope["subprotocols"] else None)
    key = cast(Key, websocket.state.key)  # found good before the socket came here (front.py)

    async def send(text: str) -> None:
        await websocket.send_text(text)
        await websocket.send({"type": "websocket.send"})  # the server waits here until its buffer is empty

    serving = asyncio.ensure_future(core.websockets.serve(key.id, send))
    gone = asyncio.ensure_future(_gone(websocket))
    try:
        await asyncio.wait({serving, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not gone.done():
            why = serving.result()
            await websocket.close(why, why.words)
    except WebSocketDisconnect:
        pass  # while something was sent to it: that waits for the next one
    except ServiceError as error:
        await websocket.close(Close.UNEXPECTED, error.message[:100])
    finally:
        serving.cancel()
        gone.cancel()
        await asyncio.gather(serving, gone, return_exceptions=True)


async def _gone(websocket: WebSocket) -> None:
    """Return when the client has closed the socket."""
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass
