"""Who is registered, by device and by address, and whose time is up: an index of the registrations table."""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pdmlab.coap.transport import Address
from pdmlab.errors import ServiceError

_log = logging.getLogger(__name__)

RETRY_S = 2.0
"""Between two attempts to end what has run out, while the database is away."""


@dataclass(slots=True)
class Registration:
    """A registered device; times in Unix seconds, `heard` is when its latest message came.

    `root` is where its objects are, such as "/lwm2m"; "" if they are at the top, as mostly. `lost_at` is when the
    connection to `peer` ended, and `lost_why` how; None while there is one, and for datagrams. `node` is the process
    that has the connection, where several share the database.
    """

    device_id: str
    account_id: str
    endpoint_name: str
    endpoint_type: str
    peer: Address
    lifetime: int
    binding: str
    queue_mode: bool
    lwm2m_version: str
    generation: int
    expires: float
    registered_at: str
    updated_at: str
    heard: float
    root: str = ""
    lost_at: float | None = None
    lost_why: str = ""
    node: str = ""

    @property
    def location(self) -> tuple[str, str, str]:
        """The path of its registration, as Location-Path has it."""
        return "rd", self.account_id, self.device_id


class Register:
    """Registrations in memory; `expired` is called with each one whose lifetime ends."""

    def __init__(self, now: Callable[[], float], expired: Callable[[Registration], None]) -> None:
        self._now = now
        self._expired = expired
        self._by_device: dict[str, Registration] = {}
        self._by_peer: dict[Address, str] = {}
        self._ends: list[tuple[float, str]] = []
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._by_device)

    def __iter__(self) -> Iterator[Registration]:
        return iter(list(self._by_device.values()))

    def find(self, device_id: str) -> Registration | None:
        """Return the registration of a device, if it has one."""
        return self._by_device.get(device_id)

    def at(self, peer: Address) -> Registration | None:
        """Return the registration of whoever sends from an address."""
        device_id = self._by_peer.get(peer)
        return None if device_id is None else self._by_device.get(device_id)

    def keep(self, registration: Registration) -> None:
        """Take a registration in the place of the device's old one."""
        self.drop(registration.device_id)
        self._by_device[registration.device_id] = registration
        if registration.lost_at is None:
            self._by_peer[registration.peer] = registration.device_id
        if len(self._ends) > 2 * len(self._by_device) + 100:  # mostly of lifetimes that were renewed since
            self._ends = [(each.expires, each.device_id) for each in self._by_device.values()]
            heapq.heapify(self._ends)
        else:
            heapq.heappush(self._ends, (registration.expires, registration.device_id))
        if self._ends[0][1] == registration.device_id or self._timer is None:
            self._arm()

    def lose(self, peer: Address, at: float, why: str) -> Registration | None:
        """Note that the connection to an address has ended; return whose it was."""
        device_id = self._by_peer.pop(peer, None)
        registration = None if device_id is None else self._by_device.get(device_id)
        if registration is not None:
            registration.lost_at, registration.lost_why = at, why
        return registration

    def drop(self, device_id: str) -> Registration | None:
        """Take a registration out; return it."""
        registration = self._by_device.pop(device_id, None)
        if registration is not None and self._by_peer.get(registration.peer) == device_id:
            del self._by_peer[registration.peer]
        return registration

    def clear(self) -> None:
        """Take all out."""
        self.close()
        self._by_device.clear()
        self._by_peer.clear()
        self._ends.clear()

    def close(self) -> None:
        """Expire nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def expire(self) -> None:
        """End the registrations whose time is up, and wake up for the next one."""
        now = self._now()
        while self._ends and self._ends[0][0] <= now:
            registration = self._by_device.get(self._ends[0][1])
            if registration is not None and registration.expires <= now:
                try:
                    self._expired(registration)
                except ServiceError as error:
                    _log.warning("registrations expire later: %s", error)
                    self._wake_in(RETRY_S)
                    return
            heapq.heappop(self._ends)
        self._arm()

    def _arm(self) -> None:
        self.close()
        while self._ends:
            expires, device_id = self._ends[0]
            registration = self._by_device.get(device_id)
            if registration is not None and registration.expires == expires:
                # Not sooner than a millisecond: rounding must not make a timer fire over and over.
                self._wake_in(max(expires - self._now(), 0.001))
                return
            heapq.heappop(self._ends)  # renewed or gone

    def _wake_in(self, seconds: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.expire)
