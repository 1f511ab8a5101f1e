"""`pdmlab client`: plain LwM2M devices at any server, by the letters of Leshan's demo client."""

from __future__ import annotations

import base64
import contextlib
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdmlab import running
from pdmlab.cli.asking import facts, named
from pdmlab.cli.stopping import stoppable
from pdmlab.errors import ConfigError

if TYPE_CHECKING:
    from pdmlab.client import Certificate, Lwm2mClient, PreSharedKey, TableObject

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----([A-Za-z0-9+/=\s]+)-----END \1-----")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_HOW = "-i and -p for a pre-shared key, which `pdmlab dm psk NAME` makes; or -ccert, -cprik and -scert"
MOST = 1000
"""Devices that one command runs: each has a socket of its own."""


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
    count: int,
    seed: int,
) -> None:
    """Run LwM2M devices that register to any server, until Ctrl-C: a thermometer each, and the standard objects."""
    from pdmlab.aio import LoopThread
    from pdmlab.client.plain.lwm2m_client import LIFETIME, Lwm2mClient, close_all

    credentials = _credentials(psk_identity, psk_key, client_certificate, client_private_key, server_certificate)
    if server is None:
        server = _server(service, bootstrap=bootstrap, secure=credentials is not None)
    elif service is not None:
        raise ConfigError("a server has either a name or an address", hint="leave out --name or -u")
    if "://" not in server:  # as Leshan's demo client has it
        server = f"{'coap' if credentials is None else 'coaps'}://{server}"
    names = [endpoint] if count == 1 else [f"{endpoint}-{number}" for number in range(count)]
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(LoopThread("lwm2m-devices"))
        until_stopped = stack.enter_context(stoppable())
        devices: list[Lwm2mClient] = []
        stack.callback(close_all, devices)
        for number, name in enumerate(names):
            device = Lwm2mClient(
                name,
                server,
                bootstrap=bootstrap,
                credentials=credentials,
                lifetime=LIFETIME if lifetime is None else lifetime,
                version="1.0" if version == "1.0" else "1.1",
                queue_mode=queue_mode,
                objects=_objects(random.Random(f"{seed}/{number}")),
                loop=loop,
            )
            _tell(device, each_error=count == 1)
            devices.append(device)
            device.start()
        what = endpoint if count == 1 else f"{count} devices, {names[0]} to {names[-1]},"
        click.echo(f"SIMULATED {what} at {server}, until Ctrl-C")
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


def _tell(device: Lwm2mClient, *, each_error: bool) -> None:
    device.on_registered(
        lambda link: click.echo(f"{device.endpoint_name}: registered at /{'/'.join(link.registration.location)}")
    )
    if each_error:
        device.on_error(lambda error: click.echo(f"{device.endpoint_name}: {error}", err=True))


def _objects(chance: random.Random) -> list[TableObject]:
    from pdmlab.client import TableObject

    here = {0: round(chance.uniform(-60, 70), 4), 1: round(chance.uniform(-180, 180), 4), 5: 0}
    return [
        TableObject(3303, {0: {5700: round(chance.uniform(15, 25), 1), 5701: "Cel"}}),
        TableObject(6, {0: here}),
    ]


def _credentials(
    identity: str | None, key: Path | None, certificate: Path | None, private_key: Path | None, trust: Path | None
) -> PreSharedKey | Certificate | None:
    from pdmlab.client import Certificate, PreSharedKey

    if identity is not None and key is not None:
        try:
            return PreSharedKey(identity, bytes.fromhex(key.read_text(encoding="ascii").strip()))
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
    data = path.read_bytes()
    if b"-----BEGIN " not in data:
        return data
    for kind, body in _PEM.findall(data):
        if not kind.endswith(b"PARAMETERS"):
            return base64.b64decode(body)
    raise ConfigError(f"{path} has neither certificate nor key in it")
