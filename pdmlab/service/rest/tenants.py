"""The accounts beside the service's own, for whoever sees to it: what there is at /v3/… is at /v3/accounts/{id}/… too.

A router that is included here has paths without /v3, and takes whose things it is about from TheAccount. Only
administrators of the service's own account come to the second form (rights.toml).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Path, Request

from pdmlab.service.rest.context import TheCore, TheKey


async def _named(
    request: Request, core: TheCore, key: TheKey, account_id: Annotated[str, Path(description="The id of an account.")]
) -> None:
    request.state.account_id = core.accounts.account(account_id)["id"]


def include(app: FastAPI, router: APIRouter) -> None:
    """Serve a router's paths for the key's own account, and for any account that a path names."""
    app.include_router(router, prefix="/v3")
    app.include_router(router, prefix="/v3/accounts/{account_id}", dependencies=[Depends(_named)])
