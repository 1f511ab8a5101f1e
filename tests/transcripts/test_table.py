"""docs/wire.md maps every numbered statement of the wire to what shows it, or says why nothing does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT.parent / "shared" / "reference" / "pelion-wire.md"
STATEMENTS = [
    *("0", "6", "7", "8", "9"),
    *(f"1.{n}" for n in range(1, 10)),
    *(f"2.{n}" for n in range(1, 7)),
    *(f"3.{n}" for n in range(1, 7)),
    *(f"4.{n}" for n in range(1, 8)),
    *(f"5.{n}" for n in range(1, 11)),
]
ROWS = {
    cells[0]: cells[2]
    for line in (ROOT / "docs" / "wire.md").read_text(encoding="utf-8").splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 3
    and re.fullmatch(r"\d(\.\d+)?", cells[0])
}


def test_every_statement_has_a_row():
    assert sorted(ROWS) == sorted(STATEMENTS)


def test_the_statements_are_those_of_the_description():
    if not PAGE.exists():
        pytest.skip("the description is not here")
    text = PAGE.read_text(encoding="utf-8")
    numbered = set(re.findall(r"^(\d\.\d+)\s", text, re.MULTILINE))
    sections = set(re.findall(r"^## (\d)\.", text, re.MULTILINE))
    whole = {section for section in sections if not any(each.startswith(f"{section}.") for each in numbered)}
    assert numbered | whole == set(STATEMENTS)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_what_shows_a_statement_is_there(statement: str):
    shown = ROWS[statement]
    references = re.findall(r"`(tests/[^`]+)`", shown)
    assert references or shown.startswith("none: "), "a transcript, a test, or the reason why there is none"
    for reference in references:
        file, _, name = reference.partition("::")
        path = ROOT / file
        assert path.exists(), reference
        if name:
            assert re.search(rf"^\s*(async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE), reference


def test_every_transcript_is_in_the_table():
    for path in sorted((ROOT / "tests" / "transcripts").glob("*/*.txt")):
        assert any(f"{path.parent.name}/{path.name}`" in shown for shown in ROWS.values()), path.name
