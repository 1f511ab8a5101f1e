"""A resource that is observed: its values as they come, until the with statement is left."""

from __future__ import annotations

import datetime
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pdmlab.cloud.answers import parsed
from pdmlab.cloud.both import M
from pdmlab.cloud.channel import Channel, refused
from pdmlab.cloud.frames import frame_of
from pdmlab.cloud.mailbox import Event
from pdmlab.cloud.stream import Stream
from pdmlab.cloud.values import Value, decode
from pdmlab.errors import ServiceError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Notification:
    """A value, and when this program got it (host clock, UTC)."""

    time: datetime.datetime
    path: str
    value: Value


class Observation(Stream[Notification, M]):
    """An observed resource; get it with `device.observe(path)` and use it in a with statement.

    It goes on when the device registers anew, as after a reset: the next value is then the one that it has by then.

    >>> with device.observe("/3303/0/5700") as values:      # doctest: +SKIP
    ...     for note in values.take(5, timeout=10):
    ...         print(note.value)
    """

    def __init__(self, rest: M, channel: Channel, device: str, path: str, timeout: float) -> None:
        super().__init__(rest, channel, timeout)
        self._device, self.path = device, path
        self._stack = ExitStack()

    @property
    def _url(self) -> str:
        return f"/v2/subscriptions/{self._device}{self.path}"

    async def _enter(self) -> None:
        """Subscribe, and wait for the first value.

        Raises:
            ServiceError: the service or the device refused.
            TimedOut: the device did not answer.
        """
        mailbox = self._rest.mailbox()
        observer = self._stack.enter_context(self._channel.values(self._device, self.path, mailbox))
        try:
            await self._subscribe()
        except BaseException:
            await self._leave()
            raise
        self._mailbox = mailbox
        self._channel.made(observer)

    async def _leave(self) -> None:
        """End the subscription."""
        self._mailbox = None
        self._stack.close()  # first: from now on, nobody subscribes to it again
        await self._unsubscribe()

    def frame(self) -> pd.DataFrame:
        """Return all that came so far: time, path, value."""
        rows = [{"time": note.time, "path": note.path, "value": note.value} for note in self.seen]
        return frame_of(rows, ("time", "path", "value"))

    async def _subscribe(self) -> None:
        answer = await self._rest.call("PUT", self._url)
        async_id = str(parsed(answer, f"PUT {self._url}").get("async-response-id", "")) if answer.content else ""
        if not async_id:
            return
        what = f"observe {self.path} of device {self._device}"
        with self._channel.answer(async_id, self._rest.mailbox()) as mailbox:
            hint = "the device may sleep, or be off: device.queue() shows what waits"
            event = await self._channel.next(mailbox, self._timeout, what, hint)
        if event["status"] >= 300:
            raise refused(event, what, observing=True)
        if event.get("payload"):
            self._keep(self._note(event))

    async def _unsubscribe(self) -> None:
        """End the subscription, unless somebody else in this program still wants the values."""
        if self._channel.is_wanted(self._device, self.path):
            return
        try:
            await self._rest.call("DELETE", self._url)
        except ServiceError as error:
            if error.status != 404:  # 404: gone already, as after a new registration
                raise

    def _note(self, event: Event) -> Notification:
        value = decode(event.get("payload", ""), event.get("ct"), self.path)
        return Notification(datetime.datetime.now(datetime.UTC), self.path, value)

    def _read(self, event: Event) -> list[Notification]:
        return [self._note(event)]

    def _what(self) -> str:
        return f"{self.path} of device {self._device}"

    def _hint(self) -> str:
        return "a notification needs a changed value that meets pmin, gt, lt and st"

    def __repr__(self) -> str:
        state = "observed" if self._mailbox is not None else "not observed"
        return f"<Observation of {self.path} on {self._device}, {state}, {len(self.seen)} values>"
