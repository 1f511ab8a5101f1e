"""What a project compiles into its firmware: credentials, update resources, protocols, from where they are found."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdmlab import settings
from pdmlab.client import block_size, prefetching
from pdmlab.client.download_protocol import DownloadProtocol, download_protocol_of
from pdmlab.client.transport import Transport, transport_of
from pdmlab.errors import ConfigError
from pdmlab.update import bootloaders
from pdmlab.update.candidate_form import OPTION, options_of
from pdmlab.update.credentials import CREDENTIALS_FILE, RESOURCES_FILE, Credentials, UpdateResources
from pdmlab.update.developer import Developer
from pdmlab.update.files import MAX_TEXT, read_file, read_text

if TYPE_CHECKING:
    from pdmlab.service import Service


@dataclass(frozen=True)
class CompiledIn:
    """Credentials, update resources and the client's protocols; None where a project says nothing of them."""

    credentials: Credentials | None
    update_resources: UpdateResources | None
    transport: Transport | None = None
    download_protocol: DownloadProtocol | None = None
    options: Mapping[str, object] = field(default_factory=dict)
    """What else mbed_app.json says of the client: under "fota", how it writes candidates."""


MBED_APP = "mbed_app.json"


def compiled_in(target: str, credentials: Credentials | None = None) -> CompiledIn:
    """Find them: `credentials`, else the setting's, the files in the working folder, the service of this process.

    The protocols are what the working folder's mbed_app.json says for the target. Python warns, once a file, where the
    working folder's credentials are for another service than the one that runs in this process.

    Raises:
        ConfigError: the file that the setting names is not there, or a file cannot be read.
    """
    named, folder = settings.load().text("credentials"), project_folder()
    file = Path(named) if named else folder / CREDENTIALS_FILE
    if named and not file.is_file():
        raise ConfigError(f"there are no credentials at {file}", hint="make them with `pdmlab dm init`")
    if credentials is None and file.is_file():
        credentials = Credentials.from_c(_c_source(file))
        if not named:
            _warn_of_another_service(file, credentials)
    service = _running_service()
    resources = folder / RESOURCES_FILE
    mbed_app = read_mbed_app(folder / MBED_APP)
    return CompiledIn(
        credentials if credentials is not None else service.credentials,
        UpdateResources.from_c(_c_source(resources)) if resources.is_file() else service.update_resources,
        transport_of(mbed_app, target),
        download_protocol_of(mbed_app, target),
        _options(mbed_app, target),
    )


def _options(mbed_app: Mapping[str, Any], target: str) -> dict[str, object]:
    """Return what an mbed_app.json says of the client's build besides, as options of its image."""
    found: dict[str, object] = {}
    if candidates := options_of(mbed_app, target):
        found[OPTION] = candidates
    if (size := block_size.block_size_of(mbed_app, target)) is not None:
        found[block_size.OPTION] = size
    if (prefetch := prefetching.prefetch_of(mbed_app, target)) is not None:
        found[prefetching.OPTION] = prefetch
    return found


def _warn_of_another_service(file: Path, credentials: Credentials) -> None:
    """Say it once of a file: the board goes where its credentials say, and a cell waits for it at the other service."""
    running = _current_service()
    if running is None:
        return
    there = _place(credentials.bootstrap_server_uri)
    here = [_place(uri) for uri in (running.bootstrap_uri, running.plain_bootstrap_uri) if uri]
    said = (file, there, *here)
    if there not in here and said not in _SAID:
        _SAID.add(said)
        warnings.warn(
            f"boards built in this folder go to {there}, as {file.name} says, and not to the service in this process at"
            f" {here[0]}: move the file away, or open pdmlab.Cloud at its service",
            stacklevel=2,
        )


_SAID: set[tuple[object, ...]] = set()


def _place(uri: str) -> str:
    return uri.partition("?")[0].rstrip("/")


def project() -> Developer | None:
    """Find whose update key signs: the folder of the setting `credentials`, the working folder, this process's service.

    Raises:
        ConfigError: the settings cannot be read.
    """
    folder = project_folder()
    if (folder / RESOURCES_FILE).is_file():
        return Developer(folder)
    running = _current_service()
    return None if running is None else running.developer


def bootloader_options(target: str, kind: bootloaders.Kind) -> dict[str, object]:
    """Return what the project's mbed_app.json says of a bootloader's build, as its options.

    Raises:
        ConfigError: it says what cannot be.
    """
    sections = read_mbed_app(project_folder() / MBED_APP).get("target_overrides")
    said: dict[str, Any] = {}
    for name in ("*", target):
        part = sections.get(name) if isinstance(sections, Mapping) else None
        said |= part if isinstance(part, Mapping) else {}
    found: dict[str, object] = {}
    for key, option, kinds in _BOOTLOADER_KEYS:
        if kind in kinds and said.get(key) is not None:
            found[option] = _number(key, said[key])
            if option in _SWITCHES:
                found[option] = bool(found[option])
    return found


_SWITCHES = ("encrypted", "show_serial_output")
_BOOTLOADER_KEYS: tuple[tuple[str, str, tuple[bootloaders.Kind, ...]], ...] = (
    ("fota.encryption-support", "encrypted", ("fota",)),
    ("mbed-bootloader.max-boot-retries", "max_boot_retries", ("mbed",)),
    ("mbed-bootloader.max-copy-retries", "max_copy_retries", ("mbed",)),
    ("mbed-bootloader.show-serial-output", "show_serial_output", ("mbed",)),
)


def _number(key: str, value: object) -> int:
    try:
        return int(value, 0) if isinstance(value, str) else int(value)  # type: ignore[call-overload]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{key} in mbed_app.json is {value!r}", hint="write a number") from error


def project_folder() -> Path:
    """Return the folder of what images are built from: that of the setting `credentials`, else the working folder."""
    named = settings.load().text("credentials")
    return Path(named).parent if named else Path.cwd()


def read_mbed_app(file: Path) -> Mapping[str, Any]:
    """Read an mbed_app.json; {} if there is none.

    Raises:
        ConfigError: it is no JSON, or too long for an mbed_app.json; its sections are no objects; a key is called as
            ours are, and is none.
    """
    if not file.is_file():
        return {}
    try:
        document = json.loads(read_file(file, MAX_TEXT, "an mbed_app.json"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file} holds no JSON object", hint='it begins with { and has "target_overrides" in it')
    _look_over(document, file)
    return document


def _look_over(document: Mapping[str, Any], file: Path) -> None:
    """Refuse what would be passed over in silence: sections of another shape, and keys of ours that are misspelt."""
    sections = document.get("target_overrides", {})
    if not isinstance(sections, Mapping):
        raise ConfigError(
            f"target_overrides in {file} is {sections!r:.40}", hint="an object, with a section per target"
        )
    for target, section in sections.items():
        if not isinstance(section, Mapping):
            raise ConfigError(f"target_overrides.{target} in {file} is {section!r:.40}", hint="an object of settings")
        for key in section:
            if key.strip().casefold().startswith("pdmlab") and key not in _OUR_KEYS:
                raise ConfigError(f"pdmlab has no setting {key} ({file})", hint=f"it has: {', '.join(_OUR_KEYS)}")


_OUR_KEYS = (prefetching.KEY,)


def _c_source(file: Path) -> str:
    return read_text(file, MAX_TEXT, "what `pdmlab dm init` makes")


def _running_service() -> CompiledIn:
    running = _current_service()
    if running is None:
        return CompiledIn(None, None)
    return CompiledIn(running.credentials(), running.update_resources())


def _current_service() -> Service | None:
    # A service that runs in this process has been imported; for no other reason is it worth its start-up time.
    if "pdmlab.service" not in sys.modules:
        return None
    from pdmlab.service import current

    return current()
