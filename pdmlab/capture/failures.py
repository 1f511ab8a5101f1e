"""What went wrong in a log, each with what happened, what it means and what to do."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from pdmlab.capture.rows import HINT, LoggedMessage

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Failure:
    """A row of the log that tells of a failure; `kind` is its short name, such as "unknown CA"."""

    row: LoggedMessage
    kind: str
    happened: str
    means: str
    do: str

    def __str__(self) -> str:
        return (
            f"{self.row.time.strip()}  {self.row.place}  {self.kind}\n"
            f"  what happened  {self.happened}\n  what it means  {self.means}\n  what to do     {self.do}"
        )


_SAID = {"allocation: ": "no room for another device", "is not enrolled": "not enrolled"}
"""What this service says with an error, by which its kind is known."""


class Failures:
    """The failures of a log, oldest first."""

    def __init__(self, rows: Iterable[LoggedMessage]) -> None:
        self._all = list(_found(rows))

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Failure]:
        return iter(self._all)

    def __getitem__(self, place: int) -> Failure:
        return self._all[place]

    def __repr__(self) -> str:
        return "\n".join(map(str, self._all)) or "nothing failed"

    def frame(self) -> pd.DataFrame:
        """Return them as a frame: time_ns, peer, device, kind, happened, means, do."""
        import pandas as pd

        columns = ["number", "time_ns", "clock", "peer", "device", "name", "kind", "happened", "means", "do"]
        rows = [
            (
                each.row.number, each.row.time_ns, each.row.clock, each.row.place, each.row.device, each.row.name,
                each.kind, each.happened, each.means, each.do,
            )
            for each in self._all
        ]  # fmt: skip
        return pd.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        if not self._all:
            return "<i>nothing failed</i>"
        head = "".join(f"<th>{name}</th>" for name in ("when, who", "what happened", "what it means", "what to do"))
        body = ""
        for each in self._all:
            who = " ".join(filter(None, (each.row.time.strip(), each.row.place, each.row.name or each.row.device)))
            cells = (escape(who), f"<b>{escape(each.kind)}</b>: {escape(each.happened)}", escape(each.means))
            body += "<tr style='vertical-align:top'>" + "".join(
                f"<td style='text-align:left'>{cell}</td>" for cell in (*cells, escape(each.do))
            )
            body += "</tr>"
        return f"<table style='font-size:90%'><tr style='text-align:left'>{head}</tr>{body}</table>"


def _found(rows: Iterable[LoggedMessage]) -> Iterator[Failure]:
    for row in rows:
        if row.code == "handshake failed":
            table = _words()
            reason = row.options if row.options in table else "other"
            happened, _, hint = row.payload.removesuffix(")" if HINT in row.payload else "").partition(HINT)
            do = f"{hint}{'' if hint[-1] in '.?' else '.'} Or: {table[reason]['do']}" if hint else table[reason]["do"]
            yield Failure(row, row.options or reason, happened, table[reason]["means"], do)
        elif row.code == "gave up":
            yield _failure(row, "never acknowledged", f"{row.path or 'a message'}: {row.payload}")
        elif row.code == "unreadable":
            answered = "; it was answered by a reset" if row.outcome == "reset" else ""
            yield _failure(row, "unreadable", f"{row.payload_B} B that are no message: {row.payload}{answered}")
        elif row.outcome == "reset" and row.transmission == 1 and row.code != "ping":  # which asks for a reset
            what = " ".join(filter(None, (row.type, row.code, row.path)))
            if row.direction == "in":
                yield _failure(row, "reset by this end", f"this end answered {what} by a reset")
            else:
                yield _failure(row, "reset", f"{what} was reset by the peer")
        elif row.code[:2] in ("4.", "5."):
            said = f": {row.payload}" if row.payload else ""
            kind = next((kind for words, kind in _SAID.items() if words in row.payload), "refused")
            yield _failure(row, kind, f"{row.code} to {row.path or '/'}{said}")


def _failure(row: LoggedMessage, kind: str, happened: str) -> Failure:
    words = _words()[kind]
    return Failure(row, kind, happened, words["means"], words["do"])


@cache
def _words() -> dict[str, dict[str, str]]:
    with files("pdmlab.capture").joinpath("failures.toml").open("rb") as file:
        return tomllib.load(file)
