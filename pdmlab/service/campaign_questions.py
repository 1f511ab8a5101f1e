"""What a campaign asks a device: which version it runs, how far it is, and how that ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.lwm2m.paths import Path
from pdmlab.service.described import Described
from pdmlab.service.store import Row
from pdmlab.service.values import plain
from pdmlab.update import hub
from pdmlab.update.manifest_v1 import told_as

if TYPE_CHECKING:
    from pdmlab.service.core import Core


class Questions:
    """Asks devices; raises NetworkError where one does not answer."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def version(self, row: Row) -> str | None:
        """Return the version that the device runs of the campaign's component; None if it does not tell.

        It stands in the instance of object 14 that has the component's name. A device of the update hub tells a digest.
        """
        device_id, instance = row["device_id"], 0
        listed = self._core.resources.list(device_id)
        paths = {each["path"] for each in listed}
        if hub.PACKAGE_NAME in paths and not any(path.startswith("/14/") for path in paths):
            digest = Described.of(bytes(row["manifest"])).installed_digest
            told = await self.value(row, hub.PACKAGE_NAME)
            return row["version"] if (told or "").lower() == digest else told
        for each in listed:
            ids = each["path"].split("/")[1:]
            named = len(ids) == 3 and ids[0] == "14" and ids[2] == "0"
            if named and (each["value"] or b"").decode("utf-8", "replace") == row["component"]:
                instance = int(ids[1])
        return await self.value(row, f"/14/{instance}/2")

    async def value(self, row: Row, path: str) -> str | None:
        """Return a value as text, asked of the device itself; None if it has none."""
        message = Message(code=codes.GET)
        message.opt.uri_path = Path.parse(path).segments
        answer = await self._core.delivery.ask(row["device_id"], message)
        if answer.code >= 128:
            return None
        format = answer.opt.content_format
        payload, _ = plain(path, answer.payload, None if format is None else int(format))
        return payload.decode("utf-8", "replace").strip()


def runs(version: str | None, row: Row) -> bool:
    """Whether a device that tells this version runs what its campaign leads to."""
    return version is not None and version in told_as(row["version"])
