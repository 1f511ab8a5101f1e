"""Which part of the service answers which CoAP request; whatever a request is made of, it gets an answer."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.coap.endpoint import Endpoint, Handler
from pdmlab.coap.router import Router
from pdmlab.coap.transport import Address
from pdmlab.errors import Lwm2mError, ServiceError
from pdmlab.lwm2m import content
from pdmlab.service.refusal import Refused
from pdmlab.service.registering import answer

if TYPE_CHECKING:
    from pdmlab.service.core import Core

RESOURCES = {
    "bootstrap": b'</bs>;rt="oma.lwm2m.bs",</est/sen>;rt="est"',
    "lwm2m": b'</rd>;rt="oma.lwm2m.rd",</fw>;rt="firmware",</est/sen>;rt="est"',
}
"""What /.well-known/core lists on each of the two servers."""


def routes(core: Core, role: str, endpoint: Endpoint) -> Handler:
    """Return what answers the requests to the endpoint of a role: bootstrap or lwm2m.

    Each has its own, and only those: who a peer is, is known where it has proved it.
    """
    router = Router()

    def well_known(message: Message, peer: Address) -> Message:
        response = Message(code=codes.CONTENT, payload=RESOURCES[role])
        response.opt.content_format = content.LINK_FORMAT
        return response

    def add(method: Code, pattern: str, handler: Handler) -> None:
        router.add(method, pattern, _guarded(core, endpoint, handler))

    router.add(codes.GET, ".well-known/core", well_known)
    if role == "bootstrap":
        add(codes.POST, "bs", functools.partial(core.bootstrap.request, endpoint))
        add(codes.POST, "est/sen", core.est.at_bootstrap)
        return router
    add(codes.POST, "rd", core.registrations.register)
    add(codes.POST, "rd/*/*", core.registrations.update)
    add(codes.DELETE, "rd/*/*", core.registrations.deregister)
    add(codes.GET, "fw", core.downloads.block)
    add(codes.GET, "fw/*", core.downloads.file)
    add(codes.GET, "download", core.downloads.block)
    add(codes.POST, "est/sen", core.est.renewed)
    add(codes.POST, "est/*/sen", core.est.renewed)
    return router


def _guarded(core: Core, endpoint: Endpoint, handler: Handler) -> Handler:
    """Return the handler with its refusals as answers, which are noted; what answers at once still does."""

    def refused(error: Lwm2mError | ServiceError) -> Message:
        if isinstance(error, ServiceError) and not isinstance(error, Refused):
            # The device tries again; nothing that it said was kept.
            return answer(codes.SERVICE_UNAVAILABLE, error.message)
        return answer(codes.BAD_REQUEST, error.message)

    def noted(message: Message, peer: Address, response: Message | None) -> Message | None:
        if response is not None and 128 <= response.code < codes.INTERNAL_SERVER_ERROR:
            core.refusals.note(endpoint, message, peer, response)
        return response

    async def waited(message: Message, peer: Address, answering: Awaitable[Message | None]) -> Message | None:
        try:
            response = await answering
        except (Lwm2mError, ServiceError) as error:
            response = refused(error)
        return noted(message, peer, response)

    def answered(message: Message, peer: Address) -> Awaitable[Message | None] | Message | None:
        try:
            response = handler(message, peer)
        except (Lwm2mError, ServiceError) as error:
            response = refused(error)
        if inspect.isawaitable(response):
            return waited(message, peer, response)
        return noted(message, peer, response)

    return answered
