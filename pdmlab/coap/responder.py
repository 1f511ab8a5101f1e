"""The answering half of an endpoint: requests in blocks to a handler, its responses, and notifications."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from dataclasses import dataclass
from inspect import CORO_CREATED, getcoroutinestate, iscoroutine
from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import Type

from pdmlab.coap.blockwise import Reassembly, Responses, block_size_for, cut, tagged, too_large
from pdmlab.coap.codec import derive, encode
from pdmlab.coap.exchange import Outcome, Seen
from pdmlab.coap.framing import TooLong
from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError

if TYPE_CHECKING:
    from pdmlab.coap.endpoint import Endpoint, OnResult


class Responder:
    """What an endpoint answers and tells its peers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._serving: dict[tuple[Address, int], Exchange] = {}
        self._notifying: dict[tuple[Address, bytes], deque[_Notification]] = {}
        self._uploads = Reassembly(endpoint.parameters)
        self._responses = Responses(endpoint.parameters)
        self._separate = 0  # responses in messages of their own that have no acknowledgement yet

    def requested(self, message: Message, peer: Address, seen: Seen, unknown: int | None) -> None:
        """Take a request that is no duplicate; `unknown` is a critical option of it that nobody here knows."""
        endpoint = self._endpoint
        if endpoint.handler is None:
            if message.mtype == Type.CON:
                seen.reply = endpoint._send_empty(Type.RST, message.mid, peer)
            return
        exchange = Exchange(endpoint, self, message, peer, seen)
        if unknown is not None:
            if message.mtype == Type.CON:  # RFC 7252 section 5.4.1: others are rejected without a word
                exchange.respond(Message(code=codes.BAD_OPTION, payload=f"option {unknown} is not known".encode()))
            return
        now = endpoint._loop.time()
        takes = endpoint.takes_blocks
        if OptionNumber.BLOCK1 in message.opt._options and (takes is None or not takes(message, peer)):
            whole = self._uploads.add(message, peer, now)
            if isinstance(whole, Message):
                exchange.send(whole)
                return
            message.payload = whole
        elif len(message.payload) > endpoint.parameters.max_body:
            exchange.respond(too_large(endpoint.parameters.max_body))
            return
        if OptionNumber.BLOCK2 in message.opt._options and message.opt.block2.block_number:
            kept = self._responses.find(message, peer, now)
            if kept is not None:
                exchange.send(cut(kept, message, endpoint.block_size(peer)))
                return
            if message.code not in (codes.GET, codes.FETCH):
                # Asking its handler would do it a second time.
                exchange.respond(
                    Message(code=codes.REQUEST_ENTITY_INCOMPLETE, payload=b"there is no such block any more")
                )
                return
        if len(self._serving) + self._separate >= endpoint.parameters.max_serving:
            exchange.respond(Message(code=codes.SERVICE_UNAVAILABLE, payload=b"too many requests at once", max_age=5))
            return
        self._serving[peer, message.mid] = exchange
        try:
            response = endpoint.handler(message, peer)
            if response is None or isinstance(response, Message):
                self._finish(exchange, response)
                return
        except Exception as error:
            self._failed(exchange, error)
            return
        exchange.answering = response
        endpoint._spawn(self._serve(exchange, response))
        endpoint._loop.call_soon(exchange.arm)  # after the handler's first step, which may be its last

    async def _serve(self, exchange: Exchange, answering: Awaitable[Message | None]) -> None:
        try:
            self._finish(exchange, await answering)
        except Exception as error:
            self._failed(exchange, error)
        finally:
            self._done(exchange)

    def _finish(self, exchange: Exchange, response: Message | None) -> None:
        exchange.disarm()
        if response is not None:
            exchange.respond(response)
        self._done(exchange)

    def _failed(self, exchange: Exchange, error: Exception) -> None:
        """Answer for a handler: its defect must not silence the endpoint; the loop reports it."""
        self._endpoint._report(f"the handler of {exchange.request.code} failed", error)
        self._finish(exchange, Message(code=codes.INTERNAL_SERVER_ERROR))

    def _done(self, exchange: Exchange) -> None:
        exchange.disarm()
        exchange.over = True
        key = exchange.peer, exchange.request.mid
        if self._serving.get(key) is exchange:
            del self._serving[key]

    def keep(self, request: Message, peer: Address, response: Message) -> None:
        """Keep a response of more than one block, for when the rest of it is asked for."""
        self._responses.keep(request, peer, response, self._endpoint._loop.time())

    def send_separately(self, request: Message, peer: Address, response: Message) -> None:
        """Send a response in a confirmable message of its own; one that never takes them gets no more."""
        endpoint = self._endpoint
        if endpoint._flow.waiting(peer) >= endpoint.parameters.max_queued:
            return
        self._separate += 1
        try:
            endpoint._send_confirmable(response, peer, request.token, self._separate_ended)
        except NetworkError:
            self._separate -= 1

    def _separate_ended(self, outcome: Outcome, error: NetworkError | None) -> None:
        self._separate -= 1

    def acknowledge(self, request: Message) -> None:
        """See Endpoint.acknowledge."""
        exchange = self._serving.get((request.remote, request.mid))
        if exchange is not None:
            exchange.acknowledge()

    def answer(self, request: Message, response: Message, on_result: OnResult | None) -> None:
        """See Endpoint.answer."""
        exchange = self._serving.get((request.remote, request.mid))
        if exchange is not None:
            exchange.answer(response, on_result)

    def notify(self, peer: Address, message: Message, token: bytes, on_result: OnResult | None) -> None:
        """See Endpoint.notify."""
        self._responses.outdated(peer)
        key = peer, token
        notification = _Notification(message, [] if on_result is None else [on_result])
        queue = self._notifying.get(key)
        if queue is None:
            self._notifying[key] = deque()
            self._notify(key, notification)
            return
        queue.append(notification)
        if len(queue) > self._endpoint.parameters.max_queued:
            outrun = queue.popleft()
            queue[0].on_result[:0] = outrun.on_result

    def _notify(self, key: tuple[Address, bytes], notification: _Notification) -> None:
        endpoint = self._endpoint

        def ended(outcome: Outcome, error: NetworkError | None) -> None:
            queue = self._notifying.get(key)
            if queue is None:  # the endpoint was closed
                return
            if outcome == "acknowledged" and queue:
                self._notify(key, queue.popleft())
            else:
                del self._notifying[key]
                for other in queue:
                    notification.on_result.extend(other.on_result)
            for tell in notification.on_result:
                tell(outcome)

        message, block_size = notification.message, endpoint.block_size(key[0])
        if message.code < 128 and len(message.payload) > block_size and endpoint.parameters.etags:
            message = tagged(message)
        first = cut(message, message, block_size)
        try:
            endpoint._send_confirmable(first, key[0], key[1], ended)
        except NetworkError as error:
            endpoint._loop.call_soon(ended, "timed out", error)

    def lost(self, peer: Address) -> None:
        """Forget what a peer was uploading and reading: its connection has ended."""
        self._uploads.forget(peer)
        self._responses.outdated(peer)

    def abort(self) -> None:
        """Answer and tell nothing more."""
        self._notifying.clear()
        for exchange in self._serving.values():
            exchange.disarm()
            exchange.over = True
            handler = exchange.answering
            if iscoroutine(handler) and getcoroutinestate(handler) == CORO_CREATED:
                handler.close()  # its task ends before it begins


@dataclass(slots=True)
class _Notification:
    message: Message
    on_result: list[OnResult]  # also those of notifications that it has outrun


class Exchange:
    """A request and how it is answered: with its acknowledgement, or separately after an empty one."""

    __slots__ = ("_acknowledged", "_endpoint", "_responder", "_timer", "answering", "over", "peer", "request", "seen")

    def __init__(self, endpoint: Endpoint, responder: Responder, request: Message, peer: Address, seen: Seen) -> None:
        self._endpoint, self._responder = endpoint, responder
        self.request, self.peer, self.seen = request, peer, seen
        self._acknowledged = self.over = False
        self._timer: asyncio.TimerHandle | None = None
        self.answering: Awaitable[Message | None] | None = None

    def arm(self) -> None:
        """Acknowledge by itself if the handler takes long."""
        if self.request.mtype == Type.CON and not (self.over or self._acknowledged):
            endpoint = self._endpoint
            self._timer = endpoint._loop.call_later(endpoint.parameters.ack_delay, self.acknowledge)

    def disarm(self) -> None:
        """Acknowledge no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def acknowledge(self) -> None:
        """Send the empty ACK, once."""
        self.disarm()
        if self.request.mtype == Type.CON and not self._acknowledged:
            self._acknowledged = True
            self.seen.reply = self._endpoint._send_empty(Type.ACK, self.request.mid, self.peer)

    def answer(self, response: Message, on_result: OnResult | None) -> None:
        """Send the response confirmably, under the request's message ID, without an acknowledgement before it."""
        self.disarm()
        endpoint, block1 = self._endpoint, self.request.opt.block1
        if block1 is not None:
            echo = block1.block_number, False, block1.size_exponent
            response = derive(response, response.payload, block1=echo, **self._beside_block1(response))
        self._acknowledged = True

        def ended(outcome: Outcome, error: NetworkError | None) -> None:
            if on_result is not None:
                on_result(outcome)

        try:
            mid, token = self.request.mid, self.request.token
            self.seen.reply = endpoint._send_confirmable(response, self.peer, token, ended, mid).data
        except NetworkError as error:
            endpoint._loop.call_soon(ended, "timed out", error)

    def respond(self, response: Message) -> None:
        """Send the response, or the block of it that was asked for; the rest is kept."""
        request, block_size = self.request, self._endpoint.block_size(self.peer)
        asked = request.opt._options
        if len(response.payload) > block_size or OptionNumber.BLOCK2 in asked or OptionNumber.BLOCK1 in asked:
            size = block_size_for(request, block_size)
            if response.code < 128 and response.opt.block2 is None and len(response.payload) > size:
                response = tagged(response) if self._endpoint.parameters.etags else response
                self._responder.keep(request, self.peer, response)
            response = cut(response, request, block_size)
            block1 = request.opt.block1
            if block1 is not None and response.opt.block1 is None:
                echo = block1.block_number, False, block1.size_exponent
                response = derive(response, response.payload, block1=echo, **self._beside_block1(response))
        self.send(response)

    def _beside_block1(self, response: Message) -> dict[str, int]:
        max_age = self._endpoint.parameters.block1_max_age
        return {} if max_age is None or OptionNumber.MAX_AGE in response.opt._options else {"max_age": max_age}

    def send(self, response: Message) -> None:
        """Send what fits into one message: with the acknowledgement, or by itself if that is gone."""
        endpoint, request, peer = self._endpoint, self.request, self.peer
        if endpoint.closed:
            return
        if request.mtype is not Type.CON:
            kind, mid = Type.NON, endpoint._peers.next_mid(peer, endpoint._loop.time())
        elif self._acknowledged:
            self._responder.send_separately(request, peer, response)
            return
        else:
            kind, mid = Type.ACK, request.mid
        self.seen.reply = data = encode(response, kind, mid, request.token)
        self._acknowledged = True
        try:
            endpoint._send(data, peer)
        except TooLong as error:  # nothing of it has gone: that can be told
            said = Message(code=codes.INTERNAL_SERVER_ERROR, payload=error.message.encode())
            self.seen.reply = data = encode(said, kind, mid, request.token)
            endpoint._send_quietly(data, peer)
        except NetworkError:
            pass  # the peer's retransmission asks for it again
        endpoint._tapped("out", peer, data)
