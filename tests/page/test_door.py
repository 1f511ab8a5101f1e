"""The door by itself: what comes in without a browser's good manners."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx
import pytest

from pdmlab.errors import ServiceError
from pdmlab.page.door import IDLE_S, LINK_S, SESSIONS, Door
from pdmlab.page.doorway import MAX_FORM, Doorway
from pdmlab.service import Service, serve


@pytest.fixture(scope="module")
def service(_no_settings_of_yours: None) -> Iterator[Service]:
    with serve(name="door") as service:
        yield service


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """What is behind the door: it takes a body, and says whose session it was."""
    while (message := await receive()).get("more_body"):
        pass
    status = 400 if message["type"] == "http.disconnect" else 200
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": scope["state"]["session"].seat.key_name.encode()})


Story = Callable[[Door, httpx.AsyncClient, Clock], Awaitable[None]]


def play(service: Service, story: Story) -> None:
    """Play a story at a door of the service."""

    async def run() -> None:
        clock = Clock()
        door = Door(service.url, None, "page at 127.0.0.1:1", now=clock)
        app = Doorway(behind, door, frozenset({"127.0.0.1"}), secure=False)
        try:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:1") as client:
                await story(door, client, clock)
        finally:
            await door.close()

    asyncio.run(run())


def test_without_a_session_scripts_sockets_and_views_are_closed(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        for path in (
            "/",
            "/devices/1",
            "/_nicegui/3/static/nicegui.js",
            "/_nicegui_ws/socket.io/",
            "/docs",
            "//sign-in",
        ):
            assert (await client.get(path)).status_code == 401, path
            assert (await client.get(path, headers={"accept": "text/html"})).headers["location"] == "/sign-in"
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        app = client._transport.app  # type: ignore[attr-defined]
        await app({"type": "websocket", "path": "/_nicegui_ws/socket.io/", "headers": []}, receive, send)
        assert sent == [{"type": "websocket.close", "code": 1008}]

    play(service, story)


def test_a_cookie_is_good_only_as_it_was_given(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        answer = await client.post("/sign-in", data={"key": service.api_key})
        given = answer.headers["set-cookie"]
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "HttpOnly" in given and "SameSite=strict" in given and "ak_" not in given
        assert (await client.get("/")).text == "administrator"
        id, _, signature = client.cookies[door.cookie].partition(".")
        for forged in (f"{id}.{'0' * 64}", f"x{id}.{signature}", id, "", "é.é"):
            assert door.session(forged) is None
        assert await client.get("/") and door.session(f"{id}.{signature}") is not None
        clock.now += IDLE_S + 1
        assert (await client.get("/")).status_code == 401

    play(service, story)


def test_wrong_keys_are_refused_in_words_and_shown_nowhere(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        for key in ("ak_wrong<b>", "", " ", "a b", "é", "x" * 600, "a\r\nX-Header: 1"):
            answer = await client.post("/sign-in", data={"key": key})
            assert answer.status_code == 401 and "set-cookie" not in answer.headers
            assert "ak_wrong" not in answer.text
        assert (await client.post("/sign-in", content=b"\xff" * 100)).status_code == 401
        assert "ak_" not in repr(door)

    play(service, story)


def test_a_large_form_is_cut_off(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        assert (await client.post("/sign-in", content=b"key=" + b"a" * MAX_FORM)).status_code == 413

    play(service, story)


def test_other_pages_cannot_act_through_the_browser(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        evil = {"origin": "http://evil.example"}
        assert (await client.post("/sign-in", data={"key": service.api_key}, headers=evil)).status_code == 403
        await client.post("/sign-in", data={"key": service.api_key}, headers={"origin": "http://127.0.0.1:1"})
        assert (await client.post("/sign-out", headers=evil)).status_code == 403
        assert (await client.get("http://evil.example:1/")).status_code == 421
        answer = await client.get("/")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"

    play(service, story)


def test_a_link_works_once_and_soon(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        key = {"authorization": f"Bearer {service.api_key}"}
        assert (await client.post("/links")).status_code == 401
        assert (await client.post("/links", headers={"authorization": "Bearer ak_no"})).status_code == 401
        first, second = [(await client.post("/links", headers=key)).json()["url"] for _ in range(2)]
        assert re.fullmatch(r"http://127.0.0.1:1/enter/[\w-]{40,}", first)
        assert (await client.head(first)).status_code == 401  # what only looks uses nothing up
        assert (await client.get(first)).status_code == 200 and (await client.get("/")).text == "administrator"
        client.cookies.clear()
        assert (await client.get(first)).headers["location"] == "/sign-in?why=used"
        clock.now += LINK_S + 1
        assert (await client.get(second)).headers["location"] == "/sign-in?why=used"
        assert (await client.get("/")).status_code == 401

    play(service, story)


def test_a_link_followed_from_another_page_asks_once_more_by_itself(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        headers = {"accept": "text/html", "sec-fetch-site": "cross-site"}
        answer = await client.get('/devices/"><script>', headers=headers)
        assert answer.status_code == 200 and 'url=/devices/&quot;&gt;&lt;script&gt;"' in answer.text

    play(service, story)


@pytest.mark.parametrize("path", ["//evil.example/x", "///evil.example/x", "/%2f/evil.example/x"])
def test_a_link_leads_to_no_other_host(service: Service, path: str) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        headers = {"accept": "text/html", "sec-fetch-site": "cross-site"}
        answer = await client.get(f"http://127.0.0.1:1{path}", headers=headers)
        assert answer.status_code == 200 and 'url=/evil.example/x"' in answer.text

    play(service, story)


def test_what_is_no_origin_is_another_page(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        answer = await client.post("/sign-in", content=b"key=x", headers={"origin": "http://["})
        assert answer.status_code == 403

    play(service, story)


def test_who_signs_out_last_takes_what_the_key_had_along(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        one, two = [door.session(await door.sign_in(service.api_key)) for _ in range(2)]
        assert one is not None and two is not None and one.seat is two.seat
        told: list[str] = []
        one.tabs.add(lambda why: told.append(f"one {why}"))
        two.tabs.add(lambda why: told.append(f"two {why}"))
        door.sign_out(one)
        assert told == ["one out"]
        await two.seat.api.get("/v3/api-keys/me")
        door.sign_out(two)
        await asyncio.gather(*door._ending)
        with pytest.raises(ServiceError, match="signed out"):
            await two.seat.api.get("/v3/api-keys/me")

    play(service, story)


def test_of_too_many_sessions_the_one_that_was_used_longest_ago_ends(service: Service) -> None:
    async def story(door: Door, client: httpx.AsyncClient, clock: Clock) -> None:
        first = await door.sign_in(service.api_key)
        session = door.session(first)
        assert session is not None
        for number in range(SESSIONS - 1):
            door._sessions[str(number)] = type(session)(session.seat, session.digest, clock.now + number)
        await door.sign_in(service.api_key)
        assert door.session(first) is None and len(door._sessions) == SESSIONS

    play(service, story)
