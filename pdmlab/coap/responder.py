"""The answering half of an endpoint: requests in blocks to a handler, its responses, and notifications."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import Type

from pdmlab.coap.blockwise import Reassembly, Responses, cut
from pdmlab.coap.codec import derive, encode
from pdmlab.coap.exchange import Outcome, Seen
from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError

if TYPE_CHECKING:
    from pdmlab.coap.endpoint import Endpoint, Handler, OnResult


class Responder:
    """What an endpoint answers and tells its peers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._serving: dict[tuple[Address, int], Exchange] = {}
        self._notifying: dict[tuple[Address, bytes], deque[tuple[Message, OnResult | None]]] = {}
        self._uploads = Reassembly(endpoint.parameters)
        self._responses = Responses(endpoint.parameters)

    def requested(self, message: Message, peer: Address, seen: Seen, unknown: int | None) -> None:
        """Take a request that is no duplicate; `unknown` is a critical option of it that nobody here knows."""
        endpoint = self._endpoint
        if endpoint.handler is None:
            if message.mtype == Type.CON:
                seen.reply = endpoint._send_empty(Type.RST, message.mid, peer)
            return
        exchange = Exchange(endpoint, self._responses, message, peer, seen)
        if unknown is not None:
            exchange.respond(Message(code=codes.BAD_OPTION, payload=f"option {unknown} is not known".encode()))
            return
        now = endpoint._loop.time()
        block1, block2 = message.opt.block1, message.opt.block2
        if block1 is not None:
            whole = self._uploads.add(message, peer, now)
            if isinstance(whole, Message):
                exchange.respond(whole)
                return
            message.payload = whole
        elif len(message.payload) > endpoint.parameters.max_body:
            exchange.respond(Message(code=codes.REQUEST_ENTITY_TOO_LARGE, size1=endpoint.parameters.max_body))
            return
        if block2 is not None and block2.block_number:
            kept = self._responses.find(message, peer, now)
            if kept is not None:
                exchange.respond(kept)
                return
            if message.code not in (codes.GET, codes.FETCH):
                # Asking its handler would do it a second time.
                exchange.respond(Message(code=codes.REQUEST_ENTITY_INCOMPLETE))
                return
        self._serving[peer, message.mid] = exchange
        endpoint._spawn(self._serve(exchange, endpoint.handler))

    async def _serve(self, exchange: Exchange, handler: Handler) -> None:
        exchange.arm()
        try:
            response = await handler(exchange.request, exchange.peer)
        except Exception as error:  # a handler's defect must not silence the endpoint; the loop reports it
            self._endpoint._loop.call_exception_handler(
                {"message": f"the handler of {exchange.request.code} failed", "exception": error}
            )
            response = Message(code=codes.INTERNAL_SERVER_ERROR)
        finally:
            exchange.disarm()
            self._serving.pop((exchange.peer, exchange.request.mid), None)
        if response is not None:
            exchange.respond(response)

    def acknowledge(self, request: Message) -> None:
        """See Endpoint.acknowledge."""
        exchange = self._serving.get((request.remote, request.mid))
        if exchange is not None:
            exchange.acknowledge()

    def notify(self, peer: Address, message: Message, token: bytes, on_result: OnResult | None) -> None:
        """See Endpoint.notify."""
        self._responses.outdated(peer)
        key = peer, token
        queue = self._notifying.get(key)
        if queue is not None:
            queue.append((message, on_result))
            return
        self._notifying[key] = deque()
        self._notify(key, message, on_result)

    def _notify(self, key: tuple[Address, bytes], message: Message, on_result: OnResult | None) -> None:
        def ended(outcome: Outcome, error: NetworkError | None) -> None:
            queue = self._notifying[key]
            if outcome == "acknowledged" and queue:
                self._notify(key, *queue.popleft())
            else:
                del self._notifying[key]
            if on_result is not None:
                on_result(outcome)
            if outcome != "acknowledged":
                for _, tell in queue:
                    if tell is not None:
                        tell(outcome)

        whole = cut(message, message, self._endpoint.parameters.block_size)
        out = derive(whole, whole.payload)
        out.token = key[1]
        try:
            self._endpoint._send_confirmable(out, key[0], ended)
        except NetworkError as error:
            self._endpoint._loop.call_soon(ended, "timed out", error)

    def abort(self) -> None:
        """Answer and tell nothing more."""
        self._notifying.clear()
        for exchange in self._serving.values():
            exchange.disarm()


class Exchange:
    """A request and how it is answered: with its acknowledgement, or separately after an empty one."""

    __slots__ = ("_acknowledged", "_endpoint", "_responses", "_timer", "peer", "request", "seen")

    def __init__(self, endpoint: Endpoint, responses: Responses, request: Message, peer: Address, seen: Seen) -> None:
        self._endpoint, self._responses = endpoint, responses
        self.request, self.peer, self.seen = request, peer, seen
        self._acknowledged = False
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Acknowledge by itself if the handler takes long."""
        if self.request.mtype == Type.CON:
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

    def respond(self, response: Message) -> None:
        """Send the response, or the block of it that was asked for."""
        endpoint, request = self._endpoint, self.request
        part = cut(response, request, endpoint.parameters.block_size)
        if part is not response and part.opt.block2 is not None and part.opt.block2.block_number == 0:
            self._responses.keep(request, self.peer, response, endpoint._loop.time())
        out = derive(part, part.payload)
        block1 = request.opt.block1
        if block1 is not None and out.opt.block1 is None:
            out.opt.block1 = (block1.block_number, False, block1.size_exponent)
        out.token = request.token
        if request.mtype == Type.CON and not self._acknowledged:
            self._acknowledged = True
            out.mtype, out.mid = Type.ACK, request.mid
            self.seen.reply = encode(out)
        elif request.mtype == Type.CON:
            try:
                endpoint._send_confirmable(out, self.peer, lambda outcome, error: None)
            except NetworkError:
                pass
            return
        else:
            out.mtype = Type.NON
            out.mid = endpoint._peers.next_mid(self.peer, endpoint._loop.time())
            self.seen.reply = encode(out)
        endpoint._tapped("out", self.peer, out)
        endpoint._send_quietly(self.seen.reply, self.peer)
