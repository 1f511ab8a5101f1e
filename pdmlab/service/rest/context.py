"""What every call needs: the core, and whose key it carries."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from pdmlab.service.accounts import Key
from pdmlab.service.core import Core

_bearer = HTTPBearer(auto_error=False, description="An API key of this service, ak_…")


# Both are coroutines: plain functions would run in another thread than the database's.


async def _core(request: Request) -> Core:
    return cast(Core, request.app.state.core)


TheCore = Annotated[Core, Depends(_core)]
"""The service behind the API."""


async def _key(request: Request, _: Annotated[object, Depends(_bearer)]) -> Key:
    return cast(Key, request.state.key)  # found good before the call came here (front.py)


TheKey = Annotated[Key, Depends(_key)]
"""The key that the call carries."""


async def _account(request: Request, key: TheKey) -> str:
    named: str | None = getattr(request.state, "account_id", None)  # by the path, and found there (tenants.py)
    return named or key.account_id


TheAccount = Annotated[str, Depends(_account)]
"""The id of the account that the call is about: the key's own, or the one that the path names."""


def base_url(request: Request) -> str:
    """Return the address that the caller reached the API at, such as http://127.0.0.1:8080."""
    return str(request.base_url).rstrip("/")
