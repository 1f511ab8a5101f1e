"""The numbers a device reports during an update: states on /10252/0/2, results on /10252/0/3.

The numbers are those of mbed-cloud-client 4.13.4 (fota_internal.h, fota_status.h); what each result
means, and what to do about it, is in results.toml.
"""

from __future__ import annotations

import functools
import tomllib
from enum import IntEnum
from importlib import resources

from pdmlab.errors import ManifestRejected


class FotaState(IntEnum):
    """What /10252/0/2 says; 0 and 5 are the older update hub's alone."""

    UNINITIALISED = 0
    IDLE = 1
    PROCESSING_MANIFEST = 2
    AWAITING_DOWNLOAD_APPROVAL = 3
    DOWNLOADING = 4
    DOWNLOADED = 5
    AWAITING_INSTALL_APPROVAL = 6
    UPDATING = 7
    REBOOTING = 8

    def __str__(self) -> str:
        return f"{self.value} ({self.name.replace('_', ' ').lower()})"


class FotaResult(IntEnum):
    """What /10252/0/3 says; -1 while nothing has been decided."""

    SUCCESS = 18
    BAD_URI = 21
    MANIFEST_MALFORMED = 22
    MANIFEST_SIGNATURE = 23
    DOWNLOAD_FAILED = 24
    FORMAT_UNSUPPORTED = 25
    PAYLOAD_CORRUPTED = 26
    VERSION_TOO_OLD = 27
    SCHEMA_UNSUPPORTED = 28
    VENDOR_DATA_TOO_BIG = 29
    VENDOR_MISMATCH = 30
    CLASS_MISMATCH = 31
    PRECURSOR_MISMATCH = 32
    NO_STORAGE = 33
    NO_MEMORY = 34
    STORAGE_WRITE = 35
    STORAGE_READ = 36
    INSTALL_REFUSED = 37
    DOWNLOAD_REFUSED = 38
    UNKNOWN_COMPONENT = 39
    INSTALL_FAILED = 40
    INTERNAL = 41
    DELTA = 42
    CRYPTO = 43
    NOT_FOUND = 44
    MULTICAST_ABORTED = 45
    COMBINED_PACKAGE = 46
    COMBINED_COUNT = 47
    COMBINED_NAME = 48
    COMBINED_VENDOR_DATA = 49

    @property
    def meaning(self) -> str:
        """Say what the number means."""
        return _table()[str(self.value)]["meaning"]

    @property
    def advice(self) -> str:
        """Say what to do about it."""
        return _table()[str(self.value)]["advice"]

    def __str__(self) -> str:
        return f"{self.value} ({self.meaning})"


def rejected(result: FotaResult, detail: str) -> ManifestRejected:
    """Make the error that carries `result`; `detail` says what was found and what was wanted."""
    return ManifestRejected(f"manifest rejected with result {result}: {detail}", result=int(result), hint=result.advice)


@functools.cache
def _table() -> dict[str, dict[str, str]]:
    return tomllib.loads(resources.files(__package__).joinpath("results.toml").read_text(encoding="utf-8"))
