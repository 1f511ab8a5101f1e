"""Where a server is, as credentials and bootstrap write it: coap://HOST:PORT?aid=ACCOUNT&iep=DEVICE."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pdmlab.errors import ConfigError

_URI = re.compile(r"(coaps?)://(?:\[([0-9A-Fa-f:.]+)\]|([^/?#\[\]]*)):([0-9]{1,5})/?(?:\?([^#]*))?")


@dataclass(frozen=True)
class ServerUri:
    """A server's host, port and the queries that go with every request to it."""

    host: str
    port: int
    queries: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ServerUri:
        """Read a URI.

        Raises:
            ConfigError: it is none, has no port (there is no default), or is coaps://.
        """
        match = _URI.fullmatch(text)
        if match is None or not 0 < int(match[4]) <= 0xFFFF or not (match[2] or match[3]):
            raise ConfigError(f"{text!r} is no server URI", hint="coap://HOST:PORT?aid=ACCOUNT, with the port")
        if match[1] == "coaps":
            raise ConfigError(
                f"{text!r} asks for a secure connection, and this client speaks coap:// only",
                hint="use credentials of a service that speaks coap://, such as service.credentials()",
            )
        queries = tuple(part for part in (match[5] or "").split("&") if part)
        return cls(match[2] or match[3], int(match[4]), queries)

    def query(self, name: str) -> str | None:
        """Return the value of a query: query("iep") is the device id that bootstrap gave."""
        return next((each.removeprefix(f"{name}=") for each in self.queries if each.startswith(f"{name}=")), None)
