"""Power cuts of a firmware update: at every program and erase, under three bootloaders, on six geometries."""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

from benchmarks.table import Table
from pdmlab.measurements.update_cuts.exploring import FATES, CutPlan, explore_update
from pdmlab.measurements.update_cuts.report import UpdateReport
from pdmlab.measurements.update_cuts.setups import SETUPS
from pdmlab.processes import called, packed
from pdmlab.update.bootloaders.interface import KINDS, Kind

WORKERS = 2
LEAST = 50_000
"""How many cuts are made, second ones counted in."""
PLAN = CutPlan(torn=2, second=2)

INCLUDES = """\
One cut: the media are put into the state of that instant; the board starts as after a power-on, under the trial
bootloader twice, with a confirmation between them after every other cut; after one cut in eight it is updated to the
end; each time what runs, its SHA-256, its signature and the device's identity are looked at by a second reader; then
all of it is undone. A second cut is the same again, in the
first start's own programs and erases. A false header names an image that is not there whole."""


class Job(NamedTuple):
    """One exploration: a bootloader on a setup, what else befalls it, and whether NVStore is full.

    room: how much NVStore has left (B) beside live records.
    """

    kind: Kind
    setup: str
    fate: str
    full: bool
    room: int | None = None


def explore(job: Job) -> UpdateReport:
    """Make all cuts of a job; in a process of its own."""
    return explore_update(job.kind, job.setup, fate=job.fate, full=job.full, room=job.room, plan=PLAN)


def bench() -> None:
    """Print operations, cuts and losses of every bootloader on every geometry, then causes, codes and the rate."""
    jobs = [Job(kind, setup, fate, False) for setup in SETUPS for kind in KINDS for fate in FATES]
    jobs += [Job("trial", setup, "", True) for setup in SETUPS]
    jobs += [Job("trial", setup, "", False, room) for setup in ("K64F-SD", "STM32L4-NOR") for room in (24, 40)]
    table = Table(
        "Power cuts of an update: every program and erase of flash and update storage, torn and whole",
        {
            "bootloader": "", "setup": "", "then": "", "operations": "d", "cuts": "d", "second": "d",
            "losses": "d", "false headers": "d", "cuts/s": ",.0f",
        },
        text_width=18,
    )  # fmt: skip
    started, reports = time.perf_counter(), []
    for job, report in called(packed(explore, "the exploration"), iter(jobs), WORKERS):
        reports.append(report)
        then = job.fate or ("NVStore is full" if job.full else "")
        if job.room is not None:
            then = f"NVStore: {job.room} B left"
        counts = report.operations, report.cuts, report.second_cuts, len(report.losses), report.false_headers
        table.row(job.kind, job.setup, then, *counts, report.per_second)
    seconds = time.perf_counter() - started
    print(INCLUDES)
    for kind in KINDS:
        show_losses(kind, [report for report in reports if report.bootloader == kind])
    total = sum(report.cuts + report.second_cuts for report in reports)
    reached = "reached" if total >= LEAST else "NOT reached"
    print(f"{total:,} cuts in {seconds:.0f} s, {total / seconds:,.0f} a second on {WORKERS} processes")
    free = WORKERS * total / sum(report.processor_s for report in reports)
    print(f"target {LEAST:,}: {reached}")
    print(f"by processor time, {WORKERS} cores with nothing else to do would make {free:,.0f} a second")


def show_losses(kind: Kind, reports: list[UpdateReport]) -> None:
    """Print a bootloader's losses by cause and by what befell the candidate, with a code of each that replays it."""
    causes: Counter[tuple[str, str]] = Counter()
    codes: dict[tuple[str, str], str] = {}
    for report in reports:
        for loss in report.losses:
            cause = loss.fault, report.fate or "nothing else happened"
            causes[cause] += 1
            codes.setdefault(cause, loss.code)
    if not causes:
        print(f"{kind}: no cut bricks it, loses the identity or starts what is not verified")
    for (fault, fate), count in causes.items():
        print(f"{kind}: {count} x {fault} ({fate}): {codes[fault, fate]}")
