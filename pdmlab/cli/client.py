"""`pdmlab client`: plain LwM2M devices at any server, by the letters of Leshan's demo client."""

from __future__ import annotations

import base64
import contextlib
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from pdmlab import running
from pdmlab.cli.asking import facts, named
from pdmlab.cli.stopping import stoppable
from pdmlab.errors import ConfigError, PdmlabError
from pdmlab.update.files import MAX_KEY, read_file

if TYPE_CHECKING:
    import asyncio

    from pdmlab.client import Certificate, Lwm2mClient, PreSharedKey
    from pdmlab.client.plain.link import ServerLink
    from pdmlab.update.object5 import Status

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_HOW = "-i and -p for a pre-shared key, which `pdmlab dm psk NAME` makes; or -ccert, -cprik and -scert"
MOST = 1000
"""Devices that one command runs: each has a socket of its own."""
SILENT_S = 3.0
"""After which a device that has no answer says that it waits for one."""
DRIFT_S = 2.0
"""Between two looks at a thermometer, as in Leshan's demo client."""
COLDEST, WARMEST = 10.0, 30.0
"""What a thermometer can measure (°C)."""


@click.command()
@click.option("-n", "--endpoint", default="pdmlab", help="Endpoint name; with --count, the first part of it.")
@click.option(
    "-u",
    "--server",
    help="HOST:PORT, or coap://HOST:PORT, coaps://, coap+tcp://, …; default: the service that runs here, else"
    " 127.0.0.1:5683.",
)
@named
@click.option("-b", "--bootstrap", is_flag=True, help="The server is a bootstrap server.")
@click.option("-l", "--lifetime", type=click.IntRange(0), default=None, help="Of the registration (s); 0: for ever.")
@click.option("-i", "--psk-identity", default=None, help="Identity of the pre-shared key, for coaps.")
@click.option("-p", "--psk-key", type=_FILE, default=None, help="File of the pre-shared key, in hex.")
@click.option("-ccert", "--client-certificate", type=_FILE, default=None, help="The device's certificate (DER or PEM).")
@click.option("-cprik", "--client-private-key", type=_FILE, default=None, help="Its private key (DER or PEM).")
@click.option("-scert", "--server-certificate", type=_FILE, default=None, help="The server's, or its CA's.")
@click.option("-q", "--queue-mode", is_flag=True, help="Sleep 93 s after the last message, until the next update.")
@click.option("--lwm2m", "version", type=click.Choice(["1.0", "1.1"]), default="1.1", help="Version of LwM2M.")
@click.option(
    "--firmware",
    "delivery",
    type=click.Choice(["push", "pull", "both"]),
    default="both",
    show_default=True,
    help="How it takes firmware packages, by object 5: sent to it, fetched by it, or either.",
)
@click.option(
    "--advanced-firmware", "advanced", is_flag=True, help="Show its firmware as object 33629 too, to be read."
)
@click.option("--count", type=click.IntRange(1, MOST), default=1, help="So many devices, ENDPOINT-0 and so on.")
@click.option("--seed", type=int, default=0, help="Of their temperatures and places.")
def client(
    endpoint: str,
    server: str | None,
    service: str | None,
    bootstrap: bool,
    lifetime: int | None,
    psk_identity: str | None,
    psk_key: Path | None,
    client_certificate: Path | None,
    client_private_key: Path | None,
    server_certificate: Path | None,
    queue_mode: bool,
    version: str,
    delivery: Literal["push", "pull", "both"],
    advanced: bool,
    count: int,
    seed: int,
) -> None:
    """Run LwM2M devices that register to any server, until Ctrl-C: a thermometer that drifts, and the usual objects."""
    from pdmlab.aio import LoopThread
    from pdmlab.client.plain.firmware import FirmwareObject
    from pdmlab.client.plain.lwm2m_client import LIFETIME, Lwm2mClient, close_all

    credentials = _credentials(psk_identity, psk_key, client_certificate, client_private_key, server_certificate)
    if server is None:
        server = _server(service, bootstrap=bootstrap, secure=credentials is not None)
    elif service is not None:
        raise ConfigError("a server has either a name or an address", hint="leave out --name or -u")
    if "://" not in server:  # as Leshan's demo client has it
        server = f"{'coap' if credentials is None else 'coaps'}://{server}"
    if server.startswith("coaps") and credentials is None:
        raise ConfigError(f"{server} takes no device without a key or a certificate", hint=_HOW)
    names = [endpoint] if count == 1 else [f"{endpoint}-{number}" for number in range(count)]
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(LoopThread("lwm2m-devices"))
        until_stopped = stack.enter_context(stoppable())
        devices: list[Lwm2mClient] = []
        thermometers: list[Thermometer] = []
        unheard = set(names)
        stack.callback(close_all, devices)
        for number, name in enumerate(names):
            thermometers.append(thermometer := Thermometer(random.Random(f"{seed}/{number}")))
            firmware = FirmwareObject(delivery=delivery)
            device = Lwm2mClient(
                name,
                server,
                bootstrap=bootstrap,
                credentials=credentials,
                lifetime=LIFETIME if lifetime is None else lifetime,
                version="1.0" if version == "1.0" else "1.1",
                queue_mode=queue_mode,
                objects=[*thermometer.objects, firmware, *([firmware.components()] if advanced else [])],
                loop=loop,
            )
            _tell(device, unheard, each_error=count == 1)
            devices.append(device)
            device.start()
        loop.call_soon(loop.loop.call_later, DRIFT_S, _drift, loop.loop, thermometers)
        what = endpoint if count == 1 else f"{count} devices, {names[0]} to {names[-1]},"
        click.echo(f"SIMULATED {what} at {server}, until Ctrl-C")
        loop.call_soon(loop.loop.call_later, SILENT_S, _wait_aloud, unheard, server)
        until_stopped()


def _server(name: str | None, *, bootstrap: bool, secure: bool) -> str:
    """Return the address of the service that runs here, else Leshan's usual one."""
    found = running.nearest() if name is None else running.named(name)
    if found is None:
        return "127.0.0.1:5683"
    server = facts(*found)[f"{'' if secure else 'plain_'}{'bootstrap' if bootstrap else 'lwm2m'}"]
    if server is None:
        raise ConfigError(f"the service at {found[0]} has no port without security", hint=_HOW)
    return str(server).partition("?")[0]


def _tell(device: Lwm2mClient, unheard: set[str], *, each_error: bool) -> None:
    def registered(link: ServerLink) -> None:
        unheard.discard(device.endpoint_name)
        click.echo(f"{device.endpoint_name}: registered at /{'/'.join(link.registration.location)}")

    def failed(error: PdmlabError) -> None:
        unheard.discard(device.endpoint_name)
        click.echo(f"{device.endpoint_name}: {error}", err=True)

    def updated(status: Status) -> None:
        click.echo(f"{device.endpoint_name}: firmware update: {status}")

    device.on_registered(registered)
    device.on_firmware(updated)
    if each_error:
        device.on_error(failed)


def _wait_aloud(unheard: set[str], server: str) -> None:
    """Say who is still without an answer, and for how long that may last."""
    from pdmlab.client.plain.link import PARAMETERS

    if unheard:
        who = "it asks" if len(unheard) == 1 else f"{len(unheard)} devices ask"
        most = PARAMETERS.max_transmit_wait
        click.echo(
            f"no answer from {server} yet: {who} again, for up to {most:.0f} s, and then anew; is a server there?",
            err=True,
        )


class Thermometer:
    """What a device offers: a temperature that drifts, the same way for the same chance, and where it is."""

    def __init__(self, chance: random.Random) -> None:
        from pdmlab.client import TableObject

        here = {0: round(chance.uniform(-60, 70), 4), 1: round(chance.uniform(-180, 180), 4), 5: 0}
        self._chance = chance
        first = round(chance.uniform(15, 25), 1)
        self._sensor = TableObject(
            3303,
            {
                0: {
                    5700: first, 5701: "Cel", 5601: first, 5602: first, 5603: COLDEST, 5604: WARMEST,
                    5605: lambda _: self._forget(),
                }
            },
        )  # fmt: skip
        self.objects = [self._sensor, TableObject(6, {0: here})]

    def __repr__(self) -> str:
        return f"<Thermometer at {self.value} °C>"

    @property
    def value(self) -> float:
        """What it measures (°C)."""
        return self._read(5700)

    def _read(self, resource: int) -> float:
        return cast("float", self._sensor.read(0, resource))

    def drift(self) -> None:
        """Become up to 0.2 °C warmer or colder, within what it can measure; observers hear of it."""
        value = round(min(max(self.value + self._chance.choice((-0.2, -0.1, 0.0, 0.1, 0.2)), COLDEST), WARMEST), 1)
        coldest, warmest = min(self._read(5601), value), max(self._read(5602), value)
        for resource, after in ((5700, value), (5601, coldest), (5602, warmest)):
            if after != self._read(resource):
                self._sensor.set(0, resource, after)

    def _forget(self) -> None:
        """Measure minimum and maximum anew."""
        for resource in (5601, 5602):
            self._sensor.set(0, resource, self.value)


def _drift(loop: asyncio.AbstractEventLoop, thermometers: Sequence[Thermometer]) -> None:
    """Let them drift, again and again, on their loop."""
    for each in thermometers:
        each.drift()
    loop.call_later(DRIFT_S, _drift, loop, thermometers)


def _credentials(
    identity: str | None, key: Path | None, certificate: Path | None, private_key: Path | None, trust: Path | None
) -> PreSharedKey | Certificate | None:
    from pdmlab.client import Certificate, PreSharedKey

    if identity is not None and key is not None:
        try:
            return PreSharedKey(identity, bytes.fromhex(read_file(key, MAX_KEY, "a key").decode("ascii").strip()))
        except ValueError as error:
            raise ConfigError(f"{key} is no key in hex", hint="pairs of hex digits, and nothing else") from error
    if certificate is not None and private_key is not None and trust is not None:
        return Certificate(_der(certificate), _der(private_key), _der(trust))
    if any(each is not None for each in (identity, key, certificate, private_key, trust)):
        raise ConfigError(
            "credentials are not complete",
            hint="-i and -p for a pre-shared key; -ccert, -cprik and -scert for certificates",
        )
    return None


def _der(path: Path) -> bytes:
    """Return the first item of a PEM file that is no parameters, or a DER file as it is."""
    data = read_file(path, MAX_KEY, "a key or a certificate")
    if b"-----BEGIN " not in data:
        return data
    for kind, body in _PEM.findall(data):
        if not kind.endswith(b"PARAMETERS"):
            return base64.b64decode(body)
    raise ConfigError(f"{path} has neither certificate nor key in it")
