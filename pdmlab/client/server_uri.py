"""Where a server is, as credentials and bootstrap write it: coaps://HOST:PORT?aid=ACCOUNT."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from pdmlab.errors import ConfigError

# The host is what stands before the last colon; the port has no default.
_URI = re.compile(r"(coaps?)://(?:\[([0-9A-Fa-f:.]+)\]|([^/?#\[\]]*)):([0-9]{1,5})/?(?:\?([^#]*))?")


@dataclass(frozen=True)
class ServerUri:
    """A server's host, port and the queries that go with every request to it."""

    host: str
    port: int
    queries: tuple[str, ...] = ()
    scheme: Literal["coap", "coaps"] = "coap"

    @classmethod
    def parse(cls, text: str) -> ServerUri:
        """Read a URI.

        Raises:
            ConfigError: it is none, or has no port: there is no default.
        """
        match = _URI.fullmatch(text)
        if match is None or not 0 < int(match[4]) <= 0xFFFF or not (match[2] or match[3]):
            raise ConfigError(f"{text!r} is no server URI", hint="coaps://HOST:PORT?aid=ACCOUNT, with the port")
        queries = tuple(part for part in (match[5] or "").split("&") if part)
        return cls(match[2] or match[3], int(match[4]), queries, cast(Literal["coap", "coaps"], match[1]))

    @property
    def secure(self) -> bool:
        """Whether it asks for TLS or DTLS."""
        return self.scheme == "coaps"

    def query(self, name: str) -> str | None:
        """Return the value of a query: query("aid") is the account."""
        return next((each.removeprefix(f"{name}=") for each in self.queries if each.startswith(f"{name}=")), None)


def names_account(uri: str) -> bool:
    """Whether a bootstrap URI names an account, as the factory configurator's check of a device wants it."""
    return "?aid=" in uri or "&aid=" in uri
