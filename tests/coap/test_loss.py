"""Two endpoints on a network that loses, repeats and reorders: nothing is done twice, nothing comes back wrong."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from aiocoap import Message
from aiocoap.numbers import codes
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.clock import DeviceClock
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.parameters import TransmissionParameters
from pdmlab.errors import NetworkError
from tests.coap.lossy import Lossy
from tests.coap.wire import OTHER, PEER

NETWORKS = st.builds(
    Lossy,
    seed=st.integers(0, 1 << 32),
    loss=st.floats(0, 0.4),
    copies=st.floats(0, 0.5),
    delay=st.tuples(st.just(0.001), st.floats(0.001, 5)),
)


def body_of(name: str, size: int) -> bytes:
    """Return a body that only this name has."""
    return random.Random(name).randbytes(size)


class Server:
    """Answers each request with a body of its own; slow for some."""

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()
        self.taken: dict[str, bytes] = {}

    async def __call__(self, message: Message, peer: object) -> Message:
        name, size, wait = message.opt.uri_query
        self.served[name] += 1
        self.taken[name] = message.payload
        await asyncio.sleep(float(wait))
        return Message(code=codes.CHANGED, payload=body_of("answer to " + name, int(size)))


async def exchange(network: Lossy, count: int) -> tuple[Server, dict[str, bytes], list[str]]:
    """Send requests of random sizes, some at once; return the server, the answers, and a transcript."""
    transcript: list[str] = []

    def tap(direction: str, peer: object, data: bytes, when: int) -> None:
        transcript.append(f"{when} {direction} {data.hex()}")

    parameters = TransmissionParameters(block_size=64)
    server = Server()
    there = await Endpoint.open(network.opener(PEER), server, parameters=parameters, seed=1, tap=tap)
    here = await Endpoint.open(network.opener(OTHER), parameters=parameters, seed=2, tap=tap)
    draw = random.Random(network.random.random())
    answers: dict[str, bytes] = {}

    async def ask(number: int) -> None:
        await asyncio.sleep(draw.uniform(0, 10))
        name, size = str(number), draw.choice([0, 10, 64, 65, 500])
        request = Message(code=codes.POST, uri_query=(name, str(size), str(draw.choice([0, 0.05, 4]))))
        request.payload = body_of(name, draw.choice([0, 64, 300]))
        try:
            response = await here.request(request, PEER)
        except NetworkError:
            return  # all its transmissions may be lost
        assert response.code == codes.CHANGED
        assert response.payload == body_of("answer to " + name, size)
        answers[name] = server.taken[name]
        assert answers[name] == request.payload

    await asyncio.gather(*(ask(number) for number in range(count)))
    await asyncio.sleep(300)
    await here.close()
    await there.close()
    return server, answers, transcript


@settings(deadline=None, max_examples=40)
@given(NETWORKS, st.integers(1, 4))  # as many uploads of one peer at once as are kept
def test_no_request_is_served_twice_and_no_answer_is_wrong(network: Lossy, count: int) -> None:
    with DeviceClock() as clock:
        server, answers, _ = clock.call_async(exchange(network, count))
    assert all(times == 1 for times in server.served.values())
    for name, payload in server.taken.items():
        assert payload in [body_of(name, size) for size in (0, 64, 300)]
    if network.loss == 0:
        assert len(answers) == count


def test_the_same_seeds_give_the_same_conversation_to_the_nanosecond() -> None:
    def run() -> list[str]:
        with DeviceClock() as clock:
            network = Lossy(seed=3, loss=0.2, copies=0.2, delay=(0.01, 2))
            return clock.call_async(exchange(network, 5))[2]

    first = run()
    assert len(first) > 50
    assert run() == first


@settings(deadline=None, max_examples=40)
@given(NETWORKS)
def test_notifications_are_told_in_order_and_the_last_one_is_told(network: Lossy) -> None:
    told: list[int] = []
    results: list[str] = []

    async def story() -> None:
        async def handler(message: Message, peer: object) -> Message:
            watching.append((peer, message.token))
            return Message(code=codes.CONTENT, payload=b"0", observe=0)

        watching: list[tuple] = []
        there = await Endpoint.open(network.opener(PEER), handler, seed=1)
        here = await Endpoint.open(network.opener(OTHER), seed=2)
        try:
            observation = await here.observe(
                Message(code=codes.GET), PEER, lambda message: told.append(int(message.payload))
            )
            peer, token = watching[0]
            for n in range(1, 9):
                value = Message(code=codes.CONTENT, payload=b"%d" % n, observe=n)
                there.notify(peer, value, token, on_result=results.append)
                await asyncio.sleep(2)
            await asyncio.sleep(900)
            assert observation.active
        except NetworkError:
            pass
        await here.close()
        await there.close()

    with DeviceClock() as clock:
        clock.call_async(story())
    assert told == sorted(set(told))
    if results and results[-1] == "acknowledged":
        assert told[-1] == 8
