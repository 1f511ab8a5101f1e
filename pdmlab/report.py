"""Notebooks run headless, top to bottom, and an HTML report of what they showed."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pdmlab.errors import ConfigError

CELL_TIMEOUT_S = 120
"""Host seconds that a cell may take; the longest of ours takes about ten."""


WIDGET = "application/vnd.jupyter.widget-view+json"
_COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Outcome:
    """How a notebook's run ended."""

    name: str
    seconds: float
    error: str
    html: Path | None

    @property
    def ok(self) -> bool:
        """Whether every cell ran."""
        return not self.error


def find_notebooks(names: Iterable[str], folder: Path) -> list[Path]:
    """Return the notebooks that names (or beginnings of names, such as 01) mean; all, in order, for no names.

    Raises:
        ConfigError: a name means none.
    """
    everything = sorted(folder.glob("[0-9][0-9]-*.ipynb"))
    if not everything:
        raise ConfigError(f"there are no notebooks in {folder}", hint="run it in the checkout, or give --notebooks")
    wanted = []
    for name in names:
        found = [path for path in everything if path.stem.startswith(name)]
        if not found:
            raise ConfigError(
                f"no notebook is called {name}", hint=f"there are {', '.join(path.stem for path in everything)}"
            )
        wanted += found
    return wanted or everything


def run_notebook(path: Path, *, parameters: Mapping[str, Any] | None = None, times: int = 1) -> tuple[Any, str]:
    """Run a notebook `times` over in one kernel; return the executed notebook and the error that ended it, or "".

    Parameters are set in a cell of their own behind the one tagged `parameters`, as papermill does.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    notebook = nbformat.read(path, as_version=4)
    if parameters:
        _inject(notebook, parameters)
    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],  # or each kernel tells that its loopback sockets are not encrypted
    )
    try:
        with client.setup_kernel():
            for _ in range(times):
                for index, cell in enumerate(notebook.cells):
                    client.execute_cell(cell, index)
            client.set_widgets_metadata()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return notebook, _COLOUR_CODES.sub("", str(error))
    return notebook, ""


def make_still(notebook: Any) -> None:
    """Let each view be shown by the picture or table that it carries: a page has no kernel to draw widgets."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _stand_still(output)]


def _stand_still(output: Any) -> bool:
    """Take a widget out of an output; say whether something is left to show.

    Nothing is left of progress bars, whose text is that of their beginning.
    """
    was_widget = output.get("data", {}).pop(WIDGET, None) is not None
    return not was_widget or "text/html" in output.data


def parameters_of(source: str) -> list[str]:
    """Return the names that a notebook's cell of parameters sets."""
    return [
        target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]


def _inject(notebook: Any, parameters: Mapping[str, Any]) -> None:
    import nbformat

    places = [i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    if not places:
        raise ConfigError("the notebook has no cell tagged 'parameters'")
    known = parameters_of(notebook.cells[places[0]].source)
    for name in parameters:
        if name not in known:
            raise ConfigError(f"the notebook has no parameter {name!r}", hint=f"there are {', '.join(known)}")
    source = "# set on the command line\n" + "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    notebook.cells.insert(places[0] + 1, nbformat.v4.new_code_cell(source, metadata={"tags": ["injected-parameters"]}))


def write_report(
    paths: Iterable[Path],
    output: Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    times: int = 1,
    on_done: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Run notebooks, write each as HTML into output, and an index.html over them; return how each ended.

    Raises:
        ConfigError: one of them has no such parameter; none has run then.
    """
    import nbformat
    from nbconvert import HTMLExporter

    paths = list(paths)
    for path in paths if parameters else ():
        try:
            _inject(nbformat.read(path, as_version=4), parameters or {})
        except ConfigError as refusal:  # told before the first of them has run
            raise ConfigError(f"{path.stem}: {refusal.message}", hint=refusal.hint) from None
    output.mkdir(parents=True, exist_ok=True)
    outcomes = []
    for path in paths:
        started = time.monotonic()
        notebook, error = run_notebook(path, parameters=parameters, times=times)
        page = output / f"{path.stem}.html"
        make_still(notebook)
        # No MathJax or require.js from the internet: the report has to read the same on a bench without one.
        body, _ = HTMLExporter(mathjax_url="", require_js_url="").from_notebook_node(notebook)
        page.write_text(body, encoding="utf-8")
        outcome = Outcome(path.stem, time.monotonic() - started, error, page)
        outcomes.append(outcome)
        on_done(outcome)
    (output / "index.html").write_text(_index(outcomes), encoding="utf-8")
    return outcomes


def _index(outcomes: list[Outcome]) -> str:
    rows = "".join(
        f"<tr><td><a href='{escape(outcome.name)}.html'>{escape(outcome.name)}</a></td>"
        f"<td>{'ran' if outcome.ok else 'FAILED'}</td><td style='text-align:right'>{outcome.seconds:.1f}</td>"
        f"<td><pre>{escape(outcome.error[-600:])}</pre></td></tr>"
        for outcome in outcomes
    )
    return (
        "<!doctype html><meta charset='utf-8'><title>pdmlab notebooks</title>"
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:3em auto;max-width:60em}"
        "td,th{padding:.2em 1em .2em 0;text-align:left;vertical-align:top}</style>"
        "<h1>Notebooks</h1><table><tr><th>notebook</th><th>outcome</th><th>host seconds</th><th></th></tr>"
        f"{rows}</table>"
    )
