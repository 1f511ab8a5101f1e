"""A firmware update replayed in memory, with the supply cut at any program or erase, under any bootloader.

The media are a board's own kind, with its drivers, candidate slot and bootloader; only the application is left
out. A replay code is a list of steps:

    download      fetch 2.0.0 into the candidate slot, or go on where a cut has left it
    boot          power on: the bootloader checks, installs if it must, and starts what it may
    reset         the same after a reset from inside, as a watchdog makes it: RAM is as it was
    confirm       the application says that it works
    download-newer, download-older, download-unsigned    fetch 3.0.0, 0.9.0, or a 2.0.0 without a signature of its own
    download-forged    fetch 0.9.0, with its genuine signature, under a header that says 999.999.999
    spoil-active, spoil-candidate        some bytes of the application, or of the candidate, are no more what they were
    wipe-storage                         the update storage is blank
    wear-flash                           the flash refuses one program in the application
    wear-nvstore                         the flash refuses every program in NVStore
    pull-card, seat-card, format-card    what people do to a card

A step that ends in !n loses power in its nth program or erase, half of which has happened: `download boot!20 boot`.
How much had happened can be said: `boot!20.25`, `boot!20b` (nothing), `boot!20a` (all), `boot!20x7` (bits at random);
`boot!20o` takes the card out there. `trial: download boot!20 boot` names the bootloader, and `trial/K64F-SD: …` a small
setup of the benchmark, so that the code alone says everything; `trial/K64F-SD/full: …` has an NVStore full of old
records, and `trial/K64F-SD/room24: …` one full of an application's live ones, up to 24 B.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Any

from pdmlab.clock import PowerLost
from pdmlab.errors import ConfigError, PdmlabError
from pdmlab.measurements.bench import Bench, Row
from pdmlab.measurements.downloads import whole
from pdmlab.measurements.update_cuts.media import Cut, TracedMedium, parse_cut
from pdmlab.measurements.update_cuts.rig import NEW, NOTHING, OLD, STEPS, Build, UpdateRig
from pdmlab.measurements.update_cuts.setups import IMAGE_B, of_board, setup
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import DEFAULT, KINDS, Kind

if TYPE_CHECKING:
    import pandas as pd

CELL = 4096
"""The slot map's resolution (B)."""
HALF = "half written"
MOST_STEPS = 20
CUTTABLE = frozenset(step for step in STEPS if step.startswith("download")) | {"boot", "reset", "confirm"}
_CODE = re.compile(
    r"(?:(?P<kind>[a-z]+)(?:/(?P<setup>[\w-]+))?(?:/(?P<full>full)|/room(?P<room>\d{1,3}))?:)?(?P<words>[^:]*)"
)
_HINT = "download, boot, boot!20, reset, confirm, pull-card, seat-card, format-card, spoil-active …"


@dataclass(frozen=True)
class StepOutcome:
    """A step of a replay: what came of it, and how many programs and erases it took."""

    step: str
    outcome: str
    operations: int
    running: str
    """The version that runs after it, or "nothing"."""
    cut_in: str = ""
    """The operation in which the power was lost."""


@dataclass
class Replay:
    """A replayed story: its steps, what runs now, and what lies in flash and candidate slot."""

    code: str
    bootloader: str = DEFAULT
    steps: list[StepOutcome] = field(default_factory=list)
    active: str = OLD
    """Whether the application in flash is whole: its version, or "incomplete"."""
    candidate: str = "none"
    """none, incomplete, or its version if it is whole."""
    fault: str = ""
    """What is wrong with what was started last, or with the device's identity; nothing if all is well."""
    slots: list[Row] = field(default_factory=list)
    """What lies in each 4 KiB of both slots: 1.0.0, 2.0.0, blank or mixed."""

    @property
    def running(self) -> str:
        """The version that runs at the end, or "nothing"."""
        return self.steps[-1].running if self.steps else OLD

    @property
    def cuts(self) -> int:
        """How often the power was lost."""
        return sum(bool(step.cut_in) for step in self.steps)

    @property
    def frame(self) -> pd.DataFrame:
        """The steps as a frame."""
        import pandas as pd

        return pd.DataFrame([vars(step) for step in self.steps])

    @property
    def slot_map(self) -> pd.DataFrame:
        """Slot, offset_B and what lies there, a row for each 4 KiB."""
        import pandas as pd

        return pd.DataFrame(self.slots)

    def __repr__(self) -> str:
        lines = [f"{step.step:<14} {step.outcome}" for step in self.steps]
        return "\n".join([f"replay {self.code!r} ({self.bootloader}): {self.running} runs", *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr style='text-align:left'><td><code>{escape(step.step)}</code></td><td>{escape(step.outcome)}</td>"
            f"<td>{step.operations}</td><td>{escape(step.running)}</td></tr>"
            for step in self.steps
        )
        return (
            f"<table><caption>SIMULATED, in memory, bootloader {escape(self.bootloader)}:"
            f" <code>{escape(self.code)}</code></caption>"
            f"<tr><th>step</th><th>what came of it</th><th>programs, erases</th><th>runs</th></tr>{rows}</table>"
        )


@dataclass(frozen=True)
class _Code:
    """A replay code, read: the bootloader and the setup it names, how NVStore is filled, its steps and their cuts."""

    kind: Kind | None
    setup: str | None
    full: bool
    room: int | None
    steps: list[tuple[str, str, Cut | None]]


def replay(
    board: Bench,
    code: str,
    *,
    bootloader: str | None = None,
    image_B: int = 48 * 1024,
    options: Mapping[str, Any] | None = None,
) -> Replay:
    """Replay an update of a board of this kind from 1.0.0 to 2.0.0; see the module for what a code is.

    bootloader: fota (if nothing is said), mbed or trial; options: what it is built with.

    Raises:
        ConfigError: the code has a word that is no step, or a card is handled where there is none.
    """
    read = _read(code)
    named = bootloaders.kind(bootloader)
    if read.kind is not None and named not in (None, read.kind):
        raise ConfigError(f"the code names the bootloader {read.kind}, and bootloader is {named}")
    where = of_board(board) if read.setup is None else setup(read.setup)
    size = whole("image_B", image_B, 4096, 1 << 24) if read.setup is None else IMAGE_B
    rig = UpdateRig(
        where, read.kind or named or DEFAULT, image_B=size, options=options, fill_nvstore=read.full, room=read.room
    )
    return _play(rig, code, read)


def replay_code(code: str, *, options: Mapping[str, Any] | None = None, build: Build | None = None) -> Replay:
    """Replay a code that names bootloader and setup, as explorations print it.

    build: makes another bootloader than the named one, over its media and headers.

    Raises:
        ConfigError: it names none, or has a word that is no step.

    >>> replay_code("trial/K64F-SD: download boot!20.5 boot")
    """
    read = _read(code)
    if read.kind is None or read.setup is None:
        raise ConfigError(f"{code[:60]!r} names no bootloader and setup", hint="such as trial/K64F-SD: download boot!9")
    rig = UpdateRig(setup(read.setup), read.kind, options=options, build=build, fill_nvstore=read.full, room=read.room)
    return _play(rig, code, read)


def power_cut(board: Bench, cut: int, image_B: int, bootloader: str | None = None) -> Row:
    """Cut the supply in the cut-th program or erase of a download and installation, and go on: one row.

    Afterwards the board starts, downloads what is missing, and starts again; what runs confirms itself each time.
    """
    whole = replay(board, "download boot", image_B=image_B, bootloader=bootloader)
    downloading = whole.steps[0].operations
    if cut <= downloading:
        step, head = "download", f"download!{cut}"
    else:
        step, head = "install", f"download boot!{cut - downloading}"
    at_cut = replay(board, head, image_B=image_B, bootloader=bootloader)
    after = "boot confirm download boot confirm"
    story = replay(board, f"{head} {after}", image_B=image_B, bootloader=bootloader)
    return {
        "step": step,
        "operation": at_cut.steps[-1].cut_in or "none",
        "active": at_cut.active,
        "candidate": at_cut.candidate,
        "first_start": story.steps[-len(after.split())].running,
        "in_the_end": story.running,
    }


def _read(code: str) -> _Code:
    match = _CODE.fullmatch(code.strip())
    if match is None:
        raise ConfigError(f"{code[:60]!r} is no replay code", hint="such as: download boot!20 boot")
    kind = match["kind"]
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"there is no bootloader {kind!r}", hint=f"use one of {', '.join(KINDS)}")
    steps = []
    words = match["words"].split()
    for word in words:
        name, mark, cut = word.partition("!")
        if name not in STEPS or (mark and name not in CUTTABLE):
            raise ConfigError(f"{word[:40]!r} is no step of a replay", hint=_HINT)
        steps.append((word, name, parse_cut(cut) if mark else None))
    if not 1 <= len(words) <= MOST_STEPS:
        raise ConfigError(f"a replay code has 1 to {MOST_STEPS} steps", hint="such as: download boot!20 boot")
    room = None if match["room"] is None else int(match["room"]) // 8 * 8
    return _Code(bootloaders.kind(kind), match["setup"], match["full"] is not None, room, steps)


def _play(rig: UpdateRig, code: str, read: _Code) -> Replay:
    result = Replay(code, rig.kind)
    for word, name, cut in read.steps:
        rig.trace.cut, cut_in = cut, ""
        try:
            outcome = rig.take(name)
        except PowerLost:
            cut_in = rig.trace.done[-1].words
            outcome = f"power lost in operation {cut.operation if cut else 0}: {cut_in}"
            rig.running, rig.trial = NOTHING, False
        except PdmlabError as error:
            outcome = error.message
        operations = sum(done.kind != "change" for done in rig.trace.take())
        if rig.trace.cut is not None:
            rig.trace.cut = None
            outcome += f" (the step has only {operations} operations: no cut)"
        result.steps.append(StepOutcome(word, outcome, operations, rig.running, cut_in))
    result.fault = rig.fault()
    _look(rig, result)
    return result


def _look(rig: UpdateRig, result: Replay) -> None:
    """Note what lies in both slots now."""
    found = rig.found()
    result.active = rig.name_of(found.digest) if found is not None and found.whole else "incomplete"
    cells = _cells(rig, "candidate", rig.storage, rig.candidate_at()[0])
    result.slots = [*_cells(rig, "application", rig.flash, rig.layout.app_offset), *cells]
    result.candidate = rig.candidate()
    if result.candidate == "none" and any(cell["holds"] in (NEW, HALF) for cell in cells):
        result.candidate = "incomplete"


def _cells(rig: UpdateRig, slot: str, medium: TracedMedium, start: int) -> list[Row]:
    old, new = rig.images[OLD], rig.images[NEW]
    rows: list[Row] = []
    for at in range(0, len(new), CELL):
        here = medium.peek(start + at, min(CELL, len(new) - at))
        if here == new[at : at + CELL]:
            holds = NEW
        elif here == old[at : at + CELL]:
            holds = OLD
        else:
            holds = "blank" if set(here) <= {0x00, 0xFF} else HALF
        rows.append({"slot": slot, "offset_B": at, "holds": holds, "simulated": True, "clock": "device"})
    return rows
