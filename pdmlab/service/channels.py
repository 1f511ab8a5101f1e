"""Notification channels: what a key's owner is told, in the order it happened, kept until it is fetched.

A key has one channel: a long poll, which the first poll makes; a websocket (websockets.py); or a callback
(callbacks.py). Answers to a key's own requests are kept even before it has any; news of devices go to the channels
that are open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable

from pdmlab.errors import ServiceError
from pdmlab.service.bus import Bus
from pdmlab.service.channel_table import LONG_POLLING, ChannelTable, Kind
from pdmlab.service.outbox import Batch, Message, Outbox
from pdmlab.service.refusal import Refused
from pdmlab.service.store import Store

_log = logging.getLogger(__name__)

_TIDY_S = 3600.0
_GRACE_S = 10.0  # for which a poll has its channel beyond the time that it is held
_ANSWERED_S = 1.0  # for which the next poll waits until it is seen, here or elsewhere, that the last one has ended
_LOOK_S = 0.01


class Poll:
    """A poll that is held: `next` waits for events, and `taken` says that they were sent."""

    def __init__(self, channels: Channels, api_key_id: str, hold_s: float) -> None:
        self.news = asyncio.Event()
        self.id = secrets.token_hex(16)
        self._channels, self._key, self._hold_s = channels, api_key_id, hold_s

    async def next(self) -> Batch | None:
        """Return what waits, or wait for it; None when the time is over or the service drains.

        Raises:
            Refused: the channel was deleted meanwhile, or its key revoked (410).
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._hold_s
        channels = self._channels
        while True:
            self.news.clear()
            found = channels.outbox.next(self._key)
            if found is not None or channels.draining:
                return found
            if not channels.table.is_held(self._key, self.id):
                raise Refused(410, "CHANNEL_DELETED")
            try:
                await asyncio.wait_for(self.news.wait(), end - loop.time())
            except TimeoutError:
                return None

    async def taken(self, batch: Batch) -> None:
        """Let go of events that were sent, and of the channel."""
        with self._channels.store.batch():
            self._channels.outbox.taken(batch)
            self.end()
        await self._channels.store.written()

    async def leave(self) -> None:
        """Let go of the channel: whoever polls next, in whichever process, gets what waits."""
        self.end()
        await self._channels.store.written()

    def end(self) -> None:
        """Let go of the channel with what is written next; a second call does nothing."""
        if self._channels.polls.get(self._key) is self:
            del self._channels.polls[self._key]
            self._channels.table.release(self._key, self.id)


class Channels:
    """The service's channels, and the long polls of this process. All of it belongs to the store's loop."""

    def __init__(self, store: Store, bus: Bus) -> None:
        self.store = store
        self.outbox = Outbox(store)
        self.table = ChannelTable(store, bus, self.outbox)
        self.draining = False
        self.on_wake: list[Callable[[], None]] = []
        """Called when everybody is to look what there is."""
        self._bus = bus
        self.polls: dict[str, Poll] = {}
        """The poll of each key that is held here."""
        self._tidying: asyncio.TimerHandle | None = None
        bus.hear("channel", self._wake)
        bus.hear("key", self._wake)

    def put(self, api_key_id: str, message: Message) -> None:
        """Leave events for one key, whether its channel is open or not."""
        self.outbox.leave([api_key_id], message)
        self._bus.tell("channel", api_key_id)

    def broadcast(self, account_id: str, message: Message) -> None:
        """Leave events for every open channel of an account."""
        keys = self.table.open_of(account_id)
        self.outbox.leave(keys, message)
        for api_key_id in keys:
            self._bus.tell("channel", api_key_id)

    @contextlib.asynccontextmanager
    async def poll(self, api_key_id: str, hold_s: float) -> AsyncIterator[Poll]:
        """Poll for a key, for hold_s (s) at most; the first poll makes the channel.

        Raises:
            Refused: the key polls already (409), or has another kind of channel (400).
        """
        if api_key_id in self.polls and not self.outbox.waits(api_key_id):
            raise _polled()
        self.table.open(api_key_id, LONG_POLLING)
        poll = Poll(self, api_key_id, hold_s)
        await self._hold(poll, api_key_id, hold_s + _GRACE_S)
        self.polls[api_key_id] = poll
        try:
            yield poll
        finally:
            with contextlib.suppress(ServiceError):  # the database is closed: the next start lets it go
                poll.end()

    async def _hold(self, poll: Poll, api_key_id: str, span: float) -> None:
        """Have a channel in hand for a poll.

        Another poll that has it, and events as well, is about to end, or was killed with its process: its caller may
        have got them and ask for the next before it is seen here that they are let go.
        """
        loop = asyncio.get_running_loop()
        end, answered = loop.time() + _ANSWERED_S, True
        while not self.table.hold(api_key_id, LONG_POLLING, poll.id, span):
            if not answered or loop.time() > end:
                raise _polled()
            answered = self.outbox.waits(api_key_id)
            if answered:
                await asyncio.sleep(_LOOK_S)

    def kind(self, api_key_id: str) -> str | None:
        """Return how a key's channel delivers; None if it has none."""
        return self.table.kind(api_key_id)

    def delete(self, api_key_id: str, kind: Kind | None = None) -> bool:
        """Close a key's channel of that kind, or of any, with all that waits in it; return whether there was one.

        A poll ends at once, and so does a socket.
        """
        return self.table.close(api_key_id, kind)

    def resume(self) -> None:
        """Begin, after a start."""
        if not self.store.shared:
            self.table.release_all()
        self._tidy()

    def drain(self) -> None:
        """End every open poll and socket, and each new one at once: the service is about to stop."""
        self.draining = True
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None
        self.wake_all()

    def wake_all(self) -> None:
        """Let every poll, socket and callback look what there is: news may have been missed."""
        for api_key_id in self.polls:
            self._wake(api_key_id)
        for wake in self.on_wake:
            wake()

    def _tidy(self) -> None:
        try:
            self.table.tidy()
            self.outbox.tidy()
        except ServiceError as error:
            _log.error("what channels are too old cannot be let go: %s", error)
        self._tidying = asyncio.get_running_loop().call_later(_TIDY_S, self._tidy)

    def _wake(self, api_key_id: str) -> None:
        poll = self.polls.get(api_key_id)
        if poll is not None:
            poll.news.set()


def _polled() -> Refused:
    return Refused(409, "CHANNEL_ALREADY_POLLED", hint="another poll of this key is open")
