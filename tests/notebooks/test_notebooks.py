"""Every notebook runs top to bottom twice in one kernel, on loopback alone, and judges answers as it should."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

LOOPBACK_ONLY = """
import socket

def _loopback(address):
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, str) and host not in ("localhost", "::1") and not host.startswith(("127.", "/")):
        raise AssertionError(f"a notebook talks to {address}")

def _guarded(name, place):
    original = getattr(socket.socket, name)
    def method(self, *args):
        _loopback(args[place])
        return original(self, *args)
    return method

for _name, _place in (("connect", 0), ("connect_ex", 0), ("sendto", -1)):
    setattr(socket.socket, _name, _guarded(_name, _place))
"""

CLASSIFY = """
def word_of(conversation):
    # As a reader of the transcript would: echo first, then how it ended.
    board = [row.text for row in conversation.transcript.itertuples() if row.direction == "board"]
    said = "\\n".join(board)
    synced = [row.text for row in conversation.transcript.itertuples() if "__sync" in row.text]
    if len(synced) < 2:
        return "SYNC_FAILED"
    if "Assertion failed" in said:
        return "MBED_ASSERT"
    if "{{end;success}}" in said:
        return "OK"
    if "{{end;failure}}" in said:
        return "FAIL"
    return "TIMEOUT" if "default_auto" in said else "ERROR"
"""

SOLUTIONS: dict[str, tuple[str, str, list[str]]] = {
    # exercise: (what a solver writes first, the right answer, wrong ones)
    "00.1": (
        "",
        '("network: link up (auto-negotiation)", 2000)',
        ['("bootloader", 2000)', '("network: DHCP", 1000)', '("", 2000)'],
    ),
    "01.1": ("", "(720, 16)", ["(6144, 4096)", "(300, 16)", "(16, 64)", "720", "None"]),
    "02.1": (
        "window_s = (1024 + 2 * 48) * 8 / 92160  # two segments with 40 B of headers and 8 B of PPP each",
        "1.024 / (0.600 + 0.060 + window_s)",
        ["1.024 / 0.600", "11.5", '"fast"'],
    ),
    "03.1": (
        "",
        '("TCP connected", "unknown_ca")',
        ['("TCP connected", "")', '("network connected", "")', '("registered", "48")', '("dns", "")', "7"],
    ),
    "04.1": (
        "",
        '{"pmin": 10, "pmax": 90, "st": 0.7}',
        ['{"st": 0.5}', '{"pmin": 1}', '{"st": 5.0, "pmax": 90}', '{"pmin": 9, "pmax": 3}', '{"lt": "cold"}', "0.5"],
    ),
    "05.1": (
        "",
        '"download boot!30 format-card boot"',
        [
            '"download boot!30 boot"',
            '"download boot!30 pull-card boot"',
            '"download format-card boot"',
            '"download boot!3 boot!4 format-card"',
            '"flash"',
            "None",
        ],
    ),
    "06.1": (
        CLASSIFY,
        "{letter: word_of(each) for letter, each in held.items()}",
        ['dict.fromkeys(held, "OK")', "{}", '"OK"'],
    ),
    "09.1": (
        "",
        '(["rename /settings /s"], "1p20")',
        [
            '(["write /settings 10"], "2b")',
            '(["rename /settings /s"], "1b")',
            '(["rename /settings /s"], "1p300")',
            '(["rename /settings /s"], "1x7")',
            '(["rename /nothing /s"], "1p20")',
            '(["write /settings 900000"], "1p20")',
            '"rename"',
            "None",
        ],
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_twice_in_one_kernel_and_judges_answers(path):
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    with client.setup_kernel():
        run(client, LOOPBACK_ONLY)
        for _ in range(2):
            for index, cell in enumerate(list(notebook.cells)):
                client.execute_cell(cell, index)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert not [output.text for output in outputs if output.get("name") == "stderr"]
        for name, (before, right, wrong) in SOLUTIONS.items():
            if name.startswith(path.stem[:2]):
                run(client, before or "pass")
                assert run(client, f"repr(check({name!r}, {right}))") == f"'{name}: right.'"
                for answer in wrong:
                    assert run(client, f"bool(check({name!r}, {answer}))") == "False", answer


def run(client, source):
    """Execute code in the notebook's kernel and return what its last line shows."""
    client.nb.cells.append(nbformat.v4.new_code_cell(source))
    cell = client.execute_cell(client.nb.cells[-1], len(client.nb.cells) - 1)
    client.nb.cells.pop()
    shown = [output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
    return shown[-1] if shown else ""


def test_every_exercise_has_its_solution_here():
    posed = {path.stem[:2] for path in NOTEBOOKS}
    assert posed == {name[:2] for name in SOLUTIONS}
