"""What a device with object 5 can be given of a campaign: the image block by block, or an address that it can fetch.

/5/0/9 says which of the two it takes, /5/0/8 by which protocols it fetches. Where it takes both, `prefer` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import scheme_of
from pdmlab.errors import ConfigError, Lwm2mError
from pdmlab.lwm2m import content
from pdmlab.lwm2m.paths import Path
from pdmlab.service.described import Described
from pdmlab.service.firmware import FILE_NAME, Image
from pdmlab.service.store import Row
from pdmlab.update import object5
from pdmlab.update.object5 import Delivery, Protocol

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration

How = Literal["pull", "push"]
MAIN = "MAIN"
_BY_SCHEME = {each.scheme: each for each in Protocol}
_DELIVERIES: dict[How, tuple[Delivery, ...]] = {
    "pull": (Delivery.PULL, Delivery.BOTH),
    "push": (Delivery.PUSH, Delivery.BOTH),
}


def check_delivery(text: str) -> How:
    """Return which of two ways is preferred, from a setting; "" is "pull".

    Raises:
        ConfigError: it is neither.
    """
    if text in ("", "pull"):
        return "pull"
    if text == "push":
        return "push"
    raise ConfigError(f"firmware is not delivered by {text[:40]!r}", hint='"pull" or "push"')


@dataclass(frozen=True)
class Offer:
    """What a device is given: an address (pull), or an image (push)."""

    how: How
    uri: str = ""
    image: Image | None = None


class Offers:
    """Makes offers; raises NetworkError where a device does not answer."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def fault(self, row: Row) -> str | None:
        """Say why a campaign's firmware is not for a device, as the device itself cannot; None if it may be."""
        described = Described.of(bytes(row["manifest"]))
        device = self._core.directory.find(row["device_id"]) or {"vendor_id": None, "device_class": None}
        if described.payload_digest != described.installed_digest:
            return "the payload is no whole image: a device with object 5 unpacks neither deltas nor encrypted ones"
        if described.component != MAIN:
            return f"the manifest is for component {described.component}, and object 5 has no components"
        for name, known, wanted in (
            ("vendor", device["vendor_id"], described.vendor_id),
            ("class", device["device_class"], described.device_class),
        ):
            if known and known != wanted:
                return f"the manifest is for {name} {wanted}, and the device's {name} is {known}"
        return None

    async def make(self, row: Row, registration: Registration) -> Offer | str:
        """Return what a device is given, or why nothing can be."""
        told = await self._numbers(row, object5.DELIVERY)
        delivery = next((each for each in Delivery if each in told), Delivery.BOTH)
        protocols = await self._numbers(row, object5.PROTOCOLS) or {Protocol.COAP}  # the default, by OMA's text
        image = self._core.firmware.payload(row["payload_uri"])
        offers: list[Offer] = []
        uri = self._uri(row["payload_uri"], image, registration, protocols)
        if uri is not None and delivery in _DELIVERIES["pull"]:
            offers.append(Offer("pull", uri=uri))
        if image is not None and delivery in _DELIVERIES["push"]:
            offers.append(Offer("push", image=image))
        prefer = self._core.campaigns.prefer
        for each in sorted(offers, key=lambda offer: offer.how != prefer):
            return each
        if image is None and uri is None:
            return f"the image is not here, and the device does not fetch {row['payload_uri']}"
        if delivery == Delivery.PUSH:
            return f"the device takes images that are sent to it alone, and {row['payload_uri']} is not here"
        names = ", ".join(each.scheme for each in Protocol if each in protocols)
        return f"the device fetches firmware by {names or 'nothing that is known'} alone, and is not to be sent it"

    def _uri(self, uri: str, image: Image | None, registration: Registration, protocols: set[int]) -> str | None:
        """Return where a device can fetch an image; None if nowhere."""
        if image is None:
            return uri if _BY_SCHEME.get(urlsplit(uri).scheme) in protocols else None
        scheme = scheme_of(registration.peer)
        if _BY_SCHEME.get(scheme) in protocols:
            return self._core.address("lwm2m", scheme) + f"/fw/{image.id}"
        if Protocol.HTTP in protocols and self._core.firmware.url is not None:
            return f"{self._core.firmware.url}/v3/firmware-images/{image.id}/{FILE_NAME}"
        return None

    async def _numbers(self, row: Row, path: str) -> set[int]:
        """Return the numbers of a resource, of one instance or several; none if the device does not have it."""
        message, where = Message(code=codes.GET), Path.parse(path)
        message.opt.uri_path = where.segments
        answer = await self._core.delivery.ask(row["device_id"], message)
        if answer.code >= 128:
            return set()
        format = answer.opt.content_format
        try:
            value = content.decode(answer.payload, "integer", None if format is None else int(format), where)
        except Lwm2mError:
            return set()
        values = list(value.values()) if isinstance(value, dict) else [value]
        return {each for each in values if isinstance(each, int)}
