"""What a key wants to hear of, and where: subscriptions, patterns for devices yet to register, a webhook."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from pdmlab.cloud.both import M, Noun, both
from pdmlab.cloud.channel import Channel
from pdmlab.cloud.frames import frame_of
from pdmlab.cloud.item import id_of
from pdmlab.cloud.listing import HasId
from pdmlab.errors import ServiceError
from pdmlab.lwm2m.paths import Path

if TYPE_CHECKING:
    import pandas as pd

Pattern: TypeAlias = Mapping[str, "str | Iterable[str]"]
"""endpoint_name and endpoint_type, a whole one or with * at the end, and resource_path, one or several."""

_ROOT = "/v2/subscriptions"
_CALLBACK = "/v2/notification/callback"


class Subscriptions(Noun[M]):
    """Resources whose values this key is told: `cloud.subscriptions.add(device, "/3303/0/5700")`.

    device.observe(path) is the same with its end, and what most want.
    """

    @both
    async def paths(self, device: HasId | str) -> list[str]:
        """Return the paths that this key has subscribed to at a device."""
        try:
            answer = await self._rest.call("GET", f"{_ROOT}/{id_of(device)}")
        except ServiceError as error:
            if error.status != 404:
                raise
            return []
        return answer.text.split()

    @both
    async def add(self, device: HasId | str, path: str) -> None:
        """Subscribe to a resource; its values come as news."""
        await self._rest.call("PUT", f"{_ROOT}/{id_of(device)}{Path.parse(path)}")

    @both
    async def remove(self, device: HasId | str, path: str | None = None) -> None:
        """End a subscription, or all to a device."""
        await self._rest.call("DELETE", f"{_ROOT}/{id_of(device)}{'' if path is None else Path.parse(path)}")

    @both
    async def clear(self) -> None:
        """End all of this key's subscriptions, and its patterns."""
        await self._rest.call("DELETE", _ROOT)

    def __repr__(self) -> str:
        return f"<Subscriptions at {self._rest.host}>"


class Presubscriptions(Noun[M]):
    """Patterns of resources that are subscribed to as devices register: `cloud.presubscriptions.set(…)`."""

    @both
    async def set(self, *patterns: Pattern) -> None:
        """Replace this key's patterns: set({"endpoint_name": "desk*", "resource_path": "/3/*"}); none clears them."""
        await self._rest.call("PUT", _ROOT, body=[_written(pattern) for pattern in patterns])

    async def _frame(self) -> pd.DataFrame:
        rows = [
            {name.replace("-", "_"): value for name, value in row.items()} for row in await self._rest.get_list(_ROOT)
        ]
        return frame_of(rows, ("endpoint_name", "endpoint_type", "resource_path"))

    @both
    async def frame(self) -> pd.DataFrame:
        """Return this key's patterns: endpoint_name, endpoint_type, resource_path."""
        return await self._frame()

    def __repr__(self) -> str:
        return f"<Presubscriptions at {self._rest.host}>"


@dataclass(frozen=True)
class Callback:
    """Where the service sends this key's news by PUT, and with which headers, which may be secret."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


class Webhook(Noun[M]):
    """Where this key's news go if it does not ask for them: `cloud.webhook.set("https://…")`.

    A key has one channel: with a webhook, device.read() and the like cannot hear their answers here.
    """

    @both
    async def get(self) -> Callback | None:
        """Return what is set; None if there is none."""
        try:
            said = await self._rest.get(_CALLBACK)
        except ServiceError as error:
            if error.status != 404:
                raise
            return None
        return Callback(str(said["url"]), dict(said.get("headers") or {}))

    @both
    async def set(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        """Have news sent to an address, which has to answer a trial now; what waits on the key's long poll is lost.

        Raises:
            ConfigError: somebody in this program waits for answers or news.
            ServiceError: the address does not answer, or the key has a websocket.
        """
        Channel.end(self._rest)
        await self._rest.call("DELETE", "/v2/notification/pull")
        await self._rest.call("PUT", _CALLBACK, body={"url": url, "headers": dict(headers or {})})

    @both
    async def delete(self) -> None:
        """Have none sent any more."""
        await self._rest.call("DELETE", _CALLBACK)

    def __repr__(self) -> str:
        return f"<Webhook at {self._rest.host}>"


def _written(pattern: Pattern) -> dict[str, str | list[str]]:
    """Return a pattern as the API writes it."""
    written: dict[str, str | list[str]] = {}
    for name, value in pattern.items():
        paths = name in ("resource_path", "resource-path")
        written[name.replace("_", "-")] = ([value] if isinstance(value, str) else list(value)) if paths else str(value)
    return written
