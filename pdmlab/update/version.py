"""Firmware versions a.b.c, and the 64-bit number that headers carry for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pdmlab.errors import ConfigError

_MARK = 1 << 55
_TEXT = re.compile(r"(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})")


@dataclass(frozen=True, order=True)
class Version:
    """A semantic version of three numbers, each 0 to 999; versions compare by those numbers.

    `number` is what firmware headers store: bit 55 set, major << 40, minor << 16, patch
    (mbed-cloud-client 4.13.4, fota_component.c).
    """

    major: int
    minor: int
    patch: int

    def __post_init__(self) -> None:
        if not all(0 <= part <= 999 for part in (self.major, self.minor, self.patch)):
            raise ConfigError(
                f"version {self.major}.{self.minor}.{self.patch} has a number outside 0 to 999",
                hint="the client's versions are a.b.c, each number 0 to 999",
            )

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read "a.b.c"; raise ConfigError for anything else."""
        found = _TEXT.fullmatch(text)
        if not found:
            raise ConfigError(
                f"{text[:40]!r} is not a version", hint="write three numbers of 0 to 999 with dots, such as 1.2.3"
            )
        return cls(*map(int, found.groups()))

    @classmethod
    def from_number(cls, number: int) -> Version:
        """Read the 64-bit number of a header; raise ConfigError if no version has that number."""
        major, minor, patch = number >> 40 & 0x7FFF, number >> 16 & 0xFFFFFF, number & 0xFFFF
        if number < _MARK or max(major, minor, patch) > 999 or cls(major, minor, patch).number != number:
            raise ConfigError(f"0x{number:016x} is not the number of a version a.b.c")
        return cls(major, minor, patch)

    @property
    def number(self) -> int:
        """Return the 64-bit number that headers store."""
        return _MARK | self.major << 40 | self.minor << 16 | self.patch

    @property
    def next(self) -> Version:
        """Return the version after this one, with a carry after 999; raise ConfigError if there is none."""
        number = self.major * 1_000_000 + self.minor * 1000 + self.patch + 1
        return Version(number // 1_000_000, number // 1000 % 1000, number % 1000)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def is_version(text: str) -> bool:
    """Whether a text is a version "a.b.c"."""
    return _TEXT.fullmatch(text) is not None
