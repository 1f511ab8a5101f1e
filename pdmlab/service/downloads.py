"""GET /fw: firmware for devices, block by block over their LwM2M connection, counted as it goes out."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import Address, scheme_of
from pdmlab.service.registering import answer

if TYPE_CHECKING:
    from pdmlab.service.core import Core

LARGEST_BLOCK = 6  # its exponent: 1024 B
_OWNERS = 64  # URIs whose account is remembered: it is asked for with each block


class Downloads:
    """Serves what manifests' URIs name; the device sends the URI along as Proxy-Uri."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._owners: OrderedDict[str, str | None] = OrderedDict()

    def block(self, message: Message, peer: Address) -> Message:
        """Answer GET /fw with the block asked for and Size2; 4.04 if nobody here has that payload."""
        uri = message.opt.proxy_uri
        if uri is None:
            return answer(codes.BAD_REQUEST, "Proxy-Uri must be the URI of the manifest")
        payload = self._core.firmware.payload(uri)
        if payload is None or not self._may_have(peer, uri):
            return answer(codes.NOT_FOUND, f"no firmware image has the URI {uri[:200]}")
        asked = message.opt.block2
        number, szx = (0, LARGEST_BLOCK) if asked is None else (asked.block_number, asked.size_exponent)
        if szx > LARGEST_BLOCK or number << (4 + szx) >= len(payload):
            return answer(codes.BAD_REQUEST, f"the image has {len(payload)} B and no block {number}")
        start, size = number << (4 + szx), 16 << szx
        part = payload[start : start + size]
        response = Message(code=codes.CONTENT, payload=part)
        response.opt.block2 = (number, start + size < len(payload), szx)
        response.opt.size2 = len(payload)
        self._core.campaigns.served(peer, uri, start, len(part), len(payload))
        return response

    def _may_have(self, peer: Address, uri: str) -> bool:
        """Whether an image is of the peer's account; over plain CoAP its URI, which cannot be guessed, is enough."""
        registration = self._core.registrations.speaking(peer)
        if registration is None:
            return not scheme_of(peer).startswith("coaps")
        if uri not in self._owners:
            self._owners[uri] = self._core.firmware.owner(uri)
            if len(self._owners) > _OWNERS:
                self._owners.popitem(last=False)
        return self._owners[uri] == registration.account_id
