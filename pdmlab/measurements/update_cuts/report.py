"""What came of cutting an update's power everywhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd


class Loss(NamedTuple):
    """A cut after which something is wrong: the code that replays it, where it was, and what is wrong.

    said: the console's last line before the operation.
    """

    code: str
    step: str
    operation: str
    said: str
    fault: str


@dataclass
class UpdateReport:
    """How one bootloader on one setup came through its power cuts.

    operations: programs and erases of the stories. cuts, second_cuts: how many were made, in them and in recoveries.
    ends: how often which version ran in the end. false_headers: states in which a header names an image that is not
    there whole. seconds: how long it took; processor_s: of the processor's time.
    """

    bootloader: str
    setup: str
    fate: str = ""
    operations: int = 0
    cuts: int = 0
    second_cuts: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    false_headers: int = 0
    losses: list[Loss] = field(default_factory=list)
    seconds: float = 0.0
    processor_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every cut ended with an image that may run, and the identity as it was."""
        return not self.losses

    @property
    def per_second(self) -> float:
        """Cuts a second, second ones too."""
        return (self.cuts + self.second_cuts) / self.seconds if self.seconds else 0.0

    @property
    def causes(self) -> Counter[str]:
        """How many losses of each kind there are."""
        return Counter(loss.fault for loss in self.losses)

    @property
    def frame(self) -> pd.DataFrame:
        """The losses as a frame."""
        import pandas as pd

        return pd.DataFrame(self.losses, columns=Loss._fields)

    @property
    def summary(self) -> str:
        """Say in a line what was cut, and what was lost."""
        fate = f", {self.fate}" if self.fate else ""
        found = "; ".join(f"{count} x {fault}" for fault, count in self.causes.items()) or "nothing is lost"
        return (
            f"{self.bootloader} on {self.setup}{fate}: {self.operations} operations, {self.cuts:,} cuts and"
            f" {self.second_cuts:,} more in recoveries: {found}"
        )

    def __repr__(self) -> str:
        return "\n".join([self.summary, *(f"  {loss.code}" for loss in self.losses[:5])])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr style='text-align:left'><td><code>{escape(loss.code)}</code></td><td>{escape(loss.said)}</td>"
            f"<td>{escape(loss.fault)}</td></tr>"
            for loss in self.losses[:10]
        )
        table = (
            f"<table><tr><th>code</th><th>after the line</th><th>what is wrong</th></tr>{rows}</table>" if rows else ""
        )
        return f"<p>SIMULATED: {escape(self.summary)}</p>{table}"
