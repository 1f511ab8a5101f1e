"""Every power cut of an update: at each program and erase of its steps, torn and whole, and again in the recovery.

    report = explore_update("trial", "K64F-SD")
    report.losses            # none
    replay_code(code)        # any code that a report names

The story is played once and traced (docs/decisions/0010); a cut is then a state of the media. From there the board
starts as after a power-on, and again, and what runs is looked at by a second reader: it must be the old image or the
new one, whole, under the trial bootloader signed, with the device's identity as it was.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from pdmlab.errors import ConfigError
from pdmlab.measurements.update_cuts.media import Cut, Done
from pdmlab.measurements.update_cuts.report import Loss, UpdateReport
from pdmlab.measurements.update_cuts.rig import NEW, NEWER, NOTHING, STEPS, Build, UpdateRig
from pdmlab.measurements.update_cuts.setups import setup as setup_named
from pdmlab.prng import SplitMix64
from pdmlab.update.bootloaders.interface import Kind

STORIES: dict[Kind, Mapping[str, str]] = {
    "trial": {
        "confirmed": "wipe-storage boot download boot confirm download-newer boot confirm boot",
        "not confirmed": "download boot boot boot",
        "forged": "download boot confirm download-forged boot boot",
        "kept image lost": "download boot wipe-storage boot download-newer boot confirm boot",
    },
    "fota": {"installed": "download boot boot"},
    "mbed": {"installed": "download boot boot"},
}
"""What each bootloader is cut in: download, verify, install; with trials also keeping, confirming, and going back."""
FATES = {"": "", "candidate spoiled": "spoil-candidate"}
"""What else happens between a cut and the next start."""
GOES_ON = 8
"""After one cut in so many the board is updated again, to the end."""
_DOWNLOADS = {NEW: "download", NEWER: "download-newer"}


class _Moment(NamedTuple):
    """Where a story is at one of its operations: the step's number, and the operation's number in it.

    confirmed: the version that was confirmed before. offered: the one that may come instead. stranded: one that has
    nothing to go back to, as the image that was kept is lost; until a confirmation whatever comes starts again.
    """

    step: int
    operation: int
    confirmed: str
    offered: str
    stranded: str


class _Outcome(NamedTuple):
    """What a recovery came to: what runs in the end, and what is wrong; nothing if all is well.

    words: the recovery's steps. operations: all of its, of which those up to first_start were made by its first start.
    """

    running: str
    fault: str
    words: list[str]
    operations: list[Done]
    first_start: int


@dataclass(frozen=True)
class CutPlan:
    """How much is cut: torn variants of each operation (that many prefixes, that many with bits at random) and seconds.

    second: cuts in each recovery, drawn by the seed, or "all". share: of the first cuts, one in so many.
    """

    torn: int = 1
    second: int | str = 1
    share: int = 1
    seed: int = 1


def explore_update(
    kind: Kind,
    setup: str = "K64F-SD",
    *,
    story: str | None = None,
    fate: str = "",
    plan: CutPlan | None = None,
    full: bool = False,
    room: int | None = None,
    options: Mapping[str, Any] | None = None,
    build: Build | None = None,
) -> UpdateReport:
    """Cut the power at every program and erase of an update's story, recover, and look; then again in each recovery.

    Args:
        story: steps as in replay codes; by default all of STORIES.
        fate: one of FATES, for first cuts.
        full: whether NVStore is so full that its next records move the others, the identity among them.
        room: NVStore is full of live records, up to so many bytes; a new image may then be refused, and nothing lost.
        options, build: of the bootloader, or another one than `kind` names.

    Raises:
        ConfigError: there is no such bootloader, setup, fate or step.
    """
    if kind not in STORIES or fate not in FATES:
        raise ConfigError(
            f"there is no bootloader {kind!r} with the fate {fate!r}",
            hint=f"bootloaders: {', '.join(STORIES)}; fates: {', '.join(map(repr, FATES))}",
        )
    if odd := [step for step in (story or "").split() if step not in STEPS]:
        raise ConfigError(f"a story has no step {odd[0]!r}", hint=", ".join(STEPS))
    plan = plan or CutPlan()
    stories = [story] if story is not None else list(STORIES[kind].values())
    report = UpdateReport(kind, setup, fate)
    started, worked = time.perf_counter(), time.process_time()
    for each in stories:
        rig = UpdateRig(setup_named(setup), kind, options=options, build=build, fill_nvstore=full, room=room)
        filled = "/full" if full else f"/room{room}" if room is not None else ""
        _Exploration(rig, each.split(), fate, plan, report, f"{kind}/{setup}{filled}").run()
    report.seconds, report.processor_s = time.perf_counter() - started, time.process_time() - worked
    return report


class _Exploration:
    """One story, cut everywhere, into one report."""

    def __init__(
        self, rig: UpdateRig, words: Sequence[str], fate: str, plan: CutPlan, report: UpdateReport, name: str
    ) -> None:
        self._rig, self._words, self._fate, self._plan, self._report, self._name = rig, words, fate, plan, report, name
        self._random = SplitMix64(plan.seed).split(f"{name} {' '.join(words)}")
        self._moments: list[_Moment] = []

    def run(self) -> None:
        operations = self._play()
        last_of_step = {end - 1 for end in self._ends()}
        self._report.operations += len(operations)
        for index, done in enumerate(operations):
            moment = self._moments[index]
            if done.kind != "change":
                for cut in _variants(
                    moment.operation, done, self._plan.torn, self._random, after=index in last_of_step
                ):
                    if self._random.below(self._plan.share) == 0:
                        self._cut(moment, done, cut)
            done.medium.poke(done.offset, done.new)

    def _play(self) -> list[Done]:
        """Play the story once and take everything back; return its operations."""
        rig, operations, stranded = self._rig, [], ""
        for step, word in enumerate(self._words):
            confirmed = rig.confirmed
            rig.take(word)
            for number, done in enumerate(rig.trace.take(), 1):
                operations.append(done)
                self._moments.append(_Moment(step, number, confirmed, rig.offered, stranded))
            if rig.trial and word == "wipe-storage":
                stranded = rig.running
            elif not rig.trial:
                stranded = ""
        _undo(operations)
        return operations

    def _ends(self) -> list[int]:
        """Return after how many operations each step ends."""
        ends, total = [], 0
        for _, group in groupby(self._moments, key=lambda moment: moment.step):
            total += len(list(group))
            ends.append(total)
        return ends

    def _cut(self, moment: _Moment, done: Done, cut: Cut) -> None:
        done.medium.poke(done.offset, done.left_by(cut))
        self._report.cuts += 1
        confirms = self._report.cuts % 2 == 0
        head = [*self._words[: moment.step], f"{self._words[moment.step]}!{cut}"]
        found = self._rig.found()
        if found is not None and not found.whole:
            self._report.false_headers += 1
        outcome = self._recover(moment, self._fate_words(), confirms=confirms, goes_on=self._report.cuts % GOES_ON == 0)
        self._note(moment, done, outcome, head)
        for index, again in self._second_cuts(outcome):
            self._cut_again(moment, head, outcome.operations, index, again)
        _undo(outcome.operations)
        done.medium.poke(done.offset, done.old)

    def _cut_again(self, moment: _Moment, head: list[str], recovery: list[Done], index: int, again: Cut) -> None:
        """Make a second cut, in the first start of a recovery."""
        second = recovery[index]
        _undo(recovery[index:])
        second.medium.poke(second.offset, second.left_by(again))
        self._report.second_cuts += 1
        outcome = self._recover(moment, [], confirms=False)
        self._note(moment, second, outcome, [*head, *self._fate_words(), f"boot!{again}"])
        _undo(outcome.operations)
        second.medium.poke(second.offset, second.old)
        for each in recovery[index:]:
            each.medium.poke(each.offset, each.new)

    def _second_cuts(self, outcome: _Outcome) -> Iterator[tuple[int, Cut]]:
        """Choose second cuts in the first start of a recovery: indices into its operations, and the cuts."""
        starts = outcome.operations[: outcome.first_start]
        places = [index for index, done in enumerate(starts) if done.kind != "change"]
        if not places or not self._plan.second:
            return
        chosen = places if self._plan.second == "all" else [
            places[self._random.below(len(places))] for _ in range(int(self._plan.second))
        ]  # fmt: skip
        for index in chosen:
            number = places.index(index) + 1
            variants = list(_variants(number, starts[index], 1, self._random, after=index == places[-1]))
            yield index, variants[self._random.below(len(variants))]

    # -- recovering ------------------------------------------------------------------------------------

    def _fate_words(self) -> list[str]:
        return [FATES[self._fate]] if FATES[self._fate] else []

    def _recover(self, moment: _Moment, fate: list[str], *, confirms: bool, goes_on: bool = False) -> _Outcome:
        """Start the board after a cut, and again, and look at what runs each time; then update it, if it goes on."""
        rig, words = self._rig, []

        def take(*steps: str) -> None:
            for step in steps:
                words.append(step)
                rig.take(step)

        take(*fate, "boot")
        first_start = len(rig.trace.done)
        fault = self._fault(moment)
        first = rig.running, rig.trial
        if not fault and rig.kind == "trial":
            if confirms:
                take("confirm")
                confirms = not rig.trial  # what NVStore has no room for is not confirmed
            take("boot")
            fault = self._fault(moment) or self._inconsistency(moment, *first, confirms=confirms)
        if not fault and goes_on and rig.running != moment.offered:
            take(_DOWNLOADS[moment.offered], "boot", "confirm", "boot")
            stuck = rig.running != moment.offered and rig.room is None
            fault = self._fault(moment) or ("it cannot be updated any more" if stuck else "")
        return _Outcome(rig.running, fault, words, rig.trace.take(), first_start)

    def _fault(self, moment: _Moment) -> str:
        """Say what is wrong after a start."""
        rig = self._rig
        if rig.running == NOTHING:
            return "nothing starts any more"
        if rig.running not in (moment.confirmed, moment.offered, moment.stranded):
            return f"{rig.running} was started, after {moment.confirmed} was confirmed"
        return rig.fault()

    def _inconsistency(self, moment: _Moment, first: str, on_trial: bool, *, confirms: bool) -> str:
        """Say whether the second start did not do what follows from the first, under a bootloader with trials."""
        rig = self._rig
        if rig.trial and not moment.stranded:
            return "it is on trial for ever"
        if rig.trial and not self._fate and rig.running != moment.offered == rig.candidate():
            return "a newer candidate does not come, though there is nothing to go back to"
        if on_trial and not confirms and rig.running != moment.confirmed and not moment.stranded:
            return "an image that was not confirmed runs again"
        if (not on_trial or confirms) and rig.running != first:
            return "a confirmed image was replaced"
        return ""

    def _note(self, moment: _Moment, done: Done, outcome: _Outcome, head: list[str]) -> None:
        self._report.ends[outcome.running] += 1
        if outcome.fault:
            code = f"{self._name}: {' '.join([*head, *outcome.words])}"
            step = self._words[moment.step]
            self._report.losses.append(Loss(code, step, done.words, done.said, outcome.fault))


def _undo(operations: Sequence[Done]) -> None:
    for each in reversed(operations):
        each.medium.poke(each.offset, each.old)


def _variants(number: int, done: Done, torn: int, random: SplitMix64, *, after: bool) -> Iterator[Cut]:
    """List the cuts of an operation: before it, torn in it, and after it if it is the last of its step."""
    yield Cut(number, "b", 0)
    if done.old != done.new:
        for _ in range(torn):
            yield Cut(number, "p", 1 + random.below(999))
            yield Cut(number, "x", random.below(1 << 24))
    if after:
        yield Cut(number, "a", 0)
