"""Every notebook tells its story in the same order, and is kept in git without what it showed."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from pdmlab import report

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LONGEST_CELL = 13  # lines that are not blank; ten is long


def test_there_are_those_that_are_promised():
    assert [path.stem for path in NOTEBOOKS] == [
        "00-start-here", "01-storage", "02-network", "03-registration", "04-resources", "05-update", "06-greentea",
        "09-power-cuts",
    ]  # fmt: skip


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    document = json.loads(request.param.read_text(encoding="utf-8"))
    document["number"] = request.param.stem[:2]
    return document


def cells(notebook, kind):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(notebook, kind):
    return ["".join(cell["source"]) for cell in cells(notebook, kind)]


def test_it_opens_with_a_card_goal_time_and_whether_it_needs_a_board(notebook):
    first = notebook["cells"][0]
    card = "".join(first["source"])
    assert first["cell_type"] == "markdown" and card.startswith(f"# {notebook['number']} · ") and "?" in card
    for line in ("**Goal**", "**Time**", "**Needs a board?** | no", "**Next**"):
        assert line in card


def test_it_has_one_cell_of_parameters_with_board_and_seed(notebook):
    (parameters,) = [cell for cell in cells(notebook, "code") if "parameters" in cell["metadata"].get("tags", [])]
    assert {"board", "seed"} <= set(report.parameters_of("".join(parameters["source"])))
    assert 'seed = settings.load().number("seed")' in "".join(parameters["source"])  # each participant has their own
    assert notebook["cells"].index(parameters) < 3


def test_it_predicts_runs_shows_explains_and_asks(notebook):
    prose = "\n".join(source(notebook, "markdown"))
    places = [
        prose.index(word) for word in ("## Predict first", "## Run", "## Figure", "## What it means", "## Exercise")
    ]
    assert places == sorted(places)


def test_it_poses_an_exercise_that_can_be_checked_and_gives_a_hint(notebook):
    code = "\n".join(source(notebook, "code"))
    name = f'"{notebook["number"]}.1"'
    assert re.search(rf"exercise\(\s*{name}", code)
    assert f"check({name}" in code and f"hint({name})" in code


def test_it_has_a_live_widget(notebook):
    code = "\n".join(source(notebook, "code"))
    assert re.search(r"widgets\.(explore|redraw|console|resources|queue|campaign|power_cuts)\(", code)


def test_its_cells_are_short_and_define_no_classes(notebook):
    for text in source(notebook, "code"):
        assert len([line for line in text.splitlines() if line.strip()]) <= LONGEST_CELL, text
        assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ClassDef)], text


def test_it_closes_its_board_and_names_one_next_step_that_is_there(notebook):
    assert "desk.close()" in source(notebook, "code")[-1]
    last = source(notebook, "markdown")[-1]
    assert last.startswith("**Next:**")
    (link,) = re.findall(r"\]\((.+?\.ipynb)\)", last)
    assert (FOLDER / link).is_file()


def test_nothing_it_showed_is_kept(notebook):
    assert "widgets" not in notebook["metadata"]
    for cell in cells(notebook, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None


def test_its_ids_are_its_places(notebook):
    assert [cell["id"] for cell in notebook["cells"]] == [
        f"{notebook['number']}-{place:02d}" for place in range(len(notebook["cells"]))
    ]
