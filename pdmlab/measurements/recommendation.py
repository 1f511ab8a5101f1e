"""A recommended set-up of a logger, as it is shown: sizes, RAM, margins, what it hangs on, and its mbed_app.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from pdmlab.measurements.mbed_config import mbed_app

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SetUp:
    """A way to write: bytes a call, littlefs's sizes if it is that, and what RAM the file system takes (B)."""

    write_B: int
    volume: Mapping[str, int]
    ram: Mapping[str, int]


@dataclass(frozen=True)
class Tried:
    """A set-up that was tried over a whole log, the ring buffer that it needs (B), and the row of the trial."""

    setup: SetUp
    ring_B: int
    row: Mapping[str, Any] = field(repr=False)

    @property
    def ram(self) -> dict[str, int]:
        """RAM by purpose (B)."""
        return {"ring buffer": self.ring_B, **self.setup.ram}

    @property
    def ram_B(self) -> int:
        """All of it."""
        return sum(self.ram.values())


@dataclass(frozen=True)
class Recommendation:
    """The set-up with the least RAM that logs rate_Bps without a loss; SIMULATED, in device time.

    case: which of the part's times it was chosen for: the hardest that any set-up holds.
    cases: a row for each: what becomes of this set-up there, or that nothing holds the rate.
    options: what mbed_app.json has to say.
    estimates: the figures without a source that this hangs on; "" for none.
    """

    rate_Bps: int
    board: str
    case: str
    chosen: Tried
    others: Sequence[Tried] = field(repr=False)
    checks: Sequence[Mapping[str, Any]] = field(repr=False)
    sync_every_B: int
    log_B: int
    tried: int
    options: Mapping[str, int]
    estimates: str

    @property
    def write_B(self) -> int:
        """Bytes that the logging thread writes at a time."""
        return self.chosen.setup.write_B

    @property
    def ring_B(self) -> int:
        """Size of the ring buffer between the interrupt and the thread."""
        return self.chosen.ring_B

    @property
    def ram_B(self) -> int:
        """RAM of file system and ring buffer."""
        return self.chosen.ram_B

    @property
    def ram(self) -> Mapping[str, int]:
        """That RAM by purpose (B)."""
        return self.chosen.ram

    @property
    def settings(self) -> dict[str, Any]:
        """The volume: part, bus, file system and its sizes, as log_stream takes them."""
        return {name: self.chosen.row[name] for name in _SETTINGS}

    @property
    def mbed_app(self) -> str:
        """An mbed_app.json for it."""
        return mbed_app(self.options)

    @property
    def cases(self) -> pd.DataFrame:
        """What becomes of this set-up at the part's typical and maximum times, a row each."""
        return _frame(self.checks)

    @property
    def runners_up(self) -> pd.DataFrame:
        """The next best set-ups that hold the rate too."""
        keys = [name for name in ("cache_size_B", "block_size_B", "lookahead_size_B") if self.chosen.row[name]]
        return _frame(
            [
                {
                    "ram_B": one.ram_B, "write_B": one.setup.write_B, "ring_B": one.ring_B,
                    **{key: one.row[key] for key in keys},
                    "longest_stall_ms": one.row["longest_stall_ms"], "busy_percent": one.row["busy_percent"],
                    "simulated": True, "clock": "device",
                }
                for one in self.others
            ]
        )  # fmt: skip

    def __repr__(self) -> str:
        lines = [f"Recommendation (SIMULATED, device clock): {self._headline()}", f"  {self._application()}"]
        lines += [f"  {name}: {size} B" for name, size in self.ram.items()]
        lines += [f"  {_told(check)}" for check in self.checks]
        if self.estimates:
            lines.append(f"  hangs on estimates: {self.estimates}")
        return "\n".join([*lines, self.mbed_app])

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{escape(name)}</td><td>{size}</td></tr>" for name, size in self.ram.items())
        cases = "".join(f"<li>{escape(_told(check))}</li>" for check in self.checks)
        estimates = f"<p>Hangs on estimates: {escape(self.estimates)}</p>" if self.estimates else ""
        return (
            f"<p><b>{escape(self._headline())}</b> SIMULATED, device clock</p><p>{escape(self._application())}</p>"
            f"<table><tr><th>RAM for</th><th>B</th></tr>{rows}<tr><th>together</th><th>{self.ram_B}</th></tr></table>"
            f"<ul>{cases}</ul>{estimates}<pre style='font-family:monospace'>{escape(self.mbed_app)}</pre>"
        )

    def _headline(self) -> str:
        row = self.chosen.row
        bus = "" if row["bus"] == "internal" else f" over {row['bus']} at {row['bus_Hz'] / 1e6:g} MHz"
        return (
            f"{self.rate_Bps / 1000:g} kB/s to {row['file_system']} on {row['part']}{bus}, {self.board}: "
            f"{self.ram_B} B of RAM, the least of {self.tried} set-ups at {self.case}"
        )

    def _application(self) -> str:
        return (
            f"In the application: a CircularBuffer<char, {self.ring_B}>, writes of {self.write_B} B, "
            f"a sync every {self.sync_every_B} B."
        )


_SETTINGS = (
    "part", "bus", "bus_Hz", "file_system", "volume_B",
    "read_size_B", "prog_size_B", "block_size_B", "cache_size_B", "lookahead_size_B",
)  # fmt: skip


def _told(check: Mapping[str, Any]) -> str:
    """Return a check as a sentence."""
    if "lost_B" not in check:
        return f"At {check['case']} no set-up holds it: the fastest writes {check['fastest_kBps']:.3g} kB/s."
    lost = "nothing is lost" if not check["lost_B"] else f"{check['lost_B']} B are lost"
    free_B = check["ring_B"] - check["fullest_B"]
    return (
        f"At {check['case']} {lost}: the ring gets {check['fullest_B']} B full ({free_B} B stay free), "
        f"the longest call takes {check['longest_stall_ms']:.0f} ms."
    )


def _frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([dict(row) for row in rows]).convert_dtypes()
