"""The command line: lab, run, board, service, dm, test, detect, inspect, doctor. Each calls what a notebook calls.

An error of pdmlab's own ends a command with one line and its hint, and exit status 1; -v shows where it came from.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from pdmlab.errors import PdmlabError

_ELSEWHERE = {
    "board": "pdmlab.cli.board",
    "detect": "pdmlab.cli.detect",
    "dm": "pdmlab.cli.dm",
    "doctor": "pdmlab.cli.doctor",
    "inspect": "pdmlab.cli.inspect",
    "lab": "pdmlab.cli.lab",
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


_PORT = click.IntRange(0, 65535)


@main.command()
@click.option("--name", default="default", help="Whose database it is; two names do not see each other.")
@click.option("--port", type=_PORT, default=0, help="REST port; 0 takes a free one.")
@click.option("--coap-port", type=_PORT, default=0, help="LwM2M port (UDP); 0 takes a free one.")
@click.option("--bootstrap-port", type=_PORT, default=0, help="Bootstrap port (UDP); 0 takes a free one.")
def service(name: str, port: int, coap_port: int, bootstrap_port: int) -> None:
    """Run the device-management service on loopback until Ctrl-C."""
    from pdmlab.cli.stopping import stoppable
    from pdmlab.service import serve

    with (
        serve(name=name, port=port, coap_port=coap_port, bootstrap_port=bootstrap_port) as running,
        stoppable() as until_stopped,
    ):
        click.echo(
            f"REST API          {running.url}\n"
            f"bootstrap server  {running.bootstrap_uri}\n"
            f"LwM2M server      {running.lwm2m_uri}\n"
            f"API key           in {running.folder / 'api-key'}\n"
            "NO SECURITY, loopback only. Ctrl-C ends it."
        )
        until_stopped()
