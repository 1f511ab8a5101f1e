"""HTTP as cheap as Python has it: a connection that is kept, one request under way. It measures servers, not itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit


class Connection:
    """A connection to a service, with its key."""

    def __init__(self, url: str, api_key: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._head = f"Host: {parts.netloc}\r\nAuthorization: Bearer {api_key}\r\n"
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> Connection:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:  # Any: what JSON holds
        """Send a request; return status and body of its answer."""
        sent = b"" if body is None else json.dumps(body).encode()
        kind = "Content-Type: application/json\r\n" if sent else ""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{kind}Content-Length: {len(sent)}\r\n\r\n"
        self._writer.write(head.encode() + sent)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if line)
        size = int(fields.get(b"content-length", b"0"))
        return int(lines[0].split()[1]), await self._reader.readexactly(size) if size else b""

    async def get(self, path: str) -> Any:
        """Return the JSON that a path has.

        Raises:
            AssertionError: it answers with something else.
        """
        status, body = await self.ask("GET", path)
        assert status in (200, 204), (status, body)
        return json.loads(body) if body else None

    def close(self) -> None:
        """Close it."""
        self._writer.close()
