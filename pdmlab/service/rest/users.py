"""Users: /v3/users, and who was invited to be one: /v3/user-invitations. Nobody logs in here, and nothing is mailed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from pdmlab.service import filters
from pdmlab.service.accounts import Key
from pdmlab.service.core import Core
from pdmlab.service.refusal import Refused
from pdmlab.service.rest.accounts import Email, Line, Username
from pdmlab.service.rest.context import TheAccount, TheCore, TheKey
from pdmlab.service.rest.filtering import conditions, described
from pdmlab.service.rest.groups import GroupId, Ids, page_of_groups, updated
from pdmlab.service.rest.paging import Json, Page, Paging
from pdmlab.service.rest.texts import Text
from pdmlab.service.rest.times import milliseconds, whole_seconds
from pdmlab.service.schema import user_groups, user_invitations, users
from pdmlab.service.store import Row

own = APIRouter(tags=["Users"])
"""The user whom the call's key belongs to."""
router = APIRouter(tags=["Users"])
"""Users of an account."""

FIELDS: dict[str, filters.Kind] = {"email": "text", "status": "text", "username": "text"}

UserId = Annotated[str, Path(description="The id of a user.")]
InvitationId = Annotated[str, Path(description="The id of an invitation.")]
Status = Literal["ENROLLING", "INVITED", "ACTIVE", "RESET", "INACTIVE"]
LoginProfile = Annotated[
    str | None, Query(alias="login_profiles__eq", description="There are none: with this, the list is empty.")
]


class _Profile(BaseModel):
    id: Text = Field(max_length=100)


Profiles = Annotated[
    list[_Profile] | None, Field(max_length=10, description="Taken and left out: there are no identity providers.")
]


class UserChange(BaseModel):
    """What may be changed of a user; what is not there stays, and null removes it."""

    full_name: Line | None = None
    username: Username | None = None
    email: Email | None = None
    phone_number: Line | None = None
    address: Line | None = None
    is_gtc_accepted: bool | None = None
    is_marketing_accepted: bool | None = None
    is_totp_enabled: bool | None = Field(None, description="Taken and left out: nobody logs in here.")
    status: Status | None = None
    groups: Ids | None = Field(None, description="The ids of all groups that the user is in.")
    login_profiles: Profiles = None


class NewUser(BaseModel):
    """A user as one is wanted."""

    email: Email
    full_name: Line | None = None
    username: Username | None = None
    phone_number: Line | None = None
    address: Line | None = None
    is_gtc_accepted: bool | None = None
    is_marketing_accepted: bool | None = None
    password: str | None = Field(None, max_length=512, description="Kept nowhere: nobody logs in here.")
    groups: Ids | None = Field(None, description="The ids of the groups that the user is in.")
    login_profiles: Profiles = None


class NewInvitation(BaseModel):
    """Who is invited, to which groups, and for how long."""

    email: Email
    groups: Ids | None = None
    login_profiles: Profiles = None
    valid_for_days: int | None = Field(None, ge=1, le=100, description="30 where nothing is said.")


def shape(row: Row, groups: list[str]) -> Json:
    """Return a user as the API shows it."""
    return {
        "object": "user",
        "id": row["id"],
        "account_id": row["account_id"],
        "email": row["email"],
        "username": row["username"],
        "full_name": row["full_name"],
        "phone_number": row["phone_number"],
        "address": row["address"],
        "status": row["status"],
        "email_verified": row["email_verified"],
        "is_gtc_accepted": row["is_gtc_accepted"],
        "is_marketing_accepted": row["is_marketing_accepted"],
        "is_totp_enabled": False,
        "groups": groups,
        "login_history": [],
        "login_profiles": None,
        "creation_time": milliseconds(row["created_at"]),
        "created_at": whole_seconds(row["created_at"]),
        "updated_at": whole_seconds(row["updated_at"]),
        "etag": "1",
    }


def _shown(core: Core, row: Row) -> Json:
    groups = core.accounts.groups.of_members(row["account_id"], "user", row["id"])
    return shape(row, groups.get(row["id"], []))


def _page(core: Core, account_id: str, where: list[sa.ColumnElement[bool]], page: Paging) -> Json:
    groups = core.accounts.groups.of_members(account_id, "user")
    where = [users.c.account_id == account_id, *where]
    return page.select(core.store, users, where, lambda row: shape(row, groups.get(row["id"], [])))


def _said(body: UserChange | NewUser) -> dict[str, Any]:
    """Return what of a body is kept; a flag that is null stays what it was."""
    said = body.model_dump(exclude_unset=True, exclude={"groups", "login_profiles", "password", "is_totp_enabled"})
    return {name: value for name, value in said.items() if value is not None or name in _REMOVABLE}


_REMOVABLE = ("full_name", "username", "phone_number", "address")


# -- the user whom the call's key belongs to -------------------------------------------------------------------------


def _owner(core: Core, key: Key) -> str:
    owner = core.accounts.key(key.account_id, key.id)["owner"]
    if owner is None:
        raise Refused(404, "the key belongs to no user", hint="PUT /v3/api-keys/{apikey_id} gives it an owner")
    return str(owner)


@own.get("/v3/users/me", summary="Get the call's own user")
async def get_own_user(core: TheCore, key: TheKey) -> Json:
    """The user whom the call's key belongs to; 404 if it belongs to none."""
    return _shown(core, core.accounts.users.user(key.account_id, _owner(core, key)))


@own.put("/v3/users/me", summary="Change the call's own user")
async def put_own_user(core: TheCore, key: TheKey, change: UserChange) -> Json:
    """Set what the body names."""
    row = core.accounts.users.update(key.account_id, _owner(core, key), _said(change), change.groups)
    return _shown(core, row)


# -- users of an account ---------------------------------------------------------------------------------------------


@router.get("/users", summary="List users", openapi_extra=described(FIELDS))
async def list_users(
    core: TheCore, key: TheKey, account_id: TheAccount, page: Page, request: Request, profile: LoginProfile = None
) -> Json:
    """Users of the account: whom its keys belong to."""
    asked = [each for each in request.query_params.multi_items() if each[0] != "login_profiles__eq"]
    where = filters.where(filters.from_parameters(asked, FIELDS), users)
    return _page(core, account_id, [*where, sa.false()] if profile else where, page)


@router.post("/users", summary="Add a user", status_code=201)
async def post_user(
    core: TheCore,
    key: TheKey,
    account_id: TheAccount,
    wanted: NewUser,
    action: Annotated[Literal["create", "invite"], Query(description="invite: the status is INVITED.")] = "create",
) -> Json:
    """Add a user, who is ACTIVE at once if a password comes along, and RESET if not; nobody logs in with either."""
    status = "INVITED" if action == "invite" else "ACTIVE" if wanted.password else "RESET"
    row = core.accounts.users.create(account_id, {**_said(wanted), "status": status}, wanted.groups or ())
    return _shown(core, row)


@router.get("/users/{user_id}", summary="Get a user")
async def get_user(core: TheCore, key: TheKey, account_id: TheAccount, user_id: UserId) -> Json:
    """One user."""
    return _shown(core, core.accounts.users.user(account_id, user_id))


@router.put("/users/{user_id}", summary="Change a user")
async def put_user(core: TheCore, key: TheKey, account_id: TheAccount, user_id: UserId, change: UserChange) -> Json:
    """Set what the body names."""
    row = core.accounts.users.update(account_id, user_id, _said(change), change.groups)
    return _shown(core, row)


@router.delete("/users/{user_id}", summary="Delete a user", status_code=204)
async def delete_user(core: TheCore, key: TheKey, account_id: TheAccount, user_id: UserId) -> Response:
    """Delete a user; 400 while API keys belong to the user."""
    core.accounts.users.delete(account_id, user_id)
    return Response(status_code=204)


@router.post("/users/{user_id}/validate-email", summary="Take a user's address as verified", status_code=204)
async def validate_email(core: TheCore, key: TheKey, account_id: TheAccount, user_id: UserId) -> Response:
    """Nothing is mailed: that whoever calls this believes in the address is all that there is to it."""
    core.accounts.users.update(account_id, user_id, {"email_verified": True})
    return Response(status_code=204)


@router.get("/users/{user_id}/groups", summary="List a user's groups")
async def list_groups(core: TheCore, key: TheKey, account_id: TheAccount, user_id: UserId, page: Page) -> Json:
    """The groups that a user is in. What a key may do comes from the key's own groups."""
    core.accounts.users.user(account_id, user_id)
    return page_of_groups(core, account_id, "user", user_id, page)


@router.post("/users/{user_id}/groups", summary="Put a user into groups")
async def post_groups(
    core: TheCore, key: TheKey, account_id: TheAccount, user_id: UserId, request: Request, groups: Ids
) -> Json:
    """Add a user to the groups whose ids the body has; 409 for a member of one of them."""
    core.accounts.users.user(account_id, user_id)
    core.accounts.groups.add(account_id, "user", [user_id], groups)
    return updated(request, "user", user_id)


@router.delete("/users/{user_id}/groups", summary="Take a user out of groups")
async def delete_groups(
    core: TheCore, key: TheKey, account_id: TheAccount, user_id: UserId, request: Request, groups: Ids
) -> Json:
    """Take a user out of the groups whose ids the body has."""
    core.accounts.users.user(account_id, user_id)
    core.accounts.groups.remove(account_id, "user", [user_id], groups)
    return updated(request, "user", user_id)


@router.get(
    "/policy-groups/{group_id}/users",
    summary="List a group's users",
    tags=["Policy groups"],
    openapi_extra=described(FIELDS),
)
async def list_members(
    core: TheCore, key: TheKey, account_id: TheAccount, group_id: GroupId, page: Page, request: Request
) -> Json:
    """The users that are in a group."""
    core.accounts.groups.group(account_id, group_id)
    members = sa.select(user_groups.c.member_id).where(user_groups.c.group_id == group_id)
    where = filters.where(conditions(request, FIELDS), users)
    return _page(core, account_id, [users.c.id.in_(members), *where], page)


# -- invitations -----------------------------------------------------------------------------------------------------


def _invitation(row: Row, groups: list[str]) -> Json:
    return {
        "object": "user-invitation",
        "id": row["id"],
        "account_id": row["account_id"],
        "user_id": row["user_id"],
        "email": row["email"],
        "groups": groups,
        "login_profiles": None,
        "expiration": whole_seconds(row["expiration"]),
        "created_at": whole_seconds(row["created_at"]),
        "updated_at": whole_seconds(row["updated_at"]),
        "etag": "1",
    }


@router.get("/user-invitations", summary="List invitations", tags=["User invitations"])
async def list_invitations(
    core: TheCore, key: TheKey, account_id: TheAccount, page: Page, profile: LoginProfile = None
) -> Json:
    """Invitations that have not expired."""
    groups = core.accounts.groups.of_members(account_id, "user")
    where = [*core.accounts.users.open_invitations(account_id), *([sa.false()] if profile else [])]
    return page.select(
        core.store, user_invitations, where, lambda row: _invitation(row, groups.get(row["user_id"], []))
    )


@router.post("/user-invitations", summary="Invite somebody", status_code=201, tags=["User invitations"])
async def post_invitation(core: TheCore, key: TheKey, account_id: TheAccount, wanted: NewInvitation) -> Json:
    """Make a user with the status INVITED, if the address is none's yet. Nothing is mailed: tell them yourself.

    PUT /v3/users/{user_id} with another status is what accepts an invitation.
    """
    row = core.accounts.users.invite(account_id, wanted.email, wanted.groups or (), wanted.valid_for_days or 30)
    groups = core.accounts.groups.of_members(account_id, "user", row["user_id"])
    return _invitation(row, groups.get(row["user_id"], []))


@router.get("/user-invitations/{invitation_id}", summary="Get an invitation", tags=["User invitations"])
async def get_invitation(core: TheCore, key: TheKey, account_id: TheAccount, invitation_id: InvitationId) -> Json:
    """One invitation."""
    row = core.accounts.users.invitation(account_id, invitation_id)
    groups = core.accounts.groups.of_members(account_id, "user", row["user_id"])
    return _invitation(row, groups.get(row["user_id"], []))


@router.delete(
    "/user-invitations/{invitation_id}", summary="Delete an invitation", status_code=204, tags=["User invitations"]
)
async def delete_invitation(
    core: TheCore, key: TheKey, account_id: TheAccount, invitation_id: InvitationId
) -> Response:
    """Take an invitation back, and with it the user who did nothing but being invited."""
    core.accounts.users.uninvite(account_id, invitation_id)
    return Response(status_code=204)
