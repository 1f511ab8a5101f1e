"""How a device fetches a package: coap, coaps, their relatives over TCP, and http, block by block.

From its LwM2M server it fetches over the connection that it has; elsewhere over one of its own, with the credentials of
its account, as LwM2M has it. A connection that is lost on the way is waited for, and it goes on from where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol
from urllib.parse import urlsplit

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client.backoff import Backoff
from pdmlab.client.plain.accounts import Account, Uri
from pdmlab.client.plain.connecting import HostNetwork, Network, connection
from pdmlab.coap.endpoint import Endpoint, Tap
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address
from pdmlab.errors import ConfigError, NetworkError, Unreachable
from pdmlab.update import object5, packages
from pdmlab.update.download import DownloadFailed
from pdmlab.update.http_download import Connect, HttpDownload, HttpRefused, Stream
from pdmlab.update.object5 import Protocol as By
from pdmlab.update.object5 import Result

PROTOCOLS = (By.COAP, By.COAPS, By.HTTP, By.COAP_TCP, By.COAPS_TCP)
"""What a device fetches by, unless told."""
BLOCK = 1024  # B
BUSY_DELAYS_S = (1, 2, 4, 8, 10)  # after a 5.03, as the stock client
TRIES = 5
"""How often a package whose connection was lost is asked for again, with nothing that comes, before it is given up."""
_FIRST, _LONGEST = (4.5, 5.5), 60.0  # s before it is asked for again: 5, 10, 20, 40, 60; an estimate
_PARAMETERS = TransmissionParameters(max_body=4096)

Part = tuple[bytes, int | None]
"""Bytes of a package, and how many it has in all, if that is known."""


@dataclass
class _Way:
    """How far a package has come (B), in which blocks, and what must stay the same when it is asked for again."""

    got: int = 0
    size: int = BLOCK
    total: int | None = None
    etag: bytes | None = None
    linked: bool = False

    def same(self, uri: str, total: int | None, etag: bytes | None) -> None:
        """Note what the server says of a package; raise PackageRejected (5) if it is another one than before."""
        if self.got and (etag != self.etag or (None not in (total, self.total) and total != self.total)):
            raise packages.PackageRejected(Result.INTEGRITY, f"{uri} changed while it was fetched")
        self.total, self.etag = self.total if total is None else total, etag


class Link(Protocol):
    """A server that the device is registered at."""

    account: Account

    def reaches(self, scheme: str, remote: Address) -> bool:
        """Whether it is the server at an address, and can be asked now."""
        ...

    async def request(self, message: Message) -> Message:
        """Ask it; raises NetworkError if it does not answer."""
        ...


class PackageFetcher:
    """Fetches packages for one device; links: the servers that it is registered at."""

    def __init__(
        self,
        network: Network | HostNetwork,
        links: Callable[[], Sequence[Link]],
        tap: Tap,
        seed: Callable[[Address], int | None],
        random: Random,
    ) -> None:
        self._network = network
        self._links = links
        self._tap = tap
        self._seed = seed
        self._random = random

    def __repr__(self) -> str:
        return f"<PackageFetcher, {', '.join(each.scheme for each in PROTOCOLS)}>"

    async def fetch(self, uri: str, protocols: Sequence[By]) -> AsyncGenerator[Part, None]:
        """Yield a package part by part.

        Raises:
            PackageRejected: with the result that says why not: 4, 5, 7 or 9.
        """
        scheme = _scheme(uri)
        if scheme not in {each.scheme for each in protocols}:
            raise packages.PackageRejected(Result.PROTOCOL, f"this device fetches nothing by {scheme[:20]}")
        way, tries, pauses = _Way(), 0, Backoff(self._random, _FIRST, _LONGEST)
        while True:
            begun = way.got
            try:
                async with contextlib.aclosing(self._parts(scheme, uri, way)) as parts:
                    async for each in parts:
                        yield each
                return
            except ConfigError as error:
                raise packages.PackageRejected(Result.BAD_URI, error.message) from error
            except (NetworkError, DownloadFailed) as error:
                if way.got > begun:
                    tries = 0
                    pauses.reset()
                if not way.got or tries == TRIES:
                    after = f" after {way.got} B, and {tries} tries more" if tries else ""
                    raise packages.PackageRejected(Result.CONNECTION_LOST, f"{error.message}{after}") from error
            tries += 1
            await asyncio.sleep(pauses.next())

    def _parts(self, scheme: str, uri: str, way: _Way) -> AsyncGenerator[Part, None]:
        return self._http(uri, way) if scheme == "http" else self._coap(uri, way)

    # -- CoAP ------------------------------------------------------------------------------------------------

    async def _coap(self, uri: str, way: _Way) -> AsyncGenerator[Part, None]:
        server, parts = Uri.parse(uri), urlsplit(uri)
        remote = await self._network.resolve(server.host), server.port
        link = next((each for each in self._links() if each.reaches(server.scheme, remote)), None)
        own: Endpoint | None = None
        if way.linked and link is None:
            raise Unreachable(f"the device is not registered at {server.host} now")
        if link is not None:
            ask: Callable[[Message], Awaitable[Message]] = link.request
            way.linked = True
        else:
            own, peer = await self._open(server)
            ask = functools.partial(own.request, peer=peer)
        try:
            while True:
                got, size = way.got, way.size
                message = Message(code=codes.GET, block2=(got // size, False, size.bit_length() - 5))
                message.opt.uri_path = tuple(part for part in parts.path.split("/") if part)
                message.opt.uri_query = tuple(part for part in parts.query.split("&") if part)
                answer = await _patiently(ask, message)
                block = answer.opt.block2
                way.same(uri, answer.opt.size2, answer.opt.etag)
                if block is not None and block.block_number * block.size != got:
                    raise NetworkError(
                        f"{uri}: asked for bytes from {got} on, the server sent block {block.block_number}"
                    )
                if block is None and got:
                    raise NetworkError(f"{uri}: the server does not answer in blocks any more")
                way.got += len(answer.payload)
                yield answer.payload, way.total
                if block is None or not block.more:
                    return
                if len(answer.payload) != block.size:
                    raise NetworkError(f"{uri}: a block of {len(answer.payload)} B, not of {block.size}")
                way.size = block.size
        finally:
            if own is not None:
                own.abort()

    async def _open(self, server: Uri) -> tuple[Endpoint, Address]:
        account = next((each.account for each in self._links()), None)
        if account is None:
            raise Unreachable("the device is not registered anywhere")
        if server.secure != account.uri.secure:
            # The account's credentials are for what they say; without security there are none to lose.
            if server.secure:
                raise ConfigError(f"the device has no credentials for {server.scheme}://{server.host}")
            account = Account(account.instance, server, False, 3, account.short_id)
        opener, peer = await connection(replace(account, uri=server), self._network)
        return await Endpoint.open(opener, parameters=_PARAMETERS, seed=self._seed(peer), tap=self._tap), peer

    # -- HTTP ------------------------------------------------------------------------------------------------

    async def _http(self, uri: str, way: _Way) -> AsyncGenerator[Part, None]:
        connect: Connect = getattr(self._network, "connect_stream", None) or _connect
        download, more = HttpDownload(connect), True
        try:
            while more:
                data, more, total = await download.fetch(uri, way.got // BLOCK, BLOCK)
                way.same(uri, total, None)
                way.got += len(data)
                yield data, total
        except HttpRefused as error:  # to go on from its middle, too
            result = Result.CONNECTION_LOST if way.got else Result.BAD_URI
            raise packages.PackageRejected(result, error.message) from error
        finally:
            download.close()


async def _patiently(ask: Callable[[Message], Awaitable[Message]], message: Message) -> Message:
    """Ask, again and again where the server is busy; return what succeeded."""
    for delay in (*BUSY_DELAYS_S, None):
        answer = await ask(message.copy())
        if answer.code.is_successful():
            return answer
        if answer.code != codes.SERVICE_UNAVAILABLE or delay is None:
            break
        await asyncio.sleep(delay)
    said = f"the server answered {answer.code} {answer.payload[:80].decode('utf-8', 'replace')}".strip()
    lost = answer.code >= codes.INTERNAL_SERVER_ERROR
    raise packages.PackageRejected(Result.CONNECTION_LOST if lost else Result.BAD_URI, said)


def _scheme(uri: str) -> str:
    """Return a URI's scheme; raise PackageRejected (7) for what is no URI."""
    try:
        parts = urlsplit(uri)
        whole = bool(parts.scheme and parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        whole = False
    if not whole or len(uri) > object5.MAX_URI or any(ord(each) <= 0x20 or ord(each) > 0x7E for each in uri):
        raise packages.PackageRejected(Result.BAD_URI, f"{uri[:80]!r} is no URI")
    return parts.scheme


class _HostStream:
    """A TCP connection of this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self, n: int) -> bytes:
        try:
            return await self._reader.read(n)
        except OSError as error:
            raise Unreachable(f"the connection broke: {error}") from error

    async def write(self, data: bytes) -> None:
        self._writer.write(data)

    def abort(self) -> None:
        self._writer.transport.abort()


async def _connect(remote: tuple[str, int]) -> Stream:
    try:
        return _HostStream(*await asyncio.open_connection(*remote))
    except OSError as error:
        raise Unreachable(f"{remote[0]}:{remote[1]} cannot be reached: {error}") from error
