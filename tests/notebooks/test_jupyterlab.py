"""A notebook as its reader has it: JupyterLab in a browser, all cells run, a slider moved, the figure follows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from playwright import sync_api

from tests.tools import unavailable

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
TOKEN = "only-for-this-test"
RUN_ALL_MS = 120_000
LONG_SWEEP = """
import contextlib, time
import pdmlab
from pdmlab import widgets

class Bench:
    target, url, simulated = "K64F", "test://", True

    def scratch(self, seed):
        return contextlib.nullcontext(self)

def measure(board, n):
    time.sleep(0.3)
    return {"m": n}

stop = widgets.stop_button()
print(repr(pdmlab.sweep(measure, {"n": list(range(500))}, experiment="long", board=Bench(), stop=stop)))
"""


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        unavailable(f"there is no {CHROMIUM}, which Debian's package chromium installs")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def jupyterlab(tmp_path_factory, browser):
    """JupyterLab on copies of the notebooks, with settings, boards and runs of its own; gives its URL."""
    tmp_path = tmp_path_factory.mktemp("jupyterlab")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    long = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LONG_SWEEP)], metadata=kernel)
    nbformat.write(long, tmp_path / "long.ipynb")
    for notebook in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(notebook, tmp_path)
    folders = {name: str(tmp_path / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR",
               "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR",
               "PDMLAB_STATE", "PDMLAB_DATA")}  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--port=0", "--ip=127.0.0.1", "--allow-root",
               f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={tmp_path}",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    log = tmp_path / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **folders}, stderr=output, stdout=output)
    try:
        yield find_url(server, Path(folders["JUPYTER_RUNTIME_DIR"]), log)
    finally:
        server.terminate()
        server.wait(30)


def find_url(server, runtime, log):
    """Return the server's URL from the file in which it notes itself."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for file in runtime.glob("jpserver-*.json"):
            try:
                return json.loads(file.read_text())["url"]
            except ValueError:
                continue  # half written
        assert server.poll() is None, log.read_text()[-2000:]
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


@pytest.fixture
def open_notebook(browser, jupyterlab):
    """Open a notebook, run all its cells, and give the page; afterwards nothing but the server has been asked."""
    # So tall that every cell is on the screen: JupyterLab attaches no others.
    page = browser.new_page(viewport={"width": 1200, "height": 6000})
    asked = []
    page.on("request", lambda request: asked.append(request.url))

    def open_(name):
        page.goto(f"{jupyterlab}lab/tree/{name}?reset&token={TOKEN}")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_selector("text=| Idle", timeout=60_000)
        page.click("text=Run >> nth=0")
        page.click("text=Run All Cells")
        return page

    yield open_
    page.close()
    assert not [url for url in asked if not url.startswith((jupyterlab, "data:", "blob:"))]


@pytest.mark.slow
@pytest.mark.debian
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["01-storage.ipynb", "09-power-cuts.ipynb"])
def test_a_slider_moved_by_keyboard_draws_another_figure(open_notebook, name):
    page = open_notebook(name)
    page.wait_for_selector(".jp-Notebook .widget-slider", state="attached", timeout=RUN_ALL_MS)
    slider = page.locator(".jp-Notebook .widget-slider .noUi-handle").first
    image = page.locator(".jp-Notebook .widget-image").last
    image.scroll_into_view_if_needed()
    before = image.get_attribute("src")
    slider.focus()
    slider.press("ArrowRight")
    page.wait_for_function(
        "before => [...document.querySelectorAll('.jp-Notebook .widget-image')].pop()?.src !== before",
        arg=before,
        timeout=30_000,
    )
    assert image.get_attribute("src") != before


@pytest.mark.slow
@pytest.mark.debian
@pytest.mark.timeout(240)
def test_the_stop_button_stops_a_sweep_while_its_cell_runs(open_notebook):
    page = open_notebook("long.ipynb")
    page.wait_for_selector("text=2/500", timeout=RUN_ALL_MS)
    page.click("text=Stop after this point")
    page.wait_for_selector("text=state='interrupted'", timeout=30_000)
