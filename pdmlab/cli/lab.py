"""`pdmlab lab`: JupyterLab on the first notebook."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

FIRST = "notebooks/00-start-here.ipynb"
OFFLINE = ("--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate")
"""JupyterLab asks the internet for news and for its own next version unless told not to."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments: tuple[str, ...]) -> None:
    """Open JupyterLab on the first notebook; arguments go to JupyterLab: --no-browser, --port 8899 …"""
    first = next((p / FIRST for p in (Path.cwd(), *Path.cwd().parents) if (p / FIRST).is_file()), None)
    if first is None:
        raise click.ClickException(f"no {FIRST} here or above: run it in the checkout")
    checkout = f"--ServerApp.root_dir={first.parent.parent}"  # so that data/ shows in it too
    child = subprocess.Popen([sys.executable, "-m", "jupyterlab", str(first), checkout, *OFFLINE, *arguments])
    while True:
        try:
            raise SystemExit(child.wait())
        except KeyboardInterrupt:  # the terminal sent it to JupyterLab as well, which asks what to do
            continue
