"""The command line, a thin one: each command calls what a notebook calls. `pdmlab -h` lists them.

An error of pdmlab's own ends a command with one line and its hint, and exit status 1; -v shows where it came from.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from pdmlab.cli.wording import typed
from pdmlab.errors import PdmlabError

_ELSEWHERE = {
    "board": "pdmlab.cli.board",
    "client": "pdmlab.cli.client",
    "detect": "pdmlab.cli.detect",
    "dm": "pdmlab.cli.dm",
    "doctor": "pdmlab.cli.doctor",
    "inspect": "pdmlab.cli.inspect",
    "lab": "pdmlab.cli.lab",
    "layout": "pdmlab.cli.layout",
    "page": "pdmlab.cli.page",
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
            click.echo(f"{type(error).__name__}: {error.message}", err=True)
            if error.hint:
                click.echo(f"hint: {typed(error.hint)}", err=True)
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
@click.option(
    "--database",
    help="URL of a database that several processes share, each with a --name: postgresql://user@host:5432/name."
    " Default: PDMLAB_DATABASE, else a file in the state folder. Others see this line with `ps`: a password belongs"
    " into PGPASSWORD or ~/.pgpass, or the URL into PDMLAB_DATABASE.",
)
@click.option(
    "--host",
    help="Address of this machine that boards reach: one of its own, 0.0.0.0 or ::. Default: loopback, this machine"
    " alone. Elsewhere nothing is open that has no security: the REST API is HTTPS there.",
)
@click.option("--address", help="What boards are told, if it is not the host: one address of several, or a name.")
@click.option(
    "--port", type=_PORT, default=0, help="REST port; 0 takes the last one, or a free one. So with the others."
)
@click.option("--https-port", type=_PORT, default=0, help="REST port by HTTPS, where others reach it.")
@click.option("--coaps-port", type=_PORT, default=0, help="LwM2M port: DTLS by UDP, TLS by TCP.")
@click.option("--coaps-bootstrap-port", type=_PORT, default=0, help="Bootstrap port: DTLS by UDP, TLS by TCP.")
@click.option("--coap-port", type=_PORT, default=0, help="LwM2M port without security, on loopback alone.")
@click.option("--bootstrap-port", type=_PORT, default=0, help="Bootstrap port without security, on loopback alone.")
@click.option("--image-port", type=_PORT, default=0, help="Port of firmware images (HTTP), where boards reach it.")
@click.option("--keylog", type=click.Path(dir_okay=False), help="Write the keys of sessions there, for Wireshark.")
@click.option(
    "--log",
    "log_file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    help="Write each message there as it passes: .pcapng for Wireshark, .jsonl as rows, else as lines; - for here.",
)
@click.option("--page/--no-page", "with_page", default=True, help="Start the live page beside it.")
@click.option("--page-port", type=_PORT, default=0, help="The page's port.")
def service(log_file: Path | None, with_page: bool, page_port: int, **options: Any) -> None:  # any: each its own
    """Run the device-management service until Ctrl-C."""
    from pdmlab.cli.device_log import written
    from pdmlab.cli.stopping import stoppable
    from pdmlab.running import DEFAULT
    from pdmlab.service import serve

    with serve(**options) as running, written(running.log, log_file), stoppable() as until_stopped:
        lines = {
            "REST API": running.url,
            "REST API for others": running.https_url,
            "bootstrap server": running.bootstrap_uri,
            "LwM2M server": running.lwm2m_uri,
            "without security": ", ".join(filter(None, (running.plain_bootstrap_uri, running.plain_lwm2m_uri))),
            "firmware images": running.image_url,
            "boards reach it at": None if running.reach.loopback else ", ".join(running.addresses),
            "API key": f"in {running.folder / 'api-key'}",
            "CA certificate": f"in {running.ca_file}",
        }
        for name, value in lines.items():
            if value:
                click.echo(f"{name:<19} {value}")
        click.echo(f"{running.security}. Ctrl-C ends it.")
        which = "" if running.name == DEFAULT else f"--name {running.name} "
        opening = f"pdmlab page {which}--open"
        if with_page:  # it takes a second or two, for which nobody waits
            running.page(port=page_port, started=lambda url: click.echo(f"{'page':<19} {url}; `{opening}`"))
        until_stopped()
