"""The receiving side of an endpoint: which message is what, a duplicate of which, and whose it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiocoap import Message
from aiocoap.numbers.types import Type

from pdmlab.coap.codec import Malformed, decode
from pdmlab.coap.exchange import Seen
from pdmlab.coap.transport import Address
from pdmlab.coap.waiting import Waiting

if TYPE_CHECKING:
    from pdmlab.coap.endpoint import Endpoint


class Receiver:
    """What an endpoint makes of what arrives."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def received(self, data: bytes, peer: Address) -> None:
        """Take a datagram, or a message of a connection."""
        endpoint = self._endpoint
        if endpoint._socket is None:
            return
        try:
            message, unknown = decode(data, peer, endpoint.parameters.known_options)
        except Malformed as error:
            endpoint._unreadable(peer, data, str(error))
            if error.mid is not None:
                endpoint._send_empty(Type.RST, error.mid, peer)
            return
        endpoint._tapped("in", peer, data)
        self._sort(message, peer, data, unknown)
        endpoint._flow.heard(peer, endpoint._loop.time())

    def _sort(self, message: Message, peer: Address, data: bytes, unknown: int | None) -> None:
        endpoint = self._endpoint
        kind, code_class = message.mtype, message.code >> 5
        if message.code == 0:
            self._empty(message, peer)
        elif kind == Type.RST or (kind == Type.ACK and code_class not in (2, 4, 5)):
            endpoint.malformed += 1
        elif kind == Type.ACK:
            self._piggybacked(message, peer, unknown)
        else:
            seen, again = endpoint._peers.received(peer, message.mid, data, endpoint._loop.time())
            if again:
                # RFC 7252 section 4.3: a NON that comes twice is not answered twice.
                if seen.reply is not None and kind == Type.CON:
                    endpoint._send_again(seen.reply, peer)
            elif code_class == 0:
                endpoint._responder.requested(message, peer, seen, unknown)
            elif code_class in (2, 4, 5) and unknown is None:
                self._responded(message, peer, seen)
            elif kind == Type.CON:
                seen.reply = endpoint._send_empty(Type.RST, message.mid, peer)

    def _empty(self, message: Message, peer: Address) -> None:
        endpoint = self._endpoint
        if message.mtype == Type.CON:  # a ping
            endpoint._send_empty(Type.RST, message.mid, peer)
            return
        transmission = endpoint._transmissions.get((peer, message.mid))
        if transmission is not None and message.mtype != Type.NON:
            transmission.end("acknowledged" if message.mtype == Type.ACK else "reset")

    def _piggybacked(self, message: Message, peer: Address, unknown: int | None) -> None:
        endpoint = self._endpoint
        waiting = endpoint._waiting.get((peer, message.token))
        if waiting is None or waiting.mid != message.mid:
            return
        transmission = endpoint._transmissions.pop((peer, message.mid), None)
        if transmission is not None:
            transmission.cancel()
        if unknown is None:
            self._answered(message, peer, waiting)
        else:
            waiting.fail(f"the response has the critical option {unknown}, which nobody here knows")

    def _responded(self, message: Message, peer: Address, seen: Seen) -> None:
        """Take a response, or a notification, in a message of its own."""
        endpoint = self._endpoint
        key = peer, message.token
        waiting, observation = endpoint._waiting.get(key), endpoint._observations.get(key)
        if observation is not None and observation.told_by(message):
            waiting = None
        elif waiting is not None and waiting.over and message.opt.observe is not None:
            waiting = None  # a notification, right behind the answer
        known = waiting is not None or observation is not None
        if not known and endpoint.on_unasked is not None:
            try:
                known = endpoint.on_unasked(message, peer)
            except Exception as error:  # as with handlers, the loop reports it; the peer's next try is taken anew
                endpoint._report("what takes unasked messages failed", error)
                endpoint._peers.forget(peer, message.mid)
                return
        if message.mtype == Type.CON or not known:
            # Before anybody hears of it: what they do then cannot hold the acknowledgement up.
            seen.reply = endpoint._send_empty(Type.ACK if known else Type.RST, message.mid, peer)
        if waiting is not None:
            transmission = endpoint._transmissions.pop((peer, waiting.mid), None)
            if transmission is not None:  # the response tells that the request arrived
                transmission.cancel()
            self._answered(message, peer, waiting)
        elif observation is not None:
            endpoint._requester.notified(observation, message)

    def _answered(self, message: Message, peer: Address, waiting: Waiting) -> None:
        endpoint = self._endpoint
        observation = endpoint._observations.get((peer, message.token))
        if observation is not None and not observation.established:
            endpoint._requester.established(observation, message)
        waiting.answer(message)
