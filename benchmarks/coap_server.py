"""A CoAP server of ours in a process of its own: UDP, DTLS and TLS; it prints its ports as JSON.

`python -m benchmarks.coap_server CERTIFICATE KEY CA IDENTITY PSK`, three files in PEM. It keeps what is put, gives it
back, and tells those who observe.
"""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import sys
from pathlib import Path

from aiocoap import Message
from aiocoap.numbers import codes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pdmlab.coap.dtls import Limits, dtls
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.security import Security
from pdmlab.coap.tls import tls
from pdmlab.coap.together import Together, together
from pdmlab.coap.transport import Address, udp

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


def security(certificate: str, key: str, ca: str, identity: str, psk: str) -> Security:
    """Return what the server proves itself with: a certificate, or the pre-shared key of one client."""
    own, authority = (ssl.PEM_cert_to_DER_cert(Path(each).read_text()) for each in (certificate, ca))
    private = load_pem_private_key(Path(key).read_bytes(), None)
    der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return Security((own,), der, trust=(authority,), psk_of={identity.encode(): psk.encode()}.get)


async def main(arguments: list[str]) -> None:
    """Serve until the process is ended."""
    secured = security(*arguments)
    shelf, without_limit = Shelf(), Limits(handshakes_a_second=1e9)
    opened: list[Together] = []
    opener = together(
        {
            "coap": udp(),
            "coaps": dtls(udp(), secured, limits=without_limit),
            "coaps+tcp": tls("127.0.0.1", 0, secured),
        }
    )

    async def open_(on_message):  # type: ignore[no-untyped-def]
        opened.append(await opener(on_message))
        return opened[0]

    shelf.endpoint = await Endpoint.open(open_, shelf, parameters=PARAMETERS)
    print(json.dumps({scheme: each.address[1] for scheme, each in opened[0].sockets.items()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(sys.argv[1:]))
