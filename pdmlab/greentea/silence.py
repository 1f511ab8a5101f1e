"""Why a board does not answer: from what it printed, which side was silent, and what to try."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pdmlab.greentea.protocol import WAKE_UP, Event, KeyValue, Malformed, Text

if TYPE_CHECKING:
    from pdmlab.greentea.result import Word

SHOWN = 3
_STATUS = re.compile(r"^Error Status: (0x[0-9A-Fa-f]+)")
_MESSAGE = re.compile(r"^Error Message: (.*)")
# Mbed OS up to 5.9 says it in these words, later ones in an error report.
_OLD_ASSERT = re.compile(r"mbed assertation failed: (.*)")
_ASSERT = "Assertion failed"


def explain_silence(events: Sequence[Event], *, sent: int, wrong: int, seconds: float) -> tuple[str, str]:
    """Return why no sync was echoed, and what to try: `sent` syncs, each waited for so many seconds."""
    asked = f"{sent} sync{'s' if sent != 1 else ''} sent, {seconds:g} s each (host clock)"
    texts = [event.text for event in events if isinstance(event, Text | Malformed) and event.text.strip()]
    if wrong:
        return (
            f"the board echoed {wrong} other sync{'s' if wrong != 1 else ''}; {asked}",
            "another run of this suite may still be on the line: close it, and replug the board",
        )
    if not events:
        return (
            f"the board's side was silent: not a byte came; {asked}",
            "is it powered, at 115200 baud, and its TX wired? replug it, or update its DAPLink or ST-Link firmware",
        )
    last = "; last lines: " + " | ".join(repr(text) for text in texts[-SHOWN:]) if texts else ""
    if fault := _fault(texts):
        return (
            f"the board stopped before it could answer: {fault}; {asked}{last}",
            "flash a suite: what is installed there does not run",
        )
    if _readable(texts) < 0.7:
        return (
            f"what the board prints cannot be read; {asked}{last}",
            "the baud rates differ: Mbed OS speaks 9600 or 115200",
        )
    if any(WAKE_UP in text for text in texts):
        return (
            f"the board repeats what it hears, but answers no sync: a shell runs there, and no suite; {asked}{last}",
            "flash the suite first",
        )
    if any(isinstance(event, KeyValue) for event in events):
        return (
            f"the board spoke key-values, but heard no sync: the host's side was silent to it; {asked}{last}",
            "is the wire to its RX whole? a suite that has run waits for a reset: replug the board",
        )
    return (
        f"the board prints, but answers no sync: the host's side was silent to it, or no suite runs there; "
        f"{asked}{last}",
        "flash the suite first; is the wire to the board's RX whole? some ports carry no break: replug the board",
    )


def explain_fault(line: str, events: Sequence[Event]) -> tuple[Word, str, str] | None:
    """Return word, reason and hint if this line says that the board has stopped for good; else None."""
    if found := _OLD_ASSERT.search(line):
        return "MBED_ASSERT", f"an assertion of Mbed OS failed: {found[1]}", "the console shows where"
    if not line.startswith("-- MbedOS Error Info --"):
        return None
    fault = _fault([event.text for event in events if isinstance(event, Text)])
    word: Word = "MBED_ASSERT" if fault.startswith(_ASSERT) else "ERROR"
    return word, f"the board stopped: {fault}", "board.reset() starts it again"


def _fault(texts: Sequence[str]) -> str:
    """Return the status and message of Mbed's last error report, if there is one."""
    status = next((found[1] for text in reversed(texts) if (found := _STATUS.match(text))), "")
    message = next((found[1] for text in reversed(texts) if (found := _MESSAGE.match(text))), "")
    return f"{message.strip()} (status {status})" if status else ""


def _readable(texts: Sequence[str]) -> float:
    """Return the share of characters that a board would print on purpose."""
    whole = "".join(texts)
    return sum(letter.isascii() and letter.isprintable() for letter in whole) / max(len(whole), 1)
