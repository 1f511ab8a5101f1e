"""`pdmlab dm create-suit` and `convert`: SUIT envelopes, of an image or of a manifest v3."""

from __future__ import annotations

from pathlib import Path

import click

from pdmlab.cli.manifests import FILE, OUTPUT, Signing, common_options, in_short, write
from pdmlab.cli.naming import SUIT
from pdmlab.errors import ConfigError
from pdmlab.update.files import MAX_IMAGE, MAX_MANIFEST, read_file

FIRMWARE = "#firmware"
"""The URI of an image that comes in the envelope."""


@click.command("create-suit")
@click.option("-p", "--payload", type=FILE, required=True, help="The image.")
@click.option("-u", "--url", help="Where devices will fetch it; default: it comes in the envelope.")
@click.option("-o", "--output", type=OUTPUT, required=True, help="The envelope.")
@common_options
def create_suit(
    payload: Path, url: str | None, output: Path, version: str | None, component: str, cache: Path, folder: Path
) -> None:
    """Sign a SUIT envelope of an image, for devices that take it as their firmware package."""
    from pdmlab.update.suit import for_image

    signing = Signing(
        payload, version, component, cache=cache, folder=folder,
        sign_image=False, priority=0, combined=False, vendor_data=None,  # a SUIT manifest says no such thing
    )  # fmt: skip
    developer, image = signing.developer, read_file(payload, MAX_IMAGE, "an image")
    version = signing.chosen_version(image)
    resources = developer.resources
    manifest = for_image(
        image,
        version=version,
        uri=url or FIRMWARE,
        vendor_id=resources.vendor_id,
        class_id=resources.class_id,
        component=signing.component,
    )
    envelope = manifest.sign(developer.private_key, None if url else {FIRMWARE: image})
    write(output, envelope, in_short(signing.component, version))
    developer.tool.keep_version(version, signing.component)


@click.command()
@click.argument("manifest", type=FILE)
@click.option("-p", "--payload", type=FILE, help="The image: it comes in the envelope then.")
@click.option("-o", "--output", type=OUTPUT, required=True, help="The envelope.")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default=Path("."), help="The project's folder."
)
def convert(manifest: Path, payload: Path | None, output: Path, folder: Path) -> None:
    """Say in SUIT what a manifest v3 says, sign it anew, and tell what does not carry over."""
    import hashlib
    from dataclasses import replace

    from pdmlab.update import suit
    from pdmlab.update.developer import Developer
    from pdmlab.update.manifest import SignedManifest
    from pdmlab.update.manifest_v1 import is_v1

    data, payloads = read_file(manifest, MAX_MANIFEST, "a manifest", longer=(SUIT, MAX_MANIFEST + MAX_IMAGE)), None
    if data.startswith(SUIT):
        raise ConfigError(f"{manifest} is a SUIT envelope already", hint="`pdmlab dm parse` shows what it says")
    if is_v1(data):
        raise ConfigError(
            f"{manifest} is a manifest v1; only v3 can be said in SUIT",
            hint="sign the image anew: `pdmlab dm create-suit`",
        )
    said = SignedManifest.parse(data).manifest
    if payload is not None:
        image = read_file(payload, MAX_IMAGE, "an image")
        if hashlib.sha256(image).digest() != said.payload_digest:
            raise ConfigError(f"{payload} is not the image of {manifest}: its SHA-256 is another one")
        said, payloads = replace(said, uri=FIRMWARE), {FIRMWARE: image}
    converted = suit.convert(said)
    write(
        output, converted.manifest.sign(Developer(folder).private_key, payloads), in_short(said.component, said.version)
    )
    for lost in converted.lost:
        click.echo(f"does not carry over: {lost}")
