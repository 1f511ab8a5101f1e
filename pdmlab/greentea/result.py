"""What came of a suite: one of Greentea's 13 words, with the cases, the measured rows and the conversation."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pdmlab.greentea.cases import CaseRecord, seed_name
from pdmlab.greentea.protocol import Event, Text, to_frame
from pdmlab.greentea.rows import Measured

if TYPE_CHECKING:
    import pandas as pd

Word = Literal[
    "OK", "FAIL", "ERROR", "SKIPPED", "UNDEF", "IOERR_COPY", "IOERR_DISK", "IOERR_SERIAL",
    "TIMEOUT", "NO_IMAGE", "MBED_ASSERT", "BUILD_FAILED", "SYNC_FAILED",
]  # fmt: skip
WORDS: tuple[str, ...] = get_args(Word)
LAST_LINES = 8
"""Lines of the console that a report of a failure shows."""


@dataclass
class Result:
    """What came of a suite on a board. `ok` is true if the board said success and no case says otherwise."""

    suite: str
    target: str
    result: Word
    reason: str = ""
    """Why it is not OK; empty if it is."""
    hint: str = ""
    host_test: str = ""
    version: str = ""
    """Of the board's greentea-client."""
    started: float = 0.0
    """Seconds since the epoch, host clock."""
    host_s: float = 0.0
    """From reset to end (s, host clock)."""
    case_records: list[CaseRecord] = field(default_factory=list, repr=False)
    events: list[Event] = field(default_factory=list, repr=False)
    measured: Measured = field(default_factory=Measured, repr=False)
    notes: list[str] = field(default_factory=list, repr=False)
    """What the host test said."""
    transcript: pd.DataFrame | None = field(default=None, repr=False)
    """The conversation, both ways: time, direction, text."""
    about: dict[str, Any] = field(default_factory=dict, repr=False)
    """What is known of the board, for the sidecar of a run."""
    run: str = ""
    """The name of the run that it was saved as; empty if it was not."""

    @property
    def simulated(self) -> bool | None:
        """Whether the board is simulated: by its own word, else by what it was opened as; None if nobody knows."""
        return self.measured.simulated

    @property
    def board(self) -> str:
        """The target, with SIMULATED before it if it is."""
        return f"SIMULATED {self.target}" if self.simulated else self.target

    @property
    def ok(self) -> bool:
        """Whether the board said success and no case failed."""
        return self.result == "OK" and all(case.result in ("OK", "SKIPPED") for case in self.case_records)

    @property
    def cases(self) -> pd.DataFrame:
        """The cases as a frame: target, suite, case, seed_case, result, passed, failed, host_s, message."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "target": self.target, "suite": self.suite, "case": case.name, "seed_case": seed_name(case.name),
                    "result": case.result, "passed": case.passed, "failed": case.failed,
                    "host_s": round(case.host_s, 3), "message": case.message,
                }
                for case in self.case_records
            ],
            columns=["target", "suite", "case", "seed_case", "result", "passed", "failed", "host_s", "message"],
        )  # fmt: skip

    @property
    def rows(self) -> pd.DataFrame:
        """What the suite measured: a row for each file written or read and for each download, with its unit."""
        return self.measured.rows()

    @property
    def unread(self) -> pd.DataFrame:
        """Lines that look like measurements and could not be read: case, host_s, text, why."""
        return self.measured.unread()

    def save(self, *, data: Path | str | None = None) -> str:
        """Keep the measured rows as a run and return its name, for pdmlab.load_run; a second call does nothing more.

        `run(board, suite, save=True)` keeps each row as it comes.

        Raises:
            ExperimentError: nothing can be written there.
        """
        if not self.run:
            from pdmlab.greentea.saving import SuiteRun

            run = SuiteRun(self.suite, {"board": self.target, **self.about}, data=data)
            with run:
                for row in self.measured.cells():
                    run.keep(row)
                self.run = run.finish(self, "finished")
        return self.run

    @property
    def progress(self) -> pd.DataFrame:
        """How downloads went on: a row for each line of progress."""
        return self.measured.progress()

    @property
    def events_frame(self) -> pd.DataFrame:
        """Everything that the board said, as key-values and texts."""
        return to_frame(self.events)

    @property
    def last_lines(self) -> list[str]:
        """The last lines that the board printed."""
        texts = [str(event) if not isinstance(event, Text) else event.text for event in self.events]
        return [text for text in texts if text.strip()][-LAST_LINES:]

    def _counts(self) -> str:
        counts = Counter(case.result for case in self.case_records)
        return ", ".join(f"{number} {word}" for word, number in counts.items()) or "no cases"

    def __repr__(self) -> str:
        text = f"<{self.suite} on {self.board}: {self.result}, {self._counts()}, {self.host_s:.1f} s (host clock)>"
        text += "" if self.ok or not self.reason else f"\n{self.reason}"
        unread = len(self.unread)
        return f"{text}\nlines that could not be read as measurements: {unread}, see .unread" if unread else text

    def _repr_html_(self) -> str:
        colour = "#009E73" if self.ok else "#D55E00"
        head = "".join(f"<th>{name}</th>" for name in ("case", "result", "passed", "failed", "s (host)", "why"))
        rows = "".join(
            f"<tr style='text-align:left'><td>{escape(case.name)}</td><td>{case.result}</td><td>{case.passed}</td>"
            f"<td>{case.failed}</td><td>{case.host_s:.2f}</td><td>{escape(case.message)}</td></tr>"
            for case in self.case_records
        )
        why = "" if self.ok else f"<p>{escape(self.reason)} {escape(self.hint)}</p>"
        if not self.ok and self.last_lines:
            why += f"<pre>{escape(chr(10).join(self.last_lines))}</pre>"
        if unread := len(self.unread):
            why += f"<p>lines that could not be read as measurements: {unread}, see <code>.unread</code></p>"
        return (
            f"<div><b>{escape(self.suite)}</b> on {escape(self.board)}: "
            f"<b style='color:{colour}'>{self.result}</b>, {self._counts()}, {self.host_s:.1f} s (host clock)"
            f"{why}<table><tr>{head}</tr>{rows}</table></div>"
        )
