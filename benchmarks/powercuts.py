"""How many verified power cuts a second: littlefs on each of its geometries, and every store's ready story."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from benchmarks.table import Table
from pdmlab.storage import powercuts
from pdmlab.storage.powercuts import Report, StoreStory, stories

WORKERS = 2
TARGET = 3000
"""Verified littlefs cuts a second on two cores; littlefs's own emulator in C makes 3,200."""
LONG = 250
"""Steps of the trace over 1 MiB: more than 2,500 programs and erases."""

INCLUDES = """\
One cut: the medium is put into the state of that instant, mounted, made consistent, and the whole tree walked and
compared, byte for byte; the interrupted operation is tried again; the tree is mounted, walked and compared again; then
all of it is undone. A second cut is the same once more, in the recovery from the first. The rate counts both, with
the start of the processes, on whatever else this machine does."""


def bench() -> None:
    """Print the rate on the long trace, then operations, cuts and losses of every store."""
    long = stories.littlefs("default", length=LONG)
    for workers in (1, WORKERS):
        show_long(long, workers)
    print(INCLUDES)
    show_memory(long)
    table = Table(
        "Power cuts by store: every operation, torn and whole (one process)",
        {"story": "", "operations": "d", "cuts": "d", "second": "d", "losses": "d", "flaws": "d", "cuts/s": ",.0f"},
        text_width=28,
    )
    told = [stories.littlefs(name) for name in ("default", "eeprom", "emmc", "nor", "nand", "sd")]
    told += [make() for name, make in stories.READY.items() if name != "littlefs"]
    for story in [*told, stories.nvstore("STM32F4")]:
        report = powercuts.explore(story, second=1, progress=False)
        row = report.operations, report.cuts, report.second_cuts, report.lost, report.flawed, report.per_second
        table.row(story.name, *row)


def show_long(story: StoreStory, workers: int) -> None:
    """Explore the long trace and print what came of it."""
    report = powercuts.explore(story, workers=workers, progress=False)
    verbs = {step.verb for step in story.steps}
    assert report.operations >= 1000 and {"mkdir", "rename"} <= verbs and story.geometry.size == 1 << 20
    print(f"\n{story.name} over {story.geometry.size >> 20} MiB, with {', '.join(sorted(verbs))}:\n{report.summary}")
    if workers == WORKERS:
        free = WORKERS * report.per_processor_second
        print(f"target {TARGET:,} a second: {verdict(report)}")
        print(f"by processor time, {WORKERS} cores with nothing else to do would make {free:,.0f} a second")


def verdict(report: Report) -> str:
    """Say whether the target is reached, and whether the report proves anything."""
    reached = "reached" if report.per_second >= TARGET else "NOT reached"
    return f"{reached}; the invariant {'holds' if report.holds else 'DOES NOT HOLD: ' + report.problem}"


def show_memory(story: StoreStory) -> None:
    """Print how the process's memory grows from one exploration to the next."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        print("memory: no /proc here")
        return

    def resident() -> float:
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    sizes = [resident()]
    for _ in range(3):
        powercuts.explore(story, progress=False)
        sizes.append(resident())
    grown = ", ".join(f"{after - before:+.1f}" for before, after in pairwise(sizes))
    print(f"memory (RSS): {sizes[0]:.1f} MiB, then {grown} MiB with each of three explorations more in one process")
