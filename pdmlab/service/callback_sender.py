"""What callbacks are sent with: one HTTP PUT, to an address that has been checked, whose answer is its status alone."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from pdmlab.errors import TimedOut, Unreachable
from pdmlab.service.callback_hosts import CallbackHosts

if TYPE_CHECKING:
    import httpx

CONNECTING_S = 10.0
SENDING_S = 30.0
"""For one attempt, from the look-up of the name to the end of the answer."""

_READ_B = 64 << 10  # of an answer's body, so that the connection can be used again


class Sender(Protocol):
    """Sends to a callback."""

    async def put(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send a body by HTTP PUT; return the status of the answer.

        Raises:
            Refused: the host may not be called, or is not known (400).
            NetworkError: there was no answer.
        """

    async def close(self) -> None:
        """Close what is open."""


class HttpSender:
    """Sends by HTTP or HTTPS. It follows no redirect and uses no proxy: either could lead somewhere else.

    trusted: returns the certificates (PEM) that HTTPS servers may have beside those of the system's CAs.
    """

    def __init__(self, hosts: CallbackHosts, trusted: Callable[[], str]) -> None:
        self._hosts, self._trusted = hosts, trusted
        self._clients: dict[str, httpx.AsyncClient] = {}

    async def put(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Send as `Sender` says."""
        try:
            async with asyncio.timeout(SENDING_S):
                return await self._put(url, headers, body)
        except TimeoutError as error:
            raise TimedOut(f"{_server(url)} did not answer in {SENDING_S:.0f} s") from error

    async def _put(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        import httpx

        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        assert parts.hostname is not None  # `checked` has seen to it
        address = await self._hosts.resolve(parts.hostname, port)
        request = httpx.Request(
            "PUT",
            httpx.URL(url).copy_with(host=address),
            headers={
                "Content-Type": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "pdmlab",
                **headers,
                "Host": parts.netloc.rpartition("@")[2],
            },
            content=body,
            # The certificate is for the name, whatever the address.
            extensions={"sni_hostname": parts.hostname, "timeout": httpx.Timeout(CONNECTING_S).as_dict()},
        )
        try:
            answer = await self._client(parts.scheme).send(request, stream=True)
            try:
                await _read(answer)
            finally:
                await answer.aclose()
        except httpx.TimeoutException as error:
            raise TimedOut(f"{_server(url)} did not answer in {CONNECTING_S:.0f} s") from error
        except httpx.TransportError as error:
            raise Unreachable(f"{_server(url)} cannot be reached: {error or type(error).__name__}") from error
        return int(answer.status_code)

    def _client(self, scheme: str) -> httpx.AsyncClient:
        import httpx

        if scheme not in self._clients:
            context: ssl.SSLContext | bool = False
            if scheme == "https":
                context = ssl.create_default_context()
                context.load_verify_locations(cadata=self._trusted())
            self._clients[scheme] = httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False)
        return self._clients[scheme]

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()


async def _read(answer: httpx.Response) -> None:
    """Read a short body to its end; of a long one, and that is its sender's loss, the connection is closed."""
    size = 0
    async for piece in answer.aiter_raw():
        size += len(piece)
        if size > _READ_B:
            return


def _server(url: str) -> str:
    """Return whom a URL calls; what else is in it may be secret."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
