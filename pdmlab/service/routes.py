"""Which part of the service answers which CoAP request; whatever a request is made of, it gets an answer."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint, Handler
from pdmlab.coap.router import Router
from pdmlab.coap.transport import Address
from pdmlab.errors import Lwm2mError, ServiceError
from pdmlab.lwm2m import content
from pdmlab.service.registering import answer

if TYPE_CHECKING:
    from pdmlab.service.core import Core

RESOURCES = b'</bs>;rt="oma.lwm2m.bs",</rd>;rt="oma.lwm2m.rd",</fw>;rt="firmware"'
"""What /.well-known/core lists; both ports serve all of it."""


def routes(core: Core, endpoint: Endpoint) -> Handler:
    """Return what answers an endpoint's requests."""
    router = Router()

    async def well_known(message: Message, peer: Address) -> Message:
        response = Message(code=codes.CONTENT, payload=RESOURCES)
        response.opt.content_format = content.LINK_FORMAT
        return response

    router.add(codes.GET, ".well-known/core", well_known)
    router.add(codes.POST, "bs", _guarded(functools.partial(core.bootstrap.request, endpoint)))
    router.add(codes.POST, "rd", _guarded(core.registrations.register))
    router.add(codes.POST, "rd/*/*", _guarded(core.registrations.update))
    router.add(codes.DELETE, "rd/*/*", _guarded(core.registrations.deregister))
    router.add(codes.GET, "fw", _guarded(core.downloads.block))
    router.add(codes.GET, "download", _guarded(core.downloads.block))
    return router


def _guarded(handler: Handler) -> Handler:
    async def answered(message: Message, peer: Address) -> Message | None:
        try:
            return await handler(message, peer)
        except Lwm2mError as error:
            return answer(codes.BAD_REQUEST, error.message)
        except ServiceError as error:
            # The device tries again; nothing that it said was kept.
            return answer(codes.SERVICE_UNAVAILABLE, error.message)

    return answered
