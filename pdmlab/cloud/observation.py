"""A resource that is observed: its values as they come, until the with statement is left."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from pdmlab.cloud.channel import Channel, Event, Mailbox, refused
from pdmlab.cloud.frames import frame_of
from pdmlab.cloud.rest import Rest, parsed
from pdmlab.cloud.values import Value, decode
from pdmlab.errors import ConfigError, ServiceError, TimedOut

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Notification:
    """A value, and when this program got it (host clock, UTC)."""

    time: datetime.datetime
    path: str
    value: Value


class Observation:
    """An observed resource; get it with `device.observe(path)` and use it in a with statement.

    >>> with device.observe("/3303/0/5700") as values:      # doctest: +SKIP
    ...     for note in values.take(5, timeout=10):
    ...         print(note.value)
    """

    def __init__(self, rest: Rest, device: str, path: str, timeout: float) -> None:
        self._rest, self._device, self.path = rest, device, path
        self._timeout = timeout
        self._stack = ExitStack()
        self._mailbox: Mailbox | None = None
        self.seen: list[Notification] = []
        """Everything that came, oldest first."""

    def __enter__(self) -> Observation:
        """Subscribe, and wait for the first value.

        Raises:
            ServiceError: the service or the device refused.
            TimedOut: the device did not answer.
        """
        channel = Channel.of(self._rest)
        with ExitStack() as stack:
            self._mailbox = stack.enter_context(channel.values(self._device, self.path))
            stack.callback(self._unsubscribe, channel)
            self._subscribe(channel)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mailbox = None
        self._stack.close()

    def __iter__(self) -> Iterator[Notification]:
        """Yield values as they come; wait for each as long as the first was given time for, and raise TimedOut."""
        while True:
            yield self.next(self._timeout)

    def next(self, timeout: float) -> Notification:
        """Return the next value; raise TimedOut if none comes within timeout (s)."""
        if self._mailbox is None:
            raise ConfigError(
                f"{self.path} is not observed any more", hint="read values inside the with statement that observes"
            )
        event = self._mailbox.get(
            timeout,
            f"{self.path} of device {self._device}",
            "a notification needs a changed value that meets pmin, gt, lt and st",
        )
        return self._keep(event)

    def take(self, count: int, *, timeout: float = 30.0) -> Iterator[Notification]:
        """Yield count values, waiting at most timeout (s) for each; then, or when none comes, end."""
        for _ in range(count):
            try:
                yield self.next(timeout)
            except TimedOut:
                return

    def frame(self) -> pd.DataFrame:
        """Return all that came so far: time, path, value."""
        rows = [{"time": note.time, "path": note.path, "value": note.value} for note in self.seen]
        return frame_of(rows, ("time", "path", "value"))

    def _subscribe(self, channel: Channel) -> None:
        url = f"/v2/subscriptions/{self._device}{self.path}"
        answer = self._rest.call("PUT", url)
        async_id = str(parsed(answer, f"PUT {url}").get("async-response-id", "")) if answer.status_code == 202 else ""
        if not async_id:
            return
        what = f"observe {self.path} of device {self._device}"
        with channel.answer(async_id) as mailbox:
            event = mailbox.get(self._timeout, what, "the device may sleep, or be off: device.queue() shows what waits")
        if event["status"] >= 300:
            raise refused(event, what)
        if event.get("payload"):
            self._keep(event)

    def _unsubscribe(self, channel: Channel) -> None:
        """End the subscription, unless somebody else in this program still wants the values."""
        if channel.others_want(self._device, self.path):
            return
        try:
            self._rest.call("DELETE", f"/v2/subscriptions/{self._device}{self.path}")
        except ServiceError as error:
            if error.status != 404:  # 404: gone already, as after a new registration
                raise

    def _keep(self, event: Event) -> Notification:
        value = decode(event.get("payload", ""), event.get("ct"), self.path)
        note = Notification(datetime.datetime.now(datetime.UTC), self.path, value)
        self.seen.append(note)
        return note

    def __repr__(self) -> str:
        state = "observed" if self._mailbox is not None else "not observed"
        return f"<Observation of {self.path} on {self._device}, {state}, {len(self.seen)} values>"
