"""docs/lwm2m-conformance.md says of each of OMA's ids which test shows it, or why none does."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "docs" / "lwm2m-conformance.md"
ROW = re.compile(r"\| ([0-9]+)(?:-([0-9]+))? \| ([^|]+) \| ([^|]+) \|")

# OMA's ids that have a procedure, by chapter.
IDS = {*range(11), 11, 12, 19}
IDS |= {*range(101, 112)}
IDS |= {*range(201, 206), *range(210, 213), 215, *range(220, 238), 241, 256, 257, 260, 261, 264, 266, 280, 281}
IDS |= {*range(301, 314)}
IDS |= {*range(401, 407)}
IDS |= {651, 652, 680, 685, 701, 710, 751, 755, 756, 760, *range(770, 780), 801, 810, 901, 905, 910, 950, 951}
IDS |= {*range(1200, 1205), 1250, 1350, 1630, 1635, 1900, 1901, 2000, 2001}


def rows() -> dict[int, str]:
    """Return what the table says of each id."""
    found = {}
    for first, last, _, shown in ROW.findall(TABLE.read_text(encoding="utf-8")):
        for id in range(int(first), int(last or first) + 1):
            assert id not in found, f"{id} is in the table twice"
            found[id] = shown
    return found


def named_tests() -> set[str]:
    """Return the names of the tests of the plain client."""
    files = [*HERE.glob("test_*.py"), *(HERE.parent / "client").glob("test_plain*.py")]
    return {name for file in files for name in re.findall(r"def (test_\w+)\(", file.read_text(encoding="utf-8"))}


def test_every_id_has_a_test_or_a_reason() -> None:
    said = rows()
    assert set(said) >= IDS
    known = named_tests()
    for id, shown in said.items():
        names = re.findall(r"`(\w+)`", shown)
        assert names or shown.startswith("not offered"), id
        assert set(names) <= known, f"{id} names a test that there is not: {set(names) - known}"


def test_every_test_of_a_number_is_in_the_table() -> None:
    said = rows()
    for name in named_tests():
        numbers = re.match(r"test_((?:[0-9]+_)+)", name)
        if numbers is None:
            continue
        for number in numbers[1].strip("_").split("_"):
            assert name in said.get(int(number), "") or name.startswith("test_1_1_"), name


def test_ids_are_in_order() -> None:
    numbers = [int(first) for first, *_ in ROW.findall(TABLE.read_text(encoding="utf-8"))]
    assert numbers == sorted(numbers)
