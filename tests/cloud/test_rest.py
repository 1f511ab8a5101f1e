"""The ways to the REST API themselves: what is tried again, what is not, what an error says, what is never shown."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pdmlab.cloud import AsyncCloud, Cloud
from pdmlab.cloud.both import now
from pdmlab.errors import ConfigError, ServiceError, TimedOut, Unreachable
from pdmlab.service.http import HttpServer, tls
from tests.cloud.ways import WAYS, it, tell
from tests.service.restlab import RestLab

KEY = "ak_secret_1234567890"


def told(story: Callable[[Any], Any], answer: Callable[[httpx.Request], httpx.Response], way: str) -> None:
    """Run a story against answers that are made up."""
    transport = httpx.MockTransport(answer)
    if way == "blocking":
        with Cloud("http://elsewhere", KEY, transport=transport) as cloud:
            now(story(cloud))
        return

    async def awaited() -> None:
        async with AsyncCloud("http://elsewhere", KEY, transport=transport) as cloud:
            await story(cloud)

    asyncio.run(awaited())


both_ways = pytest.mark.parametrize("way", ["blocking", "awaited"])


class Failing:
    """Answers that fail so many times, and then do not."""

    def __init__(self, times: int, error: type[httpx.TransportError]) -> None:
        self.left, self.error, self.asked = times, error, 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.left:
            self.left -= 1
            raise self.error("it failed")
        return httpx.Response(200, json={"id": "1", "key": "ak_new"})


@both_ways
@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError])
def test_a_get_is_tried_three_times(way: str, error: type[httpx.TransportError]) -> None:
    async def story(cloud: Any) -> None:
        assert (await it(cloud.account())).id == "1"

    for times in (1, 2):
        failing = Failing(times, error)
        told(story, failing, way)
        assert failing.asked == times + 1

    async def unlucky(cloud: Any) -> None:
        with pytest.raises(Unreachable, match="GET http://elsewhere/v3/accounts/me"):
            await it(cloud.account())

    failing = Failing(3, error)
    told(unlucky, failing, way)
    assert failing.asked == 3


@both_ways
def test_what_may_have_been_done_is_not_done_twice(way: str) -> None:
    async def story(cloud: Any) -> None:
        with pytest.raises(Unreachable):
            await it(cloud.create_api_key("x"))

    for error in (httpx.ReadError, httpx.RemoteProtocolError):
        failing = Failing(1, error)
        told(story, failing, way)
        assert failing.asked == 1

    async def refused(cloud: Any) -> None:
        assert await it(cloud.create_api_key("x")) == "ak_new"

    failing = Failing(2, httpx.ConnectError)  # nobody has heard anything of it
    told(refused, failing, way)
    assert failing.asked == 3


@both_ways
def test_a_time_out_is_not_waited_for_again(way: str) -> None:
    async def story(cloud: Any) -> None:
        with pytest.raises(TimedOut, match="no answer in 30 s"):
            await it(cloud.account())

    failing = Failing(1, httpx.ReadTimeout)
    told(story, failing, way)
    assert failing.asked == 1


@both_ways
def test_an_error_says_all_that_the_service_said(way: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        body = {"object": "error", "code": 409, "type": "duplicate", "message": "there is one", "request_id": "f" * 32}
        if request.url.path.startswith("/v2"):
            headers = {"x-request-id": "e" * 32, "x-pdmlab-hint": "told by the service"}
            return httpx.Response(400, text="MALFORMED_JSON_CONTENT", headers=headers)
        return httpx.Response(409, json=body)

    async def story(cloud: Any) -> None:
        with pytest.raises(ServiceError) as error:
            await it(cloud.create_api_key("x"))
        assert (error.value.status, error.value.type, error.value.request_id) == (409, "duplicate", "f" * 32)
        assert "there is one" in error.value.message and error.value.hint
        with pytest.raises(ServiceError, match="told by the service") as error:
            await it(cloud.presubscriptions.set())
        assert (error.value.status, error.value.type, error.value.request_id) == (400, "", "e" * 32)

    told(story, answer, way)


@both_ways
@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"x"', b"\xff"])
def test_what_is_no_answer_of_a_service_is_said_to_be_none(way: str, body: bytes) -> None:
    async def story(cloud: Any) -> None:
        with pytest.raises(ServiceError, match=r"no (JSON|object)"):
            await it(cloud.account())
        with pytest.raises(ServiceError, match=r"no (JSON|list)"):
            await it(cloud.presubscriptions.frame())

    told(story, lambda request: httpx.Response(200, content=body), way)


@both_ways
def test_the_key_is_never_shown(way: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        return httpx.Response(401, json={"type": "invalid_apikey", "message": "no"})

    async def story(cloud: Any) -> None:
        shown = [repr(cloud), str(vars(cloud)), repr(cloud._rest), repr(cloud.notifications())]
        with pytest.raises(ServiceError) as error:
            await it(cloud.account())
        shown += [str(error.value), repr(error.value), repr(cloud.devices()), cloud.devices()._repr_html_()]
        assert KEY not in " ".join(shown) and "secret" not in " ".join(shown)

    told(story, answer, way)


@both_ways
def test_an_id_cannot_lead_to_another_path(way: str) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path.decode())
        return httpx.Response(404, json={"message": "none"})

    async def story(cloud: Any) -> None:
        for id in ("../accounts/me", "a?b=c", "a/b", "a#b"):
            with pytest.raises(ServiceError):
                await it(cloud.groups.get(id))

    told(story, answer, way)
    assert seen == [f"/v3/device-groups/{id}" for id in ("..%2Faccounts%2Fme", "a%3Fb%3Dc", "a%2Fb", "a%23b")]


def test_each_way_says_how_it_is_used() -> None:
    with Cloud("http://elsewhere", KEY) as cloud:
        with pytest.raises(ConfigError, match="blocks"):
            asyncio.run(_walk(cloud.devices()))
        with pytest.raises(ConfigError, match="blocks"):
            asyncio.run(_enter(cloud.notifications()))

    async def wrong() -> None:
        async with AsyncCloud("http://elsewhere", KEY) as cloud:
            with pytest.raises(ConfigError, match="async for"):
                list(cloud.devices())
            with pytest.raises(ConfigError, match="async with"), cloud.notifications():
                pass

    asyncio.run(wrong())


async def _walk(listing: Any) -> None:
    async for _ in listing:
        pass


async def _enter(stream: Any) -> None:
    async with stream:
        pass


@both_ways
def test_a_closed_client_says_so(way: str) -> None:
    kept = []

    async def story(cloud: Any) -> None:
        kept.append(cloud)

    told(story, Failing(0, httpx.ReadError), way)
    with pytest.raises(ConfigError, match="closed"):
        now(kept[0].devices._get("x"))


def test_help_and_signatures_are_those_of_the_method_itself() -> None:
    import inspect

    with Cloud("http://elsewhere", KEY) as cloud:
        assert str(inspect.signature(cloud.device)).startswith("(id: 'str')")
        assert "its name or endpoint name" in (inspect.getdoc(cloud.device) or "")
        assert not inspect.iscoroutinefunction(cloud.device)

    async def awaited() -> None:
        async with AsyncCloud("http://elsewhere", KEY) as cloud:
            assert inspect.iscoroutinefunction(cloud.device)

    asyncio.run(awaited())


# -- other ways to the service -----------------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RestLab]:
    lab = RestLab(tmp_path / "lab.sqlite")
    yield lab
    lab.close()


def test_a_service_in_the_same_process_is_asked_without_a_socket(lab: RestLab) -> None:
    async def story() -> None:
        async with AsyncCloud("http://lab", lab.key, transport=httpx.ASGITransport(lab.app)) as cloud:
            group = await cloud.groups.create("room")
            assert [each.name async for each in cloud.groups()] == ["room"] and await cloud.groups().count() == 1
            await group.delete()

    lab.run(story())


@pytest.fixture
def secure(lab: RestLab, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The lab by HTTPS: its address, and the file with its CA's certificate."""

    async def opened() -> HttpServer:
        return await HttpServer.open(lab.app, context=tls(*lab.core.pki.https()))

    server = lab.run(opened())
    ca = tmp_path / "ca.pem"
    ca.write_bytes(lab.core.pki.pem)
    yield f"https://127.0.0.1:{server.port}", ca
    lab.run(server.close())


@pytest.mark.parametrize("channel", ["poll", "websocket"])
@pytest.mark.parametrize("way", WAYS)
def test_a_service_by_https_is_known_by_its_ca(
    lab: RestLab, secure: tuple[str, Path], way: str, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, ca = secure
    desk = lab.device("desk1")

    async def story(cloud: Any) -> None:
        device = await it(cloud.device("desk1"))
        assert device.id == desk.id and await it(device.read("/3/0/0")) == "pdmlab"

    tell(way, story, host, lab.key, ca=ca, channel=channel)
    monkeypatch.setenv("PDMLAB_CA", str(ca))
    tell(way, story, host, lab.key, channel=channel)


@pytest.mark.parametrize("way", WAYS)
def test_a_service_with_an_unknown_ca_is_told_nothing(lab: RestLab, secure: tuple[str, Path], way: str) -> None:
    async def story(cloud: Any) -> None:
        with pytest.raises(Unreachable, match=r"(?i)certificate") as error:
            await it(cloud.account())
        assert "ca=" in str(error.value)

    tell(way, story, secure[0], lab.key)


def test_a_ca_that_is_none_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for file in (tmp_path / "ca.pem", tmp_path / "none.pem"):
        with pytest.raises(ConfigError, match=r"certificate cannot be read from .*\.pem"):
            Cloud("https://elsewhere", KEY, ca=file)


SCRIPT = """
import pdmlab
with pdmlab.serve(name="left-open") as service:
    cloud = pdmlab.Cloud(service.url, service.api_key)
    print(len(cloud.devices().frame()))
    with cloud.notifications() as news:
        print(list(news.take(1, timeout=0.1)))
"""


def test_a_client_that_is_left_open_ends_with_its_program(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "default::DeprecationWarning", "-c", textwrap.dedent(SCRIPT)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n[]\n", "")


TYPED = """
from typing import assert_type
import pandas as pd
from pdmlab.cloud import AsyncCloud, Cloud, Device
from pdmlab.cloud.rest import Awaited, Blocking

def plain(cloud: Cloud) -> None:
    device = cloud.device("x")
    assert_type(device, Device[Blocking])
    assert_type(device.state, str)
    assert_type(cloud.devices(state="registered").frame(), pd.DataFrame)
    for each in cloud.devices():
        wanted: Device = each
    with device.observe("/3/0/0") as values:
        assert_type([note.path for note in values], list[str])

async def awaited(cloud: AsyncCloud) -> None:
    device = await cloud.device("x")
    assert_type(device, Device[Awaited])
    assert_type(await device.state, str)
    assert_type(await cloud.devices().frame(), pd.DataFrame)
    async for each in cloud.devices():
        assert_type(each.name, str)
    device.rename("forgotten")
    await cloud.device(1)
"""


@pytest.mark.slow
def test_both_ways_are_typed(tmp_path: Path) -> None:
    (tmp_path / "typed.py").write_text(TYPED)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", root / "pyproject.toml", tmp_path / "typed.py"],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=root,
    )
    told = [
        line.partition("error: ")[2] for line in done.stdout.splitlines() if "typed.py" in line and "error:" in line
    ]
    # What is wrong in it on purpose, and nothing else: nobody awaits, and an id is no number.
    assert len(told) == 2, done.stdout
    assert "must be used" in told[0] and 'incompatible type "int"' in told[1]
