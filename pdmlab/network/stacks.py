"""TCP stacks as rows: what lwIP, Nanostack and Linux do differently, as far as a download notices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from pdmlab.errors import ConfigError
from pdmlab.network.rows import figures_of, read_table, required_of


@dataclass(frozen=True)
class TcpStack:
    """How one stack sends, acknowledges and repeats; the figures come from `stacks.toml`.

    >>> TcpStack.of("lwip").initial(536)
    2144
    """

    name: str
    initial_window: str
    """How much may be sent at first: by RFC 3390 (2 to 4 segments) or RFC 6928 (10)."""
    one_segment: bool
    """Whether it sends a segment only when all before it is acknowledged."""
    delayed_ack: int
    """How long one segment may wait for its ACK (ns); a second one has it sent at once. 0: no segment waits."""
    keeps_early: bool
    """Whether segments that come too early are kept until what is missing has come."""
    tick: int
    """Grain of the retransmission timer (ns): it fires on whole ticks only; 0 is exact."""
    first_rto: int
    """Retransmission time-out before any round trip was measured (ns)."""
    min_rto: int
    """Least variance that is added to the round trip (ns), or the least time-out where there are ticks."""
    max_rto: int
    syn_tries: int
    data_tries: int
    backs_off_syn: bool
    """Whether the time-out doubles while connecting, too."""
    fast_retransmit: bool
    """Whether the third duplicate ACK has the oldest segment sent again (RFC 5681 §3.2)."""
    new_reno: bool
    """Whether a partial ACK in fast recovery has the next hole repaired at once (RFC 6582)."""
    limited_transmit: bool
    """Whether the first duplicate ACKs let new segments out (RFC 3042)."""
    frto: bool
    """Whether a time-out is taken back when an ACK shows that nothing was lost (RFC 5682)."""
    congestion: str
    """What a loss halves: what is under way (RFC 5681), or the congestion window, which then grows only if used up."""
    nagle: bool
    half_window: bool
    """Whether segments are cut to half of the largest window that the peer has offered."""
    update_divisor: int
    """A window update is sent when this part of the window has become free, at most four segments; 0: always."""
    wakes_late: bool
    """Whether the application hears of data only when the buffer is half full, or the peer has no more for now."""
    segment_reads: bool
    """Whether recv gives no more than one segment, and opens the window by the whole of it."""
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where each figure comes from; an empty text: nowhere, it is an estimate."""

    def __post_init__(self) -> None:
        if self.initial_window not in ("RFC 3390", "RFC 6928"):
            raise ConfigError(
                f"initial_window of the TCP stack {self.name} is {self.initial_window!r}", hint="RFC 3390 or RFC 6928"
            )
        if self.congestion not in ("RFC 5681", "Linux"):
            raise ConfigError(
                f"congestion of the TCP stack {self.name} is {self.congestion!r}", hint="RFC 5681 or Linux"
            )

    @classmethod
    def of(cls, name: str) -> TcpStack:
        """Return the stack of that name: lwip, nanostack or linux."""
        if name not in _rows():
            raise ConfigError(f"no TCP stack named {name!r}", hint=f"known are {', '.join(_rows())}")
        return _rows()[name]

    def initial(self, mss: int) -> int:
        """Return how much may be sent before the first ACK (B)."""
        return 10 * mss if self.initial_window == "RFC 6928" else min(4 * mss, max(2 * mss, 4380))

    def usual_rto(self, round_trip: int) -> int:
        """Return the time-out that a connection has settled on, whose round trip of so many ns hardly varies (ns)."""
        if self.tick:  # the variance ends at three ticks, where a quarter of it is no whole tick
            return max((round_trip // self.tick + 3) * self.tick, self.min_rto)
        return round_trip + self.min_rto

    def next_try(self, passed: int, round_trip: int) -> int:
        """Return when a segment is next sent again, so many ns after its first time; from then on, too (ns).

        The time-out is the usual one, and doubles with each try.
        """
        rto = self.usual_rto(round_trip)
        due = rto
        while due < passed:
            rto = min(2 * rto, self.max_rto)
            due += rto
        return due

    def gives_up_after(self, round_trip: int) -> int:
        """Return how long after its first time a segment is given up that nobody acknowledges (ns)."""
        rto = self.usual_rto(round_trip)
        return sum(min(rto << tries, self.max_rto) for tries in range(self.data_tries + 1))

    @property
    def unsourced(self) -> tuple[str, ...]:
        """The figures that no document stands behind."""
        return tuple(name for name, source in self.sources.items() if not source)


@cache
def _rows() -> dict[str, TcpStack]:
    required = required_of(TcpStack)
    return {
        name: TcpStack(
            name=name,
            sources={key: cell["source"] for key, cell in row.items()},
            **figures_of(TcpStack, f"the TCP stack {name}", row, required=required),
        )
        for name, row in read_table("stacks.toml").items()
    }
