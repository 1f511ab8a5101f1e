"""The key's notification channel: one long poll, shared by all in this process who wait for an answer or a value.

The service allows one poll a key. It is held open while somebody waits, and a moment longer, so that another
program with the same key gets its turn.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import httpx

from pdmlab.aio import LoopThread
from pdmlab.cloud.rest import Rest, no_answer, refusal
from pdmlab.errors import PdmlabError, ServiceError, TimedOut

HOLD_S = 90.0
"""How long a poll may be held before the service is thought dead; it answers every 30 s or so."""
LINGER_S = 1.0
"""How long the poll is kept for the next question."""
RETRY_S = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Waits after refused or broken polls: a poll just given up is not yet free at the service."""

EARLY = 256
"""Answers kept for those who ask for them only after they have come."""

Event: TypeAlias = dict[str, Any]
"""An async-response or a notification, as the service's JSON has it."""

_SLICE_S = 0.2  # Ctrl-C gets through between two of them, on Windows too

_ANSWER_HINTS = {
    404: "the device has no such resource: device.resources() lists what it registered",
    405: "the device's client does not allow that: resource.methods(...) decides",
    410: "the device is gone from the directory",
    412: "the resource is not observable: the client decides with resource.observable(True)",
    415: "the device takes another content format: write text, or bytes for opaque resources",
    429: "the device's queue is full, or was cleared because it registered again or left",
    502: "the device's connection ended, or what it sent is no answer: the log of messages shows which",
    504: "the device did not answer in time: is it asleep, switched off, or off the network?",
}

_SHARED = (
    "another program polls with the same key, and may get what was meant for this one: give each a key of its own, "
    "such as cloud.create_api_key('mine')"
)


def refused(event: Event, what: str) -> ServiceError:
    """Return the error for an async-response that is one."""
    status, said = int(event["status"]), str(event.get("error", ""))
    text = f"{what}: {status}{', ' + said if said else ''}"
    reason = _reason(event)
    if reason:
        text += f": {reason}"
    return ServiceError(text, status=status, problem={"message": said}, hint=_ANSWER_HINTS.get(status))


def _reason(event: Event) -> str:
    """Return why, in the words of the device or of the service, if they gave any."""
    if event.get("ct") != "text/plain":
        return ""
    try:
        return base64.b64decode(str(event.get("payload", ""))).decode("utf-8", "replace").strip()
    except ValueError:
        return ""


class Mailbox:
    """What came for one who waits, oldest first."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._events: queue.SimpleQueue[Event | PdmlabError] = queue.SimpleQueue()

    def put(self, event: Event | PdmlabError) -> None:
        """Leave an event, or the reason why none will come."""
        self._events.put(event)

    def get(self, timeout: float, what: str, hint: str) -> Event:
        """Return the next event.

        Raises:
            TimedOut: none came within timeout (s).
            ServiceError: the service does not let this key poll.
        """
        end = time.monotonic() + timeout
        while True:
            try:
                event = self._events.get(timeout=max(0.0, min(_SLICE_S, end - time.monotonic())))
            except queue.Empty:
                if time.monotonic() < end:
                    continue
                channel = self._channel
                trouble = f"; the last poll failed: {channel.trouble}" if channel.trouble else ""
                message = f"{what}: nothing came in {timeout:.1f} s{trouble}"
                raise TimedOut(message, hint=_SHARED if channel.contested else hint) from None
            if isinstance(event, PdmlabError):
                raise event
            return event


class Channel:
    """The long poll of one key; get it with `Channel.of(rest)`."""

    _all: dict[tuple[str, str], Channel] = {}
    _guard = threading.Lock()

    def __init__(self, rest: Rest) -> None:
        self._host, self._headers = rest.host, rest.headers
        self.trouble = ""
        """Why the last poll failed; empty when it did not."""
        self.contested = False
        """Whether another program has been seen to poll with the same key."""
        self._lock = threading.Lock()
        self._waiting: dict[tuple[str, ...], list[Mailbox]] = {}
        self._early: OrderedDict[str, Event] = OrderedDict()
        self._task: asyncio.Task[None] | None = None
        self._given_up: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, rest: Rest) -> Channel:
        """Return this process's channel of a key."""
        name = rest.host, hashlib.sha256(rest.headers["Authorization"].encode()).hexdigest()
        with cls._guard:
            return cls._all.setdefault(name, cls(rest))

    def __repr__(self) -> str:
        return f"<Channel of {self._host}, {len(self._waiting)} waited for>"

    @contextmanager
    def answer(self, async_id: str) -> Iterator[Mailbox]:
        """Wait for the async-response of an id; it may have come already, if the service chose the id."""
        with self._mailbox(("answer", async_id)) as mailbox:
            with self._lock:
                early = self._early.pop(async_id, None)
            if early is not None:
                mailbox.put(early)
            yield mailbox

    @contextmanager
    def values(self, device: str, path: str) -> Iterator[Mailbox]:
        """Wait for a resource's notifications."""
        with self._mailbox(("value", device, path)) as mailbox:
            yield mailbox

    def others_want(self, device: str, path: str) -> bool:
        """Tell whether more than one in this process waits for a resource's notifications."""
        with self._lock:
            return len(self._waiting.get(("value", device, path), ())) > 1

    @contextmanager
    def _mailbox(self, key: tuple[str, ...]) -> Iterator[Mailbox]:
        mailbox = Mailbox(self)
        with self._lock:
            self._waiting.setdefault(key, []).append(mailbox)
        _loop().call_soon(self._begin)
        try:
            yield mailbox
        finally:
            with self._lock:
                self._waiting[key].remove(mailbox)
                if not self._waiting[key]:
                    del self._waiting[key]
            _loop().call_soon(self._end_later)

    # -- on the loop ---------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._poll(self._given_up))

    def _end_later(self) -> None:
        asyncio.get_running_loop().call_later(LINGER_S, self._end)

    def _end(self) -> None:
        if not self._waiting and self._task is not None:
            self._task.cancel()
            self._given_up, self._task = self._task, None

    async def _poll(self, before: asyncio.Task[None] | None) -> None:
        if before is not None:  # until it has hung up, the service may give it what is meant for this one
            await asyncio.wait({before})
        timeout = httpx.Timeout(10.0, read=HOLD_S)
        secure = self._host.startswith("https:")  # to make ready for TLS takes 70 ms
        async with httpx.AsyncClient(
            base_url=self._host, headers=self._headers, timeout=timeout, trust_env=False, verify=secure
        ) as client:
            failures = 0
            while True:
                error = await self._poll_once(client)
                if error is None:
                    self.trouble, failures = "", 0
                    continue
                self.trouble = error.message
                if _is_final(error, failures):
                    self._give_up(error)
                await asyncio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1

    async def _poll_once(self, client: httpx.AsyncClient) -> PdmlabError | None:
        path = "/v2/notification/pull"
        try:
            answer = await client.get(path)
        except httpx.TransportError as error:
            return no_answer(error, "GET", self._host + path, HOLD_S)
        if answer.status_code == 200:
            try:
                self._deliver(answer.json())
            except (ValueError, AttributeError, KeyError, TypeError):
                return ServiceError(f"GET {path}: the answer is no notification message", status=200)
        elif answer.status_code not in (204, 410):  # 410: somebody deleted the channel; the next poll makes it anew
            taken = answer.status_code == 409
            self.contested = self.contested or taken
            return refusal(answer.status_code, answer.text, f"GET {path}", _SHARED if taken else None)
        return None

    def _deliver(self, message: dict[str, list[Event]]) -> None:
        for event in message.get("async-responses", ()):
            self._put(("answer", event["id"]), event)
        for event in message.get("notifications", ()):
            self._put(("value", event["ep"], event["path"]), event)

    def _put(self, key: tuple[str, ...], event: Event) -> None:
        with self._lock:
            mailboxes = self._waiting.get(key, ())
            for mailbox in mailboxes:
                mailbox.put(event)
            if not mailboxes and key[0] == "answer":
                self._early[key[1]] = event
                if len(self._early) > EARLY:
                    self._early.popitem(last=False)

    def _give_up(self, error: PdmlabError) -> None:
        with self._lock:
            for mailboxes in self._waiting.values():
                for mailbox in mailboxes:
                    mailbox.put(error)


def _is_final(error: PdmlabError, failures: int) -> bool:
    """Tell whether waiting on makes no sense: the key is refused, or its poll stays with somebody else."""
    if not isinstance(error, ServiceError):
        return False
    return error.status in (400, 401, 403, 404) or (error.status == 409 and failures >= len(RETRY_S) - 1)


@functools.cache
def _loop() -> LoopThread:
    return LoopThread("pdmlab-cloud")
