"""Enrolment: a key made on the device, and a certificate for it from the server that it is connected to."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.client import certificates
from pdmlab.client.server import PARAMETERS
from pdmlab.coap.blockwise import exponent
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address
from pdmlab.errors import ConfigError, Lwm2mError, NetworkError, ResponseError
from pdmlab.lwm2m.content import TEXT

MAX_CHAIN = 8 * 1024
"""A chain of more is refused (B): an estimate of what a board has room for."""


@dataclass(frozen=True)
class Enrolled:
    """A certificate, with those that lead to its CA (DER), and its key (PKCS#8)."""

    certificates: tuple[bytes, ...]
    private_key: bytes = field(repr=False)


async def enrol(
    endpoint: Endpoint, peer: Address, *, endpoint_name: str, device_id: str, account_id: str, name: str | None = None
) -> Enrolled:
    """Make a key, ask for a certificate that names the device, and return both; the key has not left the device.

    name: which certificate it is to be; None is the one for the LwM2M server.

    Raises:
        ResponseError: the server refuses.
        Lwm2mError: what it sends is no certificate for the key.
        NetworkError: it does not answer.
        ConfigError: no certificate can name the device.
    """
    key = certificates.make_key()
    body = certificates.request(key, endpoint_name, device_id, account_id)
    path = ("est", "sen") if name is None else ("est", name, "sen")
    answer = await _post(endpoint, peer, path, body)
    try:
        chain = certificates.read_chain(answer)
        certificates.fields(chain[0])
    except ConfigError as error:
        raise Lwm2mError(f"the enrolment server sent no certificate: {error.message}") from error
    if not certificates.belong_together(chain[0], key):
        raise Lwm2mError("the enrolment server sent a certificate for another key")
    return Enrolled(chain, key)


async def _post(endpoint: Endpoint, peer: Address, path: tuple[str, ...], body: bytes) -> bytes:
    """Send the request and collect its answer: block by block, under one token, further ones with an empty payload."""
    token, whole, size = endpoint.new_token(peer), bytearray(), PARAMETERS.block_size
    while True:
        request = Message(
            code=codes.POST,
            uri_path=path,
            content_format=TEXT,
            max_age=0,
            block2=(len(whole) // size, False, exponent(size)),
            payload=b"" if whole else body,
        )
        request.token = token
        response = await endpoint.request(request, peer)
        if not response.code.is_successful():
            where, said = "/" + "/".join(path), response.payload[:80].decode(errors="replace")
            raise ResponseError(f"{response.code} to {where}: {said}", code=str(response.code), path=where)
        block = response.opt.block2
        if block is None and not whole:
            return bytes(response.payload)
        if block is None or block.start != len(whole) or block.size > size:
            raise NetworkError(f"asked for block {len(whole) // size} of the certificate, and got another")
        size = block.size
        whole += response.payload
        if len(whole) > MAX_CHAIN:
            raise NetworkError(f"the certificate chain has more than {MAX_CHAIN} B")
        if not block.more:
            return bytes(whole)
