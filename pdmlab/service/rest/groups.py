"""Policy groups: /v3/policy-groups, their keys and their users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints

from pdmlab.service import filters
from pdmlab.service.core import Core
from pdmlab.service.groups import MAX_GROUPS
from pdmlab.service.rest.context import TheAccount, TheCore, TheKey
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.paging import Json, Page, Paging
from pdmlab.service.rest.texts import Text
from pdmlab.service.rest.times import whole_seconds
from pdmlab.service.schema import key_groups, policy_groups, user_groups
from pdmlab.service.store import Row

router = APIRouter(tags=["Policy groups"])

FIELDS: dict[str, filters.Kind] = {"name": "text"}
MAX_LISTED = 1000  # keys or users in one call

GroupId = Annotated[str, Path(description="The id of a group.")]
Id = Annotated[str, StringConstraints(pattern="^[0-9a-f]{32}$")]
Ids = Annotated[list[Id], Field(max_length=MAX_GROUPS)]
Members = Annotated[list[Id], Field(max_length=MAX_LISTED)]


class Subjects(BaseModel):
    """Ids of keys and of users."""

    apikeys: Members = []
    users: Members = []


def _named(kind: str) -> BeforeValidator:
    """Take a list as it is for the one that it is about: the vendor's description has both forms."""
    return BeforeValidator(lambda body: {kind: body} if isinstance(body, list) else body)


Keys = Annotated[Subjects, _named("apikeys")]
Users = Annotated[Subjects, _named("users")]


class GroupName(BaseModel):
    """What a group is called."""

    name: Text = Field(min_length=1, max_length=100)


class NewGroup(GroupName):
    """A group, and who is in it."""

    members: Subjects = Subjects()


def shape(row: Row, keys: int, users: int) -> Json:
    """Return a group as the API shows it."""
    return {
        "object": "group",
        "id": row["id"],
        "account_id": row["account_id"],
        "name": row["name"],
        "apikey_count": keys,
        "user_count": users,
        "created_at": whole_seconds(row["created_at"]),
        "updated_at": whole_seconds(row["updated_at"]),
        "etag": "1",
    }


def updated(request: Request, what: str, id: str) -> Json:
    """Return what the vendor answers when something was changed that is not shown."""
    return {
        "object": what,
        "id": id,
        "type": "success",
        "code": 200,
        "message": "success",
        "request_id": request.state.request_id,
    }


def _page(core: Core, account_id: str, where: Sequence[sa.ColumnElement[bool]], page: Paging) -> Json:
    groups = core.accounts.groups
    keys, users = groups.counts(account_id, "key"), groups.counts(account_id, "user")

    def shaped(row: Row) -> Json:
        return shape(row, keys.get(row["id"], 0), users.get(row["id"], 0))

    return page.select(core.store, policy_groups, [policy_groups.c.account_id == account_id, *where], shaped)


def page_of_groups(core: Core, account_id: str, kind: str, member: str, page: Paging) -> Json:
    """Return a page of the groups that a key or a user is in."""
    table = {"key": key_groups, "user": user_groups}[kind]
    mine = sa.select(table.c.group_id).where(table.c.member_id == member)
    return _page(core, account_id, [policy_groups.c.id.in_(mine)], page)


@router.get("/policy-groups", summary="List groups", openapi_extra=described(FIELDS))
async def list_groups(core: TheCore, key: TheKey, account_id: TheAccount, page: Page, request: Request) -> Json:
    """Groups of the account: the three that every account has, whose members have rights by them, and others."""
    return _page(core, account_id, filters.where(conditions(request, FIELDS), policy_groups), page)


@router.post("/policy-groups", summary="Make a group", status_code=201)
async def post_group(core: TheCore, key: TheKey, account_id: TheAccount, wanted: NewGroup) -> Json:
    """Make a group; being in it gives no rights."""
    members = {"key": wanted.members.apikeys, "user": wanted.members.users}
    row = core.accounts.groups.create(account_id, wanted.name, members)
    return shape(row, *(len(set(each)) for each in members.values()))


@router.get("/policy-groups/{group_id}", summary="Get a group")
async def get_group(core: TheCore, key: TheKey, account_id: TheAccount, group_id: GroupId) -> Json:
    """One group."""
    groups = core.accounts.groups
    row = groups.group(account_id, group_id)
    return shape(row, *(groups.counts(account_id, kind).get(group_id, 0) for kind in ("key", "user")))


@router.put("/policy-groups/{group_id}", summary="Rename a group")
async def put_group(
    core: TheCore, key: TheKey, account_id: TheAccount, group_id: GroupId, request: Request, wanted: GroupName
) -> Json:
    """Give a group another name; the three that every account has keep theirs."""
    core.accounts.groups.rename(account_id, group_id, wanted.name)
    return updated(request, "group", group_id)


@router.delete("/policy-groups/{group_id}", summary="Delete a group", status_code=204)
async def delete_group(core: TheCore, key: TheKey, account_id: TheAccount, group_id: GroupId) -> Response:
    """Delete a group; its members stay. The three that every account has stay too."""
    core.accounts.groups.delete(account_id, group_id)
    return Response(status_code=204)


@router.post("/policy-groups/{group_id}", summary="Put keys and users into a group")
async def post_members(
    core: TheCore, key: TheKey, account_id: TheAccount, group_id: GroupId, request: Request, members: Subjects
) -> Json:
    """Add keys and users; 409 if one of them is in it already, and then none is added."""
    groups = core.accounts.groups
    groups.group(account_id, group_id)
    with core.store.begin():
        for kind, ids in (("key", members.apikeys), ("user", members.users)):
            groups.add(account_id, kind, ids, [group_id])
    return updated(request, "group", group_id)


@router.delete("/policy-groups/{group_id}/api-keys", summary="Take keys out of a group")
async def delete_keys(
    core: TheCore, key: TheKey, account_id: TheAccount, group_id: GroupId, request: Request, members: Keys
) -> Json:
    """Take keys out; the last administrator's key stays one."""
    core.accounts.groups.group(account_id, group_id)
    core.accounts.groups.remove(account_id, "key", members.apikeys, [group_id])
    return updated(request, "group", group_id)


@router.delete("/policy-groups/{group_id}/users", summary="Take users out of a group")
async def delete_users(
    core: TheCore, key: TheKey, account_id: TheAccount, group_id: GroupId, request: Request, members: Users
) -> Json:
    """Take users out."""
    core.accounts.groups.group(account_id, group_id)
    core.accounts.groups.remove(account_id, "user", members.users, [group_id])
    return updated(request, "group", group_id)
