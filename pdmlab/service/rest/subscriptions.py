"""What a key wants to hear of: /v2/subscriptions, one by one, or for all that fits beforehand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from pdmlab.service.asking import split_uri
from pdmlab.service.refusal import Refused
from pdmlab.service.rest.connect import AsyncId
from pdmlab.service.rest.context import TheCore, TheKey

router = APIRouter(tags=["Subscriptions"])

MAX_PRESUBSCRIPTIONS = 1024


class UriList(PlainTextResponse):
    """Paths, a line each."""

    media_type = "text/uri-list"


_Text = StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")


class Presubscription(BaseModel):
    """A pattern of devices and paths; what is left out is any. A name or a path may end in `*`."""

    model_config = ConfigDict(populate_by_name=True)
    endpoint_name: Annotated[str | None, _Text, Field(alias="endpoint-name", max_length=64, examples=["desk*"])] = None
    endpoint_type: Annotated[str | None, _Text, Field(alias="endpoint-type", max_length=64)] = None
    resource_path: Annotated[
        list[Annotated[str, _Text, StringConstraints(max_length=128)]] | None,
        Field(alias="resource-path", max_length=256, examples=[["/3303/*"]]),
    ] = None


@router.get("/v2/subscriptions", summary="List pre-subscriptions", response_model_exclude_none=True)
async def get_presubscriptions(core: TheCore, key: TheKey) -> list[Presubscription]:
    """The key's patterns, as they were given."""
    return [Presubscription.model_validate(each) for each in core.observations.presubscriptions(key.id)]


@router.put("/v2/subscriptions", summary="Set pre-subscriptions", status_code=204)
async def put_presubscriptions(
    core: TheCore, key: TheKey, wanted: Annotated[list[Presubscription], Body(max_length=MAX_PRESUBSCRIPTIONS)]
) -> Response:
    """Replace the key's patterns; an empty list clears them. They take effect as devices register or update, and now.

    What they subscribe to comes as notifications, the present value first.
    """
    await core.observations.set_presubscriptions(key.id, [each.model_dump(by_alias=True) for each in wanted])
    return Response(status_code=204)


@router.delete("/v2/subscriptions", summary="Delete pre-subscriptions", status_code=204)
async def delete_presubscriptions(core: TheCore, key: TheKey) -> Response:
    """Drop the key's patterns, and end what they subscribed to. Manual subscriptions stay."""
    await core.observations.set_presubscriptions(key.id, [])
    return Response(status_code=204)


@router.get(
    "/v2/subscriptions/{device_id}",
    summary="List subscriptions to a device",
    response_class=UriList,
    responses={200: {"description": "The paths."}},
)
async def list_subscriptions(core: TheCore, key: TheKey, device_id: str) -> Response:
    """The paths that the key subscribed to, a line each; 404 if there are none."""
    paths = core.observations.list(key.id, device_id)
    if not paths:
        raise Refused(404, "SUBSCRIPTION_NOT_FOUND", hint="this key has not subscribed to anything of this device")
    # Without a line end behind the last one: the vendor's SDK would take it for an empty path more.
    return UriList("\n".join(paths))


@router.delete("/v2/subscriptions/{device_id}", summary="End subscriptions to a device", status_code=204)
async def delete_subscriptions(core: TheCore, key: TheKey, device_id: str) -> Response:
    """End all of the key's subscriptions to a device."""
    if (
        not await core.observations.unsubscribe(key.id, device_id)
        and core.directory.find(device_id, key.account_id) is None
    ):
        raise Refused(404, "DEVICE_NOT_FOUND")
    return Response(status_code=204)


@router.put("/v2/subscriptions/{device_id}/{path:path}", summary="Subscribe to a resource", status_code=202)
async def put_subscription(core: TheCore, key: TheKey, device_id: str, path: str) -> AsyncId:
    """Subscribe; the present value comes as the async-response of the id returned, later ones as notifications.

    It ends when the device registers in full; what pre-subscriptions have subscribed to is subscribed to again then.
    """
    return AsyncId.model_validate({"async-response-id": await core.observations.subscribe(key.id, device_id, path)})


@router.get("/v2/subscriptions/{device_id}/{path:path}", summary="Ask whether a resource is subscribed to")
async def get_subscription(core: TheCore, key: TheKey, device_id: str, path: str) -> Response:
    """200 if the key has subscribed to it, else 404."""
    if str(split_uri(path)[0]) not in core.observations.list(key.id, device_id):
        raise Refused(404, "SUBSCRIPTION_NOT_FOUND")
    return Response(status_code=200)


@router.delete("/v2/subscriptions/{device_id}/{path:path}", summary="End a subscription", status_code=204)
async def delete_subscription(core: TheCore, key: TheKey, device_id: str, path: str) -> Response:
    """End it; 404 if there is none."""
    if not await core.observations.unsubscribe(key.id, device_id, path):
        raise Refused(404, "SUBSCRIPTION_NOT_FOUND")
    return Response(status_code=204)
