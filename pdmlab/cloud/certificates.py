"""What devices are trusted by, and what they trust: CA certificates, developer credentials, the servers' addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pdmlab.cloud.both import M, Noun, both
from pdmlab.cloud.item import Collection, Item, flag, number, text
from pdmlab.errors import ConfigError
from pdmlab.update.credentials import Credentials

DEVELOPER = 1
"""device_execution_mode of a developer certificate."""


class TrustedCertificate(Item[M]):
    """A CA's certificate: devices with certificates signed by it are the account's."""

    PATH = "/v3/trusted-certificates"
    SHOWN = ("name", "service", "status", "subject", "issuer", "validity", "enrollment_mode", "created_at")

    service = text("Where devices come with it: bootstrap or lwm2m.")
    status = text("ACTIVE or INACTIVE.")
    subject = text("Whose it is.")
    issuer = text("Who signed it.")
    certificate = text("The certificate, in PEM.")
    description = text("What people say of it.")
    enrollment_mode = flag("Whether devices have to be enrolled beforehand.")
    device_execution_mode = number("1 of a developer's.")


class TrustedCertificates(Collection[TrustedCertificate[M], M]):
    """CAs that the account trusts, developer certificates included: `cloud.trusted_certificates()`."""

    ITEM = TrustedCertificate
    COLUMNS = (
        *("id", "name", "service", "status", "subject", "issuer", "validity", "device_execution_mode"),
        *("enrollment_mode", "description", "created_at"),
    )

    @both
    async def create(
        self,
        /,
        name: str,
        certificate: str | Path,
        *,
        service: Literal["bootstrap", "lwm2m"] = "bootstrap",
        **fields: Any,  # what JSON can hold
    ) -> TrustedCertificate[M]:
        """Trust a CA: its certificate in PEM, or the file that has it; signature, description, enrollment_mode …"""
        pem = certificate if isinstance(certificate, str) else _contents(certificate)
        return await self._create({"name": name, "certificate": pem, "service": service, **fields})


class DeveloperCertificate(Item[M]):
    """A certificate for boards on a desk, with its private key; `credentials` are what a build compiles in."""

    PATH = "/v3/developer-certificates"

    description = text("What people say of it.")

    @property
    def credentials(self) -> Credentials:
        """The credentials that devices are built with; `.to_c()` is mbed_cloud_dev_credentials.c."""
        return Credentials.from_c(str(self.fields["security_file_content"]))

    async def _delete(self) -> None:
        """It stands among the trusted certificates, and is deleted there."""
        await self._rest.call("DELETE", f"{TrustedCertificate.PATH}/{self.id}")

    @both
    async def delete(self) -> None:
        """Delete it: devices that have it can bootstrap no more."""
        await self._delete()


class DeveloperCertificates(Collection[DeveloperCertificate[M], M]):
    """Credentials for boards on a desk: `cloud.developer_certificates.create("kettle")`."""

    ITEM = DeveloperCertificate
    COLUMNS = TrustedCertificates.COLUMNS

    async def _made(self, name: str, description: str | None = None) -> DeveloperCertificate[M]:
        return await self._create({"name": name, "description": description})

    @both
    async def create(self, name: str, *, description: str | None = None) -> DeveloperCertificate[M]:
        """Make credentials; the name must be new in the account."""
        return await self._made(name, description)


class Renewal(Item[M]):
    """A certificate that a device was asked to renew: device.renew_certificate()."""

    PATH = "/v3/certificate-enrollments"
    SHOWN = ("device_id", "certificate_name", "enroll_status", "enroll_result", "enroll_result_detail", "created_at")

    device_id = text("The device.")
    certificate_name = text("Which of its certificates: LWM2M is what it registers with.")
    enroll_status = text("new, completed …")
    enroll_result = text("How it went; empty while nobody knows.")
    enroll_result_detail = text("The same in words.")


class Renewals(Collection[Renewal[M], M]):
    """Certificates that devices were asked to renew: `cloud.renewals()`."""

    ITEM = Renewal
    COLUMNS = Renewal.SHOWN


@dataclass(frozen=True)
class ServerCredentials:
    """A server's address, and the certificate that devices know it by (PEM)."""

    server: Literal["bootstrap", "lwm2m"]
    uri: str
    certificate: str

    def __repr__(self) -> str:
        return f"<ServerCredentials of {self.server}: {self.uri}>"


class AllServerCredentials(Noun[M]):
    """The addresses of the servers that devices come to: `cloud.server_credentials.bootstrap()`."""

    async def _of(self, server: Literal["bootstrap", "lwm2m"]) -> ServerCredentials:
        said: Mapping[str, Any] = await self._rest.get(f"/v3/server-credentials/{server}")
        return ServerCredentials(server, str(said["server_uri"]), str(said["server_certificate"]))

    @both
    async def bootstrap(self) -> ServerCredentials:
        """Return the bootstrap server's."""
        return await self._of("bootstrap")

    @both
    async def lwm2m(self) -> ServerCredentials:
        """Return the LwM2M server's."""
        return await self._of("lwm2m")

    def __repr__(self) -> str:
        return f"<AllServerCredentials of {self._rest.host}>"


def _contents(file: Path) -> str:
    try:
        return file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the certificate {file} cannot be read: {error}", hint="a file in PEM") from error
