"""Accounts: the key's own at /v3/accounts/me, and all of them at /v3/accounts for whoever sees to the service."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field, StringConstraints

from pdmlab.service import accounts as limits
from pdmlab.service import developers, groups, rights, users
from pdmlab.service.accounts import Key
from pdmlab.service.core import Core
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.texts import Text
from pdmlab.service.rest.times import whole_seconds
from pdmlab.service.schema import accounts
from pdmlab.service.store import Row

router = APIRouter(tags=["Accounts"])

LISTED = 1000  # accounts on a page where nothing else is asked for

Email = Annotated[str, StringConstraints(min_length=3, max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]
Username = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_\-,.@+=]{4,30}$")]
Alias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_\-.]{8,100}$")]
Line = Annotated[Text, StringConstraints(max_length=100)]
Value = Annotated[Text, StringConstraints(max_length=1000)]

_LINES = (
    *("address_line1", "address_line2", "city", "company", "contact", "contract_number", "country"),
    *("customer_number", "phone_number", "postal_code", "state"),
)


class PasswordPolicy(BaseModel):
    """Kept and shown; there are no passwords here. The SDK sends an empty one where it has none."""

    minimum_length: int | None = Field(None, ge=8, le=512)


class AccountChange(BaseModel):
    """What an account says of itself; what is not there stays, null removes it, and what is unknown is left out."""

    display_name: Line | None = None
    address_line1: Line | None = None
    address_line2: Line | None = None
    city: Line | None = None
    company: Line | None = None
    contact: Line | None = None
    country: Line | None = None
    email: Email | None = None
    end_market: Line | None = None
    phone_number: Line | None = None
    postal_code: Line | None = None
    state: Line | None = None
    aliases: list[Alias] | None = Field(None, max_length=10)
    custom_fields: dict[Line, Value] | None = Field(None, max_length=10)
    expiration_warning_threshold: int | None = Field(None, ge=1, le=180)
    idle_timeout: int | None = Field(None, ge=1, le=120)
    mfa_status: Literal["enforced", "optional"] | None = None
    notification_emails: list[Email] | None = Field(None, max_length=100, description="Nothing is mailed to them.")
    password_policy: PasswordPolicy | None = None
    password_recovery_expiration: int | None = Field(None, ge=1, le=45)


class TenantChange(AccountChange):
    """What whoever sees to the service may say of an account, beside what it says itself."""

    contract_number: Line | None = None
    customer_number: Line | None = None
    sales_contact: Email | None = None


class NewAccount(BaseModel):
    """An account, and who sees to it."""

    end_market: Line
    display_name: Line | None = None
    address_line1: Line | None = None
    address_line2: Line | None = None
    city: Line | None = None
    company: Line | None = None
    contact: Line | None = None
    contract_number: Line | None = None
    country: Line | None = None
    customer_number: Line | None = None
    email: Email | None = None
    phone_number: Line | None = None
    postal_code: Line | None = None
    state: Line | None = None
    aliases: list[Alias] | None = Field(None, max_length=10)
    admin_email: Email | None = None
    admin_full_name: Line | None = None
    admin_name: Username | None = None
    admin_password: str | None = Field(None, max_length=512, description="Kept nowhere: nobody logs in here.")


def shape(core: Core, key: Key, row: Row, include: str = "") -> Json:
    """Return an account as the API shows it; include: limits, policies, sub_accounts."""
    fields = row["fields"]
    shown = {
        "object": "account",
        "id": row["id"],
        "status": row["status"],
        "tier": row["tier"],
        "display_name": row["display_name"],
        "etag": "1",
        "aliases": fields.get("aliases") or [],
        "end_market": fields.get("end_market") or "",
        "parent_id": None if row["id"] == core.account_id else core.account_id,
        "created_at": whole_seconds(row["created_at"]),
        "updated_at": whole_seconds(row["updated_at"]),
        **dict.fromkeys((*_LINES, "email", "sales_contact", "custom_fields", "notification_emails", "mfa_status")),
        **{name: value for name, value in fields.items() if value is not None},
    }
    wanted = {name.strip() for name in include.split(",")}
    if "limits" in wanted:
        shown["limits"] = core.directory.limits(row["id"]) | _limits()
    if "policies" in wanted:
        shown["policies"] = _policies(key)
    if "sub_accounts" in wanted:
        others = sa.select(accounts).where(accounts.c.id != core.account_id).order_by(accounts.c.id)
        mine = key.rights == rights.Rights.SERVICE and row["id"] == core.account_id
        shown["sub_accounts"] = [shape(core, key, each) for each in core.store.rows(others)] if mine else []
    return shown


def _said(change: AccountChange) -> Json:
    said = change.model_dump(exclude_unset=True)
    if change.password_policy is not None and change.password_policy.minimum_length is None:
        said["password_policy"] = None
    return said


def _limits() -> dict[str, str]:
    """Return how many of each any account may have, besides devices."""
    return {
        "api_keys": str(limits.MAX_KEYS),
        "users": str(users.MAX_USERS),
        "policy_groups": str(groups.MAX_GROUPS),
        "developer_certificates": str(developers.MAX_CERTIFICATES),
    }


def _policies(key: Key) -> list[Json]:
    """Return what the key that asks may do: the table of rights, where the first row that fits a call decides."""
    return [
        {
            "feature": row.path.removeprefix("/v2").removeprefix("/v3").strip("/*").partition("/")[0],
            "action": "" if row.method == "*" else row.method,
            "resource": row.path,
            "allow": key.rights >= row.least,
            "inherited": False,
        }
        for row in rights.table()
    ]


Include = Annotated[str, Query(description="What else is wanted, separated by commas: limits, policies, sub_accounts.")]
AccountId = Annotated[str, Path(description="The id of an account.")]


@router.get("/v3/accounts/me", summary="Get the account")
async def get_mine(core: TheCore, key: TheKey, include: Include = "") -> Json:
    """The account that the key belongs to. Its policies are what the key may do."""
    return shape(core, key, core.accounts.account(key.account_id), include)


@router.put("/v3/accounts/me", summary="Change the account")
async def put_mine(core: TheCore, key: TheKey, change: AccountChange) -> Json:
    """Set what the body names."""
    row = core.accounts.update_account(key.account_id, _said(change))
    return shape(core, key, row)


@router.get("/v3/accounts/me/notifications", summary="List what was mailed")
async def list_my_notifications(core: TheCore, key: TheKey, page: Page) -> Json:
    """Nothing, for nothing is mailed: what happens is in the events of devices, and on the keys' channels."""
    return page.cut([])


# -- all accounts --------------------------------------------------------------------------------------------------


@router.get("/v3/accounts", summary="List accounts")
async def list_accounts(
    core: TheCore,
    key: TheKey,
    page: Page,
    limit: Annotated[str, Query(description="Accounts on a page: 2 to 1000, which is what else is taken.")] = "",
    include: Include = "",
    status__eq: Annotated[str | None, Query(description="ENROLLING, ACTIVE, RESTRICTED or SUSPENDED.")] = None,
    status__in: Annotated[str | None, Query(description="Separated by commas.")] = None,
    status__nin: Annotated[str | None, Query(description="Separated by commas.")] = None,
    tier__eq: Annotated[str | None, Query()] = None,
    parent__eq: Annotated[str | None, Query(description="The service's own account is the others' parent.")] = None,
    end_market__eq: Annotated[str | None, Query()] = None,
    country__like: Annotated[str | None, Query(description="Part of its country, in whatever case.")] = None,
) -> Json:
    """All accounts of the service, its own first."""
    columns = accounts.c
    where: list[sa.ColumnElement[bool]] = []
    if status__eq is not None:
        where.append(columns.status == status__eq)
    if status__in is not None:
        where.append(columns.status.in_(status__in.split(",")))
    if status__nin is not None:
        where.append(columns.status.not_in(status__nin.split(",")))
    if tier__eq is not None:
        where.append(columns.tier == tier__eq)
    if parent__eq is not None:
        where.append(columns.id != core.account_id if parent__eq == core.account_id else sa.false())
    if end_market__eq is not None:
        where.append(columns.fields["end_market"].as_string() == end_market__eq)
    if country__like is not None:
        country = columns.fields["country"].as_string()
        where.append(sa.func.lower(country).contains(country__like.lower(), autoescape=True))
    if not limit:
        page = dataclasses.replace(page, limit=LISTED)
    return page.select(core.store, accounts, where, lambda row: shape(core, key, row, include))


@router.post("/v3/accounts", summary="Make an account", status_code=201)
async def post_account(
    core: TheCore,
    key: TheKey,
    wanted: NewAccount,
    action: Annotated[
        Literal["create", "enroll"], Query(description="enroll: its first user has the status ENROLLING.")
    ] = "create",
) -> Json:
    """Make an account with its groups and a user who sees to it. This answer alone has that user's key."""
    says = wanted.model_dump(exclude_unset=True)
    person: dict[str, Any] = {
        "email": says.pop("admin_email", None) or "administrator@pdmlab.example",
        "username": says.pop("admin_name", None) or "administrator",
        "full_name": says.pop("admin_full_name", None),
        "status": "ENROLLING" if action == "enroll" else "ACTIVE" if says.get("admin_password") else "RESET",
    }
    says.pop("admin_password", None)
    row, user, made = core.accounts.create_account(says, person)
    return shape(core, key, row) | {
        "admin_id": user["id"],
        "admin_email": user["email"],
        "admin_name": user["username"],
        "admin_full_name": user["full_name"],
        "admin_key": made,
    }


@router.get("/v3/accounts/{account_id}", summary="Get any account")
async def get_account(core: TheCore, key: TheKey, account_id: AccountId, include: Include = "") -> Json:
    """One account. Its policies are what the key that asks may do."""
    return shape(core, key, core.accounts.account(account_id), include)


@router.put("/v3/accounts/{account_id}", summary="Change any account")
async def put_account(core: TheCore, key: TheKey, account_id: AccountId, change: TenantChange) -> Json:
    """Set what the body names."""
    row = core.accounts.update_account(account_id, _said(change))
    return shape(core, key, row)


@router.get("/v3/accounts/{account_id}/notifications", summary="List what was mailed for any account")
async def list_notifications(core: TheCore, key: TheKey, account_id: AccountId, page: Page) -> Json:
    """Nothing, for nothing is mailed."""
    core.accounts.account(account_id)
    return page.cut([])
