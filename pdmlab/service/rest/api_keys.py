"""API keys: /v3/api-keys, and the groups that they are in."""

from __future__ import annotations

from typing import Annotated, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from pdmlab.service import filters
from pdmlab.service.accounts import Key, hash_of
from pdmlab.service.core import Core
from pdmlab.service.refusal import Refused
from pdmlab.service.rest.context import TheAccount, TheCore, TheKey
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.groups import GroupId, Id, Ids, page_of_groups, updated
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.texts import Text
from pdmlab.service.rest.times import milliseconds, whole_seconds
from pdmlab.service.rights import Rights
from pdmlab.service.schema import api_keys, key_groups
from pdmlab.service.store import Row

own = APIRouter(tags=["API keys"])
"""The key that the call carries."""
router = APIRouter(tags=["API keys"])
"""Keys of an account."""

FIELDS: dict[str, filters.Kind] = {"key": "text", "owner": "text", "status": "text", "name": "text"}

KeyId = Annotated[str, Path(description="The id of an API key.")]


class WantedKey(BaseModel):
    """A key as it is wanted."""

    name: Text = Field(min_length=1, max_length=100)
    owner: Id | None = Field(None, description="The id of a user; of a new key, the owner of the key that makes it.")
    status: Literal["ACTIVE", "INACTIVE"] | None = Field(None, description="An INACTIVE key opens nothing.")
    groups: Ids | None = Field(None, description="The ids of its groups; a new key without is a developer's.")


def shape(row: Row, groups: list[str], key: str | None = None) -> Json:
    """Return a key as the API shows it: whole only in the answer to the call that made it."""
    return {
        "object": "api-key",
        "id": row["id"],
        "account_id": row["account_id"],
        "name": row["name"],
        "key": key or row["key_prefix"],
        "owner": row["owner"],
        "status": row["status"],
        "groups": groups,
        "creation_time": milliseconds(row["created_at"]),
        "last_login_time": milliseconds(row["last_login_at"]),
        "created_at": whole_seconds(row["created_at"]),
        "updated_at": whole_seconds(row["updated_at"]),
        "etag": "1",
    }


def shown(core: Core, row: Row, key: str | None = None) -> Json:
    """Return a key with its groups as the API shows it."""
    groups = core.accounts.groups.of_members(row["account_id"], "key", row["id"])
    return shape(row, groups.get(row["id"], []), key)


# -- the key that the call carries -----------------------------------------------------------------------------------


@own.get("/v3/api-keys/me", summary="Get the call's own API key")
async def get_own_key(core: TheCore, key: TheKey) -> Json:
    """The key that the call carries, without what makes it a key."""
    return shown(core, core.accounts.key(key.account_id, key.id))


@own.put("/v3/api-keys/me", summary="Change the call's own API key")
async def put_own_key(core: TheCore, key: TheKey, change: WantedKey) -> Json:
    """Set its name. Owner, status and groups are for administrators: a key gives itself no rights."""
    if key.rights < Rights.ADMINISTRATOR:
        now = shown(core, core.accounts.key(key.account_id, key.id))
        for name in ("owner", "status", "groups"):
            wanted = getattr(change, name)
            if wanted is not None and (sorted(wanted) if name == "groups" else wanted) != now[name]:
                raise Refused(403, f"a key does not change its own {name}", hint="an administrator's key does")
    return await _changed(core, key.account_id, key.id, change)


@own.get("/v3/api-keys/me/groups", summary="List the groups of the call's own API key")
async def list_own_groups(core: TheCore, key: TheKey, page: Page) -> Json:
    """The groups that the key is in; what it may do comes from them."""
    return page_of_groups(core, key.account_id, "key", key.id, page)


@own.post("/v3/api-keys/me/groups", summary="Put the call's own API key into groups")
async def post_own_groups(core: TheCore, key: TheKey, request: Request, groups: Ids) -> Json:
    """Add it to the groups whose ids the body has."""
    core.accounts.groups.add(key.account_id, "key", [key.id], groups)
    return updated(request, "api-key", key.id)


@own.delete("/v3/api-keys/me/groups", summary="Take the call's own API key out of groups")
async def delete_own_groups(core: TheCore, key: TheKey, request: Request, groups: Ids) -> Json:
    """Take it out of the groups whose ids the body has; the last administrator's key stays one."""
    core.accounts.groups.remove(key.account_id, "key", [key.id], groups)
    return updated(request, "api-key", key.id)


# -- keys of an account ----------------------------------------------------------------------------------------------


@router.get("/api-keys", summary="List API keys", openapi_extra=described(FIELDS))
async def list_keys(core: TheCore, key: TheKey, account_id: TheAccount, page: Page, request: Request) -> Json:
    """Keys of the account, without what makes them keys. key__eq takes a whole key, or what lists show of it."""
    where = [api_keys.c.account_id == account_id]
    for condition in conditions(request, FIELDS):
        if condition.field == "key" and condition.operator != "like":
            given = [str(each) for each in condition.values]
            hashes = [hash_of(each) for each in given]
            found = sa.or_(api_keys.c.key_hash.in_(hashes), api_keys.c.key_prefix.in_(given))
            where.append(found if condition.operator in ("eq", "in") else sa.not_(found))
        elif condition.field == "key":
            where.append(api_keys.c.key_prefix.contains(str(condition.values[0]), autoescape=True))
        else:
            where += filters.where([condition], api_keys)
    groups = core.accounts.groups.of_members(account_id, "key")
    return page.select(core.store, api_keys, where, lambda row: shape(row, groups.get(row["id"], [])))


@router.get("/policy-groups/{group_id}/api-keys", summary="List a group's API keys", tags=["Policy groups"])
async def list_members(core: TheCore, key: TheKey, account_id: TheAccount, group_id: GroupId, page: Page) -> Json:
    """The keys that are in a group, without what makes them keys."""
    core.accounts.groups.group(account_id, group_id)
    members = sa.select(key_groups.c.member_id).where(key_groups.c.group_id == group_id)
    groups = core.accounts.groups.of_members(account_id, "key")
    where = [api_keys.c.account_id == account_id, api_keys.c.id.in_(members)]
    return page.select(core.store, api_keys, where, lambda row: shape(row, groups.get(row["id"], [])))


@router.post("/api-keys", summary="Make an API key", status_code=201)
async def post_key(core: TheCore, key: TheKey, account_id: TheAccount, wanted: WantedKey) -> Json:
    """Make a key; this answer is the only one that has it whole. Without groups it is a developer's."""
    row, made = core.accounts.create_key(
        account_id,
        wanted.name,
        owner=wanted.owner or _owner(core, key, account_id),
        status=wanted.status or "ACTIVE",
        groups=wanted.groups or (),
    )
    return shown(core, row, made)


def _owner(core: Core, key: Key, account_id: str) -> str | None:
    """Return who owns a key that this key makes: who owns this one, if that is somebody of that account."""
    owner: str | None = core.accounts.key(key.account_id, key.id)["owner"] if key.account_id == account_id else None
    return owner


@router.get("/api-keys/{apikey_id}", summary="Get an API key")
async def get_key(core: TheCore, key: TheKey, account_id: TheAccount, apikey_id: KeyId) -> Json:
    """One key, without what makes it a key."""
    return shown(core, core.accounts.key(account_id, apikey_id))


@router.put("/api-keys/{apikey_id}", summary="Change an API key")
async def put_key(core: TheCore, key: TheKey, account_id: TheAccount, apikey_id: KeyId, change: WantedKey) -> Json:
    """Set name, owner, status or groups. An INACTIVE key loses its channel and its subscriptions."""
    return await _changed(core, account_id, apikey_id, change)


async def _changed(core: Core, account_id: str, id: str, change: WantedKey) -> Json:
    changes = {name: value for name, value in change.model_dump(exclude_unset=True).items() if value is not None}
    row = core.accounts.update_key(account_id, id, **changes)
    if row["status"] != "ACTIVE":
        await _silence(core, id)
    return shown(core, row)


async def _silence(core: Core, id: str) -> None:
    """Let a key hear nothing more: its channel and its subscriptions go."""
    await core.observations.unsubscribe(id)
    core.channels.delete(id)


@router.delete("/api-keys/{apikey_id}", summary="Revoke an API key", status_code=204)
async def delete_key(core: TheCore, key: TheKey, account_id: TheAccount, apikey_id: KeyId) -> Response:
    """Revoke a key for good, with its channel, subscriptions and requests. The last administrator's key stays."""
    core.accounts.key(account_id, apikey_id)
    core.accounts.groups.must_not_be_the_last(account_id, apikey_id)
    await _silence(core, apikey_id)
    core.accounts.delete_key(account_id, apikey_id)
    return Response(status_code=204)


@router.post("/api-keys/{apikey_id}/reset-secret", summary="Give an API key another secret")
async def reset_secret(core: TheCore, key: TheKey, account_id: TheAccount, apikey_id: KeyId) -> Json:
    """The old secret opens nothing from now on; this answer is the only one that has the new one."""
    row, made = core.accounts.reset_key(account_id, apikey_id)
    return shown(core, row, made)


@router.get("/api-keys/{apikey_id}/groups", summary="List an API key's groups")
async def list_groups(core: TheCore, key: TheKey, account_id: TheAccount, apikey_id: KeyId, page: Page) -> Json:
    """The groups that a key is in; what it may do comes from them."""
    core.accounts.key(account_id, apikey_id)
    return page_of_groups(core, account_id, "key", apikey_id, page)


@router.post("/api-keys/{apikey_id}/groups", summary="Put an API key into groups")
async def post_groups(
    core: TheCore, key: TheKey, account_id: TheAccount, apikey_id: KeyId, request: Request, groups: Ids
) -> Json:
    """Add a key to the groups whose ids the body has; 409 if it is in one of them already."""
    core.accounts.key(account_id, apikey_id)
    core.accounts.groups.add(account_id, "key", [apikey_id], groups)
    return updated(request, "api-key", apikey_id)


@router.delete("/api-keys/{apikey_id}/groups", summary="Take an API key out of groups")
async def delete_groups(
    core: TheCore, key: TheKey, account_id: TheAccount, apikey_id: KeyId, request: Request, groups: Ids
) -> Json:
    """Take a key out of the groups whose ids the body has; the last administrator's key stays one."""
    core.accounts.key(account_id, apikey_id)
    core.accounts.groups.remove(account_id, "key", [apikey_id], groups)
    return updated(request, "api-key", apikey_id)
