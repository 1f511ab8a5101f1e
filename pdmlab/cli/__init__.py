"""The command line: lab, run, board, service, dm, test, detect, doctor. Thin: each command calls what a notebook calls.

An error of pdmlab's own ends a command with one line and its hint, and exit status 1; -v shows where it came from.
"""

from __future__ import annotations

import signal
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from pdmlab.errors import PdmlabError

_ELSEWHERE = {
    "detect": "pdmlab.cli.detect",
    "dm": "pdmlab.cli.dm",
    "doctor": "pdmlab.cli.doctor",
    "run": "pdmlab.cli.run",
    "test": "pdmlab.cli.test",
}
"""Commands with a file of their own, loaded when they are used."""


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_ELSEWHERE})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in _ELSEWHERE:
            command: click.Command = getattr(import_module(_ELSEWHERE[name]), name)
            return command
        return super().get_command(ctx, name)

    def invoke(self, ctx: click.Context) -> Any:  # click's own signature
        try:
            return super().invoke(ctx)
        except PdmlabError as error:
            if ctx.params.get("verbose"):
                raise
            click.echo(f"{type(error).__name__}: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Show where an error came from.")
@click.version_option(package_name="pdmlab")
def main(verbose: bool) -> None:
    """Device management for Mbed OS boards, on one desk."""


@main.command()
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def lab(arguments: tuple[str, ...]) -> None:
    """Open JupyterLab on the first notebook."""
    import subprocess

    first = next((p / "notebooks/00-start-here.ipynb" for p in (Path.cwd(), *Path.cwd().parents)
                  if (p / "notebooks/00-start-here.ipynb").is_file()), None)  # fmt: skip
    if first is None:
        raise click.ClickException("no notebooks/00-start-here.ipynb here or above: run it in the checkout")
    raise SystemExit(
        subprocess.run([sys.executable, "-m", "jupyterlab", str(first), *arguments], check=False).returncode
    )


@main.command()
@click.argument("target", default="K64F")
@click.option("--id", "board_id", default=None, help="Whose flash and card it is; default: the target's name.")
@click.option("--seed", type=int, default=None, help="Seed of everything random on the board.")
@click.option("--application", default=None, help="Flash this application first: fs-single, connect, example …")
@click.option("--image", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Flash this image first.")
@click.option("--tcp", is_flag=True, help="Serve the line on a TCP port instead of a pty.")
@click.option("--port", type=int, default=0, help="The TCP port; 0 takes a free one.")
@click.option("--link", type=click.Path(path_type=Path), help="Make a symbolic link of this name to the pty.")
def board(
    target: str,
    board_id: str | None,
    seed: int | None,
    application: str | None,
    image: Path | None,
    tcp: bool,
    port: int,
    link: Path | None,
) -> None:
    """Run a virtual board as a process of its own, on a pty or a TCP port, until Ctrl-C."""
    from pdmlab.sim import bridge
    from pdmlab.sim.board import VirtualBoard

    with VirtualBoard(target, id=board_id, seed=seed) as virtual:
        if image is not None:
            virtual.flash(image)
        elif application is not None:
            virtual.flash_application(application)
        if tcp:
            with bridge.tcp_bridge(virtual.uart, port=port) as (host, number):
                click.echo(f"SIMULATED {target} on socket://{host}:{number}")
                _until_stopped()
        else:
            with bridge.pty_bridge(virtual.uart, link=link) as name:
                click.echo(f"SIMULATED {target} on {name}")
                _until_stopped()


@main.command()
@click.option("--name", default="default", help="Whose database it is; two names do not see each other.")
@click.option("--port", type=int, default=0, help="REST port; 0 takes a free one.")
@click.option("--coap-port", type=int, default=0, help="LwM2M port (UDP); 0 takes a free one.")
@click.option("--bootstrap-port", type=int, default=0, help="Bootstrap port (UDP); 0 takes a free one.")
def service(name: str, port: int, coap_port: int, bootstrap_port: int) -> None:
    """Run the device-management service on loopback until Ctrl-C."""
    from pdmlab.service import serve

    with serve(name=name, port=port, coap_port=coap_port, bootstrap_port=bootstrap_port) as running:
        click.echo(str(running))
        _until_stopped()


def _until_stopped() -> None:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    while not stop.wait(0.5):  # in slices: Windows delivers no signal to a thread that waits for ever
        pass
