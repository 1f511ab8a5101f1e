"""A link: what stands between a board and the rest of the network, in bits, bytes and nanoseconds."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from pdmlab.clock import SECOND
from pdmlab.errors import ConfigError
from pdmlab.prng import SplitMix64

Oversize = Literal["fragment", "refuse"]
SET_BY_CALLER = "set by the caller"


@dataclass(frozen=True)
class Step:
    """One thing that a bearer does before it carries anything."""

    name: str
    time: int
    """How long it takes (ns)."""


@dataclass(frozen=True)
class Link:
    """A board's way to the network; the figures of a bearer come from `bearers.toml`.

    >>> Link.of("ethernet").down
    100000000
    >>> Link.of("ethernet", latency=300_000_000).round_trip
    600000000
    """

    name: str = "ideal"
    up: int = 0
    """Bandwidth from the board (bit/s); 0 has no limit."""
    down: int = 0
    """Bandwidth to the board (bit/s); 0 has no limit."""
    latency: int = 0
    """One way, board to server, without serialisation (ns)."""
    jitter: int = 0
    """Added to the latency of a packet: uniform between 0 and this (ns)."""
    loss: float = 0.0
    """Probability that a frame is lost."""
    mtu: int = 1500
    """Largest IP datagram in one piece (B)."""
    mss: int = 1460
    """Largest TCP segment that the board's stack asks for (B)."""
    receive_buffer: int = 65535
    """Default TCP receive window of the board's stack (B)."""
    send_buffer: int = 65535
    """TCP send buffer of the board's stack (B)."""
    overhead: int = 0
    """Bytes below IP that take up the medium with every frame (B)."""
    frame_payload: int = 0
    """Room for 6LoWPAN in a frame (B); 0 when an IP datagram of MTU size fits into one frame."""
    ip_header: int = 20
    """IPv4: 20, IPv6: 40 (B)."""
    half_duplex: bool = False
    """Whether both directions share the medium."""
    oversize: Oversize = "fragment"
    """What happens to a datagram above the MTU: `fragment` (IP) or `refuse` (NSAPI_ERROR_PARAMETER)."""
    call_time: int = 0
    """Time that the board spends in one socket call (ns)."""
    in_order: bool = True
    """Whether jitter keeps the order of packets, as a queue does; else they may overtake each other."""
    attach: tuple[Step, ...] = ()
    """What connecting takes, step by step."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where each figure comes from; an empty text: nowhere, it is an estimate."""

    def __post_init__(self) -> None:
        if not 0 <= self.loss <= 1:
            raise ConfigError(f"a loss of {self.loss} is no probability", hint="give a number between 0 and 1")
        for name in ("up", "down", "latency", "jitter", "overhead", "frame_payload", "call_time"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} of link {self.name} is {getattr(self, name)}: it cannot be negative")
        if self.mtu < 68 or self.mss < 1 or self.receive_buffer < 1 or self.send_buffer < 1:
            raise ConfigError(
                f"link {self.name}: MTU {self.mtu}, MSS {self.mss} and buffers ({self.receive_buffer}, "
                f"{self.send_buffer} B) must carry something",
                hint="IPv4 asks for an MTU of 68 B or more (RFC 791)",
            )

    @classmethod
    def of(cls, bearer: str, **changes: Any) -> Link:  # Any: the values of the fields above
        """Make the link of a bearer: ethernet, wifi, cellular, 6lowpan or thread; changed figures say who set them."""
        rows = _rows()
        if bearer not in rows:
            raise ConfigError(f"no bearer named {bearer!r}", hint=f"known are {', '.join(rows)}")
        return rows[bearer].with_(**changes) if changes else rows[bearer]

    def with_(self, **changes: Any) -> Link:  # Any: as above
        """Copy the link with other figures, such as `latency=300_000_000`.

        Raises:
            ConfigError: there is no such figure, or it cannot have that value.
        """
        unknown = sorted(set(changes) - {f.name for f in fields(self)})
        if unknown:
            raise ConfigError(f"a link has no {', '.join(unknown)}", hint="see the fields of pdmlab.network.link.Link")
        sources = {**self.sources, **dict.fromkeys(changes, SET_BY_CALLER)}
        return replace(self, **{"sources": sources, **changes})

    @property
    def round_trip(self) -> int:
        """Both ways, without serialisation and jitter (ns)."""
        return 2 * self.latency

    @property
    def mean_round_trip(self) -> int:
        """Both ways with the mean of the jitter, without serialisation (ns): what a download's window is divided by."""
        return 2 * self.latency + self.jitter

    @property
    def unsourced(self) -> tuple[str, ...]:
        """The figures that no specification, datasheet or measurement stands behind."""
        return tuple(name for name, source in self.sources.items() if not source)

    @property
    def attach_time(self) -> int:
        """How long connecting takes (ns)."""
        return sum(step.time for step in self.attach)

    def frames(self, size: int) -> tuple[int, int]:
        """Return how many frames an IP packet of size bytes takes, and how many bytes on the medium (B)."""
        if self.frame_payload and size > self.frame_payload - 1:
            # RFC 4944 §5.3: 4 B header on the first fragment, 5 on the others; offsets count in 8 B.
            room = (self.frame_payload - 5) // 8 * 8
            count = -(-size // room)
            return count, size + 4 + 5 * (count - 1) + count * self.overhead
        if self.frame_payload:
            return 1, size + 1 + self.overhead  # RFC 4944 §5.1: one dispatch byte
        payload = self.mtu - self.ip_header
        count = 1 if size <= self.mtu else -(-(size - self.ip_header) // (payload // 8 * 8))
        return count, size + (count - 1) * self.ip_header + count * self.overhead

    def serialisation(self, size: int, bandwidth: int) -> int:
        """Return how long an IP packet of size bytes takes up the medium at bandwidth bit/s (ns)."""
        return self.frames(size)[1] * 8 * SECOND // bandwidth if bandwidth else 0


class Pipe:
    """One direction of a link: a queue that serialises packets, then delays, jitters and loses them."""

    def __init__(self, link: Link, bandwidth: int, random: SplitMix64, medium: Medium) -> None:
        self.link = link
        self.bandwidth = bandwidth
        self.packets = 0
        """Packets handed in."""
        self.lost = 0
        """Of these: lost."""
        self.bytes_on_medium = 0
        self._random = random
        self._medium = medium
        self._last_arrival = -1

    def send(self, size: int, now: int) -> int | None:
        """Queue an IP packet of size bytes at now (ns); return when it arrives (ns), None when it is lost."""
        link = self.link
        frames, on_medium = link.frames(size)
        self.packets += 1
        self.bytes_on_medium += on_medium
        start = max(now, self._medium.busy_until)
        end = self._medium.busy_until = start + link.serialisation(size, self.bandwidth)
        arrival = end + link.latency
        if link.jitter:
            arrival += self._random.below(link.jitter + 1)
        if link.loss and any(self._random.random() < link.loss for _ in range(frames)):
            self.lost += 1
            return None
        if link.in_order:
            # Strictly later: timers due at the same instant run in no promised order.
            arrival = max(arrival, self._last_arrival + 1)
            self._last_arrival = arrival
        return arrival


class Medium:
    """What a frame takes up while it is sent; both directions share it on a half-duplex link."""

    def __init__(self) -> None:
        self.busy_until = 0


def pipes(link: Link, random: SplitMix64) -> tuple[Pipe, Pipe]:
    """Make the two directions of a link: up (from the board) and down."""
    medium = Medium()
    up = Pipe(link, link.up, random.split("up"), medium)
    return up, Pipe(link, link.down, random.split("down"), medium if link.half_duplex else Medium())


@cache
def _rows() -> dict[str, Link]:
    with files("pdmlab.network").joinpath("bearers.toml").open("rb") as file:
        table: dict[str, dict[str, Any]] = tomllib.load(file)  # Any: TOML values, checked by Link
    return {name: _link(name, row) for name, row in table.items()}


def _link(name: str, row: Mapping[str, Any]) -> Link:  # Any: TOML values
    figures = {key: cell["value"] for key, cell in row.items() if key != "attach"}
    sources = {key: cell.get("source", "") for key, cell in row.items() if key != "attach"}
    steps = row.get("attach", [])
    sources.update({f"attach: {step['name']}": step.get("source", "") for step in steps})
    attach = tuple(Step(step["name"], step["time"]) for step in steps)
    return Link(name=name, attach=attach, sources=sources, **figures)
