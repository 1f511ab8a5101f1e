"""The numbers of OMA's firmware object: its state on /5/0/3, its result on /5/0/5, and how firmware may come.

As LwM2M 1.0.2 and 1.1 have them (E.6; the registry's 5-1_0.xml); object5_results.toml says what each result means,
and what to do about it. 33629, which some vendors have beside it or in its place, has the same numbers, and more.
"""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from enum import IntEnum
from importlib import resources

OBJECT = 5
PACKAGE, PACKAGE_URI, UPDATE = "/5/0/0", "/5/0/1", "/5/0/2"
STATE, RESULT = "/5/0/3", "/5/0/5"
PACKAGE_NAME, PACKAGE_VERSION = "/5/0/6", "/5/0/7"
PROTOCOLS, DELIVERY = "/5/0/8", "/5/0/9"
MAX_URI = 255
"""Characters of a Package URI."""


class State(IntEnum):
    """What /5/0/3 says."""

    IDLE = 0
    DOWNLOADING = 1
    DOWNLOADED = 2
    UPDATING = 3

    def __str__(self) -> str:
        return f"{self.value} ({self.name.lower()})"


class Result(IntEnum):
    """What /5/0/5 says; INITIAL while nothing has been decided."""

    INITIAL = 0
    SUCCESS = 1
    NO_STORAGE = 2
    NO_MEMORY = 3
    CONNECTION_LOST = 4
    INTEGRITY = 5
    PACKAGE_TYPE = 6
    BAD_URI = 7
    FAILED = 8
    PROTOCOL = 9

    @property
    def meaning(self) -> str:
        """Say what the number means."""
        return explain(self.value)[0]

    @property
    def advice(self) -> str:
        """Say what to do about it."""
        return explain(self.value)[1]

    def __str__(self) -> str:
        return f"{self.value} ({self.meaning})"


@dataclass(frozen=True)
class Status:
    """What a device's object 5 has come to: the version that waits or runs, and why an update failed, in words."""

    state: State
    result: Result
    version: str = ""
    reason: str = ""

    def __str__(self) -> str:
        said = [f"state {self.state}"]
        if self.result is not Result.INITIAL:
            said.append(f"result {self.result}")
        said.append(f"version {self.version or 'unknown'}")
        why = self.reason if self.result not in (Result.INITIAL, Result.SUCCESS) else ""
        return ", ".join(said) + (f": {why}" if why else "")


class Delivery(IntEnum):
    """What /5/0/9 says: the device fetches packages itself, is sent them, or either."""

    PULL = 0
    PUSH = 1
    BOTH = 2


class Protocol(IntEnum):
    """What /5/0/8 lists: by what a device fetches packages."""

    COAP = 0
    COAPS = 1
    HTTP = 2
    HTTPS = 3
    COAP_TCP = 4
    COAPS_TCP = 5

    @property
    def scheme(self) -> str:
        """The scheme of its URIs."""
        return _SCHEMES[self]


_SCHEMES = {
    Protocol.COAP: "coap",
    Protocol.COAPS: "coaps",
    Protocol.HTTP: "http",
    Protocol.HTTPS: "https",
    Protocol.COAP_TCP: "coap+tcp",
    Protocol.COAPS_TCP: "coaps+tcp",
}


def explain(number: int) -> tuple[str, str]:
    """Return what a number on /5/0/5 means, and what to do about it; later versions' and vendors' have words too."""
    row = _table().get(str(number))
    if row is not None:
        return row["meaning"], row["advice"]
    return "a result that no version of object 5 has", "ask the device's vendor"


@functools.cache
def _table() -> dict[str, dict[str, str]]:
    return tomllib.loads(resources.files(__package__).joinpath("object5_results.toml").read_text(encoding="utf-8"))
