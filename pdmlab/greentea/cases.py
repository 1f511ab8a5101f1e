"""Test cases as a board tells of them, and what the seed calls those that stock firmware names otherwise."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from pdmlab.greentea.protocol import Event, KeyValue, Text

CaseWord = Literal["OK", "FAIL", "ERROR", "SKIPPED"]

SEED_NAMES = {
    "Simple PDMC Initialization": "Initialize Simple PDMC ",
    "Initialize Simple PDMC": "Initialize Simple PDMC ",
    "Pelion Bootstrap & Reg.": "Pelion DM Bootstrap & Register",
    "Pelion DM Bootstrap & Reg.": "Pelion DM Bootstrap & Register",
    "Pelion Directory": "Pelion DM Directory",
    "Pelion Re-register": "Pelion DM Re-register",
    "Consistent Identity": "Post-reset Identity",
    "LwM2M GET Test": "ResourceLwM2M GET",
    "Resource LwM2M GET": "ResourceLwM2M GET",
    "LwM2M SET Test": "ResourceLwM2M SET Test",
    "Resource LwM2M SET": "ResourceLwM2M SET Test",
    "LwM2M PUT Test": "ResourceLwM2M PUT Test",
    "Resource LwM2M PUT": "ResourceLwM2M PUT Test",
    "LwM2M POST Test": "Resource LwM2M POST Test",
    "Resource LwM2M POST": "Resource LwM2M POST Test",
    "Prepare Firmware": "Firmware Prepare",
    "Pelion Firmware Prepare": "Firmware Prepare",
    "Download Firmware": "Firmware Download",
    "Pelion Firmware Download": "Firmware Download",
    "Pelion Firmware Update": "Firmware Update",
}
"""Stock firmware's name of a case -> the name in the seed's tables, where they differ."""

_UNITY = re.compile(r"^\S*:(\d+):[^:]*:FAIL:? ?(.*)$")


def seed_name(name: str) -> str:
    """Return what the seed's tables call a case."""
    return SEED_NAMES.get(name.strip(), name)


@dataclass
class CaseRecord:
    """A case: announced, perhaps begun, perhaps ended; times in seconds since the epoch, host clock."""

    name: str
    started: float | None = None
    ended: float | None = None
    passed: int = 0
    failed: int = 0
    message: str = ""
    """The first reason that the board gave for failing."""
    lines: list[str] = field(default_factory=list, repr=False)
    """What the board printed from its start to its end."""

    @property
    def result(self) -> CaseWord:
        """OK or FAIL if it ended, ERROR if it began and did not end, SKIPPED if it was only announced."""
        if self.ended is not None:
            return "FAIL" if self.failed else "OK"
        return "ERROR" if self.started is not None else "SKIPPED"

    @property
    def host_s(self) -> float:
        """From start to end (s, host clock); 0 if it did not get so far."""
        return self.ended - self.started if self.started is not None and self.ended is not None else 0.0


class CaseTracker:
    """Follows the cases of one suite, over restarts of the board: a case that begins anew is one case."""

    def __init__(self) -> None:
        self.announced = 0
        self.summary: tuple[int, int] | None = None
        self.current: CaseRecord | None = None
        self._cases: dict[str, CaseRecord] = {}

    @property
    def cases(self) -> list[CaseRecord]:
        """The cases, in the order in which the board first named them."""
        return list(self._cases.values())

    def feed(self, event: Event) -> None:
        """Take the next event."""
        if isinstance(event, KeyValue):
            self._key_value(event)
        elif isinstance(event, Text) and self.current is not None:
            self.current.lines.append(event.text)
            self._note_reason(self.current, event.text)

    def _key_value(self, event: KeyValue) -> None:
        match event.key:
            case "__testcase_count":
                self.announced = event.number()
            case "__testcase_name":
                self._case(event.value)
            case "__testcase_start":
                case = self.current = self._case(event.value)
                if case.started is None or not case.failed:
                    # A case that a restart begins anew must end anew, but a failure stays one.
                    case.started, case.ended = event.time, None
            case "__testcase_finish":
                name, passed, failed = event.value.rsplit(";", 2)
                case = self._case(name)
                case.ended = event.time
                case.passed, case.failed = int(passed), max(int(failed), case.failed)
                if self.current is case:
                    self.current = None
            case "__testcase_summary":
                passed, failed = event.values
                self.summary = (int(passed), int(failed))

    def _case(self, name: str) -> CaseRecord:
        return self._cases.setdefault(name, CaseRecord(name))

    @staticmethod
    def _note_reason(case: CaseRecord, line: str) -> None:
        if unity := _UNITY.match(line):
            if not case.message.startswith("line "):  # says more than an [ERROR] before it
                case.message = f"line {unity[1]}: {unity[2]}"
        elif line.startswith("[ERROR]") and not case.message:
            case.message = line.removeprefix("[ERROR]").strip()
