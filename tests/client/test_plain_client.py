"""Lwm2mClient as an application has it: beside a program on this machine, and on a board."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.aio import LoopThread
from pdmlab.client import Certificate, Lwm2mClient, PreSharedKey, TableObject
from pdmlab.client.plain.lwm2m_client import close_all
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.tls import tls
from pdmlab.coap.transport import Address, udp
from pdmlab.errors import ConfigError, Lwm2mError, PdmlabError, TimedOut, Unreachable
from pdmlab.lwm2m.content import TEXT
from tests.client.bench import Bench
from tests.client.pki import Authority


class Server:
    """A server in a thread of its own."""

    def __init__(self) -> None:
        self.loop = LoopThread("server")
        self.asked: list[str] = []
        self.peers: dict[str, Address] = {}
        self.endpoint = self.loop.run(Endpoint.open(udp(), self._handle))
        self.uri = f"coap://127.0.0.1:{self.endpoint.address[1]}"
        self._new = threading.Condition()

    async def _handle(self, message: Message, peer: Address) -> Message:
        path = "/".join(message.opt.uri_path)
        with self._new:
            self.asked.append(f"{message.code.name} {path}")
            for query in message.opt.uri_query:
                if query.startswith("ep="):
                    self.peers[query[3:]] = peer
            self._new.notify_all()
        if path == "rd":
            return Message(code=codes.CREATED, location_path=("rd", str(len(self.peers))))
        return Message(code=codes.DELETED if message.code == codes.DELETE else codes.CHANGED)

    def heard(self, what: str, times: int = 1) -> bool:
        with self._new:
            return self._new.wait_for(lambda: sum(each.startswith(what) for each in self.asked) >= times, 20)

    def ask(self, name: str, message: Message) -> Message:
        return self.loop.run(self.endpoint.request(message, self.peers[name]))

    def close(self) -> None:
        self.loop.run(self.endpoint.close())
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def test_an_application_sets_values_and_hears_of_writes(server: Server) -> None:
    pressed: list[str] = []
    lamp = TableObject(3311, {0: {5850: False, 9: pressed.append}})
    with Lwm2mClient("lamp-1", server.uri, objects=[lamp]) as client:
        client.wait_registered()
        assert client.is_registered
        put = Message(code=codes.PUT, uri_path=("3311", "0", "5850"), payload=b"1", content_format=TEXT)
        assert server.ask("lamp-1", put).code == codes.CHANGED
        assert client["/3311/0/5850"] is True
        client["/3/0/9"] = 55
        get = Message(code=codes.GET, uri_path=("3", "0", "9"), accept=TEXT)
        assert server.ask("lamp-1", get).payload == b"55"
        server.ask("lamp-1", Message(code=codes.POST, uri_path=("3311", "0", "9"), payload=b"1"))
        assert pressed == ["1"]
        client.add(TableObject(3303, {0: {5700: 21.5}}))
        client.update()
        client.send("/3303/0/5700")
        assert server.heard("POST dp")
        assert "lamp-1 at coap://127.0.0.1" in repr(client) and "server 1 registered" in repr(client)
        assert "<th>answers at</th>" in client._repr_html_()
        assert client.address is not None
        assert any(row.path.startswith("/rd") for row in client.log)
    assert server.heard("DELETE rd/1")
    assert not client.is_registered
    client.close()


def test_an_executed_resource_may_be_a_coroutine_and_may_set_values(server: Server) -> None:
    holder: list[Lwm2mClient] = []

    async def toggle(arguments: str) -> None:
        await asyncio.sleep(0)
        holder[0]["/3311/0/5850"] = True

    with Lwm2mClient("lamp-1", server.uri, objects=[TableObject(3311, {0: {5850: False, 9: toggle}})]) as client:
        holder.append(client)
        client.wait_registered()
        assert server.ask("lamp-1", Message(code=codes.POST, uri_path=("3311", "0", "9"))).code == codes.CHANGED
        assert client["/3311/0/5850"] is True


def test_an_application_hears_what_the_server_writes(server: Server) -> None:
    written: list[tuple[object, ...]] = []
    lamp = TableObject(3311, {0: {5850: False}}, on_write=lambda *what: written.append(what))
    with Lwm2mClient("lamp-1", server.uri, objects=[lamp]) as client:
        client.wait_registered()
        put = Message(code=codes.PUT, uri_path=("3311", "0", "5850"), payload=b"1", content_format=TEXT)
        assert server.ask("lamp-1", put).code == codes.CHANGED
        client["/3311/0/5850"] = False  # its own doing
    assert written == [(0, 5850, True)]


def test_a_function_that_fails_is_told_to_who_reads_and_holds_up_nobody(server: Server) -> None:
    sensor = TableObject(3303, {0: {5700: lambda: 1 / 0, 5701: "Cel"}, 1: {5700: lambda: "warm"}})
    with Lwm2mClient("dev-1", server.uri, objects=[sensor]) as client:
        client.wait_registered()
        for instance, why in (("0", b"/3303/0/5700 cannot be read now: division by zero"), ("1", b"is no float")):
            answer = server.ask("dev-1", Message(code=codes.GET, uri_path=("3303", instance, "5700"), accept=TEXT))
            assert answer.code == codes.INTERNAL_SERVER_ERROR
            assert why in answer.payload
        get = Message(code=codes.GET, uri_path=("3303", "0", "5701"), accept=TEXT)
        assert server.ask("dev-1", get).payload == b"Cel"


def test_ipv6_and_names(server: Server) -> None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    endpoint = server.loop.run(Endpoint.open(udp("::1"), server._handle))
    with Lwm2mClient("six", f"coap://[::1]:{endpoint.address[1]}") as client:
        client.wait_registered()
    server.loop.run(endpoint.close())
    with Lwm2mClient("named", server.uri.replace("127.0.0.1", "localhost")) as client:
        client.wait_registered()


def test_callbacks_hear_of_registrations_and_of_what_went_wrong(server: Server) -> None:
    registered, errors = threading.Event(), list[PdmlabError]()
    client = Lwm2mClient("dev-1", server.uri)
    client.on_registered(lambda link: registered.set())
    client.on_error(errors.append)
    client.start()
    client.start()
    assert registered.wait(20)
    client.restart()
    assert server.heard("POST rd", 2)
    client.close()
    assert errors == []
    assert server.asked.count("POST rd") == 2


def test_a_callback_that_fails_ends_no_registration(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    with Lwm2mClient("dev-1", server.uri) as client:
        client.on_registered(lambda link: 1 / 0)
        client.wait_registered()
        client.restart()
        assert server.heard("POST rd", 2)
        client.update()
        assert server.heard("POST rd/1")
    assert "what hears of dev-1 failed" in caplog.text


def test_an_account_that_is_of_no_use_is_said(server: Server) -> None:
    useless = Certificate(b"no", b"certificate", b"at all")
    client, failed = Lwm2mClient("dev-1", "coaps://127.0.0.1:9", credentials=useless), threading.Event()
    client.on_error(lambda error: failed.set())
    with client:
        assert failed.wait(20)
        assert isinstance(client.error, ConfigError)
        with pytest.raises(TimedOut) as caught:
            client.wait_registered(0.01)
        assert client.error.message in str(caught.value)


def test_many_devices_share_a_thread_and_end_together(server: Server) -> None:
    with LoopThread("fleet") as loop:
        clients = [Lwm2mClient(f"dev-{number}", server.uri, loop=loop) for number in range(20)]
        before = threading.active_count()
        for client in clients:
            client.start()
        for client in clients:
            client.wait_registered()
        assert threading.active_count() == before
        close_all(clients)
        assert loop.running
    assert server.asked.count("POST rd") == 20
    assert sum(each.startswith("DELETE") for each in server.asked) == 20


def test_nobody_there_is_said_with_a_hint() -> None:
    with Lwm2mClient("dev-1", "coap://127.0.0.1:9") as client, pytest.raises(TimedOut) as caught:
        client.wait_registered(0.05)
    assert "dev-1 is not registered at coap://127.0.0.1:9 after 0.05 s" in str(caught.value)
    assert "is a server running there?" in str(caught.value)


def test_a_name_that_is_unknown_is_said() -> None:
    with Lwm2mClient("dev-1", "coap://nowhere.invalid") as client:
        found = threading.Event()
        client.on_error(lambda error: found.set())
        assert found.wait(20) or client.error is not None
        assert isinstance(client.error, Unreachable)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Lwm2mClient("", "coap://127.0.0.1"), "has a name"),
        (lambda: Lwm2mClient("a", "http://127.0.0.1"), "is no server's URI"),
        (lambda: Lwm2mClient("a", "coap://"), "is no server's URI"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1:0"), "is no server's URI"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1:99999"), "is no URI"),
        (lambda: Lwm2mClient("a", "coaps://127.0.0.1"), "coaps:// with security mode 3"),
        (
            lambda: Lwm2mClient("a", "coap://127.0.0.1", credentials=PreSharedKey("i", b"k")),
            "coap:// with security mode 0",
        ),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1", version="1.2"), "no LwM2M '1.2'"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1", version="1.0", lifetime=0), "lifetime"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1", objects=[TableObject(1)]), "an object /1 already"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1").send("/3/0/9"), "has not been started"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1")["/3/0"], "no resource of this device"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1")["/99/0/1"], "no resource of this device"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1").__setitem__("/3/0/99", 1), "there is no /3/0/99"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1").__setitem__("/3/0/9", "full"), "is no integer"),
        (lambda: Lwm2mClient("a", "coap://127.0.0.1").__setitem__("/3/0/6", 1), "several values"),
        (lambda: TableObject(3303, {0: {5700: float("nan")}}), "is no float"),
        (lambda: TableObject(3, {0: {4: 1}}), "it is executed"),
        (lambda: TableObject(99999), "is no LwM2M path"),
    ],
)
def test_what_makes_no_sense_is_said_at_once(make: Callable[[], object], why: str) -> None:
    with pytest.raises((ConfigError, Lwm2mError)) as caught:
        make()
    assert why in str(caught.value)


def test_secrets_are_not_shown() -> None:
    key = PreSharedKey("dev", b"very secret")
    client = Lwm2mClient("a", "coaps://127.0.0.1", credentials=key)
    shown = repr(key) + repr(client) + client._repr_html_() + repr(Certificate(b"very", b"secret", b"very secret"))
    assert "secret" not in shown


# -- on a board ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["UDP", "TLS"])
def test_a_board_is_managed_over_its_own_network(secure: bool) -> None:
    bench = Bench()
    ca = Authority()
    asked: list[tuple[str, Address]] = []

    async def handle(message: Message, peer: Address) -> Message:
        asked.append((f"{message.code.name} {'/'.join(message.opt.uri_path)}", peer))
        if message.opt.uri_path == ("rd",):
            return Message(code=codes.CREATED, location_path=("rd", "1"))
        return Message(code=codes.DELETED if message.code == codes.DELETE else codes.CHANGED)

    async def story() -> None:
        host = bench.fabric.host("cloud")
        certificate, key = ca.issue(CN="cloud")
        security = Security((certificate,), key, (ca.certificate,))
        opener = tls("cloud", 5684, security, accept=host.acceptor(5684)) if secure else host.opener(5684)
        endpoint = await Endpoint.open(opener, handle, seed=1)
        bench.open.append(endpoint)
        blinked: list[bool] = []

        def blink(arguments: str) -> None:
            bench.clock.sleep(1_000_000_000)  # as device code may
            blinked.append(True)

        def main() -> Lwm2mClient:
            bench.network.connect()
            client = Lwm2mClient(
                "board-1",
                f"{'coaps+tcp' if secure else 'coap'}://cloud:5684",
                credentials=Certificate(*ca.issue(CN="board-1"), ca.certificate) if secure else None,
                net=bench.network,
                objects=[TableObject(3311, {0: {9: blink}})],
                seed=1,
            )
            client.start()
            client.wait_registered()
            client["/3/0/9"] = 30
            assert client["/3/0/13"] == 0  # seconds since it was switched on
            return client

        client = await bench.device(main)
        _, peer = asked[0]
        get = Message(code=codes.GET, uri_path=("3", "0", "9"), accept=TEXT)
        assert (await endpoint.request(get, peer)).payload == b"30"
        run = Message(code=codes.POST, uri_path=("3311", "0", "9"))
        assert (await endpoint.request(run, peer)).code == codes.CHANGED
        assert blinked == [True]
        await bench.device(client.close)
        assert asked[-1][0] == "DELETE rd/1"

    bench.play(story)


def test_a_reboot_of_a_board_is_its_reset() -> None:
    bench = Bench()
    peers: list[Address] = []

    async def handle(message: Message, peer: Address) -> Message:
        peers.append(peer)
        return Message(code=codes.CREATED, location_path=("rd", "1"))

    async def story() -> None:
        endpoint = await Endpoint.open(bench.fabric.host("cloud").opener(5683), handle, seed=1)
        bench.open.append(endpoint)

        def main() -> None:
            bench.network.connect()
            client = Lwm2mClient("board-1", "coap://cloud", net=bench.network, seed=1)
            client.start()
            client.wait_registered()

        await bench.device(main)
        asking = asyncio.ensure_future(endpoint.request(Message(code=codes.POST, uri_path=("3", "0", "4")), peers[0]))
        await bench.restarted.wait()
        assert bench.resets == 1
        assert (await asking).code == codes.CHANGED

    bench.play(story)


def test_a_client_needs_the_network_of_its_board() -> None:
    with pytest.raises(ConfigError, match="on a board needs the board's network"):
        Lwm2mClient("a", "coap://127.0.0.1", net=Bench().network)
