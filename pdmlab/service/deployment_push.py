"""An image on its way to a device's /5/0/0: block by block (RFC 7959, Block1), other requests between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.blockwise import exponent
from pdmlab.lwm2m.content import OPAQUE
from pdmlab.lwm2m.paths import Path
from pdmlab.service.deployment_offer import Offer
from pdmlab.service.refusal import Refused
from pdmlab.service.store import Row
from pdmlab.update import object5

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.deployments import Deployments

STARTS = 2
"""Beginnings of one push: a device that has lost its first blocks says so (4.08), and gets them once more."""


async def push(core: Core, rows: Deployments, row: Row, offer: Offer) -> str:
    """Send an image; return the device's words if it refuses it, else "".

    Raises:
        NetworkError: the device does not answer any more.
    """
    device_id, image, registration = row["device_id"], offer.image, core.registrations.find(row["device_id"])
    assert image is not None
    if registration is None:
        return ""
    token, size = core.lwm2m.new_token(registration.peer), core.lwm2m.block_size(registration.peer)
    at, starts = 0, 1
    while at < image.size:
        stop = min(at + size, image.size)
        try:
            part = image.read(at, stop)
        except Refused as refused:
            return f"nothing more: {refused.message}"
        answer = await core.delivery.ask(device_id, _block(part, at, size, image.size, token))
        wanted = answer.opt.block1
        smaller = min(size, 16 << wanted.size_exponent if wanted is not None and wanted.size_exponent < 7 else size)
        if answer.code == codes.REQUEST_ENTITY_TOO_LARGE and at == 0 and smaller < size:
            size = smaller
        elif answer.code == codes.REQUEST_ENTITY_INCOMPLETE and starts < STARTS:
            at, starts = 0, starts + 1
        elif answer.code >= 128:
            said = answer.payload[:120].decode("utf-8", "replace")
            return f"{answer.code} {said}".strip() + f", after {at} of {image.size} B"
        else:
            if at == 0 and (now := rows.still(row)) is not None and now["step"] == "sending":
                rows.move(now, "downloading")
            rows.carried(device_id, row["payload_uri"], at, len(part), image.size)
            at = stop
            size = smaller if at % smaller == 0 else size
    return ""


def _block(part: bytes, at: int, size: int, total: int, token: bytes) -> Message:
    message = Message(code=codes.PUT, payload=part)
    message.opt.uri_path = Path.parse(object5.PACKAGE).segments
    message.opt.content_format = OPAQUE
    message.opt.block1 = (at // size, at + len(part) < total, exponent(size))
    if at == 0:
        message.opt.size1 = total
    message.token = token
    return message
