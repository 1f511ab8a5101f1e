"""Notebooks headless: parameters from outside, errors told, and a page that needs no kernel and no internet."""

import re

import nbformat
import pytest
from click.testing import CliRunner

from pdmlab import report
from pdmlab.cli import main
from pdmlab.errors import ConfigError


def write(folder, name, *sources, tags=()):
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata["tags"] = list(tags)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")


@pytest.fixture
def folder(tmp_path):
    write(tmp_path, "00-first", "n = 1", "print('n is', n)", tags=["parameters"])
    write(tmp_path, "01-second", "raise ValueError('on purpose')")
    (tmp_path / "notes.ipynb").write_text("{}")
    return tmp_path


def test_names_mean_the_notebooks_that_begin_so(folder):
    assert [path.stem for path in report.find_notebooks([], folder)] == ["00-first", "01-second"]
    assert [path.stem for path in report.find_notebooks(["01"], folder)] == ["01-second"]
    with pytest.raises(ConfigError, match="no notebook is called 07") as error:
        report.find_notebooks(["07"], folder)
    assert "00-first, 01-second" in str(error.value)
    with pytest.raises(ConfigError, match="no notebooks in"):
        report.find_notebooks([], folder / "nowhere")


@pytest.mark.parametrize(
    ("names", "parameter", "words"),
    [
        (["00"], "nope=3", ("00-first: the notebook has no parameter 'nope'", "there are n")),
        (["00", "01"], "n=5", ("01-second: the notebook has no cell tagged 'parameters'",)),
    ],
)
def test_a_parameter_that_a_notebook_has_not_is_refused_before_any_runs(folder, tmp_path, names, parameter, words):
    output = tmp_path / "report"
    done = CliRunner().invoke(
        main, ["run", "--notebooks", str(folder), "--output", str(output), *names, "-p", parameter]
    )
    assert done.exit_code == 1 and all(word in done.output for word in words)
    assert not output.exists()


@pytest.mark.slow
def test_parameters_are_set_behind_their_cell_and_errors_are_told_in_plain_text(folder, tmp_path):
    output = tmp_path / "report"
    done = CliRunner().invoke(main, ["run", "--notebooks", str(folder), "--output", str(output), "00", "-p", "n=5"])
    assert done.exit_code == 0 and "ran" in done.output
    page = (output / "00-first.html").read_text()
    assert "n is 5" in page
    assert not re.findall(r"""(?:src|href)=["']?https?:|url\(["']?https?:|@import""", page)  # nothing is fetched
    failed = CliRunner().invoke(main, ["run", "--notebooks", str(folder), "--output", str(output), "01"])
    assert failed.exit_code == 1 and "ValueError: on purpose" in failed.output and "\x1b" not in failed.output
    assert "FAILED" in (output / "index.html").read_text()


def test_a_parameter_that_is_none_is_refused(folder):
    done = CliRunner().invoke(main, ["run", "--notebooks", str(folder), "-p", "5"])
    assert done.exit_code == 2 and "NAME=VALUE" in done.output


def test_views_stand_still_on_a_page_and_progress_bars_are_left_out():
    view = {report.WIDGET: {"model_id": "1"}, "text/plain": "View()", "text/html": "<img>"}
    bar = {report.WIDGET: {"model_id": "2"}, "text/plain": "0%"}
    text = {"text/plain": "5"}
    outputs = [nbformat.v4.new_output("display_data", data=data) for data in (view, bar, text)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    notebook.metadata["widgets"] = {"state": {}}
    report.make_still(notebook)
    assert [dict(output.data) for output in notebook.cells[0].outputs] == [
        {"text/plain": "View()", "text/html": "<img>"}, {"text/plain": "5"},
    ]  # fmt: skip
    assert "widgets" not in notebook.metadata
