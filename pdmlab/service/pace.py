"""How fast devices are: the round trip of what they are asked, and the blocks that they use.

That is known before a download begins, since a device is asked for its version first.
"""

from __future__ import annotations

from typing import NamedTuple

USUAL_BLOCK_B = 512
"""Of the stock client (SN_COAP_MAX_BLOCKWISE_PAYLOAD_SIZE), until a device has used blocks of its own size."""
ONE_EXCHANGE_B = 256
"""What is longer may have come in several exchanges."""
_MOST = 200_000
"""Devices that are remembered; the first go first."""
_SPIKE = 4.0
"""An answer that took so many times as long was lost once, or the device was busy: it counts as this much."""


class Pace(NamedTuple):
    """Round trip (s), None before there was an answer, and block size (B)."""

    round_trip_s: float | None
    block_B: int = USUAL_BLOCK_B


class Paces:
    """The paces of all devices that this process asks."""

    def __init__(self) -> None:
        self._known: dict[str, Pace] = {}

    def __repr__(self) -> str:
        return f"<Paces of {len(self._known)} devices>"

    def of(self, device_id: str) -> Pace:
        """Return what is known of a device."""
        return self._known.get(device_id, Pace(None))

    def answered(self, device_id: str, seconds: float, size: int, block_B: int | None = None) -> None:
        """Take note of an answer of `size` B after some seconds, in blocks of block_B, if it came in any."""
        trip, block = self.of(device_id)
        if size <= ONE_EXCHANGE_B and seconds > 0:
            # Smoothed as TCP's (RFC 6298): an eighth of what is new.
            trip = seconds if trip is None else trip + (min(seconds, _SPIKE * trip) - trip) / 8
        self._keep(device_id, Pace(trip, block_B or block))

    def fetches(self, device_id: str, block_B: int) -> None:
        """Take note of the size of the blocks that a device fetches."""
        self._keep(device_id, Pace(self.of(device_id).round_trip_s, block_B))

    def _keep(self, device_id: str, pace: Pace) -> None:
        if len(self._known) >= _MOST and device_id not in self._known:
            del self._known[next(iter(self._known))]
        self._known[device_id] = pace
