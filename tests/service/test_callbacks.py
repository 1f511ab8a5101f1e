"""Callbacks: what is sent where, in which order, how often, and when it is given up."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from pdmlab.coap.transport import udp
from pdmlab.errors import Unreachable
from pdmlab.service.core import Core
from tests.service.corelab import CoreLab, Stage
from tests.service.restlab import RestLab

CALLBACK = "/v2/notification/callback"


@dataclass
class Request:
    """What a callback was sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def ids(self) -> list[str]:
        return [each["id"] for each in json.loads(self.body).get("async-responses", ())]


@dataclass
class Listener:
    """An HTTP server of a few lines: it keeps what it was sent, and answers what it is told to."""

    answers: list[str] = field(default_factory=list)
    always: str = "204 No Content"
    body: bytes = b""
    requests: list[Request] = field(default_factory=list)
    context: ssl.SSLContext | None = None
    port: int = 0

    async def start(self) -> Listener:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def close(self) -> None:
        self.server.close()

    @property
    def url(self) -> str:
        return f"http{'s' if self.context else ''}://127.0.0.1:{self.port}/events?from=lab"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append(Request(method, target, headers, body))
                answer = self.answers.pop(0) if self.answers else self.always
                length = "" if answer.startswith("204") else f"Content-Length: {len(self.body)}\r\n"
                writer.write(f"HTTP/1.1 {answer}\r\n{length}\r\n".encode() + self.body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def lab(database: str) -> Iterator[RestLab]:
    lab = RestLab(database, hold_s=30)
    yield lab
    lab.close()


@pytest.fixture
def listen(lab: RestLab) -> Iterator[Callable[..., Listener]]:
    open_: list[Listener] = []

    def listen(*answers: str, **options: Any) -> Listener:
        open_.append(lab.run(Listener(list(answers), **options).start()))
        return open_[-1]

    yield listen
    for each in open_:
        lab.run(each.close())


def put(lab: RestLab, *ids: str) -> None:
    id = lab.key_id(lab.key)

    async def leave() -> None:
        for each in ids:
            lab.core.channels.put(id, {"async-responses": [{"id": each, "status": 200}]})

    lab.run(leave())


def register(lab: RestLab, url: str, **headers: str) -> tuple[int, str, str]:
    answer = lab.call("PUT", CALLBACK, json={"url": url, "headers": headers})
    return answer.status_code, answer.text, answer.headers.get("x-pdmlab-hint", "")


# -- over real sockets ---------------------------------------------------------------------------------------


def test_a_callback_is_tried_with_an_empty_put_and_then_gets_what_comes(
    lab: RestLab, listen: Callable[..., Listener]
) -> None:
    listener = listen()
    put(lab, "early")
    assert register(lab, listener.url, authorization="secret", **{"X-App": "bench"}) == (204, "", "")
    lab.until(lambda: len(listener.requests) == 2)
    tried, first = listener.requests
    for each in (tried, first):
        assert (each.method, each.target) == ("PUT", "/events?from=lab")
        assert (each.headers["authorization"], each.headers["x-app"]) == ("secret", "bench")
        assert each.headers["host"] == f"127.0.0.1:{listener.port}"
    assert tried.body == b"" and tried.headers["content-length"] == "0"
    assert first.ids == ["early"] and first.headers["content-type"] == "application/json"
    put(lab, "late")
    lab.until(lambda: len(listener.requests) == 3)
    assert listener.requests[2].ids == ["late"]
    assert lab.get(CALLBACK) == {"url": listener.url, "headers": {"authorization": "secret", "X-App": "bench"}}
    assert lab.get("/v2/notification/channel") == {"delivery_mechanism": "CALLBACK"}


def test_a_second_url_takes_the_place_of_the_first(lab: RestLab, listen: Callable[..., Listener]) -> None:
    first, second = listen(), listen()
    assert register(lab, first.url)[0] == register(lab, second.url)[0] == 204
    put(lab, "x")
    lab.until(lambda: len(second.requests) == 2)
    assert len(first.requests) == 1 and lab.get(CALLBACK)["url"] == second.url


@pytest.mark.parametrize("answer", ["404 Not Found", "500 No", "201 Created", "302 Found\r\nLocation: http://x/"])
def test_a_url_that_does_not_answer_200_or_204_is_refused(
    lab: RestLab, listen: Callable[..., Listener], answer: str
) -> None:
    listener = listen(answer)
    status, said, hint = register(lab, listener.url)
    assert (status, said) == (400, "CALLBACK_URL_NOT_ACCESSIBLE") and answer[:3] in hint
    assert lab.call("GET", CALLBACK).status_code == 404 and len(listener.requests) == 1


def test_a_url_where_nobody_listens_is_refused_and_the_old_one_stays(
    lab: RestLab, listen: Callable[..., Listener]
) -> None:
    listener, gone = listen(), listen()
    lab.run(gone.close())
    register(lab, listener.url)
    assert register(lab, gone.url)[:2] == (400, "CALLBACK_URL_NOT_ACCESSIBLE")
    assert lab.get(CALLBACK)["url"] == listener.url


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[fe80::1]", "0.0.0.0"])
def test_a_host_that_the_operator_has_not_allowed_is_refused_and_never_called(lab: RestLab, host: str) -> None:
    status, said, hint = register(lab, f"http://{host}/latest/meta-data")
    assert (status, said) == (400, "CALLBACK_URL_NOT_ALLOWED")
    assert "loopback" in hint and "PDMLAB_CALLBACK_HOSTS" in hint


def test_a_callback_that_is_deleted_is_not_called_any_more(lab: RestLab, listen: Callable[..., Listener]) -> None:
    listener = listen()
    register(lab, listener.url)
    assert lab.call("DELETE", CALLBACK).status_code == 204
    assert lab.call("DELETE", CALLBACK).status_code == 404
    put(lab, "x")
    assert lab.get("/v2/notification/pull")["async-responses"][0]["id"] == "x"
    assert len(listener.requests) == 1


def test_an_endless_answer_is_cut_off(lab: RestLab, listen: Callable[..., Listener]) -> None:
    listener = listen(body=b"x" * (1 << 20))
    listener.always = "200 OK"
    assert register(lab, listener.url)[0] == 204
    put(lab, "x")
    lab.until(lambda: len(listener.requests) == 2)
    put(lab, "y")
    lab.until(lambda: len(listener.requests) == 3)
    assert [each.ids for each in listener.requests[1:]] == [["x"], ["y"]]


def test_an_https_callback_is_believed_if_the_services_ca_has_signed_for_it(
    lab: RestLab, listen: Callable[..., Listener], tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listener = listen(context=context)
    show(context, lab.core, tmp_path)
    assert register(lab, listener.url) == (204, "", "")
    stranger = Core(f"sqlite:///{tmp_path / 'stranger.sqlite'}")
    lab.run(opened(stranger))
    show(context, stranger, tmp_path)
    lab.run(lab.core.callbacks.sender.close())
    status, said, hint = register(lab, listener.url)
    assert (status, said) == (400, "CALLBACK_URL_NOT_ACCESSIBLE") and "certificate" in hint
    lab.run(stranger.stop())


def show(context: ssl.SSLContext, core: Core, folder: Path) -> None:
    """Let a server show a certificate that a service's CA has signed."""
    certificate, key = core.pki.https()
    private = load_der_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)
    (folder / "cert.pem").write_text(ssl.DER_cert_to_PEM_cert(certificate))
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")


async def opened(core: Core) -> None:
    core.store.open()
    core.pki.addresses = ("127.0.0.1",)
    core.pki.open()


def test_a_callback_goes_on_after_a_restart(lab: RestLab, listen: Callable[..., Listener]) -> None:
    listener = listen()
    register(lab, listener.url)
    lab.run(lab.core.stop())
    lab.restart()
    put(lab, "x")
    lab.until(lambda: len(listener.requests) == 2)
    assert listener.requests[1].ids == ["x"]


# -- in virtual time -----------------------------------------------------------------------------------------


class Scripted:
    """A callback that answers by a script, and notes when it was asked what."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now, self.begun = now, now()
        self.status: int | None = 204
        self.asked: list[tuple[float, list[str]]] = []
        self.takes = 0.0
        self.busy = 0
        self.most = 0

    @property
    def got(self) -> list[str]:
        return [each for _, what in self.asked for each in what]

    async def put(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.busy -= 1
        events = json.loads(body or b"{}").get("async-responses", [])
        self.asked.append((round(self.now() - self.begun), [each["id"] for each in events]))
        if self.status is None:
            raise Unreachable("nobody is there")
        return self.status

    async def close(self) -> None:
        pass


async def scripted(lab: CoreLab) -> Scripted:
    """Register a callback of the lab's key that was tried at second 0."""
    sender = lab.core.callbacks.sender = Scripted(lab.core.now)
    await lab.core.callbacks.register(lab.key_id, "http://127.0.0.1/", {})
    sender.asked.clear()
    return sender


def leave(lab: CoreLab, *ids: str) -> None:
    for each in ids:
        lab.core.channels.put(lab.key_id, {"async-responses": [{"id": each, "status": 200}]})


@pytest.mark.parametrize("status", [500, 404, 302, None])
def test_what_cannot_be_delivered_is_tried_again_after_1_2_4_to_120_s(play: Stage, status: int | None) -> None:
    async def story(lab: CoreLab) -> None:
        sender = await scripted(lab)
        sender.status = status
        leave(lab, "a")
        await asyncio.sleep(400)
        leave(lab, "b")
        sender.status = 200
        await asyncio.sleep(200)
        times = [at for at, _ in sender.asked]
        assert times == [0, 1, 3, 7, 15, 31, 63, 127, 247, 367, 487]
        # In the order in which it happened, and nothing overtakes.
        assert [what for _, what in sender.asked] == [["a"]] * 10 + [["a", "b"]]

    play(story)


def test_one_message_is_on_its_way_at_a_time_and_what_comes_meanwhile_is_in_the_next(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        sender = await scripted(lab)
        sender.takes = 5
        for n in range(12):
            leave(lab, f"{n}")
            await asyncio.sleep(1)
        await asyncio.sleep(20)
        assert sender.most == 1
        assert sender.got == [f"{n}" for n in range(12)]
        assert len(sender.asked) == 4

    play(story)


def test_a_callback_that_takes_nothing_for_a_day_is_removed_with_what_waits(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        sender = await scripted(lab)
        sender.status = None
        for hour in range(25):
            leave(lab, f"{hour}")
            assert (lab.core.channels.kind(lab.key_id) is None) is (hour == 24 and sender.asked[-1][0] >= 86_400)
            await asyncio.sleep(3600)
        assert lab.core.channels.kind(lab.key_id) is None and lab.core.channels.outbox.count(lab.key_id) == 0
        tries = len(sender.asked)
        leave(lab, "later")
        await asyncio.sleep(3600)
        assert len(sender.asked) == tries and (await lab.events())["async-responses"][0]["id"] == "later"

    play(story)


def test_one_that_takes_something_in_between_has_another_day(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        sender = await scripted(lab)
        for hour in range(40):
            sender.status = 204 if hour == 20 else 503
            leave(lab, f"{hour}")
            await asyncio.sleep(3600)
        assert lab.core.channels.kind(lab.key_id) == "CALLBACK"

    play(story)


def test_a_callback_with_nothing_to_deliver_for_two_days_ends(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        await scripted(lab)
        await asyncio.sleep(47 * 3600)
        leave(lab, "x")
        await asyncio.sleep(47 * 3600)
        assert lab.core.channels.kind(lab.key_id) == "CALLBACK"
        await asyncio.sleep(2 * 3600)
        assert lab.core.channels.kind(lab.key_id) is None

    play(story)


def test_a_retry_is_kept_over_a_restart_of_the_service(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        sender = await scripted(lab)
        sender.status = 500
        leave(lab, "x")
        await asyncio.sleep(20)
        await lab.restart()
        lab.core.callbacks.sender = sender
        await asyncio.sleep(40)
        assert [at for at, _ in sender.asked] == [0, 1, 3, 7, 15, 31]

    play(story)


def test_a_delivery_that_was_cut_off_is_made_again(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        sender = await scripted(lab)
        sender.takes = 20
        leave(lab, "x")
        await asyncio.sleep(1)
        await lab.restart()
        sender.takes = 0
        lab.core.callbacks.sender = sender
        await asyncio.sleep(60)
        assert [what for _, what in sender.asked] == [["x"]]

    play(story)


def test_a_key_that_is_not_in_use_is_told_nothing(play: Stage) -> None:
    async def story(lab: CoreLab) -> None:
        sender = await scripted(lab)
        account = lab.core.account_id
        lab.core.accounts.update_key(account, lab.key_id, status="INACTIVE")
        leave(lab, "x")
        await asyncio.sleep(600)
        assert sender.asked == []
        lab.core.accounts.update_key(account, lab.key_id, status="ACTIVE")
        await asyncio.sleep(1)
        assert [what for _, what in sender.asked] == [["x"]]

    play(story)


# -- several processes -----------------------------------------------------------------------------------------


def test_of_two_services_on_a_database_one_delivers_and_the_other_takes_over(database: str) -> None:
    if database.startswith("sqlite"):
        pytest.skip("one process alone has a SQLite file")
    lab = RestLab(database)

    async def story() -> None:
        other = Core(database, node="other")
        await other.start(bootstrap=udp(), lwm2m=udp())
        sender = Scripted(lab.core.now)
        lab.core.callbacks.sender = other.callbacks.sender = sender
        try:
            id = (await lab.acall("GET", "/v3/api-keys/me")).json()["id"]
            await lab.core.callbacks.register(id, "http://127.0.0.1/", {})
            sender.asked.clear()
            sent = [f"{n}" for n in range(60)]
            for n, each in enumerate(sent):
                core = (lab.core, other)[n % 2]
                core.channels.put(id, {"async-responses": [{"id": each, "status": 200}]})
                await core.store.written()
            await until(lambda: len(sender.got) >= len(sent))
            assert sorted(sender.got, key=int) == sent and sender.most == 1
            # The one that delivered goes away in the middle of a delivery.
            lab.core.channels.table.hold(id, "CALLBACK", "who was killed", 0.2)
            await lab.core.store.written()
            other.channels.put(id, {"async-responses": [{"id": "left over", "status": 200}]})
            await until(lambda: sender.asked[-1][1] == ["left over"])
        finally:
            await other.stop()

    try:
        lab.run(story())
    finally:
        lab.close()


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)
