"""Pre-shared keys of devices: /v2/device-shared-keys. A key goes in, and never comes out again."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from pdmlab.service.refusal import Refused
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import LEAST, MOST, USUAL, Json
from pdmlab.service.store import Row

router = APIRouter(tags=["Pre-shared keys"])

NAME = re.compile(r"[ -~]{16,64}")
SECRET = re.compile(r"(?:0[xX])?((?:[0-9a-fA-F]{2}){16,32})")
_BAD_NAME = "an endpoint name has 16 to 64 printable ASCII characters, and begins and ends with no space"
_BAD_SECRET = "a secret has 32 to 64 hex digits, two for each of its bytes"

EndpointName = Annotated[str, Path(description="The endpoint name that the key is for.")]


class NewSharedKey(BaseModel):
    """A key, and the endpoint that has it."""

    endpoint_name: str = Field(description="16 to 64 printable ASCII characters; nobody else's, of any account.")
    secret_hex: str = Field(description="32 to 64 hex digits, with or without 0x before them.", repr=False)


def shape(row: Row) -> Json:
    """Return a key as the API shows it: without what makes it one."""
    return {"endpoint_name": row["identity"], "created_at": row["created_at"]}


@router.get("/v2/device-shared-keys", summary="List pre-shared keys")
async def list_keys(
    core: TheCore,
    key: TheKey,
    limit: Annotated[str, Query(description="Items on a page: 2 to 1000.")] = "",
    after: Annotated[str, Query(description="The continuation_marker of the page before.")] = "",
) -> Json:
    """Pre-shared keys of the account, without the keys, the oldest first; a page that is not the last has a marker."""
    number = USUAL
    if limit:
        if not (limit.isascii() and limit.isdigit() and LEAST <= int(limit[:9]) <= MOST):
            raise Refused(400, "INVALID_LIMIT", hint=f"{LEAST} to {MOST} items are on a page")
        number = int(limit)
    rows = core.shared_keys.list(key.account_id, number + 1, _read_marker(after) if after else None)
    page = {
        "object": "list",
        "data": [shape(row) for row in rows[:number]],
        "limit": number,
        "order": "ASC",
        "has_more": len(rows) > number,
    }
    if after:
        page["after"] = after
    return page | {"continuation_marker": _marker(rows[number - 1])} if len(rows) > number else page


@router.post("/v2/device-shared-keys", summary="Give a device a pre-shared key", status_code=201)
async def post_key(core: TheCore, key: TheKey, wanted: NewSharedKey) -> Response:
    """Let a device bootstrap and register by a key. One that is there is not replaced: delete it first."""
    secret = SECRET.fullmatch(wanted.secret_hex)
    wrong = [] if _is_name(wanted.endpoint_name) else [("INVALID_ENDPOINT_NAME", _BAD_NAME)]
    wrong += [] if secret is not None else [("INVALID_SECRET_HEX", _BAD_SECRET)]
    if wrong or secret is None:
        raise Refused(400, ",".join(token for token, _ in wrong), hint="; ".join(hint for _, hint in wrong))
    try:
        core.shared_keys.create(key.account_id, wanted.endpoint_name, bytes.fromhex(secret[1]))
    except Refused as refused:
        if refused.status != 409:
            raise
        hint = "delete it first; an endpoint name is one account's alone"
        raise Refused(409, "KEY_ALREADY_EXISTS_FOR_ENDPOINT", hint=hint) from refused
    return Response(status_code=201)


@router.get("/v2/device-shared-keys/{endpoint_name}", summary="Get whether a device has a pre-shared key")
async def get_key(core: TheCore, key: TheKey, endpoint_name: EndpointName) -> Json:
    """That there is a key, and since when; not the key."""
    _check(endpoint_name)
    try:
        return shape(core.shared_keys.find(key.account_id, endpoint_name))
    except Refused as refused:
        raise Refused(404, "KEY_NOT_FOUND", hint=refused.message) from refused


@router.delete("/v2/device-shared-keys/{endpoint_name}", summary="Delete a pre-shared key", status_code=204)
async def delete_key(core: TheCore, key: TheKey, endpoint_name: EndpointName) -> Response:
    """Disconnect whoever has the key, and let nobody in by it; that there is none is no error."""
    _check(endpoint_name)
    try:
        core.shared_keys.remove(key.account_id, endpoint_name)
    except Refused as refused:
        if refused.status != 404:
            raise
    return Response(status_code=204)


def _is_name(name: str) -> bool:
    return NAME.fullmatch(name) is not None and name == name.strip()


def _check(name: str) -> None:
    # Keys that were given to service.psk() may have shorter names, and longer ones.
    if not name.isascii() or not name.isprintable() or len(name) > 128:
        raise Refused(400, "INVALID_ENDPOINT_NAME", hint=_BAD_NAME)


def _marker(row: Row) -> str:
    """Return what asks for the keys behind a row."""
    return base64.urlsafe_b64encode(f"{row['created_at']} {row['identity']}".encode()).decode().rstrip("=")


def _read_marker(text: str) -> tuple[str, str]:
    try:
        at, found, identity = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").partition(" ")
    except (binascii.Error, ValueError):
        at = found = identity = ""
    if not found or not identity.isprintable() or not re.fullmatch(r"[0-9T:.Z-]{20,27}", at):
        raise Refused(400, "TOKEN_NOT_FOUND", hint="after is the continuation_marker of the page before")
    return at, identity
