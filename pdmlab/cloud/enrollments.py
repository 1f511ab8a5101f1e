"""Devices that are claimed before they come: by enrollment identity, one or a file of them, and by shared keys."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pdmlab.cloud.answers import Object, parsed
from pdmlab.cloud.both import M, both
from pdmlab.cloud.frames import frame_of
from pdmlab.cloud.item import Collection, Item, moment, number, text
from pdmlab.errors import ConfigError, TimedOut

if TYPE_CHECKING:
    import pandas as pd

HEADER = "enrollment_identity"
POLL_S = 0.1


class Enrollment(Item[M]):
    """A device that is claimed by its enrollment identity."""

    PATH = "/v3/device-enrollments"
    SHOWN = ("enrollment_identity", "enrolled_device_id", "claimed_at", "expires_at", "created_at")

    enrollment_identity = text("A- and 32 bytes in hexadecimal with colons: what the device has from its factory.")
    enrolled_device_id = text("The device, once it has come.")
    claimed_at = moment("When it came (UTC).")
    expires_at = moment("When the claim ends (UTC).")


class BulkEnrollment(Item[M]):
    """A file of identities that are claimed or given up; the service works through it by itself."""

    PATH: ClassVar[str] = "/v3/device-enrollments-bulk-uploads"
    SHOWN = ("status", "total_count", "processed_count", "errors_count", "created_at", "completed_at")

    status = text("new, processing or completed.")
    total_count = number("Identities in the file.")
    processed_count = number("Those that are done.")
    errors_count = number("Those that were refused.")

    @both
    async def wait(self, *, timeout: float = 300.0) -> None:
        """Wait until all are done; raise TimedOut after timeout (s)."""
        end = time.monotonic() + timeout
        while (said := await self._info())["status"] != "completed":
            if time.monotonic() > end:
                done = f"{said['processed_count']} of {said['total_count']} identities are done"
                raise TimedOut(f"{done} after {timeout:.0f} s", hint="the service goes on: wait again")
            await self._rest.sleep(POLL_S)

    async def _report(self, field: str) -> pd.DataFrame:
        address = self.fields.get(field)
        if not address:
            return frame_of((), (HEADER,))
        import httpx

        answer = await self._rest.call("GET", httpx.URL(str(address)).path)
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        return frame_of(rows, tuple(rows[0]) if rows else (HEADER,))

    @both
    async def report(self) -> pd.DataFrame:
        """Return what became of each identity."""
        return await self._report("full_report_file")

    @both
    async def errors(self) -> pd.DataFrame:
        """Return the identities that were refused, and why."""
        return await self._report("errors_report_file")


class BulkDeletion(BulkEnrollment[M]):
    """A file of identities that are given up."""

    PATH = "/v3/device-enrollments-bulk-deletes"


class Enrollments(Collection[Enrollment[M], M]):
    """Claims of devices: `cloud.enrollments()`."""

    ITEM = Enrollment
    COLUMNS = ("id", "enrollment_identity", "enrolled_device_id", "claimed_at", "expires_at", "created_at")

    @both
    async def create(self, identity: str) -> Enrollment[M]:
        """Claim a device by its enrollment identity."""
        return await self._create({"enrollment_identity": identity})

    @both
    async def upload(self, identities: Path | pd.DataFrame | Iterable[str]) -> BulkEnrollment[M]:
        """Claim many: a CSV file with a line of heading, a frame with a column enrollment_identity, or identities."""
        return BulkEnrollment(self._rest, await self._sent(BulkEnrollment.PATH, identities))

    @both
    async def give_up(self, identities: Path | pd.DataFrame | Iterable[str]) -> BulkDeletion[M]:
        """Give up claims of many, written as for `upload`."""
        return BulkDeletion(self._rest, await self._sent(BulkDeletion.PATH, identities))

    async def _sent(self, path: str, identities: Path | pd.DataFrame | Iterable[str]) -> Object:
        files = {"enrollment_identities": ("identities.csv", _csv(identities))}
        return parsed(await self._rest.call("POST", path, files=files), f"POST {path}")


def _csv(identities: Any) -> bytes:
    """Return identities as the file that the service takes."""
    if isinstance(identities, Path):
        try:
            return identities.read_bytes()
        except OSError as error:
            raise ConfigError(f"the file {identities} cannot be read: {error.strerror}") from error
    if hasattr(identities, "columns"):  # a frame; pandas may not be loaded yet
        if HEADER not in identities.columns:
            raise ConfigError(f"the frame has no column {HEADER}", hint=f"it has {', '.join(map(str, identities))}")
        identities = identities[HEADER]
    return "\n".join([HEADER, *map(str, identities), ""]).encode()


class Denial(Item[M]):
    """A device that came and was not let in."""

    PATH = "/v3/device-enrollment-denials"
    SHOWN = ("endpoint_name", "trusted_certificate_id", "created_at")

    endpoint_name = text("What it called itself.")
    trusted_certificate_id = text("The CA certificate that signed for it.")


class Denials(Collection[Denial[M], M]):
    """Devices that were not let in: `cloud.denials(trusted_certificate_id=…)`."""

    ITEM = Denial
    COLUMNS = ("id", "endpoint_name", "trusted_certificate_id", "created_at")


class SharedKey(Item[M]):
    """The endpoint name of a device that has a pre-shared key; the key itself is never told."""

    PATH = "/v2/device-shared-keys"
    SHOWN = ("endpoint_name", "created_at")

    endpoint_name = text("What the device calls itself.")

    def _learn(self, fields: Object) -> None:
        super()._learn({"id": fields["endpoint_name"], **fields})


class SharedKeys(Collection[SharedKey[M], M]):
    """Pre-shared keys of devices: `cloud.shared_keys()`."""

    ITEM = SharedKey
    COLUMNS = ("endpoint_name", "created_at")

    @both
    async def create(self, endpoint_name: str, secret: bytes | str) -> SharedKey[M]:
        """Give a device a key: 16 to 32 bytes, or their hexadecimal."""
        secret_hex = secret.hex() if isinstance(secret, bytes) else secret
        body = {"endpoint_name": endpoint_name, "secret_hex": secret_hex}
        await self._rest.call("POST", SharedKey.PATH, body=body)
        return await self._get(endpoint_name)
