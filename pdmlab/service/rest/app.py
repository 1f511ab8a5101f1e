"""The application that serves the REST API over a core that has been started."""

from __future__ import annotations

from starlette.types import ASGIApp

from pdmlab.service.core import Core
from pdmlab.service.rest import (
    accounts,
    allocation,
    api_keys,
    billing,
    campaigns,
    certificates,
    connect,
    credentials,
    device_groups,
    devices,
    docs,
    enrollment,
    groups,
    images,
    issuers,
    lab,
    lab_campaigns,
    lab_devices,
    lab_live,
    manifests,
    metrics,
    notification,
    queries,
    renewals,
    security,
    shared_keys,
    statistics,
    subscriptions,
    tenants,
    uploads,
    users,
    websocket,
)
from pdmlab.service.rest.description import DescribedAPI
from pdmlab.service.rest.errors import handle_errors
from pdmlab.service.rest.front import Front

HOLD_S = 25.0
"""How long a poll is held; stock SDKs ask again at once, so that a short one would keep both sides busy."""

_ABOUT = (
    "Paths, fields and status codes are those of Pelion Device Management, as its SDK and manifest tool use them. "
    "Devices come by CoAP over DTLS and TLS; the API itself is plain HTTP on loopback, and HTTPS elsewhere."
)


def make_app(core: Core, *, hold_s: float = HOLD_S) -> ASGIApp:
    """Return the ASGI application; it has to run on the loop on which the core was started.

    hold_s: how long a poll for notifications is held (s).
    """
    app = DescribedAPI(
        title="pdmlab device management",
        description=_ABOUT,
        version="3",
        servers=[{"url": "/", "description": "This service."}],
        openapi_url=None,  # docs.py serves it
        docs_url=None,  # FastAPI's own page loads scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.core = core
    app.state.hold_s = hold_s
    handle_errors(app)
    # Paths are tried in this order: what is asked most comes first, and uploads before images, whose paths fit theirs.
    for part in (connect, notification, websocket, subscriptions, devices, campaigns, statistics):
        app.include_router(part.router)
    for part in (uploads, images, manifests):
        app.include_router(part.router)
    for part in (device_groups, queries, enrollment):
        app.include_router(part.router)
    for own in (api_keys.own, users.own):  # …/me, which would fit …/{id}
        app.include_router(own)
    for part in (credentials, shared_keys, issuers, renewals, security, metrics, billing):
        app.include_router(part.router)
    for part in (accounts, lab, allocation, lab_devices, lab_campaigns, lab_live):
        app.include_router(part.router)
    for part in (api_keys, users, groups, certificates):
        tenants.include(app, part.router)
    docs.add_docs(app)
    return Front(metrics.ConnectCalls(app, core), core)
