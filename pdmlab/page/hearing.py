"""What a key's notification channel brings, passed on to those on the page who wait for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

from pdmlab.cloud.channel import refused
from pdmlab.cloud.ears import HOLD_S
from pdmlab.errors import PdmlabError, ServiceError, TimedOut
from pdmlab.page.api import Api

Event: TypeAlias = dict[str, Any]
"""An async-response or a notification, as the service's JSON has it."""
Hearer: TypeAlias = Callable[[Event], None]

EARLY = 256
"""Answers kept for those who ask for them only after they have come."""
LINGER_S = 1.0
"""How long the poll is kept when nobody waits: another program with the same key gets its turn."""
RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0)

_WAITS = "the device may sleep, or be off: its queue shows what waits, and why"
_CONTESTED = "another program polls with the same key; a key of its own for each ends that"


class Hearing:
    """The long poll of one key; it is open while somebody waits for an answer or listens to a value."""

    def __init__(self, api: Api, registered: Callable[[str], None]) -> None:
        """registered: called with each device that registers anew, which forgets what was observed."""
        self._api = api
        self._registered = registered
        self._answers: dict[str, asyncio.Future[Event]] = {}
        self._early: OrderedDict[str, Event] = OrderedDict()
        self._values: dict[tuple[str, str], Hearer] = {}
        self._task: asyncio.Task[None] | None = None
        self.trouble: PdmlabError | None = None
        """Why the last poll failed; None when it did not."""

    def __repr__(self) -> str:
        return f"<Hearing of {self._api.url}, {len(self._answers)} answers and {len(self._values)} values wanted>"

    async def answer(self, async_id: str, timeout: float, what: str) -> Event:
        """Return the answer to a request: its payload and content type.

        Raises:
            ServiceError: the service or the device refused; its hint says what to try.
            TimedOut: none came within timeout (s).
        """
        if async_id in self._early:
            event = self._early.pop(async_id)
        else:
            future = self._answers[async_id] = asyncio.get_running_loop().create_future()
            self._begin()
            try:
                event = await asyncio.wait_for(future, timeout)
            except TimeoutError:
                trouble = f"; the last poll failed: {self.trouble.message}" if self.trouble is not None else ""
                hint = _CONTESTED if trouble else _WAITS
                raise TimedOut(f"{what}: nothing came in {timeout:.0f} s{trouble}", hint=hint) from None
            finally:
                del self._answers[async_id]
        if int(event["status"]) >= 300:
            raise refused(event, what)
        return event

    def listen(self, device: str, path: str, hearer: Hearer) -> None:
        """Have a function called with each value of a resource."""
        self._values[device, path] = hearer
        self._begin()

    def unlisten(self, device: str, path: str) -> None:
        """Call it no more."""
        self._values.pop((device, path), None)

    async def close(self) -> None:
        """End the poll."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        failures = 0
        while True:
            if not (self._answers or self._values):
                await asyncio.sleep(LINGER_S)
                if not (self._answers or self._values):
                    return
            try:
                answer = await self._api.call("GET", "/v2/notification/pull", timeout=HOLD_S)
                if answer.status_code == 200:
                    self._deliver(answer.json())
                self.trouble, failures = None, 0
            except (PdmlabError, ValueError, KeyError, TypeError, AttributeError) as error:
                self.trouble = error if isinstance(error, PdmlabError) else ServiceError(
                    "GET /v2/notification/pull: the answer is no notification message", status=200
                )  # fmt: skip
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1

    def _deliver(self, message: dict[str, list[Any]]) -> None:
        for event in message.get("async-responses", ()):
            future = self._answers.get(event["id"])
            if future is not None and not future.done():
                future.set_result(event)
            else:
                self._early[event["id"]] = event
                if len(self._early) > EARLY:
                    self._early.popitem(last=False)
        for event in message.get("notifications", ()):
            hearer = self._values.get((event["ep"], event["path"]))
            if hearer is not None:
                hearer(event)
        for event in message.get("registrations", ()):
            with contextlib.suppress(KeyError):
                self._registered(event["ep"])
