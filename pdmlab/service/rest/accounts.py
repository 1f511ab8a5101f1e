"""The account and its API keys: /v3/accounts/me and /v3/api-keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pdmlab.service import filters
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.errors import Invalid
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.times import milliseconds, whole_seconds
from pdmlab.service.schema import api_keys
from pdmlab.service.store import Row

router = APIRouter(tags=["Account"])

KEY_FIELDS: dict[str, filters.Kind] = {"key": "text", "owner": "text", "status": "text", "name": "text"}
TEXTS = (
    *("address_line1", "address_line2", "city", "company", "contact", "contract_number", "country"),
    *("customer_number", "email", "end_market", "phone_number", "postal_code", "state"),
)
"""What an account says of itself, beside its display name."""

Status = Literal["ACTIVE", "INACTIVE"]
Id = Annotated[str, StringConstraints(max_length=32)]


class KeyChange(BaseModel):
    """A key as it is wanted."""

    name: str = Field(min_length=1, max_length=100)
    owner: Id | None = None
    status: Status | None = None
    groups: list[Id] | None = None


class AccountChange(BaseModel):
    """What an account may say of itself; what is not there stays, and what is unknown is left out."""

    model_config = ConfigDict(extra="allow")
    display_name: str | None = Field(None, max_length=255)


def shape_account(row: Row, include: str) -> Json:
    """Return an account as the API shows it; include: limits, policies."""
    shown = {
        "object": "account",
        "id": row["id"],
        "status": row["status"],
        "tier": row["tier"],
        "display_name": row["display_name"],
        "etag": "1",
        "aliases": [],
        "created_at": whole_seconds(row["created_at"]),
        "updated_at": whole_seconds(row["updated_at"]),
        **dict.fromkeys(TEXTS, ""),
        **row["fields"],
    }
    wanted = {name.strip() for name in include.split(",")}
    extra: dict[str, Any] = {"limits": {}, "policies": []}
    return shown | {name: value for name, value in extra.items() if name in wanted}


def shape_key(row: Row, key: str | None = None) -> Json:
    """Return a key as the API shows it: whole only in the answer to the call that made it."""
    return {
        "object": "api-key",
        "id": row["id"],
        "account_id": row["account_id"],
        "name": row["name"],
        "key": key or f"{row['key_prefix']}…",
        "owner": row["owner"],
        "status": row["status"],
        "groups": row["groups"],
        "creation_time": milliseconds(row["created_at"]),
        "last_login_time": milliseconds(row["last_login_at"]),
        "created_at": whole_seconds(row["created_at"]),
        "updated_at": whole_seconds(row["updated_at"]),
        "etag": "1",
    }


@router.get("/v3/accounts/me", summary="Get the account")
async def get_account(
    core: TheCore, key: TheKey, include: Annotated[str, Query(description="limits, policies")] = ""
) -> Json:
    """The account that the key belongs to."""
    return shape_account(core.accounts.account(key.account_id), include)


@router.put("/v3/accounts/me", summary="Change the account")
async def put_account(core: TheCore, key: TheKey, change: AccountChange) -> Json:
    """Set what the body names."""
    given = change.model_dump(exclude_unset=True)
    texts = {name: value for name, value in given.items() if name in TEXTS and isinstance(value, str)}
    long = [(name, "at most 255 characters are kept") for name, value in texts.items() if len(value) > 255]
    if long:
        raise Invalid(*long)
    if "display_name" in given:
        texts["display_name"] = given["display_name"]
    return shape_account(core.accounts.update_account(key.account_id, texts), "")


@router.get("/v3/api-keys", summary="List API keys")
async def list_keys(core: TheCore, key: TheKey, page: Page, request: Request) -> Json:
    """Keys of the account, without what makes them keys."""
    where = [api_keys.c.account_id == key.account_id]
    for condition in filters.from_parameters(request.query_params.multi_items(), KEY_FIELDS):
        if condition.field == "key":
            found = core.accounts.authenticate(str(condition.values[0]))
            where.append(api_keys.c.id == (found.id if found is not None else ""))
        else:
            where += filters.where([condition], api_keys)
    return page.select(core.store, api_keys, where, shape_key)


@router.post("/v3/api-keys", summary="Make an API key", status_code=201)
async def post_key(core: TheCore, key: TheKey, wanted: KeyChange) -> Json:
    """Make a key; this answer is the only one that has it whole."""
    row, made = core.accounts.create_key(
        key.account_id,
        wanted.name,
        owner=wanted.owner,
        status=wanted.status or "ACTIVE",
        groups=wanted.groups or (),
    )
    return shape_key(row, made)


@router.get("/v3/api-keys/{key_id}", summary="Get an API key")
async def get_key(core: TheCore, key: TheKey, key_id: str) -> Json:
    """One key; `me` is the key that the call carries."""
    return shape_key(core.accounts.key(key.account_id, key.id if key_id == "me" else key_id))


@router.put("/v3/api-keys/{key_id}", summary="Change an API key")
async def put_key(core: TheCore, key: TheKey, key_id: str, change: KeyChange) -> Json:
    """Set name, owner, status or groups; an INACTIVE key opens nothing."""
    changes = {name: value for name, value in change.model_dump(exclude_unset=True).items() if value is not None}
    return shape_key(core.accounts.update_key(key.account_id, key.id if key_id == "me" else key_id, **changes))


@router.delete("/v3/api-keys/{key_id}", summary="Revoke an API key", status_code=204)
async def delete_key(core: TheCore, key: TheKey, key_id: str) -> Response:
    """Revoke a key for good, with its channel, subscriptions and requests."""
    key_id = key.id if key_id == "me" else key_id
    core.accounts.key(key.account_id, key_id)
    await core.observations.unsubscribe(key_id)
    core.channels.delete(key_id)
    core.accounts.delete_key(key.account_id, key_id)
    return Response(status_code=204)
