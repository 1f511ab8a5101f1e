"""A key's channel: one poll at a time, nothing lost, nothing twice, and an end to every poll."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ServiceError
from pdmlab.service import channels
from tests.service.restlab import RestLab

PULL = "/v2/notification/pull"


@pytest.fixture
def lab(database: str) -> Iterator[RestLab]:
    lab = RestLab(database, hold_s=30)
    yield lab
    lab.close()


def put(lab: RestLab, *ids: str, key: str | None = None) -> None:
    id = lab.key_id(key or lab.key)

    async def leave() -> None:
        lab.core.channels.put(id, {"async-responses": [{"id": each, "status": 200} for each in ids]})

    lab.run(leave())


def ids(message: dict[str, Any]) -> list[str]:
    return [each["id"] for each in message.get("async-responses", ())]


async def polling(lab: RestLab, key: str | None = None) -> asyncio.Task[httpx.Response]:
    """Return a poll that the service holds."""
    task = asyncio.ensure_future(lab.acall("GET", PULL, key=key))
    id = lab.core.accounts.authenticate(key or lab.key).id  # type: ignore[union-attr]  # it is a good key
    while id not in lab.core.channels._polls:
        await asyncio.sleep(0)
    return task


def test_an_answer_waits_for_a_channel_that_is_opened_later(lab: RestLab) -> None:
    put(lab, "early")
    assert lab.call("GET", "/v2/notification/channel").status_code == 404
    assert ids(lab.get(PULL)) == ["early"]
    assert lab.get("/v2/notification/channel") == {"delivery_mechanism": "LONG_POLLING"}


def test_a_held_poll_ends_when_something_comes(lab: RestLab) -> None:
    async def story() -> httpx.Response:
        poll = await polling(lab)
        lab.core.channels.put(lab.core.accounts.authenticate(lab.key).id, {"notifications": [{"ep": "x"}]})  # type: ignore[union-attr]
        return await poll

    assert lab.run(story()).json() == {"notifications": [{"ep": "x"}]}


def test_a_poll_that_nothing_came_to_ends_with_204(database: str) -> None:
    lab = RestLab(database, hold_s=0.01)
    answer = lab.call("GET", PULL)
    lab.close()
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_second_poll_of_a_key_is_refused_and_the_first_goes_on(lab: RestLab) -> None:
    other = lab.new_key()

    async def story() -> tuple[int, int, list[str]]:
        first = await polling(lab)
        second = await lab.acall("GET", PULL)
        of_another_key = await polling(lab, other)
        lab.core.channels.drain()
        return second.status_code, (await of_another_key).status_code, [str((await first).status_code)]

    assert lab.run(story()) == (409, 204, ["204"])


def test_deleting_a_channel_ends_its_poll_and_drops_what_waits(lab: RestLab) -> None:
    async def story() -> tuple[httpx.Response, httpx.Response]:
        poll = await polling(lab)
        deleted = await lab.acall("DELETE", PULL)
        return await poll, deleted

    ended, deleted = lab.run(story())
    assert (ended.status_code, ended.text) == (410, "CHANNEL_DELETED")
    assert (deleted.status_code, deleted.text) == (200, "REMOVED")
    assert lab.call("DELETE", PULL).text == "ALREADY_DELETED"
    put(lab, "old")
    lab.call("DELETE", PULL)
    put(lab, "new")
    assert ids(lab.get(PULL)) == ["new"]


def test_a_poll_whose_caller_has_gone_takes_nothing(lab: RestLab) -> None:
    lab.open_channel(lab.key)  # a poll, given up
    lab.until(lambda: not lab.core.channels._polls)
    put(lab, "for the next")
    assert ids(lab.get(PULL)) == ["for the next"]


@pytest.mark.parametrize("turns", range(12))
def test_an_event_that_comes_as_the_caller_goes_is_sent_or_kept(shared: RestLab, turns: int) -> None:
    id = shared.key_id(shared.key)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": PULL,
        "raw_path": PULL.encode(),
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {shared.key}".encode())],
    }

    async def story() -> list[str]:
        gone, sent = asyncio.Event(), b""
        incoming = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if incoming:
                return incoming.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            nonlocal sent
            sent += message.get("body", b"")

        call = asyncio.ensure_future(shared.app(scope, receive, send))
        while id not in shared.core.channels._polls:
            await asyncio.sleep(0)
        shared.core.channels.put(id, {"async-responses": [{"id": f"at {turns}", "status": 200}]})
        for _ in range(turns):
            await asyncio.sleep(0)
        gone.set()
        await call
        return ids(json.loads(sent)) if sent else ids((await shared.acall("GET", PULL)).json())

    assert shared.run(story()) == [f"at {turns}"]


def test_draining_ends_every_poll_and_loses_nothing(lab: RestLab) -> None:
    async def story() -> int:
        poll = await polling(lab)
        lab.core.channels.drain()
        return (await poll).status_code

    assert lab.run(story()) == 204
    put(lab, "after")
    lab.restart()
    assert ids(lab.get(PULL)) == ["after"]


def test_keys_do_not_hear_each_others_answers(lab: RestLab) -> None:
    other = lab.new_key()
    put(lab, "mine")
    put(lab, "theirs", key=other)
    assert ids(lab.get(PULL, key=other)) == ["theirs"]
    assert ids(lab.get(PULL)) == ["mine"]


def test_a_revoked_keys_poll_ends(lab: RestLab) -> None:
    key = lab.new_key()
    id = lab.key_id(key)

    async def story() -> int:
        poll = await polling(lab, key)
        assert (await lab.acall("DELETE", f"/v3/api-keys/{id}")).status_code == 204
        return (await poll).status_code

    assert lab.run(story()) == 410


@settings(max_examples=25, deadline=None)
@given(groups=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=8))
def test_everything_comes_once_and_in_order_however_it_is_fetched(shared: RestLab, groups: list[list[int]]) -> None:
    sent = [f"{n}-{i}-{value}" for n, group in enumerate(groups) for i, value in enumerate(group)]
    for n, group in enumerate(groups):
        put(shared, *(f"{n}-{i}-{value}" for i, value in enumerate(group)))
    got: list[str] = []
    while len(got) < len(sent):
        message = ids(shared.get(PULL))
        assert 0 < len(message) <= 1000
        got += message
    assert got == sent


@pytest.fixture(scope="module")
def shared(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=30)
    yield lab
    lab.close()


def test_old_events_and_too_many_are_let_go(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "QUEUE", 20)
    monkeypatch.setattr(channels, "_PRUNE_EVERY", 1)
    monkeypatch.setattr(channels, "KEPT_S", 100.0)
    lab = RestLab(database)
    try:
        put(lab, *map(str, range(30)))
        assert ids(lab.get(PULL)) == [str(n) for n in range(10, 30)]
        put(lab, "stale")
        later = lab.core.store.now() + 200
        monkeypatch.setattr(lab.core.store, "now", lambda: later)
        put(lab, "fresh")
        assert ids(lab.get(PULL)) == ["fresh"]
    finally:
        lab.close()


def test_a_channel_nobody_polls_is_closed_and_gets_no_news(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.open_channel(lab.key)
    lab.until(lambda: not lab.core.channels._polls)
    later = lab.core.store.now() + channels.IDLE_S + 1
    monkeypatch.setattr(lab.core.store, "now", lambda: later)
    assert lab.call("GET", "/v2/notification/channel").status_code == 404

    async def news() -> None:
        lab.core.channels.broadcast(lab.core.account_id, {"de-registrations": ["x"]})

    lab.run(news())
    put(lab, "answer")
    assert lab.get(PULL) == {"async-responses": [{"id": "answer", "status": 200}]}


def test_a_key_with_another_kind_of_channel_cannot_poll(lab: RestLab) -> None:
    import sqlalchemy as sa

    from pdmlab.service.schema import channels as table

    id = lab.key_id(lab.key)

    async def story() -> None:
        await lab.core.channels.pull(id, 0)
        with lab.core.store.begin() as db:
            db.execute(sa.update(table).values(kind="CALLBACK"))
        with pytest.raises(ServiceError):
            await lab.core.channels.pull(id, 0)

    lab.run(story())
    assert lab.call("GET", PULL).status_code == 400
