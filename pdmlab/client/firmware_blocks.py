"""Blocks of firmware over the LwM2M connection: the stock clients' GET /fw with the manifest's URI in Proxy-Uri."""

from __future__ import annotations

from typing import Protocol

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.blockwise import exponent
from pdmlab.coap.codec import BlockRequests
from pdmlab.errors import NetworkError, ResponseError
from pdmlab.lwm2m.content import TEXT

TRIES = 10
"""How often a block is asked for anew after the connection was lost: an estimate, the stock client's is not known."""


class Connection(Protocol):
    """The registered connection to the LwM2M server."""

    async def request(self, message: Message) -> Message:
        """Ask the server.

        Raises:
            NetworkError: it does not answer.
        """
        ...

    async def recover(self) -> None:
        """Wait until the server, which did not answer, knows the device again."""
        ...


class FirmwareBlocks:
    """An image that the server hands out block by block; `fetch` is what update clients call."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._of: tuple[str, int] | None = None  # URI and block size of the requests below
        self._requests: BlockRequests

    def __repr__(self) -> str:
        return f"<FirmwareBlocks {self._of[0] if self._of else 'of nothing yet'}>"

    async def fetch(self, uri: str, number: int, size: int) -> tuple[bytes, bool, int | None]:
        """Return block `number` of `size` B, whether more follow, and the image's size (B) if the server tells it.

        Raises:
            NetworkError: the server cannot be reached any more, or sends what was not asked for. ResponseError: it
                refuses.
        """
        if self._of != (uri, size):
            whole = Message(code=codes.GET, uri_path=("fw",), content_format=TEXT, max_age=0, proxy_uri=uri)
            self._of, self._requests = (uri, size), BlockRequests(whole, exponent(size))
        request = self._requests(number)
        for again in range(TRIES, -1, -1):
            try:
                response = await self._connection.request(request)
                break
            except NetworkError:
                if not again:
                    raise
                await self._connection.recover()
        block = response.opt.block2
        if response.code >= 128 or response.code < 64:
            code = str(response.code)
            raise ResponseError(f"the LwM2M server answered {code} to /fw", code=code, path="/fw")
        if block is None:
            if number:
                raise NetworkError(f"asked for block {number}, the LwM2M server sent everything")
            return response.payload, False, len(response.payload)
        if block.block_number != number or block.size != size:
            raise NetworkError(f"asked for block {number}, the LwM2M server sent block {block.block_number}")
        return response.payload, block.more, response.opt.size2
