"""A CoAP server of ours in a process of its own: `python -m benchmarks.coap_server`; it prints its ports.

It keeps what is put, gives it back, and tells those who observe.
"""

from __future__ import annotations

import asyncio

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address, Opener, udp

PARAMETERS = TransmissionParameters(max_body=8 << 20)


class Shelf:
    """Resources that come into being when they are put."""

    def __init__(self) -> None:
        self.endpoint: Endpoint | None = None
        self._kept: dict[tuple[str, ...], bytes] = {}
        self._observers: dict[tuple[str, ...], dict[tuple[Address, bytes], None]] = {}
        self._number = 1

    def __call__(self, message: Message, peer: Address) -> Message:
        path = message.opt.uri_path
        if message.code == codes.PUT:
            self._kept[path] = message.payload
            self._tell(path)
            return Message(code=codes.CHANGED)
        if path not in self._kept:
            return Message(code=codes.NOT_FOUND)
        response = Message(code=codes.CONTENT, payload=self._kept[path])
        if message.opt.observe == 0:
            self._observers.setdefault(path, {})[peer, message.token] = None
            response.opt.observe = self._number
        return response

    def _tell(self, path: tuple[str, ...]) -> None:
        self._number += 1
        observers = self._observers.get(path, {})
        told = Message(code=codes.CONTENT, payload=self._kept[path], observe=self._number)
        for key in list(observers):

            def ended(outcome: str, key: tuple[Address, bytes] = key) -> None:
                if outcome != "acknowledged":
                    observers.pop(key, None)

            assert self.endpoint is not None
            self.endpoint.notify(key[0], told, key[1], on_result=ended)


async def serve(opener: Opener) -> Endpoint:
    """Open the server."""
    shelf = Shelf()
    shelf.endpoint = await Endpoint.open(opener, shelf, parameters=PARAMETERS)
    return shelf.endpoint


async def main() -> None:
    """Serve until the process is ended."""
    endpoint = await serve(udp())
    print(endpoint.address[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
