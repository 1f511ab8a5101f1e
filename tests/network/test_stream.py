from __future__ import annotations

import asyncio
import hashlib
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import NetworkError, TimedOut, Unreachable
from pdmlab.network.download import Download, download
from pdmlab.network.fabric import Fabric, Packet
from pdmlab.network.link import Link
from pdmlab.network.segment import Segment
from pdmlab.network.stream import Stream

MS = 1_000_000
MakeDesk = Callable[..., Any]  # the desk fixture of conftest.py


def fetch(desk: Any, window: int, receive_buffer: int = 4096) -> Download:
    """Download through a window of the board's stack."""
    desk.net.link = desk.net.link.with_(receive_buffer=window)
    return desk.run(lambda: download(desk.net, "downloads.pdmlab", "/file", receive_buffer))


# -- throughput --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [128, 256, 1024, 2 * 536, 4 * 536])
@pytest.mark.parametrize("round_trip_ms", [20, 100, 600])
def test_a_small_window_limits_throughput_to_window_over_round_trip(
    desk: MakeDesk, window: int, round_trip_ms: int
) -> None:
    got = fetch(desk(Link.of("ethernet", latency=round_trip_ms * MS // 2, jitter=0)), window)
    assert got.content == desk().content
    rounds = math.ceil(len(got.content) / window) + 1
    assert got.throughput == pytest.approx(window / round_trip_ms * 1000, rel=0.02 + 1 / rounds)


@pytest.mark.parametrize("bandwidth", [64_000, 1_000_000, 10_000_000])
def test_a_large_window_leaves_the_bandwidth_as_the_limit(desk: MakeDesk, bandwidth: int) -> None:
    link = Link.of("ethernet", down=bandwidth, jitter=0, mss=1460)
    got = fetch(desk(link), 65535)
    of_payload = 1460 / (1460 + 20 + 20 + 38)  # TCP and IPv4 headers, Ethernet framing
    assert got.throughput == pytest.approx(bandwidth / 8 * of_payload, rel=0.03)


def test_slow_start_sends_ten_segments_then_doubles(desk: MakeDesk) -> None:
    board = desk(Link.of("ethernet", latency=500 * MS, jitter=0, down=0, up=0, mss=1000))
    bursts: dict[int, int] = {}

    def tap(packet: Packet, arrived: int | None) -> None:
        if isinstance(packet.body, Segment) and packet.body.data and packet.source[1] == 80:
            bursts[packet.sent // SECOND] = bursts.get(packet.sent // SECOND, 0) + len(packet.body.data)

    board.fabric.tap = tap
    fetch(board, 65535)
    first, second, third, *_ = bursts.values()
    assert (first, second, third) == (10_000, 20_000, 40_000)  # RFC 6928, then RFC 5681 §3.1


def test_the_handshake_takes_one_round_trip(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    board = fabric.host("board", Link(latency=300 * MS))
    fabric.host("cloud").listen(1, lambda _: None)

    async def connect() -> int:
        await board.connect(("cloud", 1))
        return fabric.now()

    assert clock.call_async(connect()) == pytest.approx(600 * MS, abs=10)


def test_the_handshake_and_the_end_of_a_connection_on_the_wire(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    board = fabric.host("board", Link(latency=10 * MS, mss=536, receive_buffer=1024))
    wire: list[str] = []
    fabric.tap = lambda packet, _: wire.append(f"{'<' if packet.source[1] == 7 else '>'} {packet.body}")

    def echo(stream: Stream) -> None:
        def hear() -> None:
            data = stream.read_now(100)
            if data:
                stream.write_now(data)
            elif data == b"":
                stream.close()

        stream.on_event = hear

    fabric.host("cloud").listen(7, echo)

    async def talk() -> bytes:
        stream = await board.connect(("cloud", 7))
        await stream.write(b"hello")
        answer = await stream.read(100)
        stream.close()
        await asyncio.sleep(1)
        return answer

    assert clock.call_async(talk()) == b"hello"
    assert wire == [
        "> TCP S seq 0 ack 0 win 1024 len 0",
        "< TCP SA seq 0 ack 1 win 65535 len 0",
        "> TCP A seq 1 ack 1 win 1024 len 0",
        "> TCP A seq 1 ack 1 win 1024 len 5",
        "< TCP A seq 1 ack 6 win 65530 len 5",  # the echo carries the ACK
        "> TCP FA seq 6 ack 6 win 1019 len 0",  # and so does the end
        "< TCP A seq 6 ack 7 win 65530 len 0",
        "< TCP FA seq 6 ack 7 win 65530 len 0",
        "> TCP A seq 7 ack 7 win 1019 len 0",
    ]
    assert not board._streams and not fabric.host("cloud")._streams


@pytest.mark.parametrize(
    ("stack", "wait_ms"), [("lwip", (0, 250)), ("linux", (40, 40))], ids=["the next tick of 250 ms", "40 ms"]
)
def test_one_segment_is_acknowledged_late_and_a_second_has_both_acknowledged(
    clock: DeviceClock, stack: str, wait_ms: tuple[int, int]
) -> None:
    fabric = Fabric(clock)
    board, cloud = fabric.host("board", Link(stack=stack, mss=100, receive_buffer=4000)), fabric.host("cloud")
    accepted: list[Stream] = []
    cloud.listen(1, accepted.append)
    acks: list[tuple[int, int]] = []

    async def talk() -> tuple[int, int]:
        await board.connect(("cloud", 1))
        await asyncio.sleep(0.03)
        fabric.tap = lambda packet, _: acks.append((packet.sent, packet.body.ack)) if packet.target[1] == 1 else None
        sent = fabric.now()
        accepted[0].write_now(b"x" * 100)
        await asyncio.sleep(1)
        accepted[0].write_now(b"x" * 200)
        await asyncio.sleep(0.001)
        return sent, fabric.now()

    sent, end = clock.call_async(talk())
    (late, first), (soon, both) = acks
    assert (first, both) == (101, 301) and wait_ms[0] * MS <= late - sent <= wait_ms[1] * MS + 1000
    assert end - soon <= MS


def test_nanostack_sends_one_segment_at_a_time_and_acknowledges_each_at_once(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    link = Link(stack="nanostack", latency=50 * MS, mss=300, receive_buffer=2048)
    board, cloud = fabric.host("board", link), fabric.host("cloud")
    accepted: list[Stream] = []
    cloud.listen(1, accepted.append)
    wire: list[str] = []

    async def talk() -> None:
        stream = await board.connect(("cloud", 1))
        await asyncio.sleep(1)
        start = fabric.now()
        fabric.tap = lambda packet, _: wire.append(f"{(packet.sent - start) // MS} {packet.body}")
        await stream.write(b"x" * 700)
        await asyncio.sleep(1)
        wire.append("-- and back")
        accepted[0].read_now(5000)
        accepted[0].write_now(b"y" * 700)
        await asyncio.sleep(1)

    clock.call_async(talk())
    sent = [line for line in wire[: wire.index("-- and back")] if not line.endswith("len 0")]
    assert [line.split()[0] for line in sent] == ["0", "140", "280"]  # a round trip and Linux's delayed ACK apart
    back = wire[wire.index("-- and back") + 1 :]
    assert [line.split()[-1] for line in back if " seq 701 " in line and line.endswith("len 0")] == ["0"] * 3


def test_nanostack_drops_what_comes_too_early_and_waits_for_it_again(clock: DeviceClock) -> None:
    with DeviceClock() as other:
        counts = {}
        for stack, on in (("nanostack", clock), ("lwip", other)):
            fabric = Fabric(on)
            link = Link(stack=stack, latency=20 * MS, mss=300, receive_buffer=2048)
            board, cloud = fabric.host("board", link), fabric.host("cloud")
            content = bytes(range(256)) * 20
            cloud.listen(1, lambda stream, content=content: stream.write_now(content) and stream.close())
            carry, lost = fabric.carry, []

            def losing(sender: Any, packet: Packet, cloud: Any = cloud, carry: Any = carry, lost: Any = lost) -> None:
                if sender is cloud and isinstance(packet.body, Segment) and packet.body.seq == 901 and not lost:
                    lost.append(packet)
                else:
                    carry(sender, packet)

            fabric.carry = losing  # type: ignore[method-assign]

            async def hear(board: Any = board) -> bytes:
                stream = await board.connect(("cloud", 1))
                got = b""
                while piece := await stream.read(700):
                    got += piece
                stream.close()
                await asyncio.sleep(1)
                return got

            assert on.call_async(hear()) == content
            counts[stack] = fabric.traffic.retransmissions
    assert counts["lwip"] == 1 < counts["nanostack"]


@pytest.mark.parametrize(("stack", "pieces"), [("lwip", [100, 100, 50]), ("linux", [250])])
def test_recv_gives_one_segment_on_lwip_and_all_there_is_elsewhere(
    clock: DeviceClock, stack: str, pieces: list[int]
) -> None:
    fabric = Fabric(clock)
    board, cloud = fabric.host("board", Link(stack=stack, mss=100, receive_buffer=1000)), fabric.host("cloud")
    accepted: list[Stream] = []
    cloud.listen(1, accepted.append)

    async def talk() -> list[int]:
        stream = await board.connect(("cloud", 1))
        await asyncio.sleep(0.1)
        accepted[0].write_now(b"x" * 250)
        await asyncio.sleep(0.1)
        return [len(data) for _ in pieces if (data := stream.read_now(4096))]

    assert clock.call_async(talk()) == pieces


def test_segments_are_cut_to_half_of_the_largest_window(desk: MakeDesk) -> None:
    board = desk(Link.of("ethernet", jitter=0))
    sizes: list[int] = []

    def tap(packet: Packet, arrived: int | None) -> None:
        if isinstance(packet.body, Segment) and packet.body.data and packet.source[1] == 80:
            sizes.append(len(packet.body.data))

    board.fabric.tap = tap
    fetch(board, 1000)  # above 536 B, where Linux begins to halve
    assert set(sizes[:-1]) == {500}


def test_a_short_segment_waits_for_the_ack_of_those_before_it(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    board, cloud = fabric.host("board", Link(stack="lwip", latency=100 * MS, mss=536)), fabric.host("cloud")
    cloud.listen(1, lambda stream: None)
    sent: list[tuple[int, int]] = []

    async def talk() -> None:
        stream = await board.connect(("cloud", 1))
        fabric.tap = lambda packet, _: (
            sent.append((packet.sent // MS, len(packet.body.data))) if packet.body.data else None
        )
        start = fabric.now() // MS
        for word in (b"a", b"bc", b"def"):
            await stream.write(word)
        await asyncio.sleep(1)
        sent[:] = [(when - start, size) for when, size in sent]

    clock.call_async(talk())
    # Nagle: the rest goes in one when the first is acknowledged, a round trip and a delayed ACK of 40 ms later.
    assert sent == [(0, 1), (240, 5)]


# -- loss ----------------------------------------------------------------------------------------------------


def test_loss_makes_a_download_slower_and_leaves_its_content_right(desk: MakeDesk) -> None:
    seconds = []
    with DeviceClock() as one, DeviceClock() as two:
        for clock, loss in ((one, 0.0), (two, 0.03)):
            board = type(desk())(clock, Link.of("ethernet", latency=10 * MS, loss=loss))
            got = fetch(board, 8192)
            assert got.content == board.content
            seconds.append(got.duration)
    assert seconds[1] > 2 * seconds[0]


def lose_once(fabric: Fabric, sequence: int) -> None:
    """Lose the first segment from port 80 with that sequence number."""
    server = fabric.host("downloads.pdmlab")
    carry, lost = fabric.carry, []

    def losing(sender: Any, packet: Packet) -> None:
        if sender is server and isinstance(packet.body, Segment) and packet.body.seq == sequence and not lost:
            lost.append(packet)
        else:
            carry(sender, packet)

    fabric.carry = losing  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("window", "waits_for_a_time_out"),
    [(1460 * 8, False), (1460, True)],
    ids=["three duplicate ACKs repair it", "with one segment under way only a time-out does"],
)
def test_how_one_lost_segment_is_repaired(desk: MakeDesk, window: int, waits_for_a_time_out: bool) -> None:
    link = Link.of("ethernet", latency=10 * MS, jitter=0, mss=1460)
    board = desk(link)
    lose_once(board.fabric, 1460 * 20 + 1)
    got = fetch(board, window)
    assert got.content == board.content
    assert (max(got.latencies) >= 200 * MS) == waits_for_a_time_out  # Linux: TCP_RTO_MIN


@pytest.mark.parametrize(
    ("stack", "first_s", "most_s", "tries", "grain_s"),
    [
        ("linux", 0.24, 120, 15, 0.001),  # TCP_RTO_MIN and a delayed ACK; at most TCP_RTO_MAX
        ("lwip", 1.5, 48, 6, 0.5),  # three ticks, of which the first is under way; tcp-maxrtx
    ],
    ids=["linux", "lwip"],
)
def test_time_outs_double_until_the_peer_is_given_up(
    clock: DeviceClock, stack: str, first_s: float, most_s: float, tries: int, grain_s: float
) -> None:
    fabric = Fabric(clock)
    board, cloud = fabric.host("board", Link(stack=stack)), fabric.host("cloud")
    accepted: list[Stream] = []
    cloud.listen(1, accepted.append)
    times: list[float] = []

    async def talk() -> None:
        stream = await board.connect(("cloud", 1))
        for _ in range(4):  # until lwIP's variance has come down to three ticks
            await stream.write(b"hello")
            await asyncio.sleep(0.3)
            accepted[0].read_now(100)
        await asyncio.sleep(1)
        cloud.online = False
        fabric.tap = lambda packet, _: times.append(packet.sent / SECOND)
        await stream.write(b"anybody there?")
        await stream.read(1)

    with pytest.raises(TimedOut, match=r"no longer answers.*NSAPI_ERROR_CONNECTION_TIMEOUT, -3017"):
        clock.call_async(talk())
    waits = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert waits[0] == pytest.approx(first_s, abs=0.01 if stack == "linux" else grain_s)
    doubled = [min(wait * 2, most_s) for wait in [waits[0] if stack == "linux" else first_s, *waits[1:-1]]]
    assert waits[1:] == pytest.approx(doubled, abs=grain_s) and len(waits) == tries


def test_a_shut_window_is_probed_until_it_opens(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    board, cloud = fabric.host("board", Link(latency=MS)), fabric.host("cloud")
    written: list[int] = []
    cloud.listen(1, lambda stream: written.append(stream.write_now(b"x" * 5000)))
    carry, dropped = fabric.carry, []

    def losing(sender: Any, packet: Packet) -> None:
        # The update that opens the window again is lost: without probes both would wait for ever.
        segment = packet.body
        if sender is board and isinstance(segment, Segment) and segment.window == 1000 and segment.ack == 1001:
            dropped.append(segment)
        else:
            carry(sender, packet)

    async def talk() -> bytes:
        stream = await board.connect(("cloud", 1), receive_buffer=1000)
        await asyncio.sleep(10)
        fabric.carry = losing  # type: ignore[method-assign]
        got = await stream.read(1000)
        await asyncio.sleep(0)
        fabric.carry = carry  # type: ignore[method-assign]
        while len(got) < 5000:
            got += await stream.read(1000)
        return got

    assert clock.call_async(talk()) == b"x" * 5000
    assert dropped


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 20_000),
    writes=st.integers(1, 5000),
    window=st.integers(1, 9000),
    mss=st.integers(1, 1460),
    loss=st.sampled_from([0.0, 0.05, 0.1]),
    jitter_ms=st.integers(0, 80),
    in_order=st.booleans(),
    half_duplex=st.booleans(),
    stack=st.sampled_from(["lwip", "nanostack", "linux"]),
    seed=st.integers(0, 2**32),
)
def test_a_stream_delivers_any_bytes_whole_and_in_order(
    size: int,
    writes: int,
    window: int,
    mss: int,
    loss: float,
    jitter_ms: int,
    in_order: bool,
    half_duplex: bool,
    stack: str,
    seed: int,
) -> None:
    data = hashlib.shake_256(bytes(8)).digest(min(size, 200 * min(window, mss)))
    link = Link(
        up=10**6, down=10**6, latency=20 * MS, jitter=jitter_ms * MS, loss=loss, mss=mss, in_order=in_order,
        half_duplex=half_duplex, stack=stack,
    )  # fmt: skip
    with DeviceClock() as clock:
        fabric = Fabric(clock, seed)
        board, cloud = fabric.host("board", link), fabric.host("cloud")

        async def serve(stream: Stream) -> None:
            for start in range(0, len(data), writes):
                await stream.write(data[start : start + writes])
            stream.close()

        tasks: list[asyncio.Task[None]] = []
        cloud.listen(1, lambda stream: tasks.append(clock.loop.create_task(serve(stream))))

        async def hear() -> bytes:
            stream = await board.connect(("cloud", 1), window)
            got = b""
            while piece := await stream.read(700):
                got += piece
            stream.close()
            await asyncio.sleep(600)
            return got

        assert clock.call_async(asyncio.wait_for(hear(), 100_000)) == data
        assert not board._streams and not cloud._streams  # closed in full on both sides


# -- errors --------------------------------------------------------------------------------------------------


async def broken(fabric: Fabric, peer: tuple[str, int]) -> int:
    try:
        await fabric.host("board", Link(latency=MS)).connect(peer)
    except NetworkError as error:
        return error.code
    return 0


def test_a_port_where_nobody_listens_refuses_and_a_silent_host_times_out(clock: DeviceClock, fabric: Fabric) -> None:
    fabric.host("cloud")
    fabric.host("asleep").online = False
    assert clock.call_async(broken(fabric, ("cloud", 9))) == -3004
    assert clock.call_async(broken(fabric, ("asleep", 9))) == -3017
    assert clock.call_async(broken(fabric, ("nowhere", 9))) == -3009
    assert clock.now() > 60 * SECOND  # six tries of a SYN, doubling from a second


def test_a_reset_host_is_not_remembered_and_its_peer_learns_on_its_next_word(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    board, cloud = fabric.host("board", Link(latency=MS)), fabric.host("cloud")
    accepted: list[Stream] = []
    cloud.listen(1, accepted.append)

    async def talk() -> None:
        stream = await board.connect(("cloud", 1))
        await asyncio.sleep(1)
        board.forget()
        with pytest.raises(Unreachable, match="went down with its interface"):
            await stream.read(1)
        await accepted[0].write(b"still there?")
        await accepted[0].read(1)

    with pytest.raises(Unreachable, match=r"reset the connection \(NSAPI_ERROR_CONNECTION_LOST, -3016\)"):
        clock.call_async(talk())


def test_closing_with_unread_data_resets_the_connection(clock: DeviceClock) -> None:
    fabric = Fabric(clock)
    board, cloud = fabric.host("board", Link(latency=MS)), fabric.host("cloud")
    accepted: list[Stream] = []

    def greet(stream: Stream) -> None:
        accepted.append(stream)
        stream.write_now(b"unread")

    cloud.listen(1, greet)

    async def talk() -> None:
        stream = await board.connect(("cloud", 1))
        await asyncio.sleep(1)
        stream.close()
        await accepted[0].read(1)

    with pytest.raises(Unreachable, match="reset the connection"):
        clock.call_async(talk())
    assert not board._streams and not cloud._streams
