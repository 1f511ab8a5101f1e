"""`pdmlab dm`: a project's update keys and credentials, its manifests, and updates of devices, as `mbed dm` does."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pdmlab.cli.asking import asked, asking
from pdmlab.cli.device_log import device_log
from pdmlab.cli.shared_keys import psk
from pdmlab.errors import ConfigError, ImageRejected, TimedOut

if TYPE_CHECKING:
    from pdmlab.cloud import Campaign
    from pdmlab.update.credentials import Credentials

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

_folder = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    help="The project's folder; default: this one.",
)
_version = click.option("-v", "--fw-version", "version", help="Version, a.b.c; default: the one the image names.")


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
@_folder
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


@dm.command()
@click.option("-p", "--payload", type=_FILE, required=True, help="The image.")
@click.option("-u", "--url", required=True, help="Where devices will fetch it.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The manifest.")
@_version
@_folder
def create(payload: Path, url: str, output: Path, version: str | None, folder: Path) -> None:
    """Sign the manifest of an image."""
    from pdmlab.update.developer import Developer

    image = payload.read_bytes()
    signed = Developer(folder).sign(image, version=_version_of(image, version), uri=url)
    output.write_bytes(signed)
    click.echo(f"{output}: {len(signed)} B")


@dm.command()
@click.argument("manifest", type=_FILE)
@click.option("-c", "--certificate", type=_FILE, help="Check the signature with this certificate (DER).")
def parse(manifest: Path, certificate: Path | None) -> None:
    """Show what a signed manifest says; fail if it is none, or not signed by the certificate's owner."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from pdmlab.update.manifest import SignedManifest

    signed = SignedManifest.parse(manifest.read_bytes())
    said = signed.manifest
    for name, value in {
        "component": said.component,
        "version": said.version,
        "payload": f"{said.payload_size} B, {said.format.name.lower()}",
        "payload SHA-256": said.payload_digest.hex(),
        "URI": said.uri,
        "vendor id": said.vendor_id.hex(),
        "class id": said.class_id.hex(),
    }.items():
        click.echo(f"{name:<16} {value}")
    if certificate is None:
        click.echo(f"{'signature':<16} not checked; -c CERTIFICATE checks it")
        return
    try:
        key = x509.load_der_x509_certificate(certificate.read_bytes()).public_key()
    except ValueError as error:
        raise ConfigError(f"{certificate} is no certificate in DER: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(f"the key of {certificate} is no elliptic-curve key")
    signed.verify(key)
    click.echo(f"{'signature':<16} by the owner of {certificate}")


dm.add_command(device_log)
dm.add_command(psk)


@dm.group()
def update() -> None:
    """Update devices."""


@update.command()
@click.option("-D", "--device-id", "device", required=True, help="The device's id, or its name.")
@click.option("-p", "--payload", type=_FILE, required=True, help="The image.")
@_version
@click.option("-w/-n", "--wait/--no-wait", default=True, show_default=True, help="Wait until the device is done.")
@click.option("--timeout", type=click.FloatRange(1), default=600.0, show_default=True, help="How long to wait (s).")
@asking
@_folder
def device(
    device: str,
    payload: Path,
    version: str | None,
    wait: bool,
    timeout: float,
    api_key: str | None,
    host: str | None,
    service: str | None,
    folder: Path,
) -> None:
    """Upload an image, sign its manifest with the folder's key, and update a device; exit status 1 if it fails."""
    from pdmlab.update.developer import Developer

    image = payload.read_bytes()
    with asked(host, api_key, service) as cloud:
        target = cloud.device(device)
        uploaded = cloud.firmware_image(payload.name[:100], image)
        signed = Developer(folder).sign(image, version=_version_of(image, version), uri=uploaded.url)
        manifest = cloud.manifest(payload.name[:100], signed)
        campaign = cloud.campaign(manifest, devices=target)
        click.echo(f"campaign {campaign.id} started for device {target.id}")
        if not wait:
            return
        try:
            outcome = campaign.wait(timeout=timeout, progress=_Told())
        except TimedOut as error:
            campaign.stop()  # or it would begin when the device is back, whatever has been sent by then
            raise TimedOut(f"{error.message}; the campaign is stopped now", hint=error.hint) from error
        for row in outcome.itertuples():
            click.echo(f"{row.device_id}: {row.outcome}")
        for each in (campaign, manifest, uploaded):
            each.delete()
    if outcome.empty or set(outcome["state"]) != {"deployed"}:
        raise SystemExit(1)


class _Told:
    """Says each change of a campaign's devices once."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, campaign: Campaign, metrics: dict[str, Any]) -> None:
        told = "; ".join(str(row.outcome) for row in campaign.devices().itertuples())
        if told and told != self._last:
            self._last = told
            click.echo(f"  {told}")


def _version_of(image: bytes, given: str | None) -> str:
    from pdmlab.firmware.image import read_image

    try:
        named = read_image(image).version
        if given not in (None, named):
            raise ConfigError(
                f"the image says that it is version {named}, not {given}",
                hint="a manifest of another version would call it what it is not: leave -v out, or build it anew",
            )
        return named
    except ImageRejected as error:
        if given is not None:
            return given
        raise ConfigError(
            "the image does not name its version", hint="give the version that it has: -v 1.0.1"
        ) from error
