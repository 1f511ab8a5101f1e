"""`pdmlab dm psk`: keys by which devices without certificates bootstrap and register."""

from __future__ import annotations

import secrets
from typing import IO

import click

from pdmlab.cli.asking import asked, asking
from pdmlab.errors import ConfigError

SIZE = 16  # B of a key that is made here: AES-128's
MOST = 1024  # characters of one that is given: more than the service takes


@click.command("psk")
@click.argument("name", required=False)
@click.option(
    "--secret", type=click.File("r"), help="File with the key in hex, - for standard input; default: a new key."
)
@click.option("--delete", is_flag=True, help="Let nobody in by it any more.")
@asking
def psk(
    name: str | None, secret: IO[str] | None, delete: bool, api_key: str | None, host: str | None, service: str | None
) -> None:
    """Give the device NAME a pre-shared key, and print it: nobody tells it again. Without NAME, list who has one."""

    if name is None and (delete or secret is not None):
        raise ConfigError("whose key? NAME is missing", hint="pdmlab dm psk NAME")
    with asked(host, api_key, service) as cloud:
        if name is None:
            for each in cloud.shared_keys():
                click.echo(each.endpoint_name)
        elif delete:
            cloud.shared_keys.get(name).delete()
        else:
            key = secrets.token_hex(SIZE) if secret is None else secret.read(MOST + 1).strip()
            if len(key) > MOST:
                raise ConfigError(
                    f"more than {MOST} characters are no key", hint="pairs of hex digits, and nothing else"
                )
            cloud.shared_keys.create(name, key)
            click.echo(f"identity {name}\nkey      {key.lower().removeprefix('0x')}")
