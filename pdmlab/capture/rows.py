"""A row of the message log, as it is shown, written and put into frames."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class LoggedMessage:
    """A message, or something that happened to a connection, in words.

    number          counts up; `answers` of a response is its request's, None where that is not known
    time_ns         of the clock that `clock` names; of the host's, ns since 1970
    endpoint        whose socket it passed: "lwm2m"; `peer` and `scheme` say who was at the other end, and by what
    device, name    the id and the endpoint name of the device that it is about, "" while nobody knows
    type, code      "CON" and "GET"; of an event, what it is about and what it is: "TLS", "handshake failed"; code is
                    "unreadable" of what came and is no message: then payload says why, and payload_B is the size of all
    path, query     of a response, its request's
    payload         in words; what is secret is left out
    transmission    1 the first time, 2 when it is sent or comes again, of `transmissions` in all so far
    round_trip_ms   of a response, since its request was first sent or came; of an empty ACK, since its message
    outcome         of a confirmable message: "acknowledged", "reset", "never acknowledged", or "" so far
    """

    number: int
    time_ns: int
    clock: str
    endpoint: str
    device: str
    name: str
    direction: Literal["in", "out", ""]
    scheme: str
    peer: str
    type: str
    code: str
    mid: int
    token: str
    path: str
    query: str
    options: str
    payload_B: int
    payload: str
    transmission: int = 1
    transmissions: int = 1
    answers: int | None = None
    round_trip_ms: float | None = None
    outcome: str = ""

    @property
    def is_event(self) -> bool:
        """Whether it is no message, but something that happened."""
        return self.direction == ""

    @property
    def time(self) -> str:
        """The time as people read it: seconds of a board's clock, or the time of day (UTC) of the host's."""
        if self.is_of_day:
            moment = datetime.fromtimestamp(self.time_ns // 1_000_000_000, UTC)
            return f"{moment:%H:%M:%S}.{self.time_ns % 1_000_000_000 // 1000:06d}"
        return f"{self.time_ns / 1e9:12.6f} s"

    @property
    def is_of_day(self) -> bool:
        """Whether its time is Unix time, and not counted from some beginning."""
        return self.clock == "host" and self.time_ns > _A_YEAR

    @property
    def place(self) -> str:
        """The peer with its scheme, unless that is plain UDP: coaps+tcp://192.0.2.1:5684."""
        return self.peer if self.scheme == "coap" else f"{self.scheme}://{self.peer}"

    @property
    def asked(self) -> str:
        """The path, of a request with its query."""
        return self.path + ("" if self.code[:1].isdigit() else self.query)

    @property
    def remarks(self) -> str:
        """What there is to say of its delivery: "2nd of 4 transmissions, never acknowledged"."""
        said = []
        if self.transmissions > 1:
            of = f"of {self.transmissions} " if self.direction == "out" else ""
            which = f"{self.transmission}{_ending(self.transmission)}"
            if self.direction == "out":
                said.append(f"{which} {of}transmissions")
            elif self.transmission > 1:
                said.append(f"duplicate, came the {which} time")
        if self.round_trip_ms is not None:
            said.append(f"after {_milliseconds(self.round_trip_ms)} ms")
        if self.outcome in ("reset", "never acknowledged"):
            said.append(self.outcome)
        return ", ".join(said)

    def __str__(self) -> str:
        arrow = {"in": "<-", "out": "->", "": "--"}[self.direction]
        parts = [self.time, self.endpoint, arrow, self.place, self.type, self.code]
        if not self.is_event:
            parts.append(f"mid {self.mid}")
        parts += [f"token {self.token}" if self.token else "", self.asked, self.options]
        if self.payload_B or self.is_event:
            parts.append(f"{self.payload_B} B {self.payload}".rstrip() if self.payload_B else self.payload)
        parts += [f"({self.remarks})" if self.remarks else ""]
        return "  ".join(part for part in parts if part)


HINT = " (hint: "
"""Between what an event's payload says and what it advises."""
_A_YEAR = 365 * 86400 * 1_000_000_000  # no board's clock runs so long; the host's is past it since 1971


def _ending(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _milliseconds(value: float) -> str:
    return f"{value:.0f}" if value >= 100 or value == 0 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
