"""`pdmlab dm create` and `create-v1`, and the options by which a manifest is signed, as the stock tool's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pdmlab.cli.naming import named_version
from pdmlab.errors import ConfigError, ManifestRejected
from pdmlab.update.files import MAX_IMAGE, MAX_KEY, read_file

if TYPE_CHECKING:
    from pdmlab.update.developer import Developer
    from pdmlab.update.payloads.patch import Delta

_Command = TypeVar("_Command", bound=Callable[..., Any])

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUTPUT = click.Path(dir_okay=False, path_type=Path)
NUMBER = click.IntRange(min=0)
COMPONENT = "MAIN"
"""The one component of boards with the older update hub, and the first of all others."""


def _semantic(_: click.Context, __: click.Parameter, version: str | None) -> str | None:
    from pdmlab.update.version import is_version

    if version is not None and (not is_version(version) or version == "0.0.0"):
        raise click.BadParameter(f"{version!r} is no version; 0.0.1 to 999.999.999 are")
    return version


folder = click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    help="The project's folder; default: this one.",
)
cache = click.option(
    "--cache-dir",
    "cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".manifest-dev-tool"),
    show_default=True,
    help="Where manifest-dev-tool keeps keys and ids, in that folder.",
)
payload = click.option("-p", "--payload", "--payload-path", type=FILE, required=True, help="The image.")
vendor_data = click.option("-d", "--vendor-data", type=FILE, help="File with data for the application; at most 3 kB.")
version_v1 = click.option(
    "-v", "--fw-version", "version", type=NUMBER, help="Version, a number; default: the seconds since 1970."
)
migrate = click.option(
    "--fw-migrate-ver",
    "migrate",
    callback=_semantic,
    help="Version a.b.c instead, for devices that take manifests v3 from then on.",
)
version_option = click.option(
    "-v", "--fw-version", "version", callback=_semantic, help="Its version, a.b.c; default: the one that it names."
)
priority_v1 = click.option("-r", "--priority", type=NUMBER, help="Priority that the application is told.")


_component = click.option(
    "--component-name", "component", default=COMPONENT, show_default=True, help="What of the device it updates."
)
_version = click.option(
    "-v",
    "--fw-version",
    "version",
    callback=_semantic,
    help="Version, a.b.c; default: the one the image names, else the one after what was signed last.",
)


def common_options(command: _Command) -> _Command:
    """Give a command the options that manifests v3 and SUIT share, but for the payload, and where devices fetch it."""
    for option in (folder, cache, _component, _version):
        command = option(command)
    return command


def signing_options(command: _Command) -> _Command:
    """Give a command the options of a manifest v3, but for the payload, and where devices fetch it."""
    for option in (
        folder,
        cache,
        vendor_data,
        click.option("--combined-image", "combined", is_flag=True, help="The payload is a package of several images."),
        click.option("-r", "--priority", type=NUMBER, default=0, help="Priority that the application is told."),
        click.option("-m", "--sign-image", is_flag=True, help="Sign the image too, for bootloaders that check it."),
        _component,
        _version,
    ):
        command = option(command)
    return command


def signing_options_v1(command: _Command) -> _Command:
    """Give a command the options of a manifest v1, but for the payload, and where devices fetch it."""
    for option in (folder, cache, vendor_data, priority_v1, migrate, version_v1):
        command = option(command)
    return command


@dataclass(frozen=True)
class Signing:
    """What the options say of a manifest v3."""

    payload: Path
    version: str | None
    component: str
    sign_image: bool
    priority: int
    combined: bool
    vendor_data: Path | None
    cache: Path
    folder: Path

    @property
    def developer(self) -> Developer:
        """The folder that signs."""
        from pdmlab.update.developer import Developer

        return Developer(self.folder, self.cache)

    def sign(self, uri: str, encrypted: tuple[bytes, int] | None = None) -> bytes:
        """Sign the manifest, and remember its version as the stock tool does."""
        developer, image, delta = self.developer, read_file(self.payload, MAX_IMAGE, "an image"), _delta(self.payload)
        if self.combined:
            _check_package(self.payload, image)
        version = self.chosen_version(image, delta)
        signed = developer.sign(
            image,
            version=version,
            uri=uri,
            component=self.component,
            priority=self.priority,
            vendor_data=read_file(self.vendor_data, MAX_KEY, "vendor data") if self.vendor_data else None,
            sign_image=self.sign_image,
            combined=self.combined,
            delta=None if delta is None else delta.metadata,
            encrypted=encrypted,
        )
        developer.tool.keep_version(version, self.component)
        return signed

    def chosen_version(self, image: bytes, delta: Delta | None = None) -> str:
        """Return the version that is given, or that the image names, or the one after what was signed last.

        delta: what the payload is if it is a patch, which names the version of the image that it leads to

        Raises:
            ConfigError: the one that is given is not the one that the image names.
        """
        return self._version(image, delta) or self.developer.tool.next_version(self.component)

    def sign_v1(self, uri: str) -> bytes:
        """Sign a manifest v1 that says the same, for a device that takes no other.

        Its version is the time, as the stock tool's is, unless one is given: after an a.b.c, whose number is greater
        than any time, the device would take no time any more.

        Raises:
            ConfigError: a manifest v1 cannot say it.
        """
        if self.sign_image or self.combined or self.component != "MAIN":
            raise ConfigError(
                "the device has the older update hub, which has one component, and knows no signed images or packages",
                hint="leave --sign-image, --combined-image and --component-name out",
            )
        # Only whether one that is given contradicts.
        self._version(read_file(self.payload, MAX_IMAGE, "an image"), _delta(self.payload))
        common = SigningV1(
            self.payload, None, self.version, self.priority or None, self.vendor_data, self.cache, self.folder
        )
        return common.sign(uri)

    def _version(self, image: bytes, delta: Delta | None) -> str | None:
        named = named_version(image) if delta is None else delta.version
        if named is None:
            return self.version
        if self.version not in (None, named):
            raise ConfigError(
                f"the {'image' if delta is None else 'image of the patch'} says that it is version {named},"
                f" not {self.version}",
                hint="a manifest of another version would call it what it is not: leave -v out, or build it anew",
            )
        return named


@dataclass(frozen=True)
class SigningV1:
    """What the options say of a manifest v1."""

    payload: Path
    version: int | None
    migrate: str | None
    priority: int | None
    vendor_data: Path | None
    cache: Path
    folder: Path

    def __post_init__(self) -> None:
        if self.version is not None and self.migrate is not None:
            raise click.UsageError("--fw-version and --fw-migrate-ver exclude each other.")

    @property
    def developer(self) -> Developer:
        """The folder that signs."""
        from pdmlab.update.developer import Developer

        return Developer(self.folder, self.cache)

    def sign(self, uri: str) -> bytes:
        """Sign the manifest, and remember a version a.b.c as the stock tool does."""
        developer, delta = self.developer, _delta(self.payload)
        signed = developer.sign_v1(
            read_file(self.payload, MAX_IMAGE, "an image"),
            uri=uri,
            version=self.version if self.migrate is None else self.migrate,
            priority=self.priority,
            vendor_data=read_file(self.vendor_data, MAX_KEY, "vendor data") if self.vendor_data else b"",
            delta=None if delta is None else delta.metadata,
        )
        if self.migrate is not None:
            developer.tool.keep_version(self.migrate)
        return signed


def _check_package(payload: Path, data: bytes) -> None:
    from pdmlab.update.payloads.combined import Package

    try:
        Package.read(lambda at, size: data[at : at + size], len(data))
    except ManifestRejected as error:
        raise ConfigError(
            f"{payload} is no package that a device would take: {error.message}",
            hint="`pdmlab dm package create` makes one; leave --combined-image out for a single image",
        ) from error


def _delta(payload: Path) -> Delta | None:
    """Read what a patch is said to be, in the .yaml beside it, as the stock tool does."""
    from pdmlab.update.payloads.patch import Delta

    return Delta.read(payload) if payload.with_suffix(".yaml").is_file() else None


_url = click.option("-u", "--url", "--payload-url", required=True, help="Where devices will fetch it.")
_output = click.option("-o", "--output", type=OUTPUT, required=True, help="The manifest.")


@click.command()
@payload
@_url
@_output
@click.option("--encrypted-digest", help="SHA-256 of the payload encrypted, 64 hex digits.")
@click.option("--encrypted-size", type=click.IntRange(min=1), help="Size of the payload encrypted (B).")
@signing_options
def create(
    url: str, output: Path, encrypted_digest: str | None, encrypted_size: int | None, **signing: Any
) -> None:  # any: click's
    """Sign the manifest of an image; of a patch, if what manifest-delta-tool says of it is in a .yaml beside it."""
    if (encrypted_digest is None) != (encrypted_size is None):
        raise click.UsageError("--encrypted-digest and --encrypted-size belong together.")
    encrypted = None
    if encrypted_digest is not None and encrypted_size is not None:
        encrypted = _digest(encrypted_digest), encrypted_size
    signed = Signing(**signing).sign(url, encrypted)
    write(output, signed, _said(signed))


@click.command("create-v1")
@payload
@_url
@_output
@signing_options_v1
def create_v1(url: str, output: Path, **signing: Any) -> None:  # any: click's
    """Sign a manifest v1 of an image, for devices with the older update hub."""
    from pdmlab.update.hub import version_in_words
    from pdmlab.update.manifest_v1 import SignedManifestV1

    signed = SigningV1(**signing).sign(url)
    version = SignedManifestV1.parse(signed).manifest.version
    write(output, signed, in_short(COMPONENT, version_in_words(version)))


def _digest(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise click.UsageError(f"{text[:80]!r} is no SHA-256 in hex digits.")
    return digest


def _said(signed: bytes) -> str:
    """Say in short what a manifest v3 says."""
    from pdmlab.update.manifest import SignedManifest

    manifest = SignedManifest.parse(signed).manifest
    return in_short(manifest.component, manifest.version, signs_image=bool(manifest.installed_signature))


def in_short(component: str, version: str, *, signs_image: bool = False) -> str:
    """Say in short what a manifest says: of which component, which version, whether the image is signed as well."""
    return f"{component} {version}, image {'' if signs_image else 'not '}signed"


def write(output: Path, signed: bytes, said: str) -> None:
    """Write what was signed, and say how much it is, and what it says in short."""
    try:
        output.write_bytes(signed)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written: {error.strerror}") from error
    click.echo(f"{output}: {len(signed)} B: {said}")
