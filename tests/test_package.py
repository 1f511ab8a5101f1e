"""The package as a whole: light to import, its names where it says, its environment in agreement with itself."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import pdmlab

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_importing_pdmlab_loads_nothing_heavy():
    program = "import sys, pdmlab; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"pandas", "numpy", "matplotlib", "pyarrow", "IPython", "ipywidgets", "fastapi", "sqlalchemy", "aiocoap"}
    assert not heavy & {name.partition(".")[0] for name in loaded}


@pytest.mark.parametrize("name", pdmlab.__all__)
def test_every_public_name_is_there_and_documented(name):
    assert getattr(pdmlab, name).__doc__


def test_public_names_are_sorted_and_are_what_completion_shows():
    assert list(pdmlab.__all__) == sorted(pdmlab.__all__)
    assert set(dir(pdmlab)) == {*pdmlab.__all__, "__version__"}
    assert pdmlab.__version__ == PROJECT["version"]
    with pytest.raises(AttributeError, match="no attribute 'serv'"):
        _ = pdmlab.serv


def test_every_module_has_its_layer_and_its_line_in_the_architecture():
    modules = {path.stem for path in (ROOT / "pdmlab").glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in (ROOT / "pdmlab").glob("*/__init__.py")}
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [name.strip().removeprefix("pdmlab.") for line in contract["layers"] for name in line.split("|")]
    assert sorted(layers) == sorted(modules)
    table = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(table))) == modules


def test_no_public_name_is_also_a_folder():
    folders = {path.name for path in (ROOT / "pdmlab").iterdir() if path.is_dir()}
    assert not folders & set(pdmlab.__all__)


def _names(requirements):
    return {re.match(r"[A-Za-z0-9._-]+", line)[0].lower().replace("_", "-") for line in requirements}


def test_the_conda_environment_asks_for_what_pyproject_asks_for():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == "pdmlab" and environment["channels"] == ["conda-forge"]
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert "-e ." in pip
    asked = {line.split("#")[0].strip() for line in conda + pip} - {"-e .", "pip"}
    python = next(line for line in asked if line.startswith("python>"))
    assert python == f"python{PROJECT['requires-python']}"
    wanted = {re.sub(r"\s", "", line).lower() for line in PROJECT["dependencies"]}
    assert {line.lower() for line in asked} - {python} == wanted


def test_the_extra_for_clusters_is_asked_for_alike_everywhere():
    (cluster,) = PROJECT["optional-dependencies"]["cluster"]
    assert cluster in PROJECT["optional-dependencies"]["dev"]
    assert f'conda install -c conda-forge "{cluster}"' in (ROOT / "environment.yml").read_text()


def test_every_dependency_has_a_range_and_a_reason():
    for line in (ROOT / "pyproject.toml").read_text().split("dependencies = [")[1].split("]\n")[0].splitlines()[1:]:
        assert re.search(r"[a-z0-9-]+>=", line) and "#" in line, line


def test_the_seeds_platforms_are_all_in_the_catalogue():
    boards = tomllib.loads((ROOT / "pdmlab/boards/catalog.toml").read_text())
    rows = boards.get("board", boards)
    assert len(rows) == 16


def test_notebooks_carry_no_outputs():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = json.loads(path.read_text())
        assert "widgets" not in notebook["metadata"], path.name
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                assert not cell["outputs"] and cell["execution_count"] is None, path.name
