"""What a developer build compiles in: `mbed_cloud_dev_credentials.c` and `update_default_resources.c`.

Both files are read whoever wrote them (the vendor's service, manifest-tool, pdmlab), and written with
the names that fcc_dev_flow.c and the update client link against.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import ConfigError
from pdmlab.update.csource import Constant, read_constants, write_constants

CREDENTIALS_FILE = "mbed_cloud_dev_credentials.c"
RESOURCES_FILE = "update_default_resources.c"
MAX_CREDENTIAL = 1024  # bytes a certificate or key may have in the client
MAX_UPDATE_CERTIFICATE = 600  # bytes: FOTA_CERT_MAX_SIZE

_PREFIX = "MBED_CLOUD_DEV_"


@dataclass(frozen=True)
class Credentials:
    """Who a device is, and where its bootstrap server is; certificates and key (DER) are None with coap:// alone."""

    bootstrap_endpoint_name: str
    bootstrap_server_uri: str
    account_id: str | None = None
    bootstrap_device_certificate: bytes | None = field(default=None, repr=False)
    bootstrap_server_root_ca_certificate: bytes | None = field(default=None, repr=False)
    lwm2m_server_root_ca_certificate: bytes | None = field(default=None, repr=False)
    bootstrap_device_private_key: bytes | None = field(default=None, repr=False)
    manufacturer: str = "dev_manufacturer"
    model_number: str = "dev_model_num"
    serial_number: str = "0"
    device_type: str = "dev_device_type"
    hardware_version: str = "dev_hardware_version"
    memory_total_kb: int = 0

    def __post_init__(self) -> None:
        secure = self.bootstrap_server_uri.startswith("coaps://")
        if not secure and not self.bootstrap_server_uri.startswith("coap://"):
            raise ConfigError(
                f"the bootstrap URI {self.bootstrap_server_uri!r} is neither coap:// nor coaps://",
                hint="clients accept coaps://HOST:PORT?aid=ACCOUNT, and coap:// in a lab",
            )
        parts = {
            "bootstrap_device_certificate": self.bootstrap_device_certificate,
            "bootstrap_server_root_ca_certificate": self.bootstrap_server_root_ca_certificate,
            "bootstrap_device_private_key": self.bootstrap_device_private_key,
        }
        missing = [name for name, value in parts.items() if not value]
        if secure and missing:
            raise ConfigError(f"credentials for {self.bootstrap_server_uri} lack {', '.join(missing)}")
        for name, value in parts.items():
            if value and len(value) > MAX_CREDENTIAL:
                raise ConfigError(f"{name} has {len(value)} B; the client takes {MAX_CREDENTIAL}")

    @classmethod
    def from_c(cls, source: str) -> Credentials:
        """Read a mbed_cloud_dev_credentials.c; raise ConfigError if what a device needs is not there."""
        return cls._from_constants(read_constants(source))

    def to_c(self) -> str:
        """Write a mbed_cloud_dev_credentials.c; keep the file to yourself if it holds a private key."""
        about = "Developer credentials, written by pdmlab. " + (
            "Keep this file secret: it holds the device's private key."
            if self.bootstrap_device_private_key
            else "It holds no key: devices built with it have no security, and are for a lab."
        )
        return write_constants(self._constants(), guard="__MBED_CLOUD_DEV_CREDENTIALS_H__", about=about)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> Credentials:
        """Read what an image carries: C names to text, bytes as base64."""
        types = {_PREFIX + part.name.upper(): str(part.type) for part in dataclasses.fields(cls)}
        return cls._from_constants(_constants_of(mapping, types))

    def to_mapping(self) -> dict[str, str]:
        """Return C names to text, bytes as base64, as an image carries them."""
        return _mapping(self._constants())

    def _constants(self) -> dict[str, Constant]:
        values = {_PREFIX + f.name.upper(): getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def _from_constants(cls, constants: Mapping[str, Constant]) -> Credentials:
        return cls(**_arguments(cls, constants, lambda name: _PREFIX + name.upper(), CREDENTIALS_FILE))


@dataclass(frozen=True)
class UpdateResources:
    """Whose updates a device accepts: vendor and class id (16 B each), and the update certificate (X.509 DER)."""

    vendor_id: bytes
    class_id: bytes
    default_certificate: bytes = field(repr=False)

    def __post_init__(self) -> None:
        for name, value in (("vendor id", self.vendor_id), ("class id", self.class_id)):
            if len(value) != 16:
                raise ConfigError(f"the {name} in {RESOURCES_FILE} has {len(value)} bytes, not 16")
        if not 0 < len(self.default_certificate) <= MAX_UPDATE_CERTIFICATE:
            raise ConfigError(
                f"the update certificate has {len(self.default_certificate)} B, clients take 1 to"
                f" {MAX_UPDATE_CERTIFICATE}"
            )

    @property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the key that manifests must be signed with; raise ConfigError if there is no P-256 key."""
        try:
            key = x509.load_der_x509_certificate(self.default_certificate).public_key()
        except ValueError as error:
            raise ConfigError(f"the update certificate cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ConfigError("the update certificate's key is not on P-256", hint="make one with `pdmlab dm init`")
        return key

    @classmethod
    def from_c(cls, source: str) -> UpdateResources:
        """Read an update_default_resources.c; raise ConfigError if what a device needs is not there."""
        return cls._from_constants(read_constants(source))

    def to_c(self) -> str:
        """Write an update_default_resources.c."""
        numbers = self.public_key.public_numbers()
        point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
        constants: dict[str, Constant] = {
            "arm_uc_vendor_id": self.vendor_id,
            "arm_uc_class_id": self.class_id,
            # Clients before FOTA find the certificate by it; later ones only link against it.
            "arm_uc_default_fingerprint": hashlib.sha256(self.default_certificate).digest(),
            "arm_uc_default_certificate": self.default_certificate,
            "arm_uc_update_public_key": point,
        }
        return write_constants(constants, about="Update resources, written by pdmlab.")

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> UpdateResources:
        """Read what an image carries: C names to base64."""
        return cls._from_constants(_constants_of(mapping, dict.fromkeys(mapping, "bytes")))

    def to_mapping(self) -> dict[str, str]:
        """Return C names to base64, as an image carries them."""
        return _mapping({f"arm_uc_{f.name}": getattr(self, f.name) for f in dataclasses.fields(self)})

    @classmethod
    def _from_constants(cls, constants: Mapping[str, Constant]) -> UpdateResources:
        return cls(**_arguments(cls, constants, lambda name: f"arm_uc_{name}", RESOURCES_FILE))


def _arguments(
    cls: type[Credentials] | type[UpdateResources],
    constants: Mapping[str, Constant],
    c_name: Callable[[str], str],
    file: str,
) -> dict[str, Any]:  # each value's type has been compared with its field's
    """Pick a dataclass's arguments out of a C file's constants."""
    arguments: dict[str, Any] = {}
    for part in dataclasses.fields(cls):
        name, optional = c_name(part.name), part.default is not dataclasses.MISSING
        value = constants.get(name)
        if value is None:
            if not optional:
                raise ConfigError(f"{file} does not define {name}", hint="make the file again with `pdmlab dm init`")
        elif type(value).__name__ not in str(part.type).split(" | "):
            raise ConfigError(f"{name} in {file} should be {part.type}, it is {type(value).__name__}")
        else:
            arguments[part.name] = value
    return arguments


def _mapping(constants: Mapping[str, Constant]) -> dict[str, str]:
    return {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
        for name, value in constants.items()
    }


def _constants_of(mapping: Mapping[str, str], types: Mapping[str, str]) -> dict[str, Constant]:
    """Undo `_mapping`; types says by C name which values are bytes and which are numbers."""
    constants: dict[str, Constant] = {}
    for name, text in mapping.items():
        kind = types.get(name, "str")
        try:
            if "bytes" in kind:
                constants[name] = base64.b64decode(text, validate=True)
            else:
                constants[name] = int(text) if kind == "int" else text
        except ValueError as error:
            raise ConfigError(f"{name} in the image cannot be read: {error}") from error
    return constants
