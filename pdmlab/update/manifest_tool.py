"""What a stock manifest tool keeps in a project's folder: read of 2.x and 1.x, written as 2.x has it.

    ToolFolder(".").identity().vendor_id

manifest-dev-tool 2.x keeps `.manifest-dev-tool/`: dev.key.pem and dev.cert.der, dev.cfg.yaml that names them and the
ids, dev.cloud_cfg.yaml with service and access key, update.version.yaml with the version of each component that it
signed last. manifest-tool 1.x keeps `.manifest_tool.json`, `.update-certificates/` and `.mbed_cloud_config.json`.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import ConfigError
from pdmlab.update.files import MAX_KEY, MAX_TEXT, PUBLIC, SECRET, read_file, write_file
from pdmlab.update.version import Version

TOOL_FOLDER = ".manifest-dev-tool"
KEY, CERTIFICATE, CONFIG = "dev.key.pem", "dev.cert.der", "dev.cfg.yaml"
CLOUD_CONFIG, VERSIONS, README = "dev.cloud_cfg.yaml", "update.version.yaml", "README.txt"
OLD_CONFIG, OLD_CLOUD_CONFIG = ".manifest_tool.json", ".mbed_cloud_config.json"

_SET_UP = "set the folder up with `pdmlab dm init -d company.com --model-name model`"
_FIRST = "0.0.1"  # what the stock tool takes a component for that it has signed nothing of


@dataclass(frozen=True)
class Identity:
    """Who signs updates here, and for which devices: ids (16 B each), update certificate (DER), its private key."""

    vendor_id: bytes
    class_id: bytes
    certificate: bytes = field(repr=False)
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)
    source: Path
    """The file that says so."""


class ToolFolder:
    """A project's folder, as a manifest tool has it; cache: where manifest-dev-tool 2.x keeps its own (--cache-dir)."""

    def __init__(self, folder: Path | str = ".", cache: Path | str = TOOL_FOLDER) -> None:
        self.folder = Path(folder)
        self.cache = self.folder / cache

    @property
    def is_set_up(self) -> bool:
        """Whether one of the tools has been here."""
        return (self.cache / CONFIG).exists() or (self.folder / OLD_CONFIG).exists()

    def identity(self) -> Identity:
        """Read who signs: what 2.x has, else what 1.x has.

        Raises:
            ConfigError: no tool has been here, a file cannot be read, or its keys are where they cannot be had:
                in a signing tool, or shared with devices.
        """
        if (self.cache / CONFIG).exists() or not (self.folder / OLD_CONFIG).exists():
            return self._identity_2()
        return self._identity_1()

    def service(self) -> tuple[str, str] | None:
        """Read the service's address, and the access key for it; None if no tool knows them.

        Raises:
            ConfigError: a file cannot be read.
        """
        for path in (self.cache / CLOUD_CONFIG, self.folder / OLD_CLOUD_CONFIG):
            if path.exists():
                config = _mapping(path)
                host, key = config.get("host"), config.get("access_key") or config.get("api_key")
                if isinstance(host, str) and isinstance(key, str):
                    return host, key
        return None

    def keep_service(self, host: str, access_key: str) -> Path:
        """Write the service's address and the access key for it, for manifest-dev-tool and this one; return where."""
        import yaml

        text = yaml.safe_dump({"access_key": access_key, "host": host})
        write_file(self.cache / CLOUD_CONFIG, text.encode(), SECRET)
        return self.cache / CLOUD_CONFIG

    def next_version(self, component: str = "MAIN") -> str:
        """Return the version after the one that was signed last for a component, "0.0.2" for its first.

        Raises:
            ConfigError: the file with them cannot be read, or 999.999.999 was the last.
        """
        last = self._versions().get(component, _FIRST)
        try:
            return str(Version.parse(last).next)
        except ConfigError as error:
            raise ConfigError(
                f"there is no version after {last} of {component}: {error.message}",
                hint=f"give the version with -v, or mend {self.cache / VERSIONS}",
            ) from error

    def keep_version(self, version: str, component: str = "MAIN") -> None:
        """Remember the version that was signed for a component."""
        import yaml

        versions = self._versions() | {component: version}
        write_file(self.cache / VERSIONS, yaml.safe_dump(versions).encode(), PUBLIC)

    def _versions(self) -> dict[str, str]:
        path = self.cache / VERSIONS
        return {str(name): str(version) for name, version in _mapping(path).items()} if path.exists() else {}

    def _identity_2(self) -> Identity:
        path = self.cache / CONFIG
        config = _mapping(path)
        if config.get("signing-tool"):
            raise ConfigError(
                f"{path} leaves signing to a program, {config['signing-tool']}",
                hint="sign with manifest-dev-tool there, and give the manifest to cloud.manifest(…)",
            )
        key, certificate = (self._file(path, config, name) for name in ("key_file", "certificate"))
        return _identity(path, config.get("vendor-id"), config.get("class-id"), key, certificate)

    def _identity_1(self) -> Identity:
        path = self.folder / OLD_CONFIG
        config = _mapping(path)
        for name in ("psk-master-key", "signing-tool"):
            if config.get(name):
                raise ConfigError(
                    f"{path} signs by {name}, which is not offered here",
                    hint="make an update key for the folder: `pdmlab dm init -d company.com --model-name model`",
                )
        certificates = config.get("default-certificates")
        first = certificates[0] if isinstance(certificates, list) and certificates else {}
        certificate = first.get("file") if isinstance(first, dict) else None
        key, certificate_file = (
            self._file(path, {"private-key": config.get("private-key"), "default-certificates": certificate}, name)
            for name in ("private-key", "default-certificates")
        )
        return _identity(path, config.get("vendorId"), config.get("classId"), key, certificate_file)

    def _file(self, config: Path, fields: dict[str, Any], name: str) -> Path:
        said = fields.get(name)
        if not isinstance(said, str):
            raise ConfigError(f"{config} does not say where {name} is", hint=_SET_UP)
        path = self.folder / said  # as the tools were run in this folder
        # A folder that was moved, or whose tool ran with --cache-dir elsewhere: beside the file that names it.
        return path if path.exists() else config.parent / path.name


def _identity(path: Path, vendor: object, model: object, key_file: Path, certificate_file: Path) -> Identity:
    try:
        vendor_id, class_id = uuid.UUID(str(vendor)).bytes, uuid.UUID(str(model)).bytes
    except ValueError as error:
        raise ConfigError(f"{path} names no vendor id and class id: {error}", hint=_SET_UP) from error
    return Identity(vendor_id, class_id, _bytes(certificate_file), read_key(key_file), path)


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read an update key (PEM); raise ConfigError if there is none."""
    try:
        key = serialization.load_pem_private_key(_bytes(path), None)
    except (ValueError, TypeError) as error:  # TypeError: it has a password
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path} is not an elliptic-curve key")
    return key


def _bytes(path: Path, most: int = MAX_KEY, what: str = "a key or a certificate") -> bytes:
    try:
        return read_file(path, most, what)
    except ConfigError as error:
        raise ConfigError(error.message, hint=error.hint or _SET_UP) from error


def _mapping(path: Path) -> dict[str, Any]:  # any: what YAML and JSON hold
    import yaml

    try:
        text = _bytes(path, MAX_TEXT, "a manifest tool's configuration").decode()
        said = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:  # RecursionError: it is nested too deep
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(said, dict):
        raise ConfigError(f"{path} holds no names and values")
    return said
