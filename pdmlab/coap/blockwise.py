"""Block-wise transfers (RFC 7959): payloads cut into blocks, and put together again within limits."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.optionnumbers import OptionNumber

from pdmlab.coap.codec import blank, derive
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.transport import Address

T = TypeVar("T")
Key: TypeAlias = tuple[Address, int]

_UPLOADS_PER_PEER = 4
_OVERHEAD = 512  # B that a transfer costs besides its payload, about: or tiny ones would not count
_RESERVED_EXPONENT = 7
# Not part of what a transfer is known by: they change from block to block. The last two describe a payload: the stock
# client leaves them out where it asks for a further block, and so has none.
_PER_BLOCK = {
    OptionNumber.BLOCK1,
    OptionNumber.BLOCK2,
    OptionNumber.SIZE1,
    OptionNumber.SIZE2,
    OptionNumber.OBSERVE,
    OptionNumber.CONTENT_FORMAT,
    OptionNumber.MAX_AGE,
}


def exponent(size: int) -> int:
    """Return the SZX of a block size: 16 B is 0, 1024 B is 6."""
    return size.bit_length() - 5


def key_of(message: Message, peer: Address, *, token: bytes = b"") -> Key:
    """Return what the blocks of one transfer have in common: a hash, so that no peer decides how much is kept.

    Not the token, unless it is given: the stock client wants the same for all blocks, libcoap takes a new one for each.
    """
    whats = [int(message.code), token]
    for number, values in message.opt._options.items():
        if number not in _PER_BLOCK:
            whats += number, *[each.value for each in values]
    return peer, hash(tuple(whats))


def too_large(limit: int, **options: Any) -> Message:
    """Return the answer to a payload of more than limit (B)."""
    return Message(
        code=codes.REQUEST_ENTITY_TOO_LARGE, payload=f"at most {limit} B are taken".encode(), size1=limit, **options
    )


def block_size_for(request: Message, block_size: int) -> int:
    """Return the size (B) of the blocks that answer a request: ours, or the smaller one it asks for."""
    asked = request.opt.block2
    return block_size if asked is None else min(block_size, asked.size)


def tagged(response: Message) -> Message:
    """Return the response with an ETag of its payload, so that no two representations are put together as one."""
    if response.opt.etag is not None:
        return response
    return derive(response, response.payload, etag=hashlib.blake2b(response.payload, digest_size=4).digest())


def cut(response: Message, request: Message, block_size: int) -> Message:
    """Return the block of the response that the request asks for; the response itself if it fits.

    A response that carries Block2 already is a block that its handler has cut. The text of an error is no
    representation, and is not told in blocks.
    """
    asked = request.opt.block2
    if asked is not None and asked.size_exponent == _RESERVED_EXPONENT:
        return Message(code=codes.BAD_REQUEST, payload=b"SZX 7 is reserved")
    if response.code >= 128:
        return response if len(response.payload) <= block_size else derive(response, response.payload[:block_size])
    size, total = block_size_for(request, block_size), len(response.payload)
    if response.opt.block2 is not None or not total or (asked is None and total <= size):
        return response
    start = 0 if asked is None else asked.block_number << asked.size_exponent + 4
    if start >= total:
        return Message(code=codes.BAD_REQUEST, payload=b"no such block")
    part = response.payload[start : start + size]
    options: dict[str, Any] = {"block2": (start // size, start + size < total, exponent(size)), "size2": total}
    if start:
        options["observe"] = None  # RFC 7959 section 2.6: only the first block registers or notifies
    return derive(response, part, **options)


@dataclass(slots=True)
class _Transfer(Generic[T]):
    item: T
    size: int
    expires: float


class _Store(Generic[T]):
    """Transfers of all peers; when they are too much together, the least recently used ones go."""

    def __init__(self, parameters: TransmissionParameters) -> None:
        self._parameters = parameters
        self._lifetime = parameters.exchange_lifetime
        self._transfers: OrderedDict[Key, _Transfer[T]] = OrderedDict()
        self._of_peer: dict[Address, dict[Key, None]] = {}
        self._held = 0

    def __len__(self) -> int:
        return len(self._transfers)

    def get(self, key: Key, now: float) -> T | None:
        transfer = self._transfers.get(key)
        return transfer.item if transfer is not None and transfer.expires >= now else None

    def touch(self, key: Key, now: float) -> None:
        """Keep an item that is there and wanted for another exchange's lifetime."""
        transfer = self._transfers.get(key)
        if transfer is not None and transfer.expires >= now:
            transfer.expires = now + self._lifetime
            self._transfers.move_to_end(key)

    def put(self, key: Key, item: T, size: int, now: float) -> None:
        """Keep an item of size (B) for an exchange's lifetime from now on."""
        self.drop(key)
        self._transfers[key] = _Transfer(item, size + _OVERHEAD, now + self._lifetime)
        self._of_peer.setdefault(key[0], {})[key] = None
        self._held += size + _OVERHEAD
        while len(self._transfers) > 1:
            oldest, transfer = next(iter(self._transfers.items()))
            if self._held <= self._parameters.max_held and transfer.expires >= now:
                break
            self.drop(oldest)

    def drop(self, key: Key) -> None:
        transfer = self._transfers.pop(key, None)
        if transfer is not None:
            self._held -= transfer.size
            mine = self._of_peer[key[0]]
            del mine[key]
            if not mine:
                del self._of_peer[key[0]]

    def of_peer(self, peer: Address) -> list[Key]:
        """Return the peer's keys, the least recently used first."""
        return list(self._of_peer.get(peer, ()))

    def forget(self, peer: Address) -> None:
        """Drop all of the peer's."""
        for key in self.of_peer(peer):
            self.drop(key)


class Reassembly:
    """Requests that arrive in Block1 blocks, of all peers; bounded for each and for all together."""

    def __init__(self, parameters: TransmissionParameters) -> None:
        self._parameters = parameters
        self._uploads: _Store[bytearray] = _Store(parameters)

    def __len__(self) -> int:
        return len(self._uploads)

    def add(self, request: Message, peer: Address, now: float) -> Message | bytes:
        """Take a block; return the whole payload after the last one, else what to answer."""
        block = request.opt.block1
        if block.size_exponent == _RESERVED_EXPONENT or not block.is_valid_for_payload_size(len(request.payload)):
            echo = (block.block_number, False, block.size_exponent)
            return Message(code=codes.BAD_REQUEST, payload=b"payload is not one block", block1=echo)
        by_token = self._parameters.blocks_by_token
        key = key_of(request, peer, token=request.token if by_token else b"")
        echo = (block.block_number, block.more, min(block.size_exponent, exponent(self._parameters.block_size)))
        body = self._uploads.get(key, now) if block.block_number else bytearray()
        if body is None and by_token:
            body = bytearray()  # as if it were the first: whoever reads the body finds that it has no beginning
        elif body is None or block.start != len(body):
            self._uploads.drop(key)
            return Message(
                code=codes.REQUEST_ENTITY_INCOMPLETE, payload=b"the blocks before it are not here", block1=echo
            )
        if max(block.start + len(request.payload), request.opt.size1 or 0) > self._parameters.max_body:
            self._uploads.drop(key)
            return too_large(self._parameters.max_body, block1=echo)
        body += request.payload
        if not block.more:
            self._uploads.drop(key)
            return bytes(body)
        self._uploads.put(key, body, len(body), now)
        mine = self._uploads.of_peer(peer)
        if len(mine) > _UPLOADS_PER_PEER:
            self._uploads.drop(mine[0])
        return derive(blank(codes.CONTINUE), b"", block1=echo, max_age=self._parameters.block1_max_age)

    def forget(self, peer: Address) -> None:
        """Drop what a peer has begun."""
        self._uploads.forget(peer)


class Responses:
    """Responses of more than one block, kept while the peer may ask for the rest."""

    def __init__(self, parameters: TransmissionParameters) -> None:
        self._kept: _Store[Message] = _Store(parameters)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, request: Message, peer: Address, response: Message, now: float) -> None:
        """Keep a whole response for requests of its further blocks."""
        self._kept.put(key_of(request, peer), response, len(response.payload), now)

    def find(self, request: Message, peer: Address, now: float) -> Message | None:
        """Return the kept response that the request wants a further block of."""
        key = key_of(request, peer)
        self._kept.touch(key, now)
        return self._kept.get(key, now)

    def outdated(self, peer: Address) -> None:
        """Forget what the peer has got: a notification has told it that the state is another now."""
        self._kept.forget(peer)
