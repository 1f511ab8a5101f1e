"""Subscribing again to what is observed: a device that registers anew has forgotten it, and so has the service.

All of it belongs to the loop of the key's channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import httpx

from pdmlab.cloud.answers import parsed
from pdmlab.cloud.mailbox import Event
from pdmlab.errors import NetworkError, PdmlabError, ServiceError

Resource: TypeAlias = tuple[str, str]
"""A device's id, and a path."""
Call: TypeAlias = Callable[[str, str], Awaitable[httpx.Response]]
"""Makes a call, by method and path; raises what it is refused with."""

PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Between two tries while the service cannot be asked."""
CHANNEL = "/v2/notification/channel"


class Observer:
    """One who observes a resource; `made` when the service has said that it is subscribed to."""

    def __init__(self, device: str, path: str) -> None:
        self.resource = (device, path)
        self.made = self.doubted = False

    def __repr__(self) -> str:
        return f"<Observer of {self.resource[1]} on {self.resource[0]}>"


class Resubscriber:
    """Those who observe something by one channel; what the service does not tell any more is asked for again."""

    def __init__(self, tell: Callable[[Resource, Event | PdmlabError], None], early: Callable[[str], Event | None]):
        """tell: passes on a present value, or why none comes any more; early: gives an answer that is here already."""
        self._tell, self._early = tell, early
        self._observers: list[Observer] = []
        self._due: dict[Resource, None] = {}
        self._unheard = False
        self._asked: dict[str, Resource] = {}
        self._task: asyncio.Task[None] | None = None
        self._call: Call | None = None

    def __repr__(self) -> str:
        return f"<Resubscriber, {len(self._observers)} observe, {len(self._due)} to be looked at>"

    # -- who observes ----------------------------------------------------------------------------------

    def add(self, observer: Observer) -> None:
        """Note one who is about to subscribe."""
        self._observers.append(observer)

    def made(self, observer: Observer) -> None:
        """Note that the subscription is made; what happened to it meanwhile is made good now."""
        observer.made = True
        if observer.doubted:
            self._look_at(observer)

    def remove(self, observer: Observer) -> None:
        """Forget one who observes no longer."""
        self._observers.remove(observer)
        self._asked = {id: each for id, each in self._asked.items() if self._is_observed(each)}

    # -- what was heard --------------------------------------------------------------------------------

    def registered(self, device: str) -> None:
        """Look at what is observed of a device, which has registered anew."""
        for observer in self._observers:
            if observer.resource[0] == device:
                self._look_at(observer)

    def missed(self) -> None:
        """Look at everything as soon as there is a channel again: what was told meanwhile may be lost."""
        self._unheard = True
        for observer in self._observers:
            self._look_at(observer)

    def answered(self, event: Event) -> None:
        """Pass an async-response on, if it brings the present value of what was subscribed to here."""
        resource = self._asked.pop(event["id"], None)
        if resource is not None:
            self._tell(resource, event)

    # -- asking the service ----------------------------------------------------------------------------

    def begin(self, call: Call) -> None:
        """Make calls with this from now on."""
        self._call = call
        self._work_on()

    async def end(self) -> None:
        """Make no more calls; what is under way is finished."""
        self._call = None
        if self._task is not None:
            await asyncio.wait({self._task})

    def _look_at(self, observer: Observer) -> None:
        observer.doubted = True
        if observer.made:
            self._due[observer.resource] = None
            self._work_on()

    def _work_on(self) -> None:
        if self._due and self._call is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        failures = 0
        while self._due and (call := self._call) is not None:
            resource = next(iter(self._due))
            del self._due[resource]
            if not self._is_observed(resource):
                continue
            try:
                if self._unheard:  # a device that registers before there is a channel is heard by nobody
                    await call("GET", CHANNEL)
                    self._unheard = False
                await self._subscribe(call, resource)
                failures = 0
            except PdmlabError as error:
                if not self._may_pass(error):
                    self._tell(resource, error)
                    continue
                self._due[resource] = None
                await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
                failures += 1

    async def _subscribe(self, call: Call, resource: Resource) -> None:
        """Subscribe, if the service does not know any more that this is wanted."""
        url = f"/v2/subscriptions/{resource[0]}{resource[1]}"
        try:
            await call("GET", url)
            return
        except ServiceError as error:
            if error.status != 404:
                raise
        answer = await call("PUT", url)
        async_id = str(parsed(answer, f"PUT {url}").get("async-response-id", "")) if answer.content else ""
        if not self._is_observed(resource):  # it was left meanwhile
            await call("DELETE", url)
        elif (event := self._early(async_id)) is not None:
            self._tell(resource, event)
        elif async_id:
            self._asked[async_id] = resource

    def _is_observed(self, resource: Resource) -> bool:
        return any(observer.resource == resource for observer in self._observers)

    def _may_pass(self, error: PdmlabError) -> bool:
        """Tell whether it makes sense to try again."""
        if not isinstance(error, ServiceError):
            return isinstance(error, NetworkError)
        return error.status >= 500 or error.status == 429 or (self._unheard and error.status == 404)
