"""GET /fw and /fw/ID: firmware for devices, block by block over their LwM2M connection, counted as it goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import Address, scheme_of
from pdmlab.service.firmware import Image
from pdmlab.service.refusal import Refused
from pdmlab.service.registering import answer

if TYPE_CHECKING:
    from pdmlab.service.core import Core

LARGEST_BLOCK = 6  # its exponent: 1024 B


class Downloads:
    """Serves what manifests' URIs name; the device sends the URI along as Proxy-Uri."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def block(self, message: Message, peer: Address) -> Message:
        """Answer GET /fw with the block asked for and Size2; 4.04 if nobody here has that payload."""
        uri = message.opt.proxy_uri
        if uri is None:
            return answer(codes.BAD_REQUEST, "Proxy-Uri must be the URI of the manifest")
        return self._block(message, peer, uri)

    def file(self, message: Message, peer: Address) -> Message:
        """Answer GET /fw/ID in the same way: what /5/0/1 of a device with object 5 names."""
        return self._block(message, peer, "/" + "/".join(message.opt.uri_path))

    def _block(self, message: Message, peer: Address, uri: str) -> Message:
        image = self._core.firmware.payload(uri)
        if image is None or not self._may_have(peer, image):
            return answer(codes.NOT_FOUND, f"no firmware image has the URI {uri[:200]}")
        asked = message.opt.block2
        number, szx = (0, LARGEST_BLOCK) if asked is None else (asked.block_number, asked.size_exponent)
        start, size = number << (4 + szx), 16 << szx
        if szx > LARGEST_BLOCK or start >= image.size:
            return answer(codes.BAD_REQUEST, f"the image has {image.size} B and no block {number}")
        stop = min(start + size, image.size)
        try:
            part = image.read(start, stop)
        except Refused as refused:
            return answer(codes.NOT_FOUND, refused.message)
        response = Message(code=codes.CONTENT, payload=part)
        response.opt.block2 = (number, stop < image.size, szx)
        response.opt.size2 = image.size
        self._core.campaigns.served(peer, uri, start, len(part), image.size)
        return response

    def _may_have(self, peer: Address, image: Image) -> bool:
        """Whether an image is of the peer's account; over plain CoAP its URI, which cannot be guessed, is enough."""
        registration = self._core.registrations.speaking(peer)
        if registration is None:
            return not scheme_of(peer).startswith("coaps")
        return image.account_id == registration.account_id
