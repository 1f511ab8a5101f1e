"""The key's notification channel: one in this process, shared by all who wait for an answer or for news.

The service gives a key one channel: a long poll, which is asked again and again, or a websocket. It is held open while
somebody waits, and a moment longer, so that another program with the same key gets its turn.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from pdmlab.aio import LoopThread
from pdmlab.cloud.answers import refusal
from pdmlab.cloud.ears import HOLD_S, SHARED, Ear, Poll, Websocket, caller
from pdmlab.cloud.mailbox import Event, Mailbox
from pdmlab.cloud.rest import Kind, Rest
from pdmlab.cloud.resubscribing import Observer, Resource, Resubscriber
from pdmlab.errors import ConfigError, PdmlabError, ServiceError, TimedOut

LINGER_S = 1.0
"""How long the channel is kept for the next question."""
RETRY_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Waits after refused or broken polls: a poll just given up is not yet free at the service."""

EARLY = 256
"""Answers kept for those who ask for them only after they have come."""

_OBSERVABLE = "the resource is not observable: the client decides with resource.observable(True)"
_ANSWER_HINTS = {
    404: "the device has no such resource: device.resources() lists what it registered",
    405: "the device's client does not allow that: resource.methods(...) decides",
    410: "the device is gone from the directory",
    412: _OBSERVABLE,
    415: "the device takes another content format: write text, or bytes for opaque resources",
    429: "the device's queue is full, or was cleared because it registered again or left",
    502: "the device's connection ended, or what it sent is no answer: the log of messages shows which",
    504: "the device did not answer in time: is it asleep, switched off, or off the network?",
}


def refused(event: Event, what: str, *, observing: bool = False) -> ServiceError:
    """Return the error for an async-response that is one; observing: to a subscription, for which GET is not enough."""
    status, said = int(event["status"]), str(event.get("error", ""))
    hint = _OBSERVABLE if observing and status == 405 else _ANSWER_HINTS.get(status)
    text = f"{what}: {status}{', ' + said if said else ''}"
    reason = _reason(event)
    if reason:
        text += f": {reason}"
    return ServiceError(text, status=status, problem={"message": said}, hint=hint)


def refused_by_service(error: ServiceError, what: str) -> ServiceError:
    """Return the error for a call that was to reach a device, in words of what was wanted of it."""
    again = refusal(error.status, str(error.problem.get("message", "")), what, error.hint)
    again.problem = error.problem
    return again


def _reason(event: Event) -> str:
    """Return why, in the words of the device or of the service, if they gave any."""
    if event.get("ct") != "text/plain":
        return ""
    try:
        return base64.b64decode(str(event.get("payload", ""))).decode("utf-8", "replace").strip()
    except ValueError:
        return ""


class Channel:
    """The channel of one key; get it with `Channel.of(rest, kind)`."""

    _all: dict[tuple[str, str], Channel] = {}
    _guard = threading.Lock()

    def __init__(self, rest: Rest, kind: Kind) -> None:
        self._host, self._headers, self._verify = rest.host, rest.headers, rest.verify
        self.kind = kind
        self.trouble = ""
        """Why nothing came the last time; empty when something did."""
        self.contested = False
        """Whether another program has been seen to use the same key's channel."""
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, ...], list[Mailbox]] = {}
        self._early: OrderedDict[str, Event] = OrderedDict()
        self._again = Resubscriber(self._tell, self._take_early)
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._given_up: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, rest: Rest, kind: Kind = "poll") -> Channel:
        """Return this process's channel of a key.

        Raises:
            ConfigError: it is in use, and of the other kind; the service allows a key only one.
        """
        name = _name_of(rest)
        with cls._guard:
            found = cls._all.get(name)
            if found is None or (found.kind != kind and not found._waiting):
                found = cls._all[name] = cls(rest, kind)
            if found.kind != kind:
                raise ConfigError(
                    f"the key's channel is in use as a {found.kind} in this program, and cannot be a {kind} as well",
                    hint="give both the same channel=, or each a key of its own: cloud.create_api_key('mine')",
                )
            return found

    @classmethod
    def end(cls, rest: Rest) -> None:
        """End this process's channel of a key, so that it can have another kind; raise ConfigError if it is in use."""
        with cls._guard:
            found = cls._all.get(_name_of(rest))
        if found is None:
            return
        if found._waiting:
            raise ConfigError(
                "somebody in this program waits for answers or news with this key, which has one channel",
                hint="leave the with statements that listen, or make a key: cloud.create_api_key('mine')",
            )
        _loop().run(found._hang_up(), timeout=10)
        with cls._guard:
            if cls._all.get(_name_of(rest)) is found and not found._waiting:
                del cls._all[_name_of(rest)]

    def __repr__(self) -> str:
        return f"<Channel of {self._host}, {self.kind}, {len(self._waiting)} waited for>"

    @contextmanager
    def answer(self, async_id: str, mailbox: Mailbox) -> Iterator[Mailbox]:
        """Have the async-response of an id left in a mailbox; it may have come already, if the service chose the id."""
        with self._into(("answer", async_id), mailbox):
            early = self._take_early(async_id)
            if early is not None:
                mailbox.put(early)
            yield mailbox

    @contextmanager
    def values(self, device: str, path: str, mailbox: Mailbox) -> Iterator[Observer]:
        """Have a resource's notifications left in a mailbox; of what is `made`, after new registrations as well."""
        observer = Observer(device, path)
        with self._into(("value", device, path), mailbox):
            _loop().call_soon(self._again.add, observer)
            try:
                yield observer
            finally:
                _loop().call_soon(self._again.remove, observer)

    def made(self, observer: Observer) -> None:
        """Note that the key is subscribed: from now on, that is kept so."""
        _loop().call_soon(self._again.made, observer)

    @contextmanager
    def news(self, mailbox: Mailbox) -> Iterator[Mailbox]:
        """Have whole messages left in a mailbox, with everything that comes."""
        with self._into(("news",), mailbox):
            yield mailbox

    async def next(self, mailbox: Mailbox, timeout: float, what: str, hint: str) -> Event:
        """Return the next event of a mailbox.

        Raises:
            TimedOut: none came within timeout (s).
            ServiceError: the service does not let this key hear anything.
        """
        event = await mailbox.get(timeout)
        if event is None:
            trouble = f"; the last poll failed: {self.trouble}" if self.trouble else ""
            raise TimedOut(f"{what}: nothing came in {timeout:.1f} s{trouble}", hint=SHARED if self.contested else hint)
        return event

    def is_wanted(self, device: str, path: str) -> bool:
        """Tell whether anybody in this process waits for a resource's notifications."""
        with self._lock:
            return ("value", device, path) in self._waiting

    @contextmanager
    def _into(self, key: tuple[str, ...], mailbox: Mailbox) -> Iterator[None]:
        with self._lock:
            self._waiting.setdefault(key, []).append(mailbox)
        _loop().call_soon(self._begin)
        try:
            yield
        finally:
            with self._lock:
                self._waiting[key].remove(mailbox)
                if not self._waiting[key]:
                    del self._waiting[key]
            _loop().call_soon(self._end_later)

    # -- on the loop ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._listen(self._given_up))

    def _end_later(self) -> None:
        asyncio.get_running_loop().call_later(LINGER_S, self._end)

    def _end(self) -> None:
        if not self._waiting and self._task is not None:
            self._task.cancel()
            self._given_up, self._task = self._task, None

    async def _hang_up(self) -> None:
        self._end()
        if self._given_up is not None:
            await asyncio.wait({self._given_up})

    async def _listen(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # until it has hung up, the service may give it what is meant for this one
            await asyncio.wait({before})
        ear: Ear = Poll() if self.kind == "poll" else Websocket(self._headers, self._verify)
        timeout = httpx.Timeout(10.0, read=HOLD_S)
        async with httpx.AsyncClient(
            base_url=self._host, headers=self._headers, timeout=timeout, trust_env=False, verify=self._verify
        ) as client:
            self._failures = 0
            self._again.begin(caller(client))
            try:
                while True:
                    await self._listen_once(ear, client)
            finally:
                await self._again.end()
                await ear.leave(client)

    async def _listen_once(self, ear: Ear, client: httpx.AsyncClient) -> None:
        error = await ear.listen(client, self._deliver)
        if error is None:
            self.trouble, self._failures = "", 0
            return
        self._again.missed()
        status = error.status if isinstance(error, ServiceError) else 0
        if status == 410:  # somebody deleted the channel: the next poll makes it anew
            return
        self.trouble = error.message
        if status == 409:
            self.contested = True
        if _is_final(error, self._failures):
            self._give_up(error)
        await asyncio.sleep(RETRY_S[min(self._failures, len(RETRY_S) - 1)])
        self._failures += 1

    def _deliver(self, message: dict[str, list[Event]]) -> None:
        self._failures = 0
        for event in message.get("async-responses", ()):
            self._put(("answer", event["id"]), event)
            self._again.answered(event)
        for event in message.get("notifications", ()):
            self._put(("value", event["ep"], event["path"]), event)
        for event in message.get("registrations", ()):
            self._again.registered(event["ep"])
        self._put(("news",), dict(message))

    def _tell(self, resource: Resource, event: Event | PdmlabError) -> None:
        """Pass on what became of a resource that was subscribed to again."""
        device, path = resource
        what = f"observe {path} of device {device}"
        if isinstance(event, ServiceError):
            event = refused_by_service(event, what)
        elif not isinstance(event, PdmlabError) and event["status"] >= 300:
            event = refused(event, what, observing=True)
        if isinstance(event, PdmlabError) or event.get("payload"):
            self._put(("value", device, path), event)

    def _take_early(self, async_id: str) -> Event | None:
        with self._lock:
            return self._early.pop(async_id, None)

    def _put(self, key: tuple[str, ...], event: Event | PdmlabError) -> None:
        with self._lock:
            mailboxes = self._waiting.get(key, ())
            for mailbox in mailboxes:
                mailbox.put(event)
            if not mailboxes and key[0] == "answer" and not isinstance(event, PdmlabError):
                self._early[key[1]] = event
                if len(self._early) > EARLY:
                    self._early.popitem(last=False)

    def _give_up(self, error: PdmlabError) -> None:
        with self._lock:
            for mailboxes in self._waiting.values():
                for mailbox in mailboxes:
                    mailbox.put(error)


def _is_final(error: PdmlabError, failures: int) -> bool:
    """Tell whether waiting on makes no sense: the key is refused, or its channel stays with somebody else."""
    if not isinstance(error, ServiceError):
        return False
    return error.status in (400, 401, 403, 404) or (error.status == 409 and failures >= len(RETRY_S) - 1)


def _name_of(rest: Rest) -> tuple[str, str]:
    return rest.host, hashlib.sha256(rest.headers["Authorization"].encode()).hexdigest()


@functools.cache
def _loop() -> LoopThread:
    return LoopThread("pdmlab-cloud")
