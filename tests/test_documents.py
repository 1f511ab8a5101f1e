"""README and docs: their Python runs as written, their links lead somewhere, nothing names where it was made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT).as_posix()}:{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M), 1)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_python_in_documents_runs_as_written(block, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "default::DeprecationWarning", "-c", block],
        cwd=tmp_path,
        env={
            **os.environ,
            "PDMLAB_STATE": str(tmp_path / "state"),
            "PDMLAB_DATA": str(tmp_path / "data"),
            "MPLBACKEND": "Agg",
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_first_example_is_ten_lines_and_draws_a_figure():
    block = BLOCKS[0].values[0]
    assert len([line for line in block.splitlines() if line]) == 10 and "savefig" in block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text("utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_lists_every_notebook():
    listed = re.findall(r"\(notebooks/([^)]+\.ipynb)\)", (ROOT / "README.md").read_text("utf-8"))
    assert listed == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_decisions_are_numbered_without_a_gap_and_indexed():
    folder = ROOT / "docs/decisions"
    index = (folder / "README.md").read_text("utf-8")
    decisions = sorted(folder.glob("[0-9]*.md"))
    for number, path in enumerate(decisions, 1):
        assert path.name.startswith(f"{number:04}-")
        title = re.match(rf"# {number}\. (.+)\n", path.read_text("utf-8"))
        assert title, f"{path.name} does not begin with '# {number}. …'"
        assert f"[{title[1]}]({path.name})" in index
    assert index.count(".md)") == len(decisions)


# Written so that this file does not match itself.
FOREIGN = re.compile(
    r"(?<![\w.}$])/(?:work|root|home)/[\w.]"  # folders of one machine
    r"|\b(?:files\.)?(?:py" + r"pi\.org|pythonhos" + r"ted\.org)|registry\.npm" + r"js|deb\.debian" + r"\.org"
)


def test_no_file_names_a_folder_of_one_machine_or_a_package_host():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("this is no git checkout: which files belong to it cannot be told")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if not path.is_file() or name == "LICENSE":
            continue
        text = path.read_bytes().decode("utf-8", "ignore")
        found += [f"{name}: {match[0]}" for match in FOREIGN.finditer(text)]
    assert not found
