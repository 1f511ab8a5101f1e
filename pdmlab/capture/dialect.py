"""The seam to those who know what payloads mean: a log is told by its owner what language is spoken.

The log itself knows CoAP. LwM2M, certificates and link format are a `Dialect`'s (pdmlab.lwm2m.dialect has one).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Who:
    """Whom a message is about: its device id and endpoint name, each "" where it does not say."""

    device: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """A payload, whole as far as the log has all its blocks, and what it is of.

    path and query are the request's, also of a response; `request` is its code (1 GET, 2 POST, 3 PUT, 4 DELETE);
    `answer` is the response's code (69 is 2.05), None of a request; `location` is a response's Location-Path.
    """

    path: tuple[str, ...]
    query: tuple[str, ...]
    request: int
    answer: int | None
    format: int | None
    payload: bytes
    location: tuple[str, ...] = ()


class Dialect(Protocol):
    """Says what bodies mean."""

    def words(self, body: Body) -> str | None:
        """Return a body in words, secrets left out; None if it means nothing to this dialect."""
        ...

    def who(self, body: Body) -> Who | None:
        """Return whom an exchange is about, if this body says so: a request what it claims, a response what is so."""
        ...

    def owner(self, certificate: bytes) -> Who | None:
        """Return whom a certificate (DER) names; None if it is none."""
        ...

    def tokens(self, body: Body) -> Mapping[bytes, str]:
        """Return tokens that the sender will notify by without being asked, and of which paths."""
        ...


class Plain:
    """Knows no payload."""

    def words(self, body: Body) -> str | None:
        """See Dialect.words."""
        return None

    def who(self, body: Body) -> Who | None:
        """See Dialect.who."""
        return None

    def owner(self, certificate: bytes) -> Who | None:
        """See Dialect.owner."""
        return None

    def tokens(self, body: Body) -> Mapping[bytes, str]:
        """See Dialect.tokens."""
        return {}
