"""The least RAM that holds a logging rate: which caches, which size of write, and how long a ring buffer.

Set-ups are tried with log_stream, the most promising first: what one needs for the first part of a log it needs for
all of it, so that its RAM is known from below before it is known. The first whose whole log was tried is the least.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pdmlab import settings
from pdmlab.errors import ConfigError
from pdmlab.measurements.bench import Scratch
from pdmlab.measurements.factors import plain_whole
from pdmlab.measurements.files import log_stream
from pdmlab.measurements.mbed_config import overrides
from pdmlab.measurements.memory import fat_ram, littlefs_ram
from pdmlab.measurements.recommendation import Recommendation, SetUp, Tried
from pdmlab.measurements.volumes import most_lookahead
from pdmlab.network.link import Link
from pdmlab.sim.blueprint import Blueprint
from pdmlab.sim.opening import parse
from pdmlab.storage.parts import Part, Timing, parts

RING_STEP = 64
"""Ring buffers are multiples of this (B)."""
WRITES = (8192, 4096, 1024, 512, 256, 64, 16)
"""Sizes of a write that are tried (B), as far as they fit between two syncs: of equal RAM the largest is best."""
LOOKAHEADS = (16, 64)
LARGEST = 4096
"""Cache, and block on parts that erase less (B)."""
FIRST = ((8 * 1024, 150), (64 * 1024, 115), (256 * 1024, 103))
"""What is logged before a set-up is tried in earnest (B), and at which percent of the time in calls it is given up."""
SHORTEST = 4096
"""The shortest log that says what a part holds (B), and what is logged to learn what a volume is made of."""
STALLS = 3
"""How often, at least, a card stalls in a log that is tried."""
RUNNERS_UP = 4


@dataclass(frozen=True)
class _Case:
    """Times of a part that a set-up has to hold the rate at."""

    name: str
    part: Part
    timing: Timing


def recommend(
    rate_Bps: int,
    *,
    board: Scratch | str | None = None,
    part: str | Part | None = None,
    file_system: str | None = None,
    bus: str | None = None,
    bus_Hz: int | None = None,
    sync_every_B: int = 4096,
    log_B: int = 1 << 20,
    seed: int | None = None,
    progress: bool = True,
) -> Recommendation:
    """Find the least RAM, of caches, open file and ring buffer, that logs rate_Bps without a loss.

    An interrupt fills a ring buffer; a thread takes write_B at a time out of it and writes them to one file. Tried are
    sizes of writes and, with littlefs, of caches, blocks and lookahead, at three kinds of times: the part's typical
    ones, which vary; those with each of a card's stalls at its maximum; and all at their maximum at once. The
    hardest that any set-up holds decides.

    Args:
        board: a virtual board, open or by its URL; whose microcontroller, and whose part where none is named.
        part, file_system, bus, bus_Hz: as of file_transfer; None as Mbed OS has it for the board.
        log_B: how much goes to one file, 4096 B or more. A card stalls three times in it at least, so more often than
            it would.

    Raises:
        ConfigError: no set-up holds that rate, even at typical times; or a figure is none.
        NotMeasurable: part, bus and file system do not go together.
    """
    rate_Bps, sync_every_B, log_B = (
        plain_whole(name, value)
        for name, value in (("rate_Bps", rate_Bps), ("sync_every_B", sync_every_B), ("log_B", log_B))
    )
    if min(rate_Bps, sync_every_B) < 1:
        raise ConfigError("rate_Bps and sync_every_B are 1 or more")
    if log_B < SHORTEST:
        raise ConfigError(f"a log of {log_B} B is too short to say anything", hint=f"log_B of {SHORTEST} or more")
    chosen_seed = settings.load(seed=seed).number("seed")
    bench = _bench(board)
    asked: dict[str, Any] = {"file_system": file_system, "bus": bus}

    def log(case: _Case, setup: SetUp, size: int, ring_B: int | None = None) -> Mapping[str, Any]:
        bar.update()
        with bench.scratch(seed=chosen_seed) as fresh:
            return log_stream(
                fresh, rate_Bps, setup.write_B, sync_every_B, bus_Hz, ring_B,
                log_B=max(size, setup.write_B), part=case.part, timing=case.timing, **asked, **setup.volume,
            )  # fmt: skip

    with bench.scratch(seed=chosen_seed) as fresh:
        first = log_stream(fresh, rate_Bps, 512, sync_every_B, bus_Hz, log_B=SHORTEST, part=part, **asked)
        target = fresh.target
    named = part if isinstance(part, Part) else parts()[str(first["part"])]
    setups = list(_setups(first, [size for size in WRITES if size <= max(sync_every_B, WRITES[-1])]))
    decided = ""
    found: list[Tried] = []
    checks: list[dict[str, Any]] = []
    with _progress(progress) as bar:
        for case in _cases(named, log_B):
            if not found:
                found, fastest_kBps = _least(partial(log, case), setups, rate_Bps, log_B)
                decided = case.name
            if found:
                row = log(case, found[0].setup, log_B, found[0].ring_B)
                checks.append(_check(case, row, found[0].ring_B))
            else:
                checks.append({"case": case.name, "fastest_kBps": fastest_kBps, "simulated": True, "clock": "device"})
    if not found:
        raise ConfigError(
            f"no set-up holds {rate_Bps / 1000:g} kB/s to {first['file_system']} on {named.name}: the fastest of "
            f"{len(setups)} writes {fastest_kBps:g} kB/s",
            hint="a faster bus or part, fewer syncs, or the other file system",
        )
    options = overrides(named.kind, found[0].row)
    return Recommendation(
        rate_Bps, target, decided, found[0], found[1:], checks[::-1], sync_every_B, log_B, len(setups), options,
        str(first["estimates"]),
    )  # fmt: skip


def _progress(shown: bool) -> Any:  # a bar of tqdm, which ships no types
    from tqdm import auto

    return auto.tqdm(desc="recommend", unit="trial", disable=not shown, leave=False)


def _bench(board: Scratch | str | None) -> Scratch:
    """Return what makes boards to try on: of the same kind as the board, which need not be open."""
    if board is not None and not isinstance(board, str):
        return board
    url = board or settings.load().text("board")
    if not url.startswith("sim://"):
        raise ConfigError(f"set-ups are tried on a virtual board, and {url} is a real one", hint="board='sim://K64F'")
    return Blueprint(parse(url).target, "recommend", Link())


def _setups(first: Mapping[str, Any], writes: Sequence[int]) -> Iterator[SetUp]:
    """Give what can be tried on a volume; first: a row of log_stream on it, with the least that it can be set to."""
    if first["file_system"] == "FAT":
        for write in writes:
            yield SetUp(write, {}, fat_ram(first["block_size_B"], files=1))
        return
    unit, block = max(first["read_size_B"], first["prog_size_B"]), first["block_size_B"]
    blocks = [block]
    while blocks[-1] < LARGEST:
        blocks.append(blocks[-1] * 2)
    for block in blocks:
        caches = [unit << n for n in range(13) if 16 <= unit << n <= LARGEST and not block % (unit << n)]
        most = most_lookahead(first["volume_B"], block)
        lookaheads = sorted({min(lookahead, most) for lookahead in LOOKAHEADS})
        for cache, lookahead, write in itertools.product(caches or [unit], lookaheads, writes):
            volume = {"block_size_B": block, "cache_size_B": cache, "lookahead_size_B": lookahead}
            yield SetUp(write, volume, littlefs_ram(cache, lookahead, files=1))


def _cases(part: Part, log_B: int) -> Iterator[_Case]:
    """Give the kinds of times, the hardest first; of a card, with several stalls in a log."""
    if "stall_every" in part:
        part = part.with_(stall_every=min(part["stall_every"], log_B // STALLS))
    yield _Case("maximum times", part, "maximum")
    if "stall" in part and part.maximum("stall") > part["stall"]:
        usual = {name: part[name] for name, figure in part.figures.items() if figure.maximum and name != "stall"}
        yield _Case("typical times and longest stalls", part.with_(**usual), "maximum")
    yield _Case("typical times", part, "typical")


def _least(
    log: Callable[[SetUp, int], Mapping[str, Any]], setups: Sequence[SetUp], rate_Bps: int, log_B: int
) -> tuple[list[Tried], float]:
    """Return the set-ups with the least RAM, least first, and the fastest speed of those that hold it not (kB/s)."""
    steps = [step for step in FIRST if step[0] < log_B] + [(log_B, 100)]
    fastest_kBps = 0.0
    found: list[Tried] = []
    # RAM from below, number of the set-up, how many steps it is from, the ring and row of the last.
    known: list[tuple[int, int, int, int, Mapping[str, Any]]] = [
        (sum(setup.ram.values()) + setup.write_B, number, 0, 0, {}) for number, setup in enumerate(setups)
    ]
    heapq.heapify(known)
    while known and len(found) <= RUNNERS_UP:
        _, number, step, ring_B, row = heapq.heappop(known)
        setup = setups[number]
        if step == len(steps):
            found.append(Tried(setup, ring_B, row))
            continue
        size, hopeless = steps[step]
        row = log(setup, size)
        busy = row["busy_percent"]
        if busy >= hopeless:
            fastest_kBps = max(fastest_kBps, rate_Bps / 10 / busy)
            continue
        ring_B = -(-row["fullest_B"] // RING_STEP) * RING_STEP
        heapq.heappush(known, (sum(setup.ram.values()) + ring_B, number, step + 1, ring_B, row))
    return found, round(fastest_kBps, 3)


def _check(case: _Case, row: Mapping[str, Any], ring_B: int) -> dict[str, Any]:
    return {
        "case": case.name,
        "lost_B": row["lost_B"],
        "fullest_B": row["fullest_B"],
        "ring_B": ring_B,
        "margin_percent": round(100 * (1 - row["fullest_B"] / ring_B), 1),
        "longest_stall_ms": row["longest_stall_ms"],
        "busy_percent": row["busy_percent"],
        "simulated": True,
        "clock": "device",
    }
