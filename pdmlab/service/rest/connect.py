"""Devices asked one by one: /v2/device-requests and /v2/endpoints. Answers come on the key's channel."""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from pdmlab.service.accounts import Key
from pdmlab.service.asking import split_uri
from pdmlab.service.core import Core
from pdmlab.service.refusal import Refused
from pdmlab.service.register import Registration
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.values import format_name

router = APIRouter(tags=["Connect"])


class AsyncId(BaseModel):
    """What an answer that comes on the channel will be called."""

    async_response_id: str = Field(alias="async-response-id")


_STATUS = {"RESOURCE_NOT_FOUND": 404, "TOO_MANY_REQUESTS": 429, "UNSUPPORTED_CONTENT_TYPE": 415}
"""What the older calls answer where /v2/device-requests has 400."""
_NO_FORMAT = ("application/x-www-form-urlencoded", "application/json")
"""What clients put in when they were told nothing: no content format of a device."""

CacheOnly = Annotated[bool, Query(alias="cacheOnly", description="Do not ask the device.")]
NoResponse = Annotated[bool, Query(alias="noResp", description="Want no answer: 204; 409 in queue mode.")]


_ANY = ("", "*/*")  # of the formats that an answer can have

ASKED: dict[int | str, dict[str, Any]] = {
    202: {"model": AsyncId, "description": "The answer will come under this id, on the key's channel."},
    204: {"description": "noResp: it is on its way."},
    409: {"description": "noResp: the device is in queue mode, or on TCP."},
    410: {"description": "The device is not registered."},
    415: {"description": "Devices know no such content type."},
    429: {"description": "Twenty requests wait for the device already."},
    502: {"description": "The device's TCP or TLS connection has ended."},
    503: {"description": "noResp: the device cannot be reached."},
}


_CHANGE: dict[str, Any] = {
    "response_model": None,
    "status_code": 202,
    "responses": ASKED,
    "openapi_extra": {
        "requestBody": {
            "description": "The value, in the format that Content-Type says.",
            "content": {"text/plain": {"schema": {"type": "string", "maxLength": 1 << 20}}},
        }
    },
}


class DeviceRequest(BaseModel):
    """A request to a device."""

    method: str = Field(examples=["GET"], description="GET, PUT, POST or DELETE.")
    uri: str = Field(examples=["/3/0/0"], description="The path; a PUT may have notification rules in its query.")
    accept: str | None = Field(None, description="The format that the answer is to have; as it comes, otherwise.")
    content_type: str | None = Field(None, alias="content-type")
    payload: str | None = Field("", alias="payload-b64", description="In base64.")


class Endpoint(BaseModel):
    """A registered device."""

    name: str
    type: str
    status: str = "ACTIVE"
    q: bool


class Resource(BaseModel):
    """A path that a device has listed."""

    uri: str
    rt: str
    obs: bool
    type: str = ""


@router.post("/v2/device-requests/{device_id}", summary="Ask a device", status_code=202)
async def post_request(
    core: TheCore,
    key: TheKey,
    device_id: str,
    wanted: DeviceRequest,
    async_id: Annotated[str, Query(alias="async-id", description="Names the answer: 1 to 40 of A-Za-z0-9_-")] = "",
    retry: Annotated[int, Query(ge=0, le=1000, description="Tries after a time-out.")] = 0,
    expiry_seconds: Annotated[
        int | None, Query(alias="expiry-seconds", ge=1, le=1 << 31, description="How long it may wait (s).")
    ] = None,
) -> Response:
    """Queue a request; its answer comes on the key's channel as the async-response of this id."""
    try:
        payload = base64.b64decode(wanted.payload or "", validate=True)
    except (ValueError, binascii.Error):
        raise Refused(400, "MALFORMED_JSON_CONTENT", hint="payload-b64 is no base64") from None
    await core.requests.submit(
        key.id,
        device_id,
        async_id,
        wanted.method.upper(),
        wanted.uri,
        payload,
        wanted.content_type,
        expiry_seconds,
        retry=retry,
        accept=None if wanted.accept in _ANY else wanted.accept,
    )
    return Response(status_code=202)


@router.get("/v2/endpoints", summary="List registered devices")
async def list_endpoints(
    core: TheCore, key: TheKey, type: Annotated[str, Query(description="Only of this endpoint type.")] = ""
) -> list[Endpoint]:
    """Registered devices of the account; an older list than /v3/devices."""
    return [
        Endpoint(name=each.device_id, type=each.endpoint_type, q=each.queue_mode)
        for each in core.registrations
        if each.account_id == key.account_id and type in ("", each.endpoint_type)
    ]


@router.get("/v2/endpoints/{device_id}", summary="List a device's resources")
async def list_resources(core: TheCore, key: TheKey, device_id: str) -> list[Resource]:
    """What the device listed when it registered; 404 if it is not registered."""
    if _registration(core, key, device_id) is None:
        raise Refused(404, "DEVICE_NOT_FOUND", hint=f"the device {device_id} is not registered")
    return [
        Resource(uri=row["path"], rt=row["rt"], obs=bool(row["observable"])) for row in core.resources.list(device_id)
    ]


@router.get(
    "/v2/endpoints/{device_id}/{path:path}",
    summary="Read a resource",
    response_model=None,
    responses={
        **ASKED,
        200: {
            "description": "The value, from the cache.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
            "headers": {"Cache-Control": {"description": "How long it is good, as max-age (s)."}},
        },
        205: {"description": "cacheOnly: the service does not know the value."},
    },
)
async def get_resource(
    core: TheCore,
    key: TheKey,
    device_id: str,
    path: str,
    cache_only: CacheOnly = False,
    no_response: NoResponse = False,
) -> Response:
    """The value, if the service knows it (200); else the id of the answer that will come (202)."""
    _reachable(core, key, device_id)
    row = core.resources.get(device_id, str(split_uri(path)[0]))
    if row is not None and row["value"] is not None:
        left = None if row["value_expires"] is None else int(row["value_expires"] - core.now())
        # A value without an end came with the registration; it is kept fresh only if the device notifies by itself.
        if (left is None and (row["aobs"] is not None or cache_only)) or (left is not None and left > 0):
            headers = {"Cache-Control": f"max-age={60 if left is None else left}"}
            return Response(bytes(row["value"]), media_type=format_name(row["content_format"]), headers=headers)
    if cache_only:
        return Response(status_code=205)
    return await _ask(core, key, device_id, "GET", path, b"", None, no_response)


@router.put("/v2/endpoints/{device_id}/{path:path}", summary="Write a resource", **_CHANGE)
@router.post("/v2/endpoints/{device_id}/{path:path}", summary="Execute a resource", **_CHANGE)
@router.delete("/v2/endpoints/{device_id}/{path:path}", summary="Delete a resource", **_CHANGE)
async def change_resource(
    core: TheCore, key: TheKey, device_id: str, path: str, request: Request, no_response: NoResponse = False
) -> Response:
    """Send the body to the device; answers with the id of the answer that will come (202)."""
    _reachable(core, key, device_id)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    content_type = None if kind in _NO_FORMAT else kind or None
    # Attributes of notifications come as the call's query, as they do on CoAP.
    query = "&".join(f"{name}={value}" for name, value in request.query_params.multi_items() if name != "noResp")
    uri = f"{path}?{query}" if query else path
    return await _ask(core, key, device_id, request.method, uri, await request.body(), content_type, no_response)


def _registration(core: Core, key: Key, device_id: str) -> Registration | None:
    """Return the registration of a device of the key's account, if it has one; raise Refused (404) for others."""
    if core.directory.account_of(device_id) != key.account_id:
        raise Refused(404, "DEVICE_NOT_FOUND", hint=f"this account has no device {device_id[:64]}")
    return core.registrations.find(device_id)


def _reachable(core: Core, key: Key, device_id: str) -> None:
    """Raise Refused if a device cannot be asked, and is not to be waited for."""
    registration = _registration(core, key, device_id)
    if registration is None:
        raise Refused(410, "DEVICE_NOT_REGISTERED", hint="POST /v2/device-requests would wait until it is")
    if registration.lost_at is not None and not registration.queue_mode:
        raise Refused(502, "DEVICE_NOT_CONNECTED", hint=core.delivery.obstacle(device_id))


async def _ask(
    core: Core,
    key: Key,
    device_id: str,
    method: str,
    path: str,
    payload: bytes,
    content_type: str | None,
    no_response: bool,
) -> Response:
    async_id = secrets.token_hex(16)
    try:
        if no_response:
            core.unanswered.tell(device_id, method, f"/{path.lstrip('/')}", payload, content_type)
            return Response(status_code=204)
        await core.requests.submit(
            key.id,
            device_id,
            async_id,
            method,
            f"/{path.lstrip('/')}",
            payload,
            content_type,
            ends_with_registration=True,
        )
    except Refused as refused:
        raise Refused(_STATUS.get(refused.message, refused.status), refused.message, hint=refused.hint) from refused
    return PlainTextResponse(f'{{"async-response-id":"{async_id}"}}', 202, media_type="application/json")
