"""`pdmlab dm update`: image, manifest and campaign in one, for all devices that a folder is for, or for one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pdmlab.cli.asking import asked, asking
from pdmlab.cli.manifests import (
    FILE,
    NUMBER,
    OUTPUT,
    Signing,
    SigningV1,
    payload,
    signing_options,
    signing_options_v1,
)
from pdmlab.errors import ConfigError, ServiceError, TimedOut
from pdmlab.update.files import MAX_IMAGE, read_file

if TYPE_CHECKING:
    from pdmlab.cloud import Campaign, Cloud
    from pdmlab.cloud.device import Device
    from pdmlab.update.developer import Developer

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _campaign_options(command: _Command) -> _Command:
    """Give a command the options that the stock tool has for its campaign."""
    for option in (
        asking,
        click.option("-n", "--no-cleanup", is_flag=True, help="Leave image, manifest and campaign; with --wait."),
        click.option("-t", "--timeout", type=NUMBER, default=0, help="How long to wait (s); 0: without end."),
        click.option(
            "-w", "--wait", "--wait-for-completion", "wait", is_flag=True, help="Start it, wait, and tidy up then."
        ),
        click.option("-s", "--start", "--start-campaign", "start", is_flag=True, help="Start the campaign."),
        click.option("-i", "--device-id", "device", help="The device's id; default: all that the folder is for."),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.option("-u", "--use-short-url", "short_url", is_flag=True, help="Devices fetch the image by CoAP.")
@click.option("-e", "--encrypt-payload", "encrypt", is_flag=True, help="Have the service encrypt the image.")
@click.option("-p", "--payload", "--payload-path", type=FILE, help="The image.")
@_campaign_options
@signing_options
@click.pass_context
def update(
    ctx: click.Context, /, short_url: bool, encrypt: bool, payload: Path | None, **options: Any
) -> None:  # any: click's
    """Upload an image, sign its manifest, and make a campaign for the devices that have this folder's ids."""
    if ctx.invoked_subcommand is not None:
        return
    if payload is None:
        raise click.UsageError("Missing option '-p': the image.")
    plan = _Plan.of(options)
    _update(Signing(payload=payload, **options), plan, short_url=short_url, encrypt=encrypt)


@click.command("update-v1")
@payload
@_campaign_options
@signing_options_v1
def update_v1(**options: Any) -> None:  # any: click's
    """Do the same with a manifest v1, for devices with the older update hub."""
    plan = _Plan.of(options)
    _update(SigningV1(**options), plan)


@dataclass(frozen=True)
class _Plan:
    """What the options say of a campaign."""

    device: str | None
    start: bool
    wait: bool
    timeout: float
    tidy: bool
    api_key: str | None
    host: str | None
    service: str | None

    @classmethod
    def of(cls, options: dict[str, Any]) -> _Plan:  # any: click's
        """Take the campaign's options out of all."""
        wait, timeout = options.pop("wait"), options.pop("timeout")
        return cls(
            device=options.pop("device"),
            start=options.pop("start") or wait,
            wait=wait,
            timeout=timeout or math.inf,
            tidy=not options.pop("no_cleanup"),
            api_key=options.pop("api_key"),
            host=options.pop("host"),
            service=options.pop("service"),
        )


def _update(signing: Signing | SigningV1, plan: _Plan, *, short_url: bool = False, encrypt: bool = False) -> None:
    resources = signing.developer.resources
    conditions: dict[str, Any] = {
        "device_class": resources.class_id.hex(),
        "vendor_id": resources.vendor_id.hex(),
    }  # any: as filters are
    if plan.device is not None:
        conditions["id"] = plan.device
    with _service(signing.developer, plan.host, plan.api_key, plan.service) as cloud, contextlib.ExitStack() as made:
        tidy = plan.wait and plan.tidy
        name = signing.payload.name[:100]
        image = cloud.firmware_image(name, read_file(signing.payload, MAX_IMAGE, "an image"), encrypt=encrypt)
        if tidy:
            made.callback(image.delete)
        uri = image.short_url if short_url else image.url
        signed = signing.sign(uri, image.encrypted) if isinstance(signing, Signing) else signing.sign(uri)
        manifest = cloud.manifest(name, signed)
        if tidy:
            made.callback(manifest.delete)
        campaign = cloud.campaign(manifest, start=False, **conditions)
        if tidy:
            made.callback(campaign.delete)
        if not plan.start:
            click.echo(f"campaign {campaign.id} is there; nothing has been started")
            return
        campaign.start()
        click.echo(f"campaign {campaign.id} started")
        if plan.wait:
            watch(campaign, plan.timeout)


@update.command()
@click.option("-D", "--device-id", "device", required=True, help="The device's id, or its name.")
@click.option("-w", "--wait/--no-wait", default=True, show_default=True, help="Wait until the device is done.")
@click.option(
    "-T", "--timeout", type=click.FloatRange(-1), default=600.0, show_default=True, help="How long to wait (s); -1: on."
)
@click.option("--no-cleanup", is_flag=True, help="Leave image, manifest and campaign.")
@click.option("-n", "--payload-name", help="What the image is called at the service; default: its file's name.")
@click.option("--manifest-name", help="What the manifest is called there; default: the same.")
@click.option("-o", "--output-file", "output", type=OUTPUT, help="Keep the manifest in a file, too.")
@asking
@payload
@signing_options
def device(
    device: str,
    wait: bool,
    timeout: float,
    no_cleanup: bool,
    payload_name: str | None,
    manifest_name: str | None,
    output: Path | None,
    api_key: str | None,
    host: str | None,
    service: str | None,
    **options: Any,
) -> None:  # any: click's
    """Upload an image, sign its manifest, and update a device; exit status 1 if it fails.

    A device with the older update hub gets a manifest v1, whose version is the time unless -v gives one.
    """
    signing = Signing(**options)
    with _service(signing.developer, host, api_key, service) as cloud:
        target = cloud.device(device)
        name = payload_name or signing.payload.name[:100]
        uploaded = cloud.firmware_image(name, read_file(signing.payload, MAX_IMAGE, "an image"))
        signed = signing.sign_v1(uploaded.url) if _has_hub(target) else signing.sign(uploaded.url)
        if output is not None:
            output.write_bytes(signed)
        manifest = cloud.manifest(manifest_name or name, signed)
        campaign = cloud.campaign(manifest, devices=target)
        click.echo(f"campaign {campaign.id} started for device {target.id}")
        if wait:
            with contextlib.ExitStack() as made:
                if not no_cleanup:
                    for each in (uploaded, manifest, campaign):
                        made.callback(each.delete)
                watch(campaign, math.inf if timeout < 0 else timeout)


def _has_hub(device: Device) -> bool:
    """Whether a device has registered what those with the older update hub have: updates, and no object 14."""
    paths = [str(path) for path in device.resources()["path"]]
    return any(path.startswith("/10252/") for path in paths) and not any(path.startswith("/14/") for path in paths)


@contextlib.contextmanager
def _service(developer: Developer, host: str | None, api_key: str | None, service: str | None) -> Iterator[Cloud]:
    """Open the service that the options name, else the one that runs here, else the one that the folder names."""
    known = developer.tool.service()
    if known is not None and (host, service) == (None, None) and not _one_runs():
        host, api_key = known[0], api_key or known[1]
    with asked(host, api_key, service) as cloud:
        yield cloud


def _one_runs() -> bool:
    from pdmlab import running, settings

    try:
        return bool(settings.load().text("host").strip()) or running.nearest() is not None
    except ConfigError:  # several
        return True


def watch(campaign: Campaign, timeout: float) -> None:
    """Wait for a campaign's end, and tell of it; end with status 1 unless every device was updated.

    Raises:
        TimedOut: it has not ended; it is stopped then.
    """
    try:
        outcome = campaign.wait(timeout=timeout, progress=_Told())
    except (TimedOut, KeyboardInterrupt) as error:
        phases: list[str] = []
        with contextlib.suppress(ServiceError):  # a service that tells no such thing
            phases = [str(phase) for phase in campaign.progress()["phase"]]
        campaign.stop()  # or it would begin when the device is back, whatever has been sent by then
        if isinstance(error, TimedOut):
            raise TimedOut(f"{error.message}; the campaign is stopped now", hint=hint(phases)) from error
        raise
    for row in outcome.itertuples():
        click.echo(f"{row.device_id}: {_outcome(campaign, row)}")
    if outcome.empty:
        raise ConfigError(
            "no device took part", hint="does a registered device have this folder's ids? `pdmlab dm devices`"
        )
    if set(outcome["state"]) != {"deployed"}:
        raise SystemExit(1)


def hint(phases: list[str]) -> str:
    """Say what to look at where devices were at these steps when the time was up."""
    if "rebooting" in phases:
        return (
            "look at the device's console: bootloaders fota and mbed have no way back, so an image that does not start"
            " stays, until another is flashed by cable; trial goes back at the next reset"
        )
    if set(phases) & {"waiting", "sending"}:
        return "is the device registered, and awake? `pdmlab dm devices` lists it"
    return "look at the device's console; --timeout gives it longer"


def _outcome(campaign: Campaign, row: Any) -> str:  # any: a row of a frame
    """Return what became of a device; of one that reports a failure in its own words too, which it is asked for."""
    if not row.outcome.startswith("Result "):
        return str(row.outcome)
    try:
        device = campaign.device(row.device_id)
        return device.description if device.tells else campaign.ask(row.device_id).description
    except ServiceError:  # it is away
        return str(row.outcome)


class _Told:
    """Says each change of each of a campaign's devices once, a line a device."""

    def __init__(self) -> None:
        self._last: dict[str, str] = {}

    def __call__(self, campaign: Campaign, metrics: dict[str, Any]) -> None:
        for row in campaign.devices().itertuples():
            device, told = str(row.device_id), str(row.outcome)
            if told != self._last.get(device):
                self._last[device] = told
                click.echo(f"  {device}: {told}")
