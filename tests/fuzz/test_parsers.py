"""A share of what `make fuzz` does at length: mutated inputs, by a seed, through every parser of strangers' bytes."""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest

from tests.fuzz.findings import Findings
from tests.fuzz.mutate import Mutator
from tests.fuzz.targets import CORPUS, TARGETS, Target

INPUTS = 4000
GROWTH = 512 << 10
"""Bytes of memory that a parser may keep of so many inputs: its caches, which are bounded (Path.parse's, 200 KB)."""

targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@targets
def test_the_corpus_itself_is_read_or_refused(target: Target) -> None:
    findings = Findings(target, folder=None)
    findings.warm_up([*target.corpus()[:1], b""])
    for data in target.corpus():
        findings.run(data)
        for end in range(len(data)):
            findings.run(data[:end])
    assert not findings.found


@targets
def test_mutated_inputs_are_values_or_clean_errors_and_nothing_stays(target: Target) -> None:
    findings = Findings(target, folder=None)
    findings.warm_up([*target.corpus()[:1], b""])
    mutator = Mutator(target.corpus(), seed=4)
    for _ in range(INPUTS // 2):
        findings.run(mutator.next())
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(INPUTS // 2):
            findings.run(mutator.next())
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert not findings.found
    assert grown < GROWTH


def test_every_corpus_has_a_target() -> None:
    assert {path.stem for path in CORPUS.iterdir()} == TARGETS.keys()
    assert all(target.corpus() for target in TARGETS.values())


def test_the_same_seed_makes_the_same_inputs() -> None:
    corpus = TARGETS["coap"].corpus()
    one, same, other = Mutator(corpus, 1), Mutator(corpus, 1), Mutator(corpus, 2)
    inputs = [one.next() for _ in range(50)]
    assert inputs == [same.next() for _ in range(50)] != [other.next() for _ in range(50)]


def test_what_goes_wrong_is_found_once_with_its_input() -> None:
    def check(data: bytes) -> None:
        if data.startswith(b"x"):
            raise IndexError("defect")

    findings = Findings(Target("made-up", check), folder=None)
    for data in (b"a", b"xa", b"xb"):
        findings.run(data)
    ((what, data),) = findings.found.items()
    assert what.startswith("IndexError at ") and data == b"xa"


def test_a_parsers_first_imports_are_no_part_of_its_time() -> None:
    busy, collecting = [0.05], []

    def check(data: bytes) -> None:
        collecting.append(gc.isenabled())
        until = time.thread_time() + (busy.pop() if busy else 0)
        while time.thread_time() < until:
            pass

    findings = Findings(Target("made-up", check, seconds=0.04), folder=None)
    findings.warm_up([b"a"])
    findings.run(b"a")
    assert not findings.found
    assert collecting == [True, False] and gc.isenabled()
    busy.append(0.05)
    findings.run(b"b")
    assert list(findings.found.values()) == [b"b"]
