"""Who signs devices' certificates: /v3/certificate-issuers and /v3/certificate-issuer-configurations."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, Field

from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.rest.context import TheCore, TheKey
from pdmlab.service.rest.paging import Json, Page
from pdmlab.service.rest.texts import Text
from pdmlab.service.store import Row

router = APIRouter(tags=["Certificate issuers"])

IssuerId = Annotated[str, Path(description="The id of a certificate issuer.")]
ConfigurationId = Annotated[str, Path(description="The id of a certificate issuer configuration.")]
WantedIssuer = Annotated[
    Text | None, Field(max_length=32, description="null: the service's own CA, which is the only one here.")
]


class IssuerChange(BaseModel):
    """What is to change."""

    name: Text | None = Field(None, min_length=1, max_length=50)
    description: Text | None = Field(None, max_length=100)
    issuer_attributes: dict[Text, Text] | None = None
    issuer_credentials: dict[Text, Text] | None = Field(None, repr=False)


class NewIssuer(IssuerChange):
    """A third party's CA."""

    name: Text = Field(min_length=1, max_length=50)
    issuer_type: Literal["GLOBAL_SIGN", "CFSSL_AUTH"]
    issuer_credentials: dict[Text, Text] = Field(repr=False)


class Configuration(BaseModel):
    """Who signs."""

    certificate_issuer_id: WantedIssuer = None


class NewConfiguration(Configuration):
    """Who signs certificates of a name."""

    reference: Text = Field(max_length=100, description="The certificate's name on the device, such as customer.dlms.")


def shape(row: Row) -> Json:
    """Return a configuration as the API shows it."""
    return {
        "object": "certificate-issuer-configuration",
        "id": row["id"],
        "reference": row["reference"],
        "certificate_issuer_id": None,
        "is_custom": row["reference"] != "LWM2M",
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "etag": row["updated_at"],
    }


@router.get("/v3/certificate-issuers", summary="List certificate issuers")
async def list_issuers(core: TheCore, key: TheKey, page: Page) -> Json:
    """CAs of third parties: none. The service's own is null wherever an issuer is named, and needs no entry."""
    return page.cut([])


@router.post("/v3/certificate-issuers", summary="Add a certificate issuer", status_code=424, responses={400: {}})
async def post_issuer(core: TheCore, key: TheKey, wanted: NewIssuer) -> Json:
    """Is refused: the service reaches no CA of a third party, and does not keep credentials that it cannot use."""
    raise Refused(
        424,
        f"the service reaches no {wanted.issuer_type}: it runs where there is no such CA, and signs with its own",
        type="failed_dependency",
        hint="name certificates for its own CA by POST /v3/certificate-issuer-configurations",
    )


@router.get("/v3/certificate-issuers/{issuer_id}", summary="Get a certificate issuer")
async def get_issuer(core: TheCore, key: TheKey, issuer_id: IssuerId) -> Json:
    """There is none beside the service's own CA."""
    raise not_found("certificate issuer", issuer_id)


@router.put("/v3/certificate-issuers/{issuer_id}", summary="Change a certificate issuer")
async def put_issuer(core: TheCore, key: TheKey, issuer_id: IssuerId, change: IssuerChange) -> Json:
    """There is none beside the service's own CA."""
    raise not_found("certificate issuer", issuer_id)


@router.delete("/v3/certificate-issuers/{issuer_id}", summary="Delete a certificate issuer", status_code=204)
async def delete_issuer(core: TheCore, key: TheKey, issuer_id: IssuerId) -> Response:
    """There is none beside the service's own CA."""
    raise not_found("certificate issuer", issuer_id)


@router.post("/v3/certificate-issuers/{issuer_id}/verify", summary="Try a certificate issuer")
async def verify_issuer(core: TheCore, key: TheKey, issuer_id: IssuerId) -> Json:
    """There is none beside the service's own CA."""
    raise not_found("certificate issuer", issuer_id)


@router.get("/v3/certificate-issuer-configurations", summary="List certificate issuer configurations")
async def list_configurations(
    core: TheCore,
    key: TheKey,
    page: Page,
    reference: Annotated[str | None, Query(alias="reference__eq", description="A certificate's name.")] = None,
) -> Json:
    """Names of certificates that devices may renew, and who signs them: null is the service's own CA."""
    return page.cut([shape(row) for row in core.issuers.list(key.account_id, reference)])


@router.post("/v3/certificate-issuer-configurations", summary="Configure a certificate's issuer", status_code=201)
async def post_configuration(core: TheCore, key: TheKey, wanted: NewConfiguration) -> Json:
    """Let devices renew certificates of a name; the service's CA signs them."""
    _check(wanted)
    return shape(core.issuers.add(key.account_id, wanted.reference))


@router.get("/v3/certificate-issuer-configurations/lwm2m", summary="Get who signs what devices register with")
async def get_lwm2m(core: TheCore, key: TheKey) -> Json:
    """The service's own CA."""
    return shape(core.issuers.default(key.account_id))


@router.put("/v3/certificate-issuer-configurations/lwm2m", summary="Set who signs what devices register with")
async def put_lwm2m(core: TheCore, key: TheKey, wanted: Configuration) -> Json:
    """The service's own CA, which is null; there is no other."""
    _check(wanted)
    return shape(core.issuers.default(key.account_id))


@router.get(
    "/v3/certificate-issuer-configurations/{configuration_id}", summary="Get a certificate issuer configuration"
)
async def get_configuration(core: TheCore, key: TheKey, configuration_id: ConfigurationId) -> Json:
    """Who signs certificates of a name."""
    return shape(core.issuers.get(key.account_id, configuration_id))


@router.put(
    "/v3/certificate-issuer-configurations/{configuration_id}", summary="Change a certificate issuer configuration"
)
async def put_configuration(
    core: TheCore, key: TheKey, configuration_id: ConfigurationId, wanted: Configuration
) -> Json:
    """Set who signs: the service's own CA, which is null."""
    row = core.issuers.get(key.account_id, configuration_id)
    _check(wanted)
    return shape(core.issuers.touch(key.account_id, row["id"]))


@router.delete(
    "/v3/certificate-issuer-configurations/{configuration_id}",
    summary="Delete a certificate issuer configuration",
    status_code=204,
)
async def delete_configuration(core: TheCore, key: TheKey, configuration_id: ConfigurationId) -> Response:
    """Let devices renew certificates of that name no more."""
    core.issuers.remove(key.account_id, configuration_id)
    return Response(status_code=204)


def _check(wanted: Configuration) -> None:
    if wanted.certificate_issuer_id is not None:
        raise Refused(
            400,
            f"there is no certificate issuer {wanted.certificate_issuer_id}",
            type="validation_error",
            hint="null is the service's own CA, which is the only one here",
        )
