"""`pdmlab dm`: a project's update keys and credentials, its manifests, and updates of devices, as `mbed dm` does."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdmlab.cli.asking import asked, asking, place
from pdmlab.cli.device_log import device_log
from pdmlab.cli.manifests import create, create_v1
from pdmlab.cli.manifests import folder as in_folder
from pdmlab.cli.parsing import parse
from pdmlab.cli.payloads import delta, package
from pdmlab.cli.shared_keys import psk
from pdmlab.cli.suit import convert, create_suit
from pdmlab.cli.updates import update, update_v1
from pdmlab.errors import ConfigError

if TYPE_CHECKING:
    from pdmlab.update.credentials import Credentials


@click.group()
def dm() -> None:
    """Device management: set a project up, sign manifests, update devices."""


@dm.command()
@click.option("-d", "--vendor-domain", "domain", help="Your company's domain: company.com.")
@click.option("--model-name", "model", help="The product's name.")
@click.option("-q", "--quiet", is_flag=True, help="Ask nothing.")
@click.option("-f", "--force", is_flag=True, help="Overwrite what is there.")
@click.option("--no-credentials", is_flag=True, help="Make the update keys alone; needs no service.")
@click.option(
    "--credentials-only", is_flag=True, help="Fetch the credentials alone: the keys are there, manifest-dev-tool's too."
)
@asking
@in_folder
def init(
    domain: str | None,
    model: str | None,
    quiet: bool,
    force: bool,
    no_credentials: bool,
    credentials_only: bool,
    api_key: str | None,
    host: str | None,
    service: str | None,
    folder: Path,
) -> None:
    """Make update keys and ids, and fetch developer credentials: the two C files that a build compiles in."""
    from pdmlab.cloud.finding import find_service
    from pdmlab.update.developer import Developer

    if credentials_only and no_credentials:
        raise ConfigError("--credentials-only and --no-credentials leave nothing to do", hint="leave one of them out")
    developer, ask = Developer(folder), None if quiet else _confirm

    def fetch() -> Credentials:
        return _credentials(host, api_key, service, model or "device")

    if credentials_only:
        file = developer.add_credentials(fetch, force=force, ask=ask)
        click.echo(f"wrote {file}; everything else is as it was")
    elif domain is None or model is None:
        raise click.UsageError("Missing option '-d' or '--model-name': the ids of a product's firmware come of both.")
    else:
        credentials = None if no_credentials else fetch
        click.echo(str(developer.init(domain, model, credentials=credentials, force=force, ask=ask)))
        if not no_credentials:
            asked_one = find_service(*place(host, api_key, service))
            click.echo(f"wrote {developer.tool.keep_service(asked_one.host, asked_one.key)}, with the key for it")
    if not no_credentials:
        uri = developer.credentials.bootstrap_server_uri
        click.echo(f"devices built with them bootstrap at {uri}")
        if "://127." in uri or "://[::1]" in uri:
            click.echo("only this machine reaches that: for boards, run `pdmlab service --host ADDRESS` and init again")


def _confirm(question: str) -> bool:
    """Ask; no answer, from a script or an impatient person, is no."""
    try:
        return click.confirm(question)
    except click.Abort:
        click.echo()
        return False


def _credentials(host: str | None, api_key: str | None, service: str | None, model: str) -> Credentials:
    from pdmlab.errors import NetworkError

    try:
        with asked(host, api_key, service) as cloud:
            return cloud.developer_credentials(f"{model[:80]}-{secrets.token_hex(4)}")
    except (ConfigError, NetworkError) as error:
        raise type(error)(
            f"no credentials without a service: {error.message}",
            hint="; ".join(filter(None, (error.hint, "--no-credentials makes the update keys alone"))),
        ) from error


@dm.command()
@asking
def devices(api_key: str | None, host: str | None, service: str | None) -> None:
    """List the devices of the account: id, state, endpoint name and name."""
    with asked(host, api_key, service) as cloud:
        rows = [
            [str(cell or "") for cell in (row.id, row.state, row.endpoint_name, row.name)]
            for row in cloud.devices().frame().itertuples()
        ]
        if not rows:
            click.echo(f"no devices at {cloud.host}")
        elif sys.stdout.isatty():
            rows.insert(0, ["id", "state", "endpoint name", "name"])
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:  # a narrow terminal wraps: an id that is cut is none
                click.echo("  ".join(map(str.ljust, row, widths)).rstrip())
        else:
            for row in rows:  # for cut, awk and grep
                click.echo("\t".join(row))


for _each in (create, create_v1, create_suit, convert, parse, update, update_v1, delta, package, device_log, psk):
    dm.add_command(_each)
