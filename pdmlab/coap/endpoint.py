"""A CoAP endpoint: client and server of any number of peers over one socket.

The message layer (retransmission, duplicates, resets) and the request layer (tokens, blocks, observations)
meet here; receiver.py sorts what arrives, requester.py is the asking half, responder.py the answering one. All
timers are the running loop's, and all randomness comes from the seed, so that on a device's virtual clock the
same seed gives the same conversation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Literal, TypeAlias

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import Type

from pdmlab.capture import Event
from pdmlab.coap.codec import blank, empty, encode
from pdmlab.coap.exchange import Outcome, Peers, Transmission
from pdmlab.coap.flow import Flow
from pdmlab.coap.framing import STOCK_BLOCK
from pdmlab.coap.observation import Observation
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.coap.receiver import Receiver
from pdmlab.coap.requester import Late, Requester
from pdmlab.coap.responder import Responder
from pdmlab.coap.transport import Address, ConnectionSocket, DatagramSocket, Identity, Opener, text_of
from pdmlab.coap.waiting import Waiting
from pdmlab.errors import NetworkError, TimedOut

Handler: TypeAlias = Callable[[Message, Address], Awaitable[Message | None] | Message | None]
"""Answers a request whose payload is whole; None sends nothing at all.

One that returns its answer itself, and not something to wait for, is served at half the cost.
"""

Tap: TypeAlias = Callable[[Literal["in", "out"], Address, bytes, int], None]
"""Sees each message with its direction, peer, bytes as they stand in UDP, and time (ns of the loop's clock).

One that has a method `event(peer, event, when)`, as a log's has, hears too of messages that were given up and of
connections that ended; one with `unreadable(peer, data, why, when)`, of what came and is no message.
"""

OnResult: TypeAlias = Callable[[Outcome], None]

_NO_ANSWER = 0b11010  # RFC 7967: neither of class 2 nor 4 nor 5


class Endpoint:
    """One socket that asks and answers; make it with `await Endpoint.open(...)`.

    malformed   counts datagrams that were no CoAP message; they are dropped
    on_unasked  takes responses that nobody here asked for; returns whether it knows their token
    on_lost     hears of connections that ended, and why
    takes_blocks  says of a request in blocks whether the handler takes them one by one, as they come; it answers each
                then, with its Block1. All others come to it whole
    """

    def __init__(
        self, handler: Handler | None, parameters: TransmissionParameters, seed: int | None, tap: Tap | None
    ) -> None:
        self.parameters = parameters
        self.handler = handler
        self.malformed = 0
        self.on_unasked: Callable[[Message, Address], bool] | None = None
        self.on_lost: Callable[[Address, NetworkError], None] | None = None
        self.takes_blocks: Callable[[Message, Address], bool] | None = None
        self._tap = tap
        self._tell: Callable[[Address, Event, int], None] | None = getattr(tap, "event", None)
        self._tell_unreadable: Callable[[Address, bytes, str, int], None] | None = getattr(tap, "unreadable", None)
        self._socket: DatagramSocket | None = None
        self._loop = asyncio.get_running_loop()
        self._peers = Peers(parameters, seed)
        self._flow = Flow(self._loop, parameters)
        self._transmissions: dict[tuple[Address, int], Transmission] = {}
        self._waiting: dict[tuple[Address, bytes], Waiting] = {}
        self._observations: dict[tuple[Address, bytes], Observation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._requester = Requester(self)
        self._responder = Responder(self)
        self._receiver = Receiver(self)

    @classmethod
    async def open(
        cls,
        opener: Opener,
        handler: Handler | None = None,
        *,
        parameters: TransmissionParameters | None = None,
        seed: int | None = None,
        tap: Tap | None = None,
    ) -> Endpoint:
        """Open the socket and start answering with handler (without one, requests are reset).

        With a seed, tokens, message IDs and retransmission jitter repeat; without one they cannot be guessed.
        A device that restarts on the same port needs another seed each time, or its peers take its first
        messages for duplicates.

        Raises:
            Unreachable: the socket cannot be opened.
        """
        endpoint = cls(handler, parameters or TransmissionParameters(), seed, tap)
        endpoint._socket = await opener(endpoint._receiver.received)
        if isinstance(endpoint._socket, ConnectionSocket):
            endpoint._socket.on_lost = endpoint._lost
        return endpoint

    @property
    def closed(self) -> bool:
        """Whether it neither sends nor hears any more."""
        return self._socket is None

    @property
    def address(self) -> Address:
        """Where peers reach this endpoint; ("", 0) once it is closed."""
        return self._socket.address if self._socket is not None else ("", 0)

    def connected(self, peer: Address) -> bool:
        """Whether there is a way to the peer: always, unless it is a connection that has ended."""
        if isinstance(self._socket, ConnectionSocket):
            return self._socket.connected(peer)
        return self._socket is not None

    def identity(self, peer: Address) -> Identity | None:
        """Return who a peer has proved to be; None without security."""
        return self._socket.identity(peer) if isinstance(self._socket, ConnectionSocket) else None

    def part(self, identity: Identity, why: str) -> None:
        """End the connections of whoever has proved to be somebody; what is under way on them fails."""
        if isinstance(self._socket, ConnectionSocket):
            self._socket.part(identity, why)

    def block_size(self, peer: Address) -> int:
        """Return the largest block (B) to send a peer: the endpoint's, or what the peer has room for."""
        size = self.parameters.block_size
        if size > STOCK_BLOCK and isinstance(self._socket, ConnectionSocket):
            return min(size, self._socket.block_size(peer))
        return size

    def __repr__(self) -> str:
        return f"<Endpoint {self.address[0]}:{self.address[1]}, {len(self._peers)} peers>"

    # -- asking --------------------------------------------------------------------------------------

    async def request(
        self,
        message: Message,
        peer: Address,
        *,
        block_size: int | None = None,
        on_block: Callable[[int, int | None], None] | None = None,
        timeout: float | None = None,
        late: Late | None = None,
    ) -> Message:
        """Send a confirmable request to a numeric address and return the response, error codes included.

        A payload over one block (block_size, B) goes out as Block1, a response in Block2 blocks comes back
        whole; all blocks have one token. `on_block(done, total)` hears of progress (B; total if announced).
        A message that names a Block2 number itself gets that one block. Where the peer acknowledges before it answers,
        the wait is an exchange's lifetime, unless `late` says otherwise.

        Raises:
            TimedOut: no acknowledgement after all tries, no response after it, or `timeout` (s) is over.
            Unreachable: the peer reset the request, or it could not be sent.
            NetworkError: the response's blocks do not fit together, or exceed max_body.
        """
        return await self._requester.request(message, peer, block_size, on_block, timeout, late)

    def new_token(self, peer: Address) -> bytes:
        """Return a token that nothing under way to the peer has; a message that carries one goes out with it.

        Whoever takes notifications by `on_unasked` can so know the token before the first of them can come.
        """
        return self._requester.new_token(peer)

    async def observe(self, message: Message, peer: Address, on_notification: Callable[[Message], None]) -> Observation:
        """Observe a resource (RFC 7641); raises as `request` does. The callback gets whole, fresh notifications.

        If the peer refuses, or answers without Observe, `first` says so and the observation is not active.
        """
        return await self._requester.observe(message, peer, on_notification)

    # -- telling -------------------------------------------------------------------------------------

    def notify(self, peer: Address, message: Message, token: bytes, *, on_result: OnResult | None = None) -> None:
        """Send a confirmable notification; the caller sets Observe. Those of one token go out one by one.

        A large one is cut to its first block; the observer asks for the rest with GET. After a reset or a
        time-out, notifications of the token that still wait end the same way. In a queue of more than
        `max_queued` the oldest is left out, and ends as the next one does. A closed endpoint sends nothing,
        and no result comes.
        """
        if self.closed:
            return
        self._responder.notify(peer, message, token, on_result)

    def tell(self, message: Message, peer: Address, *, says_so: bool = True) -> None:
        """Send a non-confirmable request that wants no answer (RFC 7967), once; whether it arrives, nobody learns.

        says_so: False leaves out the option, for peers that reset what has one that they do not know.

        Raises:
            Unreachable: it could not be sent.
        """
        mid = self._peers.next_mid(peer, self._loop.time())
        if says_so:
            message.opt.no_response = _NO_ANSWER
        data = encode(message, Type.NON, mid, message.token)
        self._tapped("out", peer, data)
        self._send(data, peer)

    def acknowledge(self, request: Message) -> None:
        """Send the empty ACK of a request at once: its handler will take long, or never answer."""
        self._responder.acknowledge(request)

    def answer(self, request: Message, response: Message, *, on_result: OnResult | None = None) -> None:
        """Answer a request that is being served by a confirmable message under the request's own message ID.

        So the stock client answers what it executes: nothing is acknowledged first. The handler then returns None.
        """
        self._responder.answer(request, response, on_result)

    def ignore(self, request: Message) -> None:
        """Take a request as never received: its retransmission comes to the handler as a new one."""
        self._peers.forget(request.remote, request.mid)

    async def ping(self, peer: Address) -> None:
        """Ask whether a peer is there (RFC 7252 section 4.3): an empty confirmable message, which it resets.

        Raises:
            TimedOut: it does not answer.
            NetworkError: there is no way to it.
        """
        done: asyncio.Future[NetworkError | None] = self._loop.create_future()

        def ended(outcome: Outcome, error: NetworkError | None) -> None:
            if outcome == "timed out" and error is None:
                error = TimedOut(f"ping {text_of(peer)}: no answer to {transmission.tries} transmissions")
            if not done.done():
                done.set_result(error)

        transmission = self._send_confirmable(blank(codes.EMPTY), peer, b"", ended)
        try:
            error = await done
        finally:
            transmission.cancel()
        if error is not None:
            raise error

    async def close(self) -> None:
        """Stop everything that is under way; requests that wait raise Unreachable."""
        self.abort()
        tasks = [task for task in self._tasks if task is not asyncio.current_task(self._loop)]
        await asyncio.gather(*tasks, return_exceptions=True)

    def abort(self) -> None:
        """Fall silent at once, as a device does that loses power; callable from the loop's thread."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._flow.close()
        for transmission in list(self._transmissions.values()):
            transmission.cancel()
        self._transmissions.clear()
        for waiting in list(self._waiting.values()):
            waiting.fail("the endpoint was closed")
        for observation in self._observations.values():
            observation.active = False
        self._observations.clear()
        self._responder.abort()
        me = asyncio.current_task(self._loop)  # a handler may close its endpoint, and go on
        for task in self._tasks:
            if task is not me:
                task.cancel()

    def _report(self, what: str, error: Exception) -> None:
        self._loop.call_exception_handler({"message": what, "exception": error})

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- sending -------------------------------------------------------------------------------------

    def _send(self, data: bytes, peer: Address) -> None:
        if self._socket is not None:
            self._socket.send(data, peer)

    def _send_quietly(self, data: bytes, peer: Address) -> None:
        """Send a reply: if it cannot be sent, the peer's retransmission asks for it again."""
        try:
            self._send(data, peer)
        except NetworkError:
            pass

    def _tapped(self, direction: Literal["in", "out"], peer: Address, data: bytes) -> None:
        if self._tap is not None:
            self._tap(direction, peer, data, round(self._loop.time() * 1e9))

    def _happened(self, peer: Address, event: Event) -> None:
        if self._tell is not None:
            self._tell(peer, event, round(self._loop.time() * 1e9))

    def _unreadable(self, peer: Address, data: bytes, why: str) -> None:
        self.malformed += 1
        if self._tell_unreadable is not None:
            self._tell_unreadable(peer, data, why, round(self._loop.time() * 1e9))

    def _send_confirmable(
        self,
        message: Message,
        peer: Address,
        token: bytes,
        on_end: Callable[[Outcome, NetworkError | None], None],
        mid: int | None = None,
    ) -> Transmission:
        """Send a message with a token, confirmably; under this message ID if it is given and not under way.

        Raises:
            NetworkError: it cannot be sent at all.
        """
        if mid is None or (peer, mid) in self._transmissions:
            mid = self._peers.next_mid(peer, self._loop.time())
        data = encode(message, Type.CON, mid, token)
        key = peer, mid
        parameters = self.parameters

        def ended(outcome: Outcome, error: NetworkError | None) -> None:
            self._transmissions.pop(key, None)
            if outcome == "timed out":
                self._happened(peer, Event("gave up", error.message if error is not None else "", mid=mid))
            on_end(outcome, error)

        def send(data: bytes) -> None:
            self._tapped("out", peer, data)
            self._send(data, peer)

        jitter = 1 + self._peers.random.random() * (parameters.ack_random_factor - 1)
        transmission = Transmission(
            self._flow, peer, mid, send, data, parameters.ack_timeout * jitter, parameters.max_retransmit + 1, ended
        )
        self._transmissions[key] = transmission
        try:
            self._flow.begin(transmission)
        except NetworkError:
            del self._transmissions[key]
            raise
        return transmission

    def _send_empty(self, kind: Type, mid: int, peer: Address) -> bytes:
        data = empty(kind, mid)
        if kind == Type.ACK:
            data += self.parameters.empty_ack_tail
        self._tapped("out", peer, data)
        self._send_quietly(data, peer)
        return data

    def _send_again(self, reply: bytes, peer: Address) -> None:
        self._tapped("out", peer, reply)
        self._send_quietly(reply, peer)

    def _lost(self, peer: Address, why: NetworkError) -> None:
        """Forget a peer whose connection has ended: nothing more can come from it."""
        if self._socket is None:
            return
        self._happened(peer, Event("closed", why.message))
        self._flow.forget(peer)
        for (of, _), transmission in list(self._transmissions.items()):
            if of == peer:
                transmission.end("timed out", why)
        for (of, _), waiting in list(self._waiting.items()):
            if of == peer:
                waiting.fail(why.message, cause=why)
        for key, observation in list(self._observations.items()):
            if key[0] == peer:
                observation.active = False
                del self._observations[key]
        self._responder.lost(peer)
        self._peers.drop(peer)
        if self.on_lost is not None:
            try:
                self.on_lost(peer, why)
            except Exception as error:  # a listener's defect must not silence the endpoint; the loop reports it
                self._report("what hears of lost connections failed", error)
