"""`pdmlab dm delta` and `dm package`: payloads, with the options of manifest-delta-tool and manifest-package-tool."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdmlab.cli.manifests import FILE, OUTPUT, cache, folder, payload, version_option
from pdmlab.cli.naming import named_version
from pdmlab.errors import ConfigError, ManifestRejected
from pdmlab.update.files import MAX_IMAGE, MAX_TEXT, read_file, read_text

if TYPE_CHECKING:
    from pdmlab.update.payloads.combined import SubImage


@click.command()
@click.option("-c", "--current-fw", "current", type=FILE, required=True, help="The image that devices run.")
@click.option("-n", "--new-fw", "new", type=FILE, required=True, help="The image that they are to run.")
@click.option("-o", "--output", type=OUTPUT, required=True, help="The patch; what describes it goes to a .yaml beside.")
@click.option(
    "-b", "--block-size", type=click.IntRange(128, 16384), default=512, show_default=True,
    help="Bytes that a device unpacks at a time.",
)  # fmt: skip
@click.option(
    "-t", "--threshold", type=click.IntRange(1, 100), default=60, show_default=True,
    help="Refuse a patch of this many percent of the new image or more.",
)  # fmt: skip
@click.option("--skip-size-check", is_flag=True, help="Take a patch of any size.")
def delta(current: Path, new: Path, output: Path, block_size: int, threshold: int, skip_size_check: bool) -> None:
    """Make the patch from one image to another; `create -p` and `update -p` sign it as a delta."""
    from pdmlab.update.payloads.patch import Delta

    before, image = (read_file(each, MAX_IMAGE, "an image") for each in (current, new))
    made = Delta.between(before, image, frame_size=block_size, version=named_version(image))
    if not skip_size_check and 100 * made.ratio >= threshold:
        raise ConfigError(
            f"the patch has {len(made.patch)} B, {made.ratio:.0%} of the new image; {threshold} % were too many",
            hint="are these builds of one program? --skip-size-check takes it all the same",
        )
    try:
        beside = made.write(output)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    leads = f" of version {made.version}" if made.version else ""
    click.echo(f"{output}: {len(made.patch)} B, {made.ratio:.1%} of the image{leads}; {beside.name} describes it")


@click.group()
def package() -> None:
    """Packages: several images in one payload, or one image behind its firmware header."""


@package.command("create")
@click.option("-c", "--config", type=FILE, required=True, help="YAML: images, each with sub_comp_name, file_name.")
@click.option("-o", "--output", type=OUTPUT, required=True, help="The package.")
def create_package(config: Path, output: Path) -> None:
    """Pack the images that a configuration of manifest-package-tool names; vendor_data are their installers' own."""
    from pdmlab.update.payloads.combined import make_package

    try:
        output.write_bytes(make_package(_images(config)))
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read or written: {error.strerror}") from error
    click.echo(f"{output}: {output.stat().st_size} B")


@package.command("image")
@payload
@click.option("-o", "--output", type=OUTPUT, required=True, help="The package.")
@version_option
@click.option("-m", "--sign-image", "signed", is_flag=True, help="Sign the image, for bootloaders that check it.")
@cache
@folder
def pack(payload: Path, output: Path, version: str | None, signed: bool, cache: Path, folder: Path) -> None:
    """Put an image behind its firmware header, with its SHA-256, for boards that are updated by LwM2M's object 5."""
    from pdmlab.update.der import sign_digest
    from pdmlab.update.developer import Developer
    from pdmlab.update.packages import pack_image

    data, sign = read_file(payload, MAX_IMAGE, "an image"), None
    named = named_version(data)
    if None not in (version, named) and version != named:
        raise ConfigError(f"the image says that it is version {named}, not {version}", hint="leave -v out")
    if (chosen := version or named) is None:
        raise ConfigError(f"{payload} does not name its version", hint="-v a.b.c")
    if signed:
        key = Developer(folder, cache).private_key
        sign = functools.partial(sign_digest, key)
    try:
        output.write_bytes(pack_image(data, chosen, sign=sign))
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    click.echo(f"{output}: {chosen}, {output.stat().st_size} B")


@package.command("parse")
@click.option("-p", "--package", "file", type=FILE, required=True, help="The package.")
def parse_package(file: Path) -> None:
    """Show which images a package holds."""
    from pdmlab.update.payloads.combined import Package

    data = read_file(file, MAX_IMAGE, "a package")
    try:
        held = Package.read(lambda at, size: data[at : at + size], len(data))
    except ManifestRejected as error:
        raise ConfigError(f"{file} is no package that a device would take: {error.message}") from error
    for image in held.images:
        click.echo(f"{image.name}: {image.size} B, vendor data {image.vendor_data.hex() or 'none'}")


def _images(config: Path) -> list[SubImage]:
    import yaml

    from pdmlab.update.payloads.combined import SubImage

    try:
        return [
            SubImage(
                str(image["sub_comp_name"]),
                read_file(config.parent / image["file_name"], MAX_IMAGE, "an image"),
                str(image.get("vendor_data", "")).encode(),
            )
            for image in yaml.safe_load(read_text(config, MAX_TEXT, "a package's configuration"))["images"]
        ]
    except (ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(
            f"{config} names no images: {error}",
            hint="images: [{sub_comp_name: radio, file_name: radio.bin, vendor_data: rev 2}, ...]",
        ) from error
