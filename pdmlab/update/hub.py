"""What boards with the older update hub report, which came before the FOTA client: states, and results from 100 on.

They tell what they run by /10252/0/5 (PkgName, the SHA-256 of the firmware in hex), and have no object 14.
"""

from __future__ import annotations

import datetime
import functools
import tomllib
from enum import IntEnum
from importlib import resources

SUCCEEDED = 100
ROLLBACK = 221
"""Of a manifest that is not newer than what runs."""
PACKAGE_NAME = "/10252/0/5"


class HubResult(IntEnum):
    """What the update hub reports once a manifest is accepted; `hub_checks` has what it says of manifests.

    The numbers of arm_uc_public.h, and of the vendor's list of event types (UPD4_FAIL_315, 316, 511 and 512).
    """

    NO_STORAGE = 225
    NO_ROUTE = 302
    CONNECTION_FAILURE = 304
    DOWNLOAD_REFUSED = 315
    DOWNLOAD_UNAVAILABLE = 316
    BAD_DATA_FORMAT = 411
    WRITE_FAILURE = 503
    HASH_ERROR = 504
    ACTIVATION_FAILURE = 505
    INSTALL_REFUSED = 511
    INSTALL_UNAVAILABLE = 512

    @property
    def meaning(self) -> str:
        """Say what the number means."""
        return explain(self)[0]

    @property
    def advice(self) -> str:
        """Say what to do about it."""
        return explain(self)[1]

    def __str__(self) -> str:
        return f"{self.value} ({self.meaning})"


_PARTS = {
    100: "the update as a whole",
    200: "the manifest",
    300: "the download",
    400: "the processing of the firmware",
    500: "the storage",
}
_ITS_OWN = {*range(310, 315), *range(401, 406), *range(506, 511)}  # USER_DEFINED_ERROR_1 to 5

_FIRST_TIME, _LAST_TIME = 1_000_000_000, 1 << 32
"""Seconds since 1970, 2001 to 2106; versions are whatever their signer chose, and outside of these not a time."""


def is_hub_result(number: int) -> bool:
    """Whether a number on /10252/0/3 is one of the update hub's."""
    return 100 <= number < 600


def version_in_words(version: str) -> str:
    """Return a version for people: with the date and time that a number of a manifest v1 stands for, if it does."""
    if not version.isdecimal() or not _FIRST_TIME <= int(version) < _LAST_TIME:
        return version
    return f"{version}, signed {datetime.datetime.fromtimestamp(int(version), datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def explain(number: int) -> tuple[str, str]:
    """Return what a result of the update hub means, and what to do about it."""
    row = _table().get(str(int(number)))
    if row is not None:
        return row["meaning"], row["advice"]
    part = _PARTS.get(number // 100 * 100, "the update")
    if number in _ITS_OWN:
        return f"an error of this device's own, in {part}", "ask whoever ported the update client to the board"
    return f"an error in {part}, with a number that no list has", "look at the device's console"


@functools.cache
def _table() -> dict[str, dict[str, str]]:
    return tomllib.loads(resources.files(__package__).joinpath("hub_results.toml").read_text(encoding="utf-8"))
