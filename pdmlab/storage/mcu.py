"""What the microcontroller adds to a driver's work: cycles of Mbed's code, and the bus clock that its SPI really makes.

>>> mcu("STM32L432KC").spi_clock(1_000_000)
625000
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files

from pdmlab.clock import SECOND
from pdmlab.errors import ConfigError

TICK = 1_000_000
"""The RTOS wakes sleepers at its ticks (ns): ThisThread::sleep_for(1ms) returns at the next one."""
_CYCLES = ("call", "lock", "byte", "qspi", "file", "stdio", "copy")


def next_tick(now: int, ticks: int = 1) -> int:
    """Return when a sleep of so many ticks, begun now, ends (ns)."""
    return (now // TICK + ticks) * TICK


def bus_time(bits: int, frequency: int) -> int:
    """Return how long bits take at that clock (ns)."""
    return -(-bits * SECOND // frequency)


@dataclass(frozen=True)
class Mcu:
    """A row of mcus.toml at a core clock (Hz)."""

    name: str
    title: str
    core_clock: int
    cycles: Mapping[str, int] = field(repr=False)
    dividers: str
    divided: int
    sources: Mapping[str, str] = field(repr=False)

    def ns(self, *figures: str) -> int:
        """Return how long these figures' cycles take together (ns)."""
        return sum(self.cycles[figure] for figure in figures) * SECOND // self.core_clock

    def spi_clock(self, wanted: int) -> int:
        """Return the fastest bus clock not above wanted (Hz) that the SPI makes, or its slowest."""
        clock = self.core_clock // self.divided
        divisors = _DIVIDERS[self.dividers](clock, wanted)
        return clock // divisors if self.dividers != "any" else wanted

    def qspi_clock(self, wanted: int) -> int:
        """Return the fastest bus clock not above wanted (Hz) that the QSPI makes, by whole divisors of the core's."""
        return wanted if self.dividers == "any" else self.core_clock // -(-self.core_clock // wanted)

    @property
    def unsourced(self) -> list[str]:
        """The figures that are estimates."""
        return [name for name, source in self.sources.items() if not source]

    def __repr__(self) -> str:
        return f"<{self.name} at {self.core_clock / 1e6:g} MHz: {self.title}>"

    def _repr_html_(self) -> str:
        shown: dict[str, object] = {**self.cycles, "dividers": self.dividers, "divided": self.divided}
        rows = "".join(
            f"<tr style='text-align:left'><td>{name}</td><td>{shown[name]}</td>"
            f"<td>{escape(self.sources[name] or 'estimate')}</td></tr>"
            for name in shown
        )
        head = "<tr><th>figure</th><th>cycles</th><th>source</th></tr>"
        return f"<table><caption>{escape(repr(self)[1:-1])}</caption>{head}{rows}</table>"


class SpiBus:
    """Mbed's SPI class on a bus: what a byte takes (ns), alone or in a buffer.

    clock: of the bus as the microcontroller makes it (Hz). single: SPI::write(int), which locks for each byte.
    stream: a byte of SPI::write(buffer).
    """

    def __init__(self, mcu: Mcu, frequency: int) -> None:
        self.clock = mcu.spi_clock(frequency)
        byte = bus_time(8, self.clock)
        self.single = byte + mcu.ns("lock", "byte")
        self.stream = byte + mcu.ns("byte")

    def __repr__(self) -> str:
        return f"<SPI at {self.clock} Hz: {self.single} ns a byte, {self.stream} ns in a buffer>"


@cache
def mcus() -> dict[str, Mcu]:
    """Return every row of mcus.toml at its own core clock."""
    rows = tomllib.loads((files(__package__) / "mcus.toml").read_text(encoding="utf-8"))
    found: dict[str, Mcu] = {}
    for name, row in rows.items():
        merged = _inherited(rows, row)
        entries = {figure: entry for figure, entry in merged.items() if isinstance(entry, dict)}
        values = {figure: entry["value"] for figure, entry in entries.items()}
        found[name] = Mcu(
            name,
            row["title"],
            values["core_clock"],
            {figure: values[figure] for figure in _CYCLES},
            values["dividers"],
            values["divided"],
            {figure: entry["source"] for figure, entry in entries.items() if figure != "core_clock"},
        )
    return found


def _inherited(rows: Mapping[str, dict[str, object]], row: dict[str, object]) -> dict[str, object]:
    return {**_inherited(rows, rows[str(row["like"])]), **row} if "like" in row else row


def mcu(name: str = "generic", core_clock: int | None = None) -> Mcu:
    """Return the row whose name the microcontroller's begins with, the longest first; else the generic one.

    core_clock: Hz; the row's own if left out.

    Raises:
        ConfigError: the clock is not positive.
    """
    if core_clock is not None and core_clock <= 0:
        raise ConfigError(f"{name} cannot run at {core_clock} Hz", hint="core_clock is in Hz, such as 120_000_000")
    rows = mcus()
    fits = max((row for row in rows if name.lower().startswith(row.lower())), key=len, default="generic")
    found = rows[fits]
    return Mcu(
        name, found.title, core_clock or found.core_clock, found.cycles, found.dividers, found.divided, found.sources
    )


def mcu_named(name: str) -> Mcu:
    """Return a row by its name or that of a microcontroller which begins with it; "generic" is one.

    Raises:
        ConfigError: there is no such row.
    """
    if not isinstance(name, str) or not any(name.lower().startswith(row.lower()) for row in mcus()):
        hint = f"there are {', '.join(mcus())}; mcu({name!r}) makes one of the generic figures"
        raise ConfigError(f"no microcontroller {name!r} in mcus.toml", hint=hint)
    return mcu(name)


def processor_of(device: object) -> Mcu:
    """Return the microcontroller of the driver below a stack of devices; the generic one if no driver names it."""
    while device is not None:
        found = getattr(device, "mcu", None)
        if isinstance(found, Mcu):
            return found
        device = getattr(device, "device", None)
    return mcu()


def _least(divisors: list[int], clock: int, wanted: int) -> int:
    return next((divisor for divisor in divisors if clock // divisor <= wanted), divisors[-1])


def _dspi(clock: int, wanted: int) -> int:
    scalers = [2, 4, 6, *(1 << n for n in range(3, 16))]
    divisors = {pre * scaler // half for pre in (2, 3, 5, 7) for scaler in scalers for half in (1, 2)}
    return _least(sorted(divisors), clock, wanted)


def _nordic(clock: int, wanted: int) -> int:
    rates = (8_000_000, 4_000_000, 2_000_000, 1_000_000, 500_000, 250_000, 125_000)
    return _least([clock // rate for rate in rates], clock, wanted)


_DIVIDERS: dict[str, Callable[[int, int], int]] = {
    "any": lambda clock, wanted: 1,
    "powers": lambda clock, wanted: _least([2 << n for n in range(8)], clock, wanted),
    "integer": lambda clock, wanted: max(-(-clock // wanted), 1),
    "even": lambda clock, wanted: max(2 * -(-clock // (2 * wanted)), 2),
    "dspi": _dspi,
    "nordic": _nordic,
}
