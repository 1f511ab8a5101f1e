"""A link: what stands between a board and the rest of the network, in bits, bytes and nanoseconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pdmlab.clock import MS, SECOND
from pdmlab.errors import ConfigError
from pdmlab.network.rows import checked, figures_of, read_table
from pdmlab.network.segment import TCP_HEADER
from pdmlab.network.stacks import TcpStack
from pdmlab.prng import SplitMix64

if TYPE_CHECKING:
    import pandas as pd

Oversize = Literal["fragment", "refuse"]
LARGEST_WINDOW = 65535
"""Without window scaling, which lwIP is built without (B; RFC 9293 §3.1)."""
SET_BY_CALLER = "set by the caller"
REQUIRED = frozenset(
    ("up", "down", "latency", "jitter", "loss", "mtu", "mss", "receive_buffer", "send_buffer", "overhead",
     "half_duplex", "stack", "call_time")
)  # fmt: skip
"""What every row must say; the rest has defaults."""
_TIMES = ("latency", "jitter", "access", "backoff", "call_time")
_SIZES = ("mtu", "mss", "receive_buffer", "send_buffer", "overhead", "frame_payload", "ip_header")


@dataclass(frozen=True)
class Step:
    """One thing that a bearer does before it carries anything."""

    name: str
    time: int
    """How long it takes (ns)."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"a step is called {self.name!r}", hint="give it a name, such as 'scan'")
        if isinstance(self.time, bool) or not isinstance(self.time, int):
            raise ConfigError(f"the step {self.name!r} takes {self.time!r}", hint="a whole number of ns")
        if self.time < 0:
            raise ConfigError(f"the step {self.name!r} takes {self.time}: it cannot be negative", hint="times are ns")


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
    """Probability that a frame is lost on the medium."""
    retries: int = 0
    """How often the medium itself sends a lost frame again, at once; after that the IP packet is lost."""
    access: int = 0
    """What each frame costs besides its bits: channel assessment, preamble, acknowledgement (ns)."""
    backoff: int = 0
    """Longest wait for the channel before a frame: uniform between 0 and this, anew for each frame (ns)."""
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
    stack: str = "linux"
    """The TCP of the board's stack: a row of stacks.toml."""
    call_time: int = 0
    """Time that the board spends in one socket call (ns)."""
    in_order: bool = True
    """Whether jitter keeps the order of packets, as a queue does; else they may overtake each other."""
    attach: tuple[Step, ...] = ()
    """What connecting takes, step by step."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where each figure comes from; an empty text: nowhere, it is an estimate."""

    def __post_init__(self) -> None:
        what = f"link {self.name}"
        if not isinstance(self.name, str) or not self.name:
            raise ConfigError(f"a link is called {self.name!r}", hint="give it a name")
        for each in fields(self):
            if each.name not in ("name", "attach", "sources"):
                object.__setattr__(self, each.name, checked(what, each, getattr(self, each.name)))
        if not isinstance(self.attach, tuple) or not all(isinstance(step, Step) for step in self.attach):
            raise ConfigError(f"attach of {what} is {self.attach!r}", hint='a tuple of Step("scan", ns)')
        if not 0 <= self.loss <= 1:
            raise ConfigError(f"a loss of {self.loss} is no probability", hint="give a number between 0 and 1")
        if self.mtu < 68 or self.mss < 1 or self.receive_buffer < 1 or self.send_buffer < 1:
            raise ConfigError(
                f"link {self.name}: MTU {self.mtu}, MSS {self.mss} and buffers ({self.receive_buffer}, "
                f"{self.send_buffer} B) must carry something",
                hint="IPv4 asks for an MTU of 68 B or more (RFC 791)",
            )
        if self.ip_header not in (20, 40):
            raise ConfigError(f"ip_header of {what} is {self.ip_header} B", hint="IPv4: 20, IPv6: 40")
        if self.mss + self.ip_header + TCP_HEADER > self.mtu:
            raise ConfigError(
                f"{what}: segments of {self.mss} B do not fit into an MTU of {self.mtu} B",
                hint=f"mss is at most mtu - {self.ip_header + TCP_HEADER} (RFC 9293 §3.7.1)",
            )
        if self.receive_buffer > LARGEST_WINDOW:
            raise ConfigError(
                f"{what}: a window of {self.receive_buffer} B cannot be offered",
                hint=f"at most {LARGEST_WINDOW} B without window scaling (RFC 9293 §3.1)",
            )
        if self.frame_payload and self.frame_payload < 13:
            raise ConfigError(
                f"{what}: a frame that holds {self.frame_payload} B holds no fragment", hint="13 B or more, or 0"
            )
        if self.oversize not in ("fragment", "refuse"):
            raise ConfigError(f"oversize of link {self.name} is {self.oversize!r}", hint='"fragment" or "refuse"')
        TcpStack.of(self.stack)

    @classmethod
    def of(cls, bearer: str, **changes: Any) -> Link:  # Any: the values of the fields above
        """Make the link of a bearer, such as ethernet or nb-iot; changed figures say who set them."""
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
        sources = {**self.sources, **dict.fromkeys(changes, SET_BY_CALLER)} if self.sources else {}
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

    @cached_property
    def tcp(self) -> TcpStack:
        """How the board's stack does TCP."""
        return TcpStack.of(self.stack)

    @property
    def estimates(self) -> str:
        """What no document stands behind of all that a transfer's times are made of, for a row's `estimates`."""
        own = ", ".join(name for name in self.unsourced if name in _COUNTS or name == "loss")
        stack = ", ".join(self.tcp.unsourced)
        parts = [f"{self.name}: {own}"] * bool(own) + [f"{self.stack}: {stack}"] * bool(stack)
        return "; ".join(parts)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(self._shown(name))}</td>"
            f"<td style='text-align:left'>{escape(source) or '<b>estimate</b>'}</td></tr>"
            for name, source in self.sources.items()
        )
        return f"<table><caption><b>SIMULATED</b> link: {escape(self.name)}</caption>{rows}</table>"

    def _shown(self, name: str) -> str:
        """Return a figure with its unit."""
        value = self.figure(name)
        if name in _TIMES or name.startswith("attach: "):
            return f"{int(value) / MS:g} ms"
        if name in ("up", "down"):
            return f"{int(value) / 1000:g} kbit/s"
        return f"{value} B" if name in _SIZES else str(value)

    def figure(self, name: str) -> int | float | str:
        """Return a figure by the name that `sources` has it under, "attach: scan" too."""
        for step in self.attach:
            if name == f"attach: {step.name}":
                return step.time
        value: int | float | str = getattr(self, name)
        return value

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
        """Return how long an IP packet of size bytes takes up the medium at bandwidth bit/s (ns).

        Without backoff and repetitions, which are random.
        """
        frames, on_medium = self.frames(size)
        return (on_medium * 8 * SECOND // bandwidth if bandwidth else 0) + frames * self.access


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
        self._random_medium = bool(link.loss or link.backoff)
        self._known: dict[int, tuple[int, int, int]] = {}  # size -> frames, bytes on the medium, time on it

    def send(self, size: int, now: int) -> int | None:
        """Queue an IP packet of size bytes at now (ns); return when it arrives (ns), None when it is lost."""
        link = self.link
        known = self._known.get(size)
        if known is None:
            known = self._known[size] = (*link.frames(size), link.serialisation(size, self.bandwidth))
        frames, on_medium, takes = known
        self.packets += 1
        arrives = True
        if self._random_medium:
            repeats, arrives = self._tries(frames)
            takes += repeats * takes // frames
            on_medium += repeats * on_medium // frames
            if link.backoff:
                below, most = self._random.below, link.backoff + 1
                takes += sum(below(most) for _ in range(frames + repeats))
        self.bytes_on_medium += on_medium
        arrival = self._medium.take(now, takes) + link.latency
        if link.jitter:
            arrival += self._random.below(link.jitter + 1)
        if not arrives:
            self.lost += 1
            return None
        if link.in_order:
            # Strictly later: timers due at the same instant run in no promised order.
            arrival = max(arrival, self._last_arrival + 1)
            self._last_arrival = arrival
        return arrival

    def _tries(self, frames: int) -> tuple[int, bool]:
        """Return how many repetitions a packet's frames take, and whether all of them get through."""
        loss, retries, random = self.link.loss, self.link.retries, self._random.random
        repeats = 0
        for _ in range(frames if loss else 0):
            left = retries
            while random() < loss:
                if not left:
                    return repeats, False
                left -= 1
                repeats += 1
        return repeats, True


class Medium:
    """What frames take up while they are sent, from one side; on a half-duplex link it yields to the other's.

    The two sides take turns: a packet waits for those before it on its own side, and for the one that the other side
    has on the air, but not for what waits there. What waits there already keeps its time, and what comes after it
    is later by what the packet took: so the medium carries no more than it can, but for a moment.
    """

    def __init__(self) -> None:
        self.busy_until = 0
        self.other: Medium | None = None
        self._taken: deque[tuple[int, int]] = deque()  # from when to when, what is not over yet

    def take(self, now: int, takes: int) -> int:
        """Send something that takes so long (ns), as soon as can be from now; return when it has been sent (ns)."""
        start = max(now, self.busy_until)
        other = self.other
        if other is None:
            self.busy_until = start + takes
            return self.busy_until
        start = other._free_at(start)
        end = self.busy_until = start + takes
        self._taken.append((start, end))
        if other.busy_until > start:
            other.busy_until += takes
        return end

    def _free_at(self, when: int) -> int:
        """Return the end of what is on the air at that time, or that time."""
        taken = self._taken
        while taken and taken[0][1] <= when:
            taken.popleft()
        return taken[0][1] if taken and taken[0][0] <= when else when


def pipes(link: Link, random: SplitMix64) -> tuple[Pipe, Pipe]:
    """Make the two directions of a link: up (from the board) and down."""
    ways = Medium(), Medium()
    if link.half_duplex:
        ways[0].other, ways[1].other = ways[1], ways[0]
    return Pipe(link, link.up, random.split("up"), ways[0]), Pipe(link, link.down, random.split("down"), ways[1])


_COUNTS = tuple(each.name for each in fields(Link) if str(each.type) == "int")


def bearers(path: Path | str | None = None) -> dict[str, Link]:
    """Return the links of all bearers by name, or those of a TOML file of your own with the same rules.

    Raises:
        ConfigError: a row has no, a negative or an unknown figure; bearer and figure are named.
    """
    if path is None:
        return dict(_rows())
    return {name: _link(name, row) for name, row in read_table(Path(path)).items()}


def bearers_frame(path: Path | str | None = None) -> pd.DataFrame:
    """Return a frame with a row for each figure of each bearer: bearer, figure, value, source, estimate."""
    import pandas as pd

    return pd.DataFrame(
        {
            "bearer": link.name,
            "figure": name,
            "value": str(link.figure(name)),
            "source": source,
            "estimate": not source,
        }
        for link in bearers(path).values()
        for name, source in link.sources.items()
    )


@cache
def _rows() -> dict[str, Link]:
    return {name: _link(name, row) for name, row in read_table("bearers.toml").items()}


def _link(name: str, row: Mapping[str, Any]) -> Link:  # Any: TOML values
    what = f"the bearer {name}"
    if not isinstance(row, Mapping):
        raise ConfigError(f"{what} is {row!r}", hint="a bearer is a table of figures")
    steps = row.get("attach", [])
    if not isinstance(steps, list):
        raise ConfigError(f"attach of {what} is {steps!r}", hint='write [{ name = "scan", time = ns, source = "…" }]')
    for step in steps:
        if not (isinstance(step, Mapping) and {"name", "time", "source"} <= set(step)):
            raise ConfigError(f"{what} has a step {step!r}", hint='write { name = "scan", time = ns, source = "…" }')
        if not isinstance(step["source"], str):
            raise ConfigError(f"the step {step['name']!r} of {what} has no source", hint='source = "" is an estimate')
    cells = {key: cell for key, cell in row.items() if key != "attach"}
    figures = figures_of(Link, what, cells, required=REQUIRED)
    sources = {key: cell["source"] for key, cell in cells.items()}
    sources.update({f"attach: {step['name']}": step["source"] for step in steps})
    try:
        attach = tuple(Step(step["name"], step["time"]) for step in steps)
        return Link(name=name, attach=attach, sources=sources, **figures)
    except ConfigError as error:
        raise error if what in error.message else ConfigError(f"{what}: {error.message}", hint=error.hint) from error


def as_link(link: object) -> Link:
    """Return a link as it is, or that of the bearer which is named.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(link, Link):
        return link
    if isinstance(link, str):
        return Link.of(link)
    raise ConfigError(f"{link!r} is no link", hint=f"a Link, or one of {', '.join(_rows())}")
