"""The websocket channel over real sockets, with the `websockets` library as the independent client."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from pdmlab.service import http_guard, websockets
from pdmlab.service.http import HttpServer
from pdmlab.service.websocket_guard import GuardedWebSocket
from tests.service.restlab import RestLab

CHANNEL = "/v2/notification/websocket"
SOCKET = "/v2/notification/websocket-connect"


class SocketLab(RestLab):
    """A service that is reached over a socket too."""

    def _start(self) -> None:
        super()._start()
        self.http = self.run(HttpServer.open(self.app))

    def close(self) -> None:
        self.run(self.http.close())
        super().close()

    @asynccontextmanager
    async def socket(self, key: str | None = None, **options: Any) -> AsyncIterator[ClientConnection]:
        """Open a socket as ws4py does it: with the key among the subprotocols, and nowhere else."""
        offered = [Subprotocol("wss"), Subprotocol(f"pelion_{key or self.key}")]
        options.setdefault("subprotocols", offered)
        url = f"ws://127.0.0.1:{self.http.port}{SOCKET}"
        async with connect(url, proxy=None, compression=None, **options) as socket:
            yield socket

    def leave(self, id: str, *ids: str) -> None:
        self.core.channels.put(id, {"async-responses": [{"id": each, "status": 200} for each in ids]})


@pytest.fixture
def lab(database: str) -> Iterator[SocketLab]:
    lab = SocketLab(database, hold_s=30)
    yield lab
    lab.close()


def ids(text: str | bytes) -> list[str]:
    assert isinstance(text, str)  # a text frame
    return [each["id"] for each in json.loads(text).get("async-responses", ())]


async def code(socket: ClientConnection) -> int | None:
    """Wait for the socket to be closed; return the code."""
    with pytest.raises(ConnectionClosed):
        while True:
            await socket.recv()
    return socket.close_code


def status(lab: SocketLab, key: str | None = None) -> Coroutine[Any, Any, Any]:
    async def get() -> Any:
        answer = await lab.acall("GET", CHANNEL, key=key)
        return answer.json() if answer.status_code == 200 else answer.status_code

    return get()


def test_a_channel_is_made_once_and_says_whether_it_is_connected_and_what_waits(lab: SocketLab) -> None:
    id = lab.key_id(lab.key)

    async def story() -> None:
        assert (await lab.acall("GET", CHANNEL)).status_code == 404
        made = await lab.acall("PUT", CHANNEL)
        assert (made.status_code, made.json()) == (201, {"status": "disconnected", "queueSize": 0})
        lab.leave(id, "a", "b")
        again = await lab.acall("PUT", CHANNEL, json={"serialization": {"type": "v2"}})
        assert (again.status_code, again.json()) == (200, {"status": "disconnected", "queueSize": 2})
        async with lab.socket() as socket:
            assert ids(await socket.recv()) == ["a", "b"]
            while await status(lab) != {"status": "connected", "queueSize": 0}:
                await asyncio.sleep(0)
        while await status(lab) != {"status": "disconnected", "queueSize": 0}:
            await asyncio.sleep(0.001)
        assert (await lab.acall("DELETE", CHANNEL)).status_code == 204
        assert (await lab.acall("DELETE", CHANNEL)).status_code == 404

    lab.run(story())


def test_what_comes_is_sent_at_once_in_order_each_message_in_a_text_frame(lab: SocketLab) -> None:
    id = lab.key_id(lab.key)

    async def story() -> None:
        lab.leave(id, "before the channel")
        await lab.acall("PUT", CHANNEL)
        async with lab.socket() as socket:
            assert ids(await socket.recv()) == ["before the channel"]
            for n in range(20):
                lab.leave(id, f"{n}")
                assert ids(await socket.recv()) == [f"{n}"]
            lab.leave(id, *map(str, range(1500)))
            got = ids(await socket.recv())
            assert len(got) == 1000
            assert got + ids(await socket.recv()) == [str(n) for n in range(1500)]

    lab.run(story())


@pytest.mark.parametrize("offered", [["wss", "pelion_{key}"], ["pelion_{key}"], None])
def test_the_key_is_in_a_subprotocol_or_in_the_header_and_is_never_sent_back(
    lab: SocketLab, offered: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        await lab.acall("PUT", CHANNEL)
        given = {"Authorization": f"Bearer {lab.key}"} if offered is None else {}
        names = None if offered is None else [Subprotocol(each.format(key=lab.key)) for each in offered]
        async with lab.socket(subprotocols=names, additional_headers=given, origin="wss://127.0.0.1") as socket:
            assert socket.subprotocol == ("wss" if offered and "wss" in offered else None)
            assert socket.response is not None
            assert lab.key not in str(socket.response.headers)

    logging.getLogger("websockets.client").setLevel(logging.INFO)  # the client's own log is the client's affair
    with caplog.at_level(logging.DEBUG):
        lab.run(story())
    assert lab.key not in caplog.text


def test_a_bad_key_is_closed_with_1008_and_no_channel_with_1011(lab: SocketLab) -> None:
    async def story() -> list[int | None]:
        codes = []
        async with lab.socket("ak_nobody") as socket:
            codes.append(await code(socket))
        async with lab.socket(subprotocols=None) as socket:
            codes.append(await code(socket))
        async with lab.socket() as socket:
            codes.append(await code(socket))
        return codes

    assert lab.run(story()) == [1008, 1008, 1011]


def test_a_newer_socket_takes_over_and_nothing_is_sent_to_both(lab: SocketLab) -> None:
    id = lab.key_id(lab.key)

    async def story() -> None:
        await lab.acall("PUT", CHANNEL)
        async with lab.socket() as older, lab.socket() as newer:
            assert await code(older) == 1001
            lab.leave(id, "x")
            assert ids(await newer.recv()) == ["x"]
            # One that another process opens takes over as well.
            lab.core.channels.table.take_over(id, "WEB_SOCKET", "elsewhere", 60)
            assert await code(newer) == 1001
        assert await status(lab) == {"status": "connected", "queueSize": 0}

    lab.run(story())


def test_a_deleted_channel_and_a_revoked_key_close_the_socket(lab: SocketLab) -> None:
    key = lab.new_key()
    id = lab.key_id(key)

    async def story() -> list[int | None]:
        codes = []
        await lab.acall("PUT", CHANNEL, key=key)
        async with lab.socket(key) as socket:
            assert (await lab.acall("DELETE", CHANNEL, key=key)).status_code == 204
            codes.append(await code(socket))
        await lab.acall("PUT", CHANNEL, key=key)
        async with lab.socket(key) as socket:
            lab.leave(id, "it is served")
            await socket.recv()
            assert (await lab.acall("DELETE", f"/v3/api-keys/{id}")).status_code == 204
            codes.append(await code(socket))
        return codes

    assert lab.run(story()) == [1001, 1008]


def test_a_service_that_stops_closes_with_1012_and_what_waits_is_sent_after_its_restart(lab: SocketLab) -> None:
    id = lab.key_id(lab.key)

    async def before() -> int | None:
        await lab.acall("PUT", CHANNEL)
        async with lab.socket() as socket:
            lab.leave(id, "sent")
            assert ids(await socket.recv()) == ["sent"]
            lab.core.channels.drain()
            closed = await code(socket)
            lab.leave(id, "kept")
        async with lab.socket() as socket:
            assert await code(socket) == 1012
        return closed

    assert lab.run(before()) == 1012
    lab.run(lab.http.close())
    lab.restart()

    async def after() -> list[str]:
        async with lab.socket() as socket:
            return ids(await socket.recv())

    assert lab.run(after()) == ["kept"]


def test_a_client_that_goes_away_loses_nothing(lab: SocketLab) -> None:
    id = lab.key_id(lab.key)

    async def story() -> None:
        await lab.acall("PUT", CHANNEL)
        async with lab.socket() as socket:
            socket.transport.abort()
            while (await status(lab))["status"] == "connected":
                await asyncio.sleep(0.001)
        lab.leave(id, "x")
        async with lab.socket() as socket:
            assert ids(await socket.recv()) == ["x"]
            await socket.close(1000)
            assert socket.close_code == 1000

    lab.run(story())


def test_a_client_that_talks_is_listened_to_no_more_than_it_may(lab: SocketLab) -> None:
    id = lab.key_id(lab.key)

    async def story() -> int | None:
        await lab.acall("PUT", CHANNEL)
        async with lab.socket() as socket:
            for _ in range(100):
                await socket.send("hello?")
            lab.leave(id, "x")
            assert ids(await socket.recv()) == ["x"]
            await socket.send("x" * 100_000)
            return await code(socket)

    assert lab.run(story()) == 1009


def bare(lab: SocketLab) -> socket.socket:
    """Return a connection on which a websocket is open, and of which little is read by itself."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", lab.http.port))
    asked = (
        f"GET {SOCKET} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {lab.key}\r\nupgrade: websocket\r\n"
        "connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    )
    connection.sendall(asked.encode())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += connection.recv(1)
    assert answer.startswith(b"HTTP/1.1 101")
    return connection


def guard(lab: SocketLab) -> GuardedWebSocket:
    (found,) = (each for each in lab.http._server.server_state.connections if isinstance(each, GuardedWebSocket))
    return found


def test_what_a_slow_reader_was_not_sent_yet_is_kept_when_the_service_is_killed(lab: SocketLab) -> None:
    id, names = lab.key_id(lab.key), [f"x{number}" for number in range(2500)]

    async def story() -> bytes:
        await lab.acall("PUT", CHANNEL)
        events = [{"id": each, "status": 200, "payload": "x" * 4000} for each in names]
        lab.core.channels.put(id, {"async-responses": events})
        connection = await asyncio.to_thread(bare, lab)
        while (await status(lab))["status"] != "connected":
            await asyncio.sleep(0)
        transport = guard(lab).transport
        while not transport.get_write_buffer_size():
            await asyncio.sleep(0)
        transport.abort()  # what is in the process is lost, what the operating system has arrives
        received = b""
        with connection:
            while part := await asyncio.to_thread(connection.recv, 1 << 20):
                received += part
        return received

    received, told = lab.run(story()), []
    while len(received) >= 10:
        size = received[1] if received[1] < 126 else int.from_bytes(received[2 : 4 if received[1] == 126 else 10])
        begin = {126: 4, 127: 10}.get(received[1], 2)
        if len(received) < begin + size:
            break
        told += ids(received[begin : begin + size].decode())
        received = received[begin + size :]

    async def waiting() -> list[str]:
        found = []
        while (batch := lab.core.channels.outbox.next(id)) is not None:
            found += ids(batch.text)
            lab.core.channels.outbox.taken(batch)
        return found

    kept = lab.run(waiting())
    assert told and kept and set(told) | set(kept) == set(names)
    assert len(told) + len(kept) <= len(names) + 70  # of one message it may be unknown whether it arrived


def test_pings_of_one_who_reads_no_pongs_have_an_end(lab: SocketLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_guard, "STALL_S", 0.05)
    most = 0

    async def watch(flood: asyncio.Future[None]) -> None:
        nonlocal most
        while not flood.done():
            for each in lab.http._server.server_state.connections:
                most = max(most, each.transport.get_write_buffer_size())
            await asyncio.sleep(0.001)

    async def story() -> None:
        await lab.acall("PUT", CHANNEL)
        connection = await asyncio.to_thread(bare, lab)
        pings = (b"\x89\xfd" + bytes(4) + b"p" * 125) * 5000

        def flood() -> None:
            with connection:
                for _ in range(60):  # 39 MB
                    connection.sendall(pings)

        flooding = asyncio.ensure_future(asyncio.to_thread(flood))
        await watch(flooding)
        with pytest.raises(OSError):
            await flooding
        while any(isinstance(each, GuardedWebSocket) for each in lab.http._server.server_state.connections):
            await asyncio.sleep(0.001)

    lab.run(story())
    assert most <= 2 * GuardedWebSocket.piece


def test_a_call_without_an_upgrade_is_told_that_it_needs_one(lab: SocketLab) -> None:
    answer = lab.call("GET", SOCKET)
    assert (answer.status_code, answer.text) == (426, "UPGRADE_REQUIRED")
    assert answer.headers["upgrade"] == "websocket"


def test_slashes_do_not_matter_to_a_socket_either(lab: SocketLab) -> None:
    async def story() -> int | None:
        url = f"ws://127.0.0.1:{lab.http.port}/{SOCKET}/"
        offered = [Subprotocol("wss"), Subprotocol(f"pelion_{lab.key}")]
        async with connect(url, proxy=None, subprotocols=offered) as socket:
            return await code(socket)

    assert lab.run(story()) == 1011


def test_a_connected_socket_keeps_its_channel_and_a_silent_process_loses_it(
    lab: SocketLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websockets, "LEASE_S", 0.03)
    id = lab.key_id(lab.key)
    held: Callable[[], float] = lambda: (lab.core.channels.table.find(id) or {})["held_until"]

    async def story() -> None:
        await lab.acall("PUT", CHANNEL)
        async with lab.socket():
            while not held():
                await asyncio.sleep(0)
            first = held()
            while held() <= first + 0.05:  # it is renewed
                await asyncio.sleep(0.005)
        table = lab.core.channels.table
        table.take_over(id, "WEB_SOCKET", "a process that was killed", -1)
        assert (await status(lab))["status"] == "disconnected"

    lab.run(story())
