"""Block-wise transfers (RFC 7959): payloads cut into blocks, and put together again within limits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeAlias

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.optionnumbers import OptionNumber

from pdmlab.coap.codec import derive
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address

Key: TypeAlias = tuple[Address, object]

_UPLOADS_PER_PEER = 4
# Not part of what a transfer is known by: they change from block to block.
_PER_BLOCK = (OptionNumber.BLOCK1, OptionNumber.BLOCK2, OptionNumber.SIZE1, OptionNumber.SIZE2, OptionNumber.OBSERVE)


def exponent(size: int) -> int:
    """Return the SZX of a block size: 16 B is 0, 1024 B is 6."""
    return size.bit_length() - 5


def key_of(message: Message, peer: Address) -> Key:
    """Return what the blocks of one transfer have in common.

    Not the token: the stock client wants the same for all blocks, libcoap takes a new one for each.
    """
    options = tuple(
        (int(number), tuple(each.encode() for each in values))
        for number, values in message.opt._options.items()
        if number not in _PER_BLOCK
    )
    return peer, (int(message.code), options)


def cut(response: Message, request: Message, block_size: int) -> Message:
    """Return the block of the response that the request asks for; the response itself if it fits.

    A response that carries Block2 already is a block that its handler has cut.
    """
    asked = request.opt.block2
    if response.opt.block2 is not None or (asked is None and len(response.payload) <= block_size):
        return response
    if asked is not None and len(response.payload) == 0:
        return response
    szx = exponent(block_size)
    start = 0
    if asked is not None:
        szx = min(szx, asked.size_exponent)
        start = asked.start
    size = 16 << szx
    if start >= len(response.payload) or start % size:
        return Message(code=codes.BAD_REQUEST, payload=b"no such block")
    part = response.payload[start : start + size]
    more = start + size < len(response.payload)
    return derive(response, part, block2=(start // size, more, szx), size2=len(response.payload))


@dataclass
class _Upload:
    expires: float
    body: bytearray = field(default_factory=bytearray)


class Reassembly:
    """Requests that arrive in Block1 blocks, of all peers; bounded for each and for all together."""

    def __init__(self, parameters: TransmissionParameters) -> None:
        self._parameters = parameters
        self._uploads: OrderedDict[Key, _Upload] = OrderedDict()
        self._of_peer: dict[Address, list[Key]] = {}
        self._held = 0

    def __len__(self) -> int:
        return len(self._uploads)

    def add(self, request: Message, peer: Address, now: float) -> Message | bytes:
        """Take a block; return the whole payload after the last one, else what to answer."""
        block = request.opt.block1
        key = key_of(request, peer)
        szx = min(block.size_exponent, exponent(self._parameters.block_size))
        echo = (block.block_number, block.more, szx)
        if block.size_exponent == 7 or not block.is_valid_for_payload_size(len(request.payload)):
            return Message(code=codes.BAD_REQUEST, payload=b"payload is not one block")
        if block.block_number == 0:
            self._drop(key)
        upload = self._uploads.get(key)
        if (upload is None and block.block_number) or (
            upload is not None and (block.start != len(upload.body) or upload.expires < now)
        ):
            self._drop(key)
            return Message(code=codes.REQUEST_ENTITY_INCOMPLETE, block1=echo)
        announced = request.opt.size1 or 0
        if max(block.start + len(request.payload), announced) > self._parameters.max_body:
            self._drop(key)
            return Message(code=codes.REQUEST_ENTITY_TOO_LARGE, block1=echo, size1=self._parameters.max_body)
        if upload is None:
            upload = self._begin(key, now)
        upload.body += request.payload
        self._held += len(request.payload)
        if not block.more:
            self._drop(key)
            return bytes(upload.body)
        upload.expires = now + self._parameters.exchange_lifetime
        self._uploads.move_to_end(key)
        while self._held > self._parameters.max_held and len(self._uploads) > 1:
            self._drop(next(iter(self._uploads)))
        return Message(code=codes.CONTINUE, block1=echo)

    def _begin(self, key: Key, now: float) -> _Upload:
        while self._uploads and next(iter(self._uploads.values())).expires < now:
            self._drop(next(iter(self._uploads)))
        mine = self._of_peer.get(key[0], [])
        if len(mine) >= _UPLOADS_PER_PEER:
            self._drop(mine[0])
        self._of_peer.setdefault(key[0], []).append(key)
        upload = self._uploads[key] = _Upload(now + self._parameters.exchange_lifetime)
        return upload

    def _drop(self, key: Key) -> None:
        upload = self._uploads.pop(key, None)
        if upload is not None:
            self._held -= len(upload.body)
            mine = self._of_peer[key[0]]
            mine.remove(key)
            if not mine:
                del self._of_peer[key[0]]


class Responses:
    """Responses of more than one block, kept while the peer may ask for the rest."""

    def __init__(self, parameters: TransmissionParameters) -> None:
        self._parameters = parameters
        self._kept: OrderedDict[Key, tuple[Message, float]] = OrderedDict()
        self._held = 0

    def keep(self, request: Message, peer: Address, response: Message, now: float) -> None:
        """Keep a whole response for requests of its further blocks."""
        key = key_of(request, peer)
        self._drop(key)
        self._kept[key] = (response, now + self._parameters.exchange_lifetime)
        self._held += len(response.payload)
        while self._kept and (self._held > self._parameters.max_held or next(iter(self._kept.values()))[1] < now):
            self._drop(next(iter(self._kept)))

    def find(self, request: Message, peer: Address, now: float) -> Message | None:
        """Return the kept response that the request wants a further block of."""
        kept = self._kept.get(key_of(request, peer))
        return kept[0] if kept is not None and kept[1] >= now else None

    def outdated(self, peer: Address) -> None:
        """Forget what the peer has got: a notification has told it that the state is another now."""
        for key in [key for key in self._kept if key[0] == peer]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._held -= len(kept[0].payload)
