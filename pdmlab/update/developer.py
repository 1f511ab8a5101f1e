"""Developer set-up of a project folder: what `pdmlab dm init -d company.com --model-name model` writes.

The folder ends up as stock tools expect it: two C files to compile in, and `.manifest-dev-tool/` with
the update key pair, so that manifest-tool 2.6.2 works in the same folder.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pdmlab.errors import ConfigError
from pdmlab.update.credentials import CREDENTIALS_FILE, RESOURCES_FILE, Credentials, UpdateResources
from pdmlab.update.files import MAX_TEXT, PUBLIC, SECRET, read_text, write_file
from pdmlab.update.manifest import Manifest, PayloadFormat, PayloadMetadata
from pdmlab.update.manifest_tool import (
    CERTIFICATE,
    CONFIG,
    KEY,
    README,
    TOOL_FOLDER,
    ToolFolder,
)
from pdmlab.update.manifest_v1 import ManifestV1
from pdmlab.update.version import Version

KEY_FILE = f"{TOOL_FOLDER}/{KEY}"
CERTIFICATE_FILE = f"{TOOL_FOLDER}/{CERTIFICATE}"
CONFIG_FILE = f"{TOOL_FOLDER}/{CONFIG}"
README_FILE = f"{TOOL_FOLDER}/{README}"
YEARS = 20  # as manifest-tool's own certificates

_DOMAIN = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?", re.I)
# What RFC 3986 lets stand in a URI, with a scheme and a host, or as an absolute path at the service.
_URI = re.compile(r"(?:[a-z][a-z0-9+.-]*://(?=[^/?#])|(?=/))(?:[\w.~:/?#\[\]@!$&'()*+,;=-]|%[0-9a-f]{2})*", re.A | re.I)


@dataclass(frozen=True)
class Initialised:
    """What `Developer.init` made: the ids, and the files, relative to the folder."""

    vendor_id: uuid.UUID
    class_id: uuid.UUID
    files: tuple[str, ...]

    def __str__(self) -> str:
        return f"vendor id {self.vendor_id.hex}, class id {self.class_id.hex}; wrote {', '.join(self.files)}"


def identifiers(domain: str, model: str) -> tuple[uuid.UUID, uuid.UUID]:
    """Return vendor and class id: UUIDv5 of the domain, and of the model under it (as manifest-tool 1.x)."""
    if not _DOMAIN.fullmatch(domain):
        raise ConfigError(f"{domain!r} is not a domain name", hint="give your company's, such as -d company.com")
    if not model.strip():
        raise ConfigError("the model name is empty", hint="give --model-name, such as --model-name thermostat-1")
    vendor = uuid.uuid5(uuid.NAMESPACE_DNS, domain)
    return vendor, uuid.uuid5(vendor, model)


class Developer:
    """A project folder that is, or is to be, set up for device management; by this tool, or by a stock one.

    cache: the folder in it where manifest-dev-tool 2.x keeps its own
    """

    def __init__(self, folder: Path | str = ".", cache: Path | str = TOOL_FOLDER) -> None:
        self.folder = Path(folder)
        self.tool = ToolFolder(folder, cache)

    def init(
        self,
        domain: str,
        model: str,
        *,
        credentials: Credentials | Callable[[], Credentials] | None = None,
        force: bool = False,
        ask: Callable[[str], bool] | None = None,
        now: datetime.datetime | None = None,
    ) -> Initialised:
        """Make an update key pair, its certificate and the ids, and write the files.

        Files that are there already are only overwritten with force, or if ask (a question, answered with
        True) says so; otherwise ConfigError is raised and nothing is changed. Without credentials the
        credentials file is left alone; a function that fetches them is called once nothing is in the way.
        """
        vendor, model_class = identifiers(domain, model)
        names = [KEY_FILE, CERTIFICATE_FILE, CONFIG_FILE, RESOURCES_FILE]
        if credentials is not None:
            names.insert(3, CREDENTIALS_FILE)
        self._may_overwrite([name for name in names if (self.folder / name).exists()], force, ask)
        if callable(credentials):
            credentials = credentials()
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = update_certificate(key, domain, now or datetime.datetime.now(datetime.UTC))
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        config = (
            f"certificate: {CERTIFICATE_FILE}\nclass-id: '{model_class.hex}'\nkey_file: {KEY_FILE}\n"
            f"vendor-id: '{vendor.hex}'\n"
        )
        resources = UpdateResources(vendor.bytes, model_class.bytes, certificate)
        # The C file that devices are built from goes last: it never names a key that was not kept.
        contents: dict[str, tuple[bytes, int]] = {
            KEY_FILE: (pem, SECRET),
            CERTIFICATE_FILE: (certificate, PUBLIC),
            CONFIG_FILE: (config.encode(), PUBLIC),
            README_FILE: (
                b"Files of `pdmlab dm init`, as manifest-dev-tool has them too: do not change them.\n",
                PUBLIC,
            ),
        }
        if credentials is not None:
            contents[CREDENTIALS_FILE] = (credentials.to_c().encode(), SECRET)
        contents[RESOURCES_FILE] = (resources.to_c().encode(), PUBLIC)
        for name, (data, mode) in contents.items():
            write_file(self.folder / name, data, mode)
        return Initialised(vendor, model_class, tuple(contents))

    def add_credentials(
        self, credentials: Callable[[], Credentials], *, force: bool = False, ask: Callable[[str], bool] | None = None
    ) -> Path:
        """Write the credentials file alone, where another tool has made the update keys; return its path.

        Raises ConfigError, and changes nothing, if one is there that may not be overwritten (see `init`).
        """
        existing = [CREDENTIALS_FILE] if (self.folder / CREDENTIALS_FILE).exists() else []
        self._may_overwrite(existing, force, ask, "A board built with the new file is another device.")
        write_file(self.folder / CREDENTIALS_FILE, credentials().to_c().encode(), SECRET)
        return self.folder / CREDENTIALS_FILE

    def _may_overwrite(
        self,
        existing: list[str],
        force: bool,
        ask: Callable[[str], bool] | None,
        then: str = "Devices built with the old key will refuse new updates.",
    ) -> None:
        if not existing or force:
            return
        question = f"Overwrite {', '.join(existing)}? {then}"
        if ask is None or not ask(question):
            raise ConfigError(
                f"{', '.join(existing)} exist in {self.folder}; nothing was changed",
                hint="give --force to overwrite them"
                if CREDENTIALS_FILE in existing
                else "give --credentials-only to keep them and add the credentials, --force to overwrite them",
            )

    @property
    def credentials(self) -> Credentials:
        """Read mbed_cloud_dev_credentials.c."""
        return Credentials.from_c(self._text(CREDENTIALS_FILE))

    @property
    def resources(self) -> UpdateResources:
        """Read what devices are built with: update_default_resources.c, or what it would say where there is none."""
        if not (self.folder / RESOURCES_FILE).exists() and self.tool.is_set_up:
            identity = self.tool.identity()
            return UpdateResources(identity.vendor_id, identity.class_id, identity.certificate)
        return UpdateResources.from_c(self._text(RESOURCES_FILE))

    @property
    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """Read the update key; raise ConfigError if it is not the one that devices were built with."""
        return self._identity()[1]

    def sign(
        self,
        image: bytes,
        *,
        version: str,
        uri: str,
        component: str = "MAIN",
        priority: int = 0,
        vendor_data: bytes | None = None,
        sign_image: bool = False,
        combined: bool = False,
        delta: PayloadMetadata | None = None,
        encrypted: tuple[bytes, int] | None = None,
    ) -> bytes:
        """Return the signed manifest of an image for this folder's devices.

        priority     what the application is told before it says yes or no
        sign_image   sign the image that will run as well, for bootloaders that check it
        combined     the image is a package of several (`pdmlab.update.payloads.combined`)
        delta        the image is a patch (`pdmlab.update.payloads.patch`): what it applies to, and what it makes
        encrypted    SHA-256 and size (B) of the image as it is fetched, encrypted by the service

        Raises:
            ConfigError: uri is neither an absolute URI nor an absolute path, a field cannot be, what is said of the
                payload contradicts itself, or the folder has no keys that belong together.
        """
        resources, key = self._identity()
        if delta is not None and (combined or encrypted is not None):
            raise ConfigError("a delta is neither encrypted nor a combined package", hint="leave one of them out")
        digest, size = hashlib.sha256(image).digest(), len(image)
        manifest = Manifest(
            resources.vendor_id,
            resources.class_id,
            version,
            *(encrypted or (digest, size)),
            _checked(uri),
            component,
            priority,
            _format(delta is not None, combined, encrypted is not None),
            metadata=delta or (PayloadMetadata(size, digest) if combined or encrypted is not None else None),
            vendor_data=vendor_data,
        )
        return (manifest.with_image_signature(key) if sign_image else manifest).sign(key)

    def sign_v1(
        self,
        image: bytes,
        *,
        uri: str,
        version: int | str | None = None,
        priority: int | None = None,
        vendor_data: bytes = b"",
        delta: PayloadMetadata | None = None,
    ) -> bytes:
        """Return the signed manifest v1 of an image, for devices with the older update hub.

        version: a number, as manifests v1 have it; or "a.b.c", for devices that are to take manifests v3 from then
        on; left out, the seconds since 1970.

        Raises:
            ConfigError: as `sign` does.
        """
        resources, key = self._identity()
        manifest = ManifestV1.for_image(
            image,
            timestamp=int(time.time())
            if version is None
            else Version.parse(version).number
            if isinstance(version, str)
            else version,
            uri=_checked(uri),
            vendor_id=resources.vendor_id,
            class_id=resources.class_id,
            priority=priority,
            vendor_data=vendor_data,
        )
        if delta is not None:
            manifest = manifest.of_delta(delta)
        return manifest.sign(key, resources.default_certificate)

    def _identity(self) -> tuple[UpdateResources, ec.EllipticCurvePrivateKey]:
        """Read what devices are built with, and the key that they believe."""
        resources = self.resources
        identity = self.tool.identity()
        if identity.private_key.public_key().public_numbers() != resources.public_key.public_numbers():
            raise ConfigError(
                f"the key that {identity.source} names and the certificate in {RESOURCES_FILE} do not belong together",
                hint="devices built with that file refuse what this key signs; run `pdmlab dm init --force`",
            )
        return resources, identity.private_key

    def _text(self, name: str) -> str:
        try:
            return read_text(self.folder / name, MAX_TEXT, "what `pdmlab dm init` makes")
        except ConfigError as error:
            raise ConfigError(
                error.message,
                hint="set the folder up with `pdmlab dm init -d company.com --model-name model`",
            ) from error


def _format(is_delta: bool, is_combined: bool, is_encrypted: bool) -> PayloadFormat:
    if is_delta:
        return PayloadFormat.DELTA
    if is_combined:
        return PayloadFormat.ENCRYPTED_COMBINED if is_encrypted else PayloadFormat.COMBINED
    return PayloadFormat.ENCRYPTED_RAW if is_encrypted else PayloadFormat.RAW


def _checked(uri: str) -> str:
    if not _URI.fullmatch(uri):
        raise ConfigError(f"{uri!r} is no URI", hint="write it as http://127.0.0.1:8080/fw.bin, spaces as %20")
    return uri


def update_certificate(key: ec.EllipticCurvePrivateKey, domain: str, now: datetime.datetime) -> bytes:
    """Return a self-signed code-signing certificate (DER) of at most 600 B, valid for 20 years from now."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, domain[:64])])
    public = key.public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier(hashlib.sha256(spki).digest()[:20]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.DER)
