"""How much is under way at once: to one peer, and between two looks at the socket.

A thousand notifications in one go would fill the receive buffers of whoever they go to, and their acknowledgements
ours. So no more than `nstart` confirmable messages to one peer wait for an acknowledgement (RFC 7252 section 4.7),
and after `burst` messages the loop gets a chance to hear what comes back.
"""

from __future__ import annotations

import asyncio
from collections import deque

from pdmlab.coap.exchange import Transmission
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError


class Flow:
    """The confirmable messages of an endpoint that have no acknowledgement yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop, parameters: TransmissionParameters) -> None:
        self.loop = loop
        self._parameters = parameters
        self._under_way: dict[Address, dict[Transmission, None]] = {}
        self._behind: dict[Address, deque[Transmission]] = {}  # what waits for those of its own peer
        self._next: deque[Transmission] = deque()  # what waits for a look at the socket
        self._unheard = 0  # messages that were begun since the last look

    def begin(self, transmission: Transmission) -> None:
        """Send a message now, or when its turn comes.

        Raises:
            NetworkError: it was its turn, and it cannot be sent at all.
        """
        if self._admitted(transmission):
            try:
                self._send(transmission)
            except NetworkError:
                transmission.cancel()
                raise

    def _admitted(self, transmission: Transmission) -> bool:
        peer = transmission.peer
        mine = self._under_way.get(peer)
        if mine is None:
            mine = self._under_way[peer] = {}
        elif len(mine) >= self._parameters.nstart:
            self._behind.setdefault(peer, deque()).append(transmission)
            return False
        mine[transmission] = None
        if not self._next and self._unheard < self._parameters.burst:
            return True
        if not self._next:
            self.loop.call_soon(self._go_on)
        self._next.append(transmission)
        return False

    def _send(self, transmission: Transmission) -> None:
        self._unheard += 1
        transmission.begin()

    def _send_late(self, transmission: Transmission) -> None:
        """Send what has waited: its error cannot be raised, so it ends with it."""
        try:
            self._send(transmission)
        except NetworkError as error:
            self.loop.call_soon(transmission.end, "timed out", error)

    def _go_on(self) -> None:
        self._unheard = 0
        while self._next and self._unheard < self._parameters.burst:
            transmission = self._next.popleft()
            if not transmission.ended:
                self._send_late(transmission)
        if self._next:
            self.loop.call_soon(self._go_on)

    def over(self, transmission: Transmission) -> None:
        """Note that a message is no longer under way, and send the next to its peer."""
        peer = transmission.peer
        mine = self._under_way.get(peer)
        if mine is None or transmission not in mine:
            return  # it had to wait, and has not begun
        del mine[transmission]
        if not mine:
            del self._under_way[peer]
        behind = self._behind.get(peer)
        while behind:
            following = behind.popleft()
            if not behind:
                del self._behind[peer]
            if not following.ended:
                if self._admitted(following):
                    self._send_late(following)
                break

    def waiting(self, peer: Address) -> int:
        """Return how many messages to a peer wait for its acknowledgement of others."""
        behind = self._behind.get(peer)
        return len(behind) if behind is not None else 0

    def heard(self, peer: Address, now: float) -> None:
        """Note that a peer is there: what it may have missed is sent again now, not when its turn comes."""
        self._unheard = 0
        mine = self._under_way.get(peer)
        if mine is not None:
            for transmission in list(mine):
                transmission.hurry(now - self._parameters.ack_timeout)

    def forget(self, peer: Address) -> None:
        """Let go what waits for other messages to a peer: none of them will be acknowledged."""
        self._behind.pop(peer, None)

    def close(self) -> None:
        """Let go all of it."""
        self._under_way.clear()
        self._behind.clear()
        self._next.clear()
