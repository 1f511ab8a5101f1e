"""The account, and who may do what in it: API keys, users, policy groups."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pdmlab.cloud.answers import Object
from pdmlab.cloud.both import M, both
from pdmlab.cloud.item import Collection, Item, id_of, number, text, texts
from pdmlab.cloud.listing import HasId, Listing
from pdmlab.errors import ConfigError

_ID = re.compile(r"[0-9a-f]{32}")

KEY_COLUMNS = ("id", "name", "key", "owner", "status", "groups", "created_at", "last_login_time")
USER_COLUMNS = ("id", "email", "full_name", "username", "status", "groups", "created_at")


class Account(Item[M]):
    """The account that the key belongs to; get it with `cloud.account()`."""

    PATH = "/v3/accounts"
    SHOWN = ("display_name", "company", "status", "tier", "limits", "created_at")

    display_name = text("What it calls itself.")
    status = text("ACTIVE, or why not.")

    @property
    def _path(self) -> str:
        return f"{self.PATH}/me"


class ApiKey(Item[M]):
    """A key of the account; what makes it one is known only where it was just made, and never shown by itself."""

    PATH = "/v3/api-keys"
    SHOWN = ("name", "status", "owner", "groups", "created_at")

    status = text("ACTIVE or INACTIVE.")
    owner = text("The user that it belongs to.")
    groups = texts("Ids of the policy groups that it is in.")

    def _learn(self, fields: Object) -> None:
        super()._learn({name: value for name, value in fields.items() if name != "key"})
        if not hasattr(self, "_key"):  # later answers have its beginning only
            self._key = str(fields.get("key", ""))

    @property
    def key(self) -> str:
        """The key, whole where it was just made; else its beginning."""
        return self._key

    @both
    async def reset_secret(self) -> str:
        """Make it another key, and return that; the old one opens nothing any more."""
        made = await self._rest.post(f"{self._path}/reset-secret")
        self._key = str(made["key"])
        return self._key

    @both
    async def join(self, *groups: HasId | str) -> None:
        """Put it into policy groups, by their names or ids: they say what it may do."""
        await self._rest.call("POST", f"{self._path}/groups", body=await _group_ids(self._rest, groups))

    @both
    async def quit(self, *groups: HasId | str) -> None:
        """Take it out of policy groups."""
        await self._rest.call("DELETE", f"{self._path}/groups", body=await _group_ids(self._rest, groups))


class ApiKeys(Collection[ApiKey[M], M]):
    """The account's keys: `cloud.api_keys()`."""

    ITEM = ApiKey
    COLUMNS = KEY_COLUMNS

    @both
    async def create(
        self, name: str, *, groups: Iterable[HasId | str] = (), owner: HasId | str | None = None
    ) -> ApiKey[M]:
        """Make a key, and show it in `.key`; nobody, the service included, can show it a second time.

        groups: policy groups, by name or id, such as ["Developers"]; default: a developer's.

        Raises:
            ConfigError: no group, or more than one, has such a name.
        """
        return await self._create(
            {
                "name": name,
                "groups": await _group_ids(self._rest, groups) or None,
                "owner": None if owner is None else id_of(owner),
            }
        )


class User(Item[M]):
    """A person who has to do with the account."""

    PATH = "/v3/users"
    SHOWN = ("full_name", "email", "username", "status", "groups", "created_at")

    email = text("Where letters reach them.")
    full_name = text("What they are called.")
    username = text("What they call themselves.")
    status = text("ENROLLING, INVITED, ACTIVE …")
    groups = texts("Ids of the policy groups that they are in.")

    @both
    async def join(self, *groups: HasId | str) -> None:
        """Put the user into policy groups."""
        await self._rest.call("POST", f"{self._path}/groups", body=await _group_ids(self._rest, groups))

    @both
    async def quit(self, *groups: HasId | str) -> None:
        """Take the user out of policy groups."""
        await self._rest.call("DELETE", f"{self._path}/groups", body=await _group_ids(self._rest, groups))


class Users(Collection[User[M], M]):
    """The account's users: `cloud.users()`."""

    ITEM = User
    COLUMNS = USER_COLUMNS

    @both
    async def create(self, /, email: str, **fields: Any) -> User[M]:  # what JSON can hold
        """Make a user: email, and full_name, username, phone_number, groups …"""
        return await self._create({"email": email, **fields})


class Invitation(Item[M]):
    """Somebody who is asked to join the account."""

    PATH = "/v3/user-invitations"
    SHOWN = ("email", "groups", "expiration", "created_at")

    email = text("Where the letter goes.")
    groups = texts("Ids of the policy groups that they will be in.")


class Invitations(Collection[Invitation[M], M]):
    """Who is invited: `cloud.invitations()`."""

    ITEM = Invitation
    COLUMNS = ("id", "email", "groups", "expiration", "created_at")

    @both
    async def create(self, email: str, *, groups: Iterable[HasId | str] = (), days: int | None = None) -> Invitation[M]:
        """Invite somebody, for a number of days."""
        ids = await _group_ids(self._rest, groups) or None
        return await self._create({"email": email, "groups": ids, "valid_for_days": days})


class PolicyGroup(Item[M]):
    """A group of keys and users that may do the same."""

    PATH = "/v3/policy-groups"
    SHOWN = ("name", "apikey_count", "user_count", "created_at")

    apikey_count = number("How many keys are in it.")
    user_count = number("How many users are in it.")

    def api_keys(self) -> Listing[ApiKey[M], M]:
        """Return its keys."""
        return Listing(self._rest, f"{self._path}/api-keys", ApiKey, KEY_COLUMNS)

    def users(self) -> Listing[User[M], M]:
        """Return its users."""
        return Listing(self._rest, f"{self._path}/users", User, USER_COLUMNS)

    @both
    async def add(self, *members: ApiKey[M] | User[M]) -> None:
        """Put keys and users into it."""
        await self._rest.call("POST", self._path, body=_subjects(members))

    @both
    async def remove(self, *members: ApiKey[M] | User[M]) -> None:
        """Take keys and users out of it."""
        for name, ids in _subjects(members).items():
            if ids:
                where = "api-keys" if name == "apikeys" else name
                await self._rest.call("DELETE", f"{self._path}/{where}", body={name: ids})


class PolicyGroups(Collection[PolicyGroup[M], M]):
    """The account's policy groups: `cloud.policy_groups(name="Developers")`."""

    ITEM = PolicyGroup
    COLUMNS = ("id", "name", "apikey_count", "user_count", "created_at")

    @both
    async def create(self, name: str, *members: ApiKey[M] | User[M]) -> PolicyGroup[M]:
        """Make a group."""
        return await self._create({"name": name, "members": _subjects(members)})


async def _group_ids(rest: M, groups: Iterable[HasId | str]) -> list[str]:
    """Return the ids of policy groups that are named by id, by name, or are there as such."""
    wanted = [id_of(each) for each in groups]
    if all(_ID.fullmatch(each) for each in wanted):
        return wanted
    by_name: dict[str, list[str]] = {}
    async for page in rest.pages(PolicyGroup.PATH, {}):
        for found in page["data"]:
            by_name.setdefault(str(found["name"]), []).append(str(found["id"]))
    ids = []
    for each in wanted:
        having = [each] if _ID.fullmatch(each) else by_name.get(each, [])
        if len(having) != 1:
            raise ConfigError(
                f"the account has {len(having) or 'no'} policy group{'s' * (len(having) > 1)} {each!r}",
                hint=f"give one's id: {', '.join(having)}" if having else f"there is {', '.join(by_name) or 'none'}",
            )
        ids += having
    return ids


def _subjects(members: Iterable[Item[M]]) -> dict[str, list[str]]:
    """Return members as the API names them."""
    chosen: dict[str, list[str]] = {"apikeys": [], "users": []}
    for each in members:
        chosen["apikeys" if isinstance(each, ApiKey) else "users"].append(each.id)
    return chosen
