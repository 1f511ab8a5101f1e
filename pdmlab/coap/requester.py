"""The asking half of an endpoint: requests in blocks with one token, and observations."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.optionnumbers import OptionNumber

from pdmlab.coap.blockwise import exponent
from pdmlab.coap.codec import derive, uri
from pdmlab.coap.exchange import Outcome
from pdmlab.coap.observation import Observation
from pdmlab.coap.transport import Address
from pdmlab.coap.waiting import Waiting
from pdmlab.errors import NetworkError, TimedOut, Unreachable

if TYPE_CHECKING:
    from pdmlab.coap.endpoint import Endpoint

_ATTEMPTS = 4  # to read a resource that changes in mid-transfer

OnBlock = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Late:
    """What to make of an answer that takes its time: how long to wait for it (s), and who hears that it will."""

    patience: float
    acknowledged: Callable[[], None]


class Requester:
    """What an endpoint asks of its peers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def request(
        self,
        message: Message,
        peer: Address,
        block_size: int | None,
        on_block: OnBlock | None,
        timeout: float | None,
        late: Late | None = None,
    ) -> Message:
        """See Endpoint.request."""
        token = message.token or self.new_token(peer)
        if timeout is None and not message.payload and OptionNumber.BLOCK2 in message.opt._options:
            return await self.exchange(message, peer, token, late)  # that block, and nothing else
        if timeout is None:
            return await self._transfer(message, peer, token, block_size, on_block, late)
        try:
            async with asyncio.timeout(timeout):
                return await self._transfer(message, peer, token, block_size, on_block, late)
        except TimeoutError as error:
            raise TimedOut(f"{message.code} {uri(message, peer)}: no answer in {timeout:g} s") from error

    def new_token(self, peer: Address) -> bytes:
        """See Endpoint.new_token."""
        endpoint = self._endpoint
        while True:
            # Four bytes as the stock client takes; its auto-observations have two.
            token = endpoint._peers.random.getrandbits(32).to_bytes(4, "big")
            if (peer, token) not in endpoint._waiting and (peer, token) not in endpoint._observations:
                return token

    async def _transfer(
        self,
        message: Message,
        peer: Address,
        token: bytes,
        block_size: int | None,
        on_block: OnBlock | None,
        late: Late | None,
    ) -> Message:
        size = block_size or self._endpoint.block_size(peer)
        if message.opt.block1 is not None or len(message.payload) <= size:
            asking = message
            if block_size is not None and message.opt.block2 is None and message.code in (codes.GET, codes.FETCH):
                asking = derive(message, message.payload, block2=(0, False, exponent(size)))
            response = await self.exchange(asking, peer, token, late)
            hint = response.opt.block1
            if (
                response.code == codes.REQUEST_ENTITY_TOO_LARGE
                and message.opt.block1 is None
                and hint is not None
                and 16 << hint.size_exponent < len(message.payload)
            ):
                response = await self._upload(message, peer, token, 16 << hint.size_exponent, on_block, late)
        else:
            response = await self._upload(message, peer, token, size, on_block, late)
        return await self.collect(message, response, peer, token, on_block)

    async def _upload(
        self,
        message: Message,
        peer: Address,
        token: bytes,
        size: int,
        on_block: OnBlock | None,
        late: Late | None,
    ) -> Message:
        total, done = len(message.payload), 0
        while True:
            part = message.payload[done : done + size]
            more = done + size < total
            block = derive(
                message, part, block1=(done // size, more, exponent(size)), size1=total if done == 0 else None
            )
            response = await self.exchange(block, peer, token, None if more else late)
            wanted = response.opt.block1
            smaller = 16 << wanted.size_exponent if wanted is not None and wanted.size_exponent < 7 else size
            if response.code == codes.REQUEST_ENTITY_TOO_LARGE and done == 0 and smaller < size:
                size = smaller
                continue
            done += len(part)
            if on_block is not None and response.code < 128:
                on_block(min(done, total), total)
            if not more or response.code != codes.CONTINUE:
                return response
            size = min(size, smaller)

    async def collect(
        self, request: Message, first: Message, peer: Address, token: bytes, on_block: OnBlock | None = None
    ) -> Message:
        """Return the response with the payload of all its blocks.

        If the resource changes meanwhile (it has another ETag), the transfer starts over, a few times.

        Raises:
            NetworkError: the blocks do not fit together, or are too much.
        """
        if request.opt.block2 is not None:
            return first  # it asks for that block
        part = first
        for _ in range(_ATTEMPTS):
            whole = await self._collect(request, part, peer, token, on_block)
            if whole is not None:
                return whole
            part = await self.exchange(_ask_for(request, 0, first.opt.block2.size_exponent), peer, token)
        raise NetworkError(
            f"{request.code} {uri(request, peer)}: the resource changed while it was read, {_ATTEMPTS} times",
            hint="does it change more often than its blocks take? ask for larger ones",
        )

    async def _collect(
        self, request: Message, first: Message, peer: Address, token: bytes, on_block: OnBlock | None
    ) -> Message | None:
        """Return the whole response that begins with `first`, or None if it changed meanwhile."""
        block = first.opt.block2
        if block is None or (block.block_number == 0 and not block.more):
            return first
        limit = self._endpoint.parameters.max_body
        body, total = bytearray(), first.opt.size2
        part = first
        while True:
            fits = block.start == len(body) and block.size_exponent < 7
            if not fits or not block.is_valid_for_payload_size(len(part.payload)):
                raise NetworkError(
                    f"{request.code} {uri(request, peer)}: block {block.block_number} of {block.size} B does not "
                    f"continue the {len(body)} B before it",
                    hint="the peer does not keep to RFC 7959",
                )
            body += part.payload
            if len(body) > limit:
                raise NetworkError(f"{request.code} {uri(request, peer)}: the response has more than {limit} B")
            if on_block is not None:
                on_block(len(body), total)
            if not block.more:
                return derive_incoming(first, bytes(body))
            ask = _ask_for(request, len(body) // block.size, block.size_exponent)
            part = await self.exchange(ask, peer, token)
            if part.code != first.code:
                return part
            block = part.opt.block2
            if block is None:
                return part  # the peer starts over and sends all at once
            if part.opt.etag != first.opt.etag:  # not Size2: the stock client's is wrong at times
                if request.code not in (codes.GET, codes.FETCH):
                    raise NetworkError(f"{request.code} {uri(request, peer)}: the response changed while it was read")
                return None

    async def exchange(self, message: Message, peer: Address, token: bytes, late: Late | None = None) -> Message:
        """Send one confirmable request and wait for its response."""
        endpoint = self._endpoint
        parameters = endpoint.parameters
        waiting = Waiting(message, peer)
        key = peer, token

        def ended(outcome: Outcome, error: NetworkError | None) -> None:
            if outcome == "acknowledged":
                waiting.expect_response(parameters.exchange_lifetime if late is None else late.patience)
                if late is not None:
                    late.acknowledged()
            elif outcome == "reset":
                waiting.fail("the peer reset it")
            elif error is not None:
                waiting.fail(f"it cannot be sent: {error.message}", cause=error)
            else:
                waiting.fail(f"no answer to {transmission.tries} transmissions", timed_out=True)

        if endpoint._socket is None:
            raise Unreachable(f"{message.code} {uri(message, peer)}: the endpoint is closed")
        endpoint._waiting[key] = waiting
        try:
            transmission = endpoint._send_confirmable(message, peer, token, ended)
            waiting.mid = transmission.mid
        except NetworkError:
            del endpoint._waiting[key]
            raise
        try:
            return await waiting.response()
        finally:
            endpoint._waiting.pop(key, None)
            if endpoint._transmissions.pop((peer, transmission.mid), None) is not None:
                transmission.cancel()

    # -- observing -----------------------------------------------------------------------------------

    async def observe(self, message: Message, peer: Address, on_notification: Callable[[Message], None]) -> Observation:
        """See Endpoint.observe."""
        endpoint, token = self._endpoint, self.new_token(peer)
        observation = Observation(message, peer, on_notification)
        key = peer, token
        endpoint._observations[key] = observation  # before the request: a notification may follow at once

        async def withdraw() -> Message | None:
            if not observation.active:
                return None
            observation.active = False
            try:
                return await self.exchange(derive(message, message.payload, observe=1), peer, token)
            finally:
                endpoint._observations.pop(key, None)

        observation.withdraw = withdraw
        try:
            first = await self.exchange(derive(message, message.payload, observe=0), peer, token)
            observation.first = await self.collect(message, first, peer, self.new_token(peer))
        except BaseException:
            observation.active = False
            endpoint._observations.pop(key, None)
            raise
        if not observation.established:
            observation.active = False
            endpoint._observations.pop(key, None)
        return observation

    def established(self, observation: Observation, first: Message) -> None:
        """Take the response to the request to observe."""
        number = first.opt.observe
        if number is not None and first.code < 128:
            observation.established = True
            observation.freshness.accept(number, self._endpoint._loop.time())

    def notified(self, observation: Observation, message: Message) -> None:
        """Take a notification; an error, or one without Observe, is the last."""
        if not observation.active:
            return
        number = message.opt.observe
        if number is None or message.code >= 128:
            observation.active = False
            self._endpoint._observations.pop((observation.peer, message.token), None)
        elif not observation.freshness.accept(number, self._endpoint._loop.time()):
            return
        if observation.completing is not None:
            observation.completing.cancel()  # what it still asks for is outdated now
            observation.completing = None
        if message.opt.block2 is not None and message.opt.block2.more:
            observation.completing = self._endpoint._spawn(self._complete(observation, message))
        else:
            observation.on_notification(message)

    async def _complete(self, observation: Observation, message: Message) -> None:
        peer = observation.peer
        try:
            # Not the observation's token: a notification that comes meanwhile would look like a block.
            whole = await self.collect(observation.request, message, peer, self.new_token(peer))
        except NetworkError:
            return  # the peer is gone or the value has changed again; the next notification tells
        observation.completing = None
        if whole.code == message.code:
            observation.on_notification(whole)


def _ask_for(request: Message, number: int, szx: int) -> Message:
    return derive(request, b"", observe=None, block1=None, size1=None, block2=(number, False, szx))


def derive_incoming(first: Message, body: bytes) -> Message:
    """Return the first block's message with the whole payload."""
    whole = derive(first, body)
    whole.remote, whole.direction = first.remote, first.direction
    return whole
