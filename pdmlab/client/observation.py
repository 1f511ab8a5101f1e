"""Notifications: to those who observe a resource, and to the server for what it need not ask for (aobs)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.background import Background
from pdmlab.client.objects import ObjectTree
from pdmlab.client.resource import MbedCloudClientResource, NotificationDeliveryStatus, Resource
from pdmlab.clock import SECOND
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.exchange import Outcome
from pdmlab.coap.transport import Address
from pdmlab.lwm2m.attributes import NotificationAttributes, NotificationRule
from pdmlab.lwm2m.content import TLV, Value
from pdmlab.lwm2m.paths import Path

DEFAULT_ATTRIBUTES = NotificationAttributes(pmin=1)
"""The stock client's own: at most one notification a second."""
LONGEST_DELIVERY = 100.0
"""How long a notification may take, with the one that it waits for (s)."""
MAX_OBSERVERS = 64
"""Who observes more than that is answered and not told: an estimate of what a board has room for."""
RESEND_QUEUE = 5
"""How many notifications are under way at once, as many as the stock client keeps to send again; others wait."""
_FIRST_NUMBER = 2  # the response to the observation itself has 0
_Key: TypeAlias = tuple[Path, Address, bool]


@dataclass
class Observer:
    """Who is told of a resource, and under which token."""

    resource: Resource
    peer: Address
    token: bytes
    rule: NotificationRule
    auto: bool
    number: int = _FIRST_NUMBER - 1
    told: bool = True
    timer: asyncio.TimerHandle | None = None

    @property
    def key(self) -> _Key:
        """What it replaces another one by."""
        return self.resource.path, self.peer, self.auto

    def cancel(self) -> None:
        """Forget the notification that waits."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Observations:
    """All observers of a device: one a resource and peer, and the server of those that it need not ask for.

    `on_lost` hears when the server does not acknowledge a notification.
    """

    def __init__(self, tree: ObjectTree, background: Background, on_lost: Callable[[], None]) -> None:
        self._tree = tree
        self._background = background
        self._on_lost = on_lost
        self._observers: dict[_Key, Observer] = {}
        self._attributes: dict[Path, NotificationAttributes] = {}
        self._waited_for: set[Fate] = set()
        self._under_way = 0
        self._waiting: dict[_Key, tuple[Observer, list[Callable[[Outcome], object]]]] = {}
        self._server: Address | None = None
        self._endpoint: Endpoint | None = None

    # -- the connection ------------------------------------------------------------------------------

    def connected(self, endpoint: Endpoint) -> None:
        """Send notifications by this endpoint from now on, and those again that did not arrive."""
        if endpoint is not self._endpoint:
            self._endpoint = endpoint
            for observer in self._observers.values():
                if not observer.told:
                    self._send(observer)

    def disconnected(self) -> None:
        """Send nothing: the endpoint is closed."""
        self._endpoint, self._under_way = None, 0
        self._waiting.clear()
        for fate in list(self._waited_for):
            fate("timed out")

    # -- who observes --------------------------------------------------------------------------------

    def observe(self, resource: Resource, peer: Address, token: bytes) -> bool:
        """Start telling a peer, or go on under another token; return False if there are too many."""
        if sum(not each.auto for each in self._observers.values()) >= MAX_OBSERVERS:
            return False
        self._put(Observer(resource, peer, token, self._rule(resource), auto=False))
        _tell_application(resource, NotificationDeliveryStatus.SUBSCRIBED)
        return True

    def cancel(self, resource: Resource, peer: Address) -> int | None:
        """Stop telling a peer that asked for it; return the number of its last notification."""
        observer = self._observers.get((resource.path, peer, False))
        if observer is None:
            return None
        self._remove(observer)
        return observer.number if observer.number >= _FIRST_NUMBER else 0

    def registered(self, server: Address) -> None:
        """Start afresh for a server that has got a full registration: what it asked for before is gone."""
        for observer in list(self._observers.values()):
            if not observer.auto:
                self._remove(observer)
            observer.cancel()
        self._observers.clear()
        self._server = server
        for path, number in self._tree.auto.items():
            resource = self._tree.find(path)
            assert resource is not None
            token = number.to_bytes(2, "big")
            self._put(Observer(resource, server, token, self._rule(resource), auto=True))

    def _put(self, observer: Observer) -> None:
        old = self._observers.get(observer.key)
        if old is not None:
            old.cancel()
        self._observers[observer.key] = observer
        self._look(observer)

    def _remove(self, observer: Observer) -> None:
        observer.cancel()
        if self._observers.get(observer.key) is observer:
            del self._observers[observer.key]
            _tell_application(observer.resource, NotificationDeliveryStatus.UNSUBSCRIBED)

    # -- attributes ----------------------------------------------------------------------------------

    def write_attributes(self, path: Path, queries: tuple[str, ...]) -> None:
        """Take pmin, pmax, gt, lt and st for a path.

        Raises:
            Lwm2mError: they make no sense.
        """
        self._attributes[path] = self._effective(path).updated(queries)
        for observer in self._of(path):
            observer.rule.attributes = self._effective(observer.resource.path)
            self._look(observer)

    def _effective(self, path: Path) -> NotificationAttributes:
        at: Path | None = path
        while at is not None:
            if at in self._attributes:
                return self._attributes[at]
            at = at.parent
        return DEFAULT_ATTRIBUTES

    def _of(self, path: Path) -> list[Observer]:
        return [each for each in self._observers.values() if path.contains(each.resource.path)]

    # -- telling -------------------------------------------------------------------------------------

    def changed(self, resource: Resource) -> None:
        """Look whether a new value is to be told, now or later; call it on the loop."""
        for observer in self._of(resource.path):
            self._look(observer)

    async def tell(self, resource: Resource) -> bool:
        """Tell the server the value at once, whatever it was; return whether it has acknowledged it."""
        told = True
        for observer in self._of(resource.path):
            if observer.auto:
                observer.rule = self._rule(resource)
                told = await self._tell(observer) and told
        return told

    async def _tell(self, observer: Observer) -> bool:
        fate = Fate()
        self._waited_for.add(fate)
        try:
            self._send(observer, fate)
            return await fate.known() == "acknowledged"
        finally:
            self._waited_for.discard(fate)
            observer.told = True  # who waits here tells it again

    def _rule(self, resource: Resource) -> NotificationRule:
        return NotificationRule(self._effective(resource.path), _comparable(resource), self._now())

    def _now(self) -> int:
        return round(self._background.loop.time() * SECOND)

    def _look(self, observer: Observer) -> None:
        observer.cancel()
        decision = observer.rule.update(_comparable(observer.resource), self._now())
        if decision.notify:
            self._send(observer)
        if decision.at is not None:
            observer.timer = self._background.loop.call_at(decision.at / SECOND, self._look, observer)

    def _send(self, observer: Observer, on_result: Callable[[Outcome], object] | None = None) -> None:
        observer.told = False
        if self._endpoint is None:
            if on_result is not None:
                on_result("timed out")
        elif self._under_way >= RESEND_QUEUE:
            _tell_application(observer.resource, NotificationDeliveryStatus.RESEND_QUEUE_FULL)
            # One for each observer: when its turn comes, it tells the value of then.
            results = self._waiting.setdefault(observer.key, (observer, []))[1]
            self._waiting[observer.key] = observer, [*results, *([] if on_result is None else [on_result])]
        else:
            self._notify(self._endpoint, observer, [] if on_result is None else [on_result])

    def _notify(self, endpoint: Endpoint, observer: Observer, on_result: Sequence[Callable[[Outcome], object]]) -> None:
        resource = observer.resource

        def ended(outcome: Outcome) -> None:
            observer.told = outcome == "acknowledged"
            if outcome == "acknowledged":
                _tell_application(resource, NotificationDeliveryStatus.DELIVERED)
            elif outcome == "reset" and not observer.auto:
                self._remove(observer)
            elif outcome == "timed out":
                _tell_application(resource, NotificationDeliveryStatus.SEND_FAILED)
                if observer.peer == self._server:
                    self._on_lost()
                else:  # a visitor who has left
                    self._remove(observer)
            for tell in on_result:
                tell(outcome)
            if endpoint is self._endpoint:
                self._under_way -= 1
                self._send_waiting(endpoint)

        self._under_way += 1
        observer.number += 1
        message = content(resource, resource.sticky_format)
        message.opt.observe = observer.number
        endpoint.notify(observer.peer, message, observer.token, on_result=ended)

    def _send_waiting(self, endpoint: Endpoint) -> None:
        while self._waiting and self._under_way < RESEND_QUEUE:
            key = next(iter(self._waiting))
            observer, results = self._waiting.pop(key)
            if self._observers.get(key) is observer:
                self._notify(endpoint, observer, results)
            else:
                for tell in results:
                    tell("timed out")

    def stop(self) -> None:
        """Tell nobody anything any more."""
        for observer in self._observers.values():
            observer.cancel()
        self._observers.clear()


class Fate:
    """How a notification fares, for somebody who waits for it."""

    def __init__(self) -> None:
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def __call__(self, outcome: Outcome) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    async def known(self) -> Outcome:
        """Wait until it is known; an endpoint that was closed meanwhile counts as a time-out."""
        try:
            async with asyncio.timeout(LONGEST_DELIVERY):
                return await self._outcome
        except TimeoutError:
            return "timed out"


def content(resource: Resource, accept: int | None) -> Message:
    """Return the 2.05 that carries a resource's value.

    Raises:
        Lwm2mError: the value cannot be written in the format asked for.
    """
    payload, format = resource.content(accept)
    # The stock client says Max-Age 0 in everything.
    return Message(code=codes.CONTENT, payload=payload, content_format=format, max_age=0)


def _comparable(resource: Resource) -> Value:
    value = resource.value
    return resource.content(TLV)[0] if isinstance(value, dict) else value


def _tell_application(resource: Resource, status: NotificationDeliveryStatus) -> None:
    if isinstance(resource, MbedCloudClientResource):
        resource.notified(status)
