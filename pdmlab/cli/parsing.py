"""`pdmlab dm parse`: what a signed manifest says, v3, v1 or SUIT, and whose signature it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdmlab.cli.manifests import FILE
from pdmlab.cli.naming import SUIT
from pdmlab.errors import ConfigError
from pdmlab.update.files import MAX_IMAGE, MAX_KEY, MAX_MANIFEST, read_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec


@click.command()
@click.argument("manifest", type=FILE)
@click.option("-c", "--certificate", type=FILE, help="Check the signatures with this certificate (DER).")
@click.option("-p", "--public-key", type=FILE, help="… with this public key (an uncompressed point, 65 B).")
@click.option("-k", "--private-key", type=FILE, help="… with this private key (PEM).")
@click.option("-j", "--pretty-json", "as_json", is_flag=True, help="Show it as JSON.")
def parse(
    manifest: Path, certificate: Path | None, public_key: Path | None, private_key: Path | None, as_json: bool
) -> None:
    """Show what a signed manifest says, v3, v1 or SUIT; fail if it is none, or not signed by who it should be."""
    from pdmlab.update.manifest import SignedManifest
    from pdmlab.update.manifest_v1 import SignedManifestV1, is_v1

    given = [file for file in (certificate, public_key, private_key) if file is not None]
    if len(given) > 1:
        raise click.UsageError("--certificate, --public-key and --private-key exclude each other.")
    data = read_file(manifest, MAX_MANIFEST, "a manifest", longer=(SUIT, MAX_MANIFEST + MAX_IMAGE))
    if data.startswith(SUIT):
        _parse_suit(data, _public_key(certificate, public_key, private_key) if given else None, given, as_json)
        return
    signed = SignedManifestV1.parse(data) if is_v1(data) else SignedManifest.parse(data)
    told = signed.manifest.told() | {"signature": "not checked; -c CERTIFICATE checks it"}
    if given:
        key = _public_key(certificate, public_key, private_key)
        told |= {"signature": f"by the owner of {given[0]}"}
        if isinstance(signed, SignedManifestV1):
            signed.verify(key if certificate is None else read_file(certificate, MAX_KEY, "a certificate"))
        else:
            signed.verify(key)
            if signed.manifest.installed_signature:
                signed.verify_image(key)
                told |= {"image signature": f"by the owner of {given[0]}"}
    if as_json:
        click.echo(json.dumps(told, indent=4))
        return
    for name, value in told.items():
        click.echo(f"{name:<16} {value}")


def _parse_suit(data: bytes, key: ec.EllipticCurvePublicKey | None, given: list[Path], as_json: bool) -> None:
    """Show a SUIT envelope, command by command."""
    from pdmlab.update.suit import Envelope
    from pdmlab.update.suit.describing import lines

    envelope = Envelope.parse(data, key)
    told = list(lines(envelope.manifest))
    told += [(f"payload {uri}", f"{len(payload)} B") for uri, payload in envelope.payloads.items()]
    told.append(("signature", f"by the owner of {given[0]}" if given else "not checked; -c CERTIFICATE checks it"))
    if as_json:
        click.echo(json.dumps(told, indent=4))
        return
    for name, value in told:
        click.echo(f"{name:<24} {value}")


def _public_key(
    certificate: Path | None, public_key: Path | None, private_key: Path | None
) -> ec.EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    from pdmlab.update.manifest_tool import read_key
    from pdmlab.update.manifest_v1 import certified_key

    if certificate is not None:
        return certified_key(read_file(certificate, MAX_KEY, "a certificate"))
    if private_key is not None:
        return read_key(private_key).public_key()
    assert public_key is not None
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(
            ec.SECP256R1(), read_file(public_key, MAX_KEY, "a public key")
        )
    except ValueError as error:
        raise ConfigError(f"{public_key} is no point on P-256: {error}") from error
