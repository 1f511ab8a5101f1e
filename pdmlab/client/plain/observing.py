"""Observations of one server: of a path, or of several at once, each told by the rules of its attributes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from aiocoap import Message

from pdmlab.client.plain.attributes import AttributeTable
from pdmlab.client.plain.objects import Refusal
from pdmlab.client.plain.reading import composite_content_of, content_of, values_at
from pdmlab.client.plain.tree import ObjectTree, leaves
from pdmlab.coap.exchange import Outcome
from pdmlab.lwm2m.attributes import NotificationAttributes, reason_to_tell
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.values import Value

MOST_OBSERVERS = 256
MOST_STORED = 64
"""Notifications of one observation that are kept while the server cannot be told."""


class Line(Protocol):
    """How an observation reaches its server."""

    @property
    def online(self) -> bool:
        """Whether the device is registered and may send."""
        ...

    @property
    def stores(self) -> bool:
        """Whether notifications are kept meanwhile (/1/x/6)."""
        ...

    @property
    def defaults(self) -> NotificationAttributes:
        """pmin and pmax where none are attached (/1/x/2 and 3)."""
        ...

    def notify(self, message: Message, token: bytes, on_result: Callable[[Outcome], None]) -> None:
        """Send a confirmable notification."""
        ...

    def unheard(self) -> None:
        """Hear that the server did not acknowledge one."""
        ...


@dataclass(eq=False)
class Observer:
    """One observation: its paths (None: the root), how it is answered, and what was told last and when (s)."""

    token: bytes
    paths: list[Path | None]
    format: int
    composite: bool
    told: dict[Path, Value]
    told_at: float
    looked_at: float
    number: int = 0
    timer: asyncio.TimerHandle | None = None
    stored: deque[Message] = field(default_factory=lambda: deque(maxlen=MOST_STORED))


class Observations:
    """All that one server observes."""

    def __init__(self, tree: ObjectTree, attributes: AttributeTable, line: Line) -> None:
        self._tree = tree
        self._attributes = attributes
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._observers: dict[bytes, Observer] = {}
        self.recent: tuple[list[Path | None], int] | None = None
        """What was told last of several paths, and in which format: a server may ask for further blocks of it."""

    def __len__(self) -> int:
        return len(self._observers)

    def __repr__(self) -> str:
        return f"<Observations, {len(self)}>"

    # -- begin and end -------------------------------------------------------------------------------------

    def observe(self, token: bytes, paths: list[Path | None], format: int, *, composite: bool) -> int | None:
        """Begin one and return the Observe number of its first answer; None if there are too many.

        One of the same paths and the same token, or of the same token, makes way for it.
        """
        self.cancel(token)
        if len(self._observers) >= MOST_OBSERVERS:
            return None
        now = self._loop.time()
        observer = Observer(token, paths, format, composite, self._values(paths), now, now)
        self._observers[token] = observer
        self._look(observer)
        return observer.number

    def cancel(self, token: bytes, paths: list[Path | None] | None = None) -> None:
        """End the observation of a token, or of exactly these paths whatever its token."""
        for each in list(self._observers.values()):
            if each.token == token or (paths is not None and each.paths == paths):
                self._remove(each)

    def cancel_all(self) -> None:
        """End all: the server has got a new registration, or the device ends."""
        for each in list(self._observers.values()):
            self._remove(each)

    def _remove(self, observer: Observer) -> None:
        if observer.timer is not None:
            observer.timer.cancel()
        if self._observers.get(observer.token) is observer:
            del self._observers[observer.token]

    # -- what makes them tell --------------------------------------------------------------------------------

    def changed(self, path: Path) -> None:
        """Look at those that a change at a path, or of its attributes, concerns."""
        for each in list(self._observers.values()):
            if any(one is None or one.contains(path) or path.contains(one) for one in each.paths):
                self._look(each)

    def _look(self, observer: Observer) -> None:
        """Decide whether to tell now, and when to look again."""
        if observer.timer is not None:
            observer.timer.cancel()
            observer.timer = None
        now, rules = self._loop.time(), self._rules(observer)
        if rules.epmin and observer.looked_at < now < observer.looked_at + rules.epmin:
            self._look_at(observer, observer.looked_at + rules.epmin)
            return
        observer.looked_at = now
        try:
            values = self._values(observer.paths)
        except Refusal:  # the application's own function failed; the next look finds what it says then
            values = observer.told
        latest = observer.told_at + rules.pmax if rules.pmax else None
        if self._worth_telling(observer, values) or (latest is not None and now >= latest):
            earliest = observer.told_at + (rules.pmin or 0)
            if now < earliest:
                self._look_at(observer, earliest)
                return
            observer.told, observer.told_at = values, now
            latest = now + rules.pmax if rules.pmax else None
            self._tell(observer)
        due = [each for each in (latest, now + rules.epmax if rules.epmax else None) if each is not None]
        if due and observer.token in self._observers:
            self._look_at(observer, min(due))

    def _look_at(self, observer: Observer, when: float) -> None:
        observer.timer = self._loop.call_at(when, self._look, observer)

    def _rules(self, observer: Observer) -> NotificationAttributes:
        """Return pmin, pmax, epmin and epmax of an observation: of several paths the longest pmin, the least pmax."""
        each = [
            self._line.defaults if path is None else self._attributes.effective(path, self._line.defaults)
            for path in observer.paths
        ]
        pmin = max((one.pmin for one in each if one.pmin is not None), default=None)
        pmax = min((one.pmax for one in each if one.pmax), default=None)
        epmin = max((one.epmin for one in each if one.epmin is not None), default=None)
        epmax = min((one.epmax for one in each if one.epmax), default=None)
        together = NotificationAttributes(pmax=pmax, epmax=epmax)
        return NotificationAttributes(pmin=pmin, epmin=epmin).under(together)

    def _worth_telling(self, observer: Observer, values: dict[Path, Value]) -> bool:
        if values.keys() != observer.told.keys():
            return True
        return any(
            reason_to_tell(self._attributes.effective(path), observer.told[path], value) is not None
            for path, value in values.items()
        )

    def _values(self, paths: list[Path | None]) -> dict[Path, Value]:
        return leaves(values_at(self._tree, paths))

    # -- telling -----------------------------------------------------------------------------------------------

    def _tell(self, observer: Observer) -> None:
        try:
            message = self._content(observer)
        except Refusal as refusal:  # what was observed is gone: the last word on it
            self._remove(observer)
            if self._line.online:
                last = Message(code=refusal.code, payload=refusal.message.encode())
                self._line.notify(last, observer.token, lambda outcome: None)
            return
        observer.number = (observer.number + 1) % (1 << 24)  # RFC 7641 section 4.4
        message.opt.observe = observer.number
        if self._line.online:
            self._send(observer, message)
        elif self._line.stores:
            observer.stored.append(message)

    def _content(self, observer: Observer) -> Message:
        if observer.composite:
            self.recent = observer.paths, observer.format
            return composite_content_of(self._tree, observer.paths, observer.format)
        (path,) = observer.paths
        assert path is not None
        self._tree.require(path)
        return content_of(self._tree, path, observer.format)

    def _send(self, observer: Observer, message: Message) -> None:
        def ended(outcome: Outcome) -> None:
            if outcome == "reset":
                self._remove(observer)
            elif outcome == "timed out":
                if self._line.stores and observer.token in self._observers:
                    observer.stored.append(message)
                self._line.unheard()

        self._line.notify(message, observer.token, ended)

    def flush(self) -> None:
        """Send what was kept: the server can be told again."""
        for each in list(self._observers.values()):
            while each.stored:
                self._send(each, each.stored.popleft())
