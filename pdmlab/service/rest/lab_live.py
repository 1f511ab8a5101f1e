"""The service as one looks at it: a device's messages while they pass, or as a capture, and where the service is."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from pdmlab.capture import DeviceLog, LoggedMessage
from pdmlab.errors import ServiceError
from pdmlab.service.core import Core
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json

router = APIRouter(prefix="/lab", tags=["Lab"])

POLLS = 12
"""A stream lasts no longer than so many polls are held: who follows asks again."""
CAPTURE = "application/x-pcapng"


@router.get("/log/{device_id}/live", summary="Follow a device's CoAP messages", response_class=StreamingResponse)
async def follow_log(
    core: TheCore,
    key: TheKey,
    request: Request,
    device_id: str,
    after: Annotated[int, Query(ge=-1, description="Begin after this `number`.")] = -1,
    limit: Annotated[int, Query(ge=0, le=10_000, description="Of those that are past, the latest.")] = 200,
    seconds: Annotated[float, Query(ge=0, le=300, description="How long to follow it (s), then ask again.")] = 300.0,
    last: Annotated[str, Header(alias="Last-Event-ID", description="As `after`: a browser's, as it comes back.")] = "",
) -> StreamingResponse:
    """Server-sent events: a row of the log each, with its `number` as id. First what is past, then what passes.

    503 when as many follow already as the service has time for.
    """
    if last.isascii() and last.isdigit():
        after = max(after, int(last[:18]))
    if core.directory.find(device_id, key.account_id) is None:
        raise not_found("device", device_id)
    if core.live.full:
        raise Refused(503, "too many follow the log just now", hint="close a view of it, or poll /lab/log")
    return StreamingResponse(
        _events(core, device_id, after, limit, min(seconds, POLLS * request.app.state.hold_s)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store"},
    )


async def _events(core: Core, device_id: str, after: int, limit: int, seconds: float) -> AsyncIterator[str]:
    yield ": the log begins\n\n"  # so that the caller has its answer, however quiet the device is
    async with core.live.follow(device_id, seconds) as follower:
        if core.log is not None and limit:
            past = await asyncio.to_thread(core.log.of_device(device_id).since(after + 1).rows)
            for row in past[-limit:]:
                after = row.number
                yield _event(row)
        async for passed in follower:
            if passed is None:
                yield ": nothing new\n\n"
            elif passed.number > after:
                yield _event(passed)


def _event(row: LoggedMessage) -> str:
    return f"id: {row.number}\ndata: {json.dumps(asdict(row), separators=(',', ':'))}\n\n"


@router.get("/log/{device_id}/capture", summary="Get a device's messages as a capture", response_class=Response)
async def get_capture(core: TheCore, key: TheKey, device_id: str) -> Response:
    """A pcapng file for Wireshark: the messages as plain CoAP, whatever secured them; secrets are overwritten."""
    if core.directory.find(device_id, key.account_id) is None:
        raise not_found("device", device_id)
    if core.log is None:
        raise Refused(404, "this service keeps no log of messages")
    data = await asyncio.to_thread(_capture, core.log.of_device(device_id))
    return Response(
        data, media_type=CAPTURE, headers={"Content-Disposition": f'attachment; filename="{device_id}.pcapng"'}
    )


def _capture(messages: DeviceLog) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pdmlab-") as folder:
        return messages.save(Path(folder) / "capture.pcapng").read_bytes()


@router.get("/service", summary="Get where the service is")
async def get_service(core: TheCore, key: TheKey) -> Json:
    """The addresses that devices of the account come to, with and without security (null: not opened), and the
    certificate of the CA that signs them (PEM)."""
    servers: dict[str, str | None] = {}
    for role in ("bootstrap", "lwm2m"):
        for secure in (True, False):
            try:
                uri = core.uri(role, secure=secure, account_id=key.account_id)
            except ServiceError:
                uri = None
            servers[role if secure else f"plain_{role}"] = uri
    return {
        "account_id": key.account_id,
        **servers,
        "images": core.firmware.url,
        "page": core.page_url,
        "ca_certificate": core.pki.pem.decode(),
        "time": core.store.timestamp(),
    }
