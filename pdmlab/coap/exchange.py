"""Reliable delivery (RFC 7252 section 4): confirmable messages until they are acknowledged, and duplicates."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError

if TYPE_CHECKING:
    from pdmlab.coap.flow import Flow

Outcome = Literal["acknowledged", "reset", "timed out"]
OnEnd = Callable[[Outcome, NetworkError | None], None]


class Transmission:
    """A confirmable message under way; `on_end` hears how it ended, once, unless it is cancelled."""

    __slots__ = (
        "_again",
        "_flow",
        "_hurried",
        "_interval",
        "_on_end",
        "_send",
        "_sent",
        "_timer",
        "data",
        "mid",
        "peer",
        "tries",
    )

    def __init__(
        self,
        flow: Flow,
        peer: Address,
        mid: int,
        send: Callable[[bytes], None],
        data: bytes,
        interval: float,
        tries: int,
        on_end: OnEnd,
    ) -> None:
        """Prepare to send data, and again after interval (s), twice that, and so on: `tries` times in all."""
        self.peer, self.mid = peer, mid
        self._flow, self._send, self.data, self._interval, self._on_end = flow, send, data, interval, on_end
        self._again = tries - 1
        self._sent, self._hurried = 0.0, False
        self._timer: asyncio.TimerHandle | None = None
        self.tries = 0

    @property
    def ended(self) -> bool:
        """Whether it is over, or was cancelled."""
        return self._on_end is _nobody

    def begin(self) -> None:
        """Send it for the first time.

        Raises:
            NetworkError: it cannot be sent at all.
        """
        self.tries = 1
        self._wait()
        try:
            self._send(self.data)
        except NetworkError:
            self._still()
            raise

    def _wait(self) -> None:
        loop = self._flow.loop
        self._sent, self._hurried = loop.time(), False
        self._timer = loop.call_at(self._sent + self._interval, self._expired)

    def _expired(self) -> None:
        if self._again == 0:
            self.end("timed out")
            return
        self._again -= 1
        self._interval *= 2
        self._wait()
        self._try_again()

    def _try_again(self) -> None:
        self.tries += 1
        try:
            self._send(self.data)
        except NetworkError as error:
            self.end("timed out", error)

    def hurry(self, before: float) -> None:
        """Send it once more if the last time was before this; once until the next time that it is due.

        Its peer has just been heard: what was lost while there was no link would come half a minute after it.
        """
        if self._sent < before and self._timer is not None and not self._hurried:
            self._hurried = True
            self._try_again()

    def end(self, outcome: Outcome, error: NetworkError | None = None) -> None:
        """Stop sending and say how it ended."""
        on_end = self._on_end
        self.cancel()
        on_end(outcome, error)

    def cancel(self) -> None:
        """Stop sending; nobody hears of it."""
        self._still()
        if self._on_end is not _nobody:
            self._on_end = _nobody  # it knows this transmission: without the cycle, nothing waits for the collector
            self._flow.over(self)

    def _still(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _nobody(outcome: Outcome, error: NetworkError | None) -> None:
    pass


class Seen:
    """A message that was received: what was answered, for when it comes again."""

    __slots__ = ("expires", "fingerprint", "reply")

    def __init__(self, fingerprint: int, expires: float) -> None:
        self.fingerprint = fingerprint
        self.expires = expires
        self.reply: bytes | None = None


class Peer:
    """What is kept of a peer: the next message ID, and the messages it sent lately."""

    __slots__ = ("active", "mid", "seen")

    def __init__(self, mid: int, now: float) -> None:
        self.mid = mid
        self.active = now
        self.seen: OrderedDict[int, Seen] = OrderedDict()


class Peers:
    """All peers, least recently active first; forgotten after an exchange's lifetime of silence."""

    def __init__(self, parameters: TransmissionParameters, seed: int | None) -> None:
        self.random: random.Random = secrets.SystemRandom() if seed is None else random.Random(seed)
        self._parameters = parameters
        self._lifetime = parameters.exchange_lifetime
        self._peers: OrderedDict[Address, Peer] = OrderedDict()
        self._remembered = 0  # messages of all peers

    def __len__(self) -> int:
        return len(self._peers)

    def touch(self, address: Address, now: float) -> Peer:
        """Return the peer and note that it is active."""
        peer = self._peers.get(address)
        if peer is None:
            peer = self._peers[address] = Peer(self.random.getrandbits(16), now)
            self._forget(now)
        else:
            peer.active = now
            self._peers.move_to_end(address)
        return peer

    def _forget(self, now: float) -> None:
        # No timer does this: an idle endpoint must not keep a virtual clock moving.
        oldest = now - self._lifetime
        for peer in list(itertools.islice(self._peers.values(), 8)):
            if peer.active > oldest and len(self._peers) <= self._parameters.max_peers:
                break
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, peer = self._peers.popitem(last=False)
        self._remembered -= len(peer.seen)

    def next_mid(self, address: Address, now: float) -> int:
        """Return a message ID to send to the peer."""
        peer = self.touch(address, now)
        peer.mid = peer.mid + 1 & 0xFFFF
        return peer.mid

    def received(self, address: Address, mid: int, data: bytes, now: float) -> tuple[Seen, bool]:
        """Note a message from the peer; return its record and whether it is a duplicate.

        The bytes must be the same too: a peer that restarts, or sends more than 65536 messages in an
        exchange's lifetime, uses message IDs again for other messages.
        """
        seen = self.touch(address, now).seen
        fingerprint = hash(data)
        old = seen.get(mid)
        if old is not None:
            if old.fingerprint == fingerprint and old.expires > now:
                return old, True
            del seen[mid]
        elif len(seen) >= self._parameters.duplicates:
            seen.popitem(last=False)
        else:
            self._remembered += 1
        new = seen[mid] = Seen(fingerprint, now + self._lifetime)
        while self._remembered > self._parameters.max_remembered and len(self._peers) > 1:
            self._drop_oldest()
        return new, False

    def drop(self, address: Address) -> None:
        """Forget a peer that will not come again."""
        peer = self._peers.pop(address, None)
        if peer is not None:
            self._remembered -= len(peer.seen)

    def forget(self, address: Address, mid: int) -> None:
        """Take a message from the peer as not received: it will be no duplicate when it comes again."""
        peer = self._peers.get(address)
        if peer is not None and peer.seen.pop(mid, None) is not None:
            self._remembered -= 1
