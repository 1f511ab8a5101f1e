"""The device's own words on its updates: what lies in its slots, what its bootloader printed, what it last refused.

Object 26241, pdmlab's own, of the numbers that OMA leaves to anybody: a stock client has nothing like it. It is
answered when it is read, and in no registration, which so stays the stock client's to the byte: docs/decisions/0038.

    /26241/0/0  the bootloader's name     /26241/0/1  slots, areas and media as JSON
    /26241/0/2  its log of this start     /26241/0/3  what the update client last refused, and why
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.background import Background
from pdmlab.client.error import Error
from pdmlab.client.platform import Platform
from pdmlab.errors import PdmlabError
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.content import TEXT, TLV, TLV_OLD
from pdmlab.lwm2m.paths import Path
from pdmlab.update.device_words import BOOTLOADER, LOG, MOST_LOG, MOST_REFUSAL, MOST_SLOTS, MOST_TEXT, OBJECT, REFUSAL

if TYPE_CHECKING:
    from pdmlab.update.bootloaders.interface import ImageHeader, Slot

_FIELD = 96
"""Characters of one field of a header."""
_KEPT_BACK = ("key", "hmac", "iv", "salt", "tag", "mac", "signature")
"""Words in the names of a header's fields that are nobody's business, or too long to be of use."""


class UpdateWords:
    """What one device says of its updates; nothing is looked at before somebody asks."""

    def __init__(self, platform: Platform, background: Background) -> None:
        self._platform = platform
        self._background = background
        self._looking = asyncio.Lock()
        self._refusal = ""

    def __repr__(self) -> str:
        return f"<UpdateWords /{OBJECT}, {self._refusal or 'nothing refused'}>"

    def heard(self, error: Error, details: str) -> None:
        """Keep what the client reports of an update."""
        if error.name.startswith("Update"):
            self._refusal = details[:MOST_REFUSAL]

    async def answer(self, path: Path, request: Message) -> Message:
        """Answer a read of the object, its instance or one of its resources."""
        accept = None if request.opt.accept is None else int(request.opt.accept)
        ids = path.ids
        if len(ids) > 3 or (len(ids) > 1 and ids[1] != 0) or (len(ids) == 3 and ids[2] > REFUSAL):
            return Message(code=codes.NOT_FOUND)
        if request.opt.observe == 0:
            return Message(code=codes.METHOD_NOT_ALLOWED, payload=f"{path} is not observable".encode())
        if len(ids) == 3 and accept in (None, TEXT):
            return Message(code=codes.CONTENT, payload=await self._value(ids[2]), content_format=TEXT, max_age=0)
        if accept not in (None, TLV, TLV_OLD):
            return Message(code=codes.NOT_ACCEPTABLE)
        wanted = ids[2:] or tuple(range(REFUSAL + 1))
        entries = [tlv.resource(id, await self._value(id)) for id in wanted]
        inside = entries if len(ids) > 1 else [tlv.object_instance(0, entries)]
        return Message(code=codes.CONTENT, payload=tlv.encode(inside), content_format=accept or TLV, max_age=0)

    async def _value(self, id: int) -> bytes:
        if id == BOOTLOADER:
            return str(self._platform.bootloader.kind).encode()
        if id == LOG:
            return self._platform.boot_log.encode()[-MOST_LOG:]
        if id == REFUSAL:
            return self._refusal.encode()
        async with self._looking:  # it hashes images: two at once would take twice as long
            report = await self._background.blocking(self._look)
        return json.dumps(report, separators=(",", ":")).encode()

    def _look(self) -> dict[str, Any]:  # Any: whatever JSON can hold
        """Look at the slots; blocking, and as long as it takes to hash what is in them."""
        layout = self._platform.layout
        report: dict[str, Any] = {
            "media": {"FLASHIAP": layout.geometry.size},
            "areas": [[area.name, area.offset, area.size] for area in layout.areas()],
        }
        try:
            report["slots"] = [described(slot) for slot in self._platform.bootloader.slots()[:MOST_SLOTS]]
        except PdmlabError as error:
            report |= {"slots": [], "problem": error.message[:MOST_TEXT]}
        return report


def described(slot: Slot) -> dict[str, Any]:  # Any: whatever JSON can hold
    """Return a slot in JSON's types: where it is, its state, and its header's fields."""
    found: dict[str, Any] = {
        "name": slot.name, "medium": slot.medium, "offset": slot.offset, "size": slot.size, "state": slot.state,
        "detail": slot.detail[:MOST_TEXT], "header": None,
    }  # fmt: skip
    if slot.header is not None:
        header = slot.header
        found["header"] = {
            "size": header.size,
            "version": header.version_text[:_FIELD],
            "number": header.version_number,
            "digest": header.digest.hex(),
            "more": _more(header),
        }
    return found


def _more(header: ImageHeader) -> Mapping[str, Any]:  # Any: whatever JSON can hold
    """Return what a header's layout has beside what all of them have; what is nought or empty is left out."""
    if not dataclasses.is_dataclass(header):
        return {}
    more: dict[str, Any] = {}
    for field in dataclasses.fields(header):
        value = getattr(header, field.name)
        known = field.name in ("size", "version", "digest", "version_number", "version_text")
        if known or not value or any(word in _KEPT_BACK for word in field.name.split("_")):
            continue
        if isinstance(value, bytes):
            if value.strip(b"\0"):
                more[field.name] = value.hex()[:_FIELD]
        elif isinstance(value, int | str):
            more[field.name] = value if isinstance(value, int) else value[:_FIELD]
    return more
