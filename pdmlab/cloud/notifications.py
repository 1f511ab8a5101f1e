"""Everything that the service tells a key: devices that come and go, and values that were subscribed to."""

from __future__ import annotations

import datetime
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pdmlab.cloud.both import M
from pdmlab.cloud.frames import frame_of
from pdmlab.cloud.mailbox import Event
from pdmlab.cloud.stream import Stream
from pdmlab.cloud.values import Value, decode

if TYPE_CHECKING:
    import pandas as pd

KINDS = {
    "registrations": "registered",
    "reg-updates": "updated",
    "de-registrations": "deregistered",
    "registrations-expired": "expired",
    "notifications": "value",
    "async-responses": "answer",
}
"""Parts of a message, and what an item of each is called here."""


@dataclass(frozen=True)
class News:
    """One thing that the service told, and when this program got it (host clock, UTC).

    kind       registered, updated, deregistered, expired: what a device did; value: a resource's; answer: to a request
    device_id  whose it is; empty of an answer
    path       of a value, such as /3303/0/5700
    value      of a value, or in an answer
    fields     all that the service said, as its JSON has it
    """

    time: datetime.datetime
    kind: str
    device_id: str
    path: str = ""
    value: Value | None = None
    fields: dict[str, Any] = field(default_factory=dict, repr=False)


class Notifications(Stream[News, M]):
    """News as they come; get them with `cloud.notifications()` and use them in a with statement.

    >>> with cloud.notifications() as news:                  # doctest: +SKIP
    ...     for each in news.take(10, timeout=60):
    ...         print(each.kind, each.device_id, each.path, each.value)
    """

    async def _enter(self) -> None:
        self._stack = ExitStack()
        self._mailbox = self._stack.enter_context(self._channel.news(self._rest.mailbox()))

    async def _leave(self) -> None:
        self._mailbox = None
        self._stack.close()

    def frame(self) -> pd.DataFrame:
        """Return all that came so far: time, kind, device_id, path, value."""
        return frame_of(map(asdict, self.seen), ("time", "kind", "device_id", "path", "value"))

    def _read(self, event: Event) -> list[News]:
        at = datetime.datetime.now(datetime.UTC)
        return [_news(at, kind, each) for part, kind in KINDS.items() for each in event.get(part) or ()]

    def _what(self) -> str:
        return f"news of {self._rest.host}"

    def _hint(self) -> str:
        return (
            "only what was subscribed to is told: cloud.presubscriptions.set(…), cloud.subscriptions.add(device, path)"
        )

    def __repr__(self) -> str:
        state = "open" if self._mailbox is not None else "closed"
        return f"<Notifications of {self._rest.host} by {self._channel.kind}, {state}, {len(self.seen)} seen>"


def _news(at: datetime.datetime, kind: str, said: Any) -> News:  # what JSON holds: an object, or a device's id
    if not isinstance(said, dict):
        return News(at, kind, str(said))
    path, device = str(said.get("path", "")), str(said.get("ep", ""))
    value = decode(str(said["payload"]), said.get("ct"), path or "/") if said.get("payload") else None
    return News(at, kind, device, path, value, said)
