"""A key's channel: one poll at a time, nothing lost, nothing twice, and an end to every poll."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.service import outbox, schema
from pdmlab.service.channel_table import IDLE_S
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
    while id not in lab.core.channels.polls:
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
    # What comes now is for the next channel; to delete one that is not there takes none of it.
    put(lab, "new")
    lab.call("DELETE", PULL)
    assert ids(lab.get(PULL)) == ["new"]
    lab.until(lambda: not lab.core.channels.polls)
    put(lab, "old")
    lab.call("DELETE", PULL)
    put(lab, "newer")
    assert ids(lab.get(PULL)) == ["newer"]


def test_a_poll_whose_caller_has_gone_takes_nothing(lab: RestLab) -> None:
    lab.open_channel(lab.key)  # a poll, given up
    lab.until(lambda: not lab.core.channels.polls)
    put(lab, "for the next")
    assert ids(lab.get(PULL)) == ["for the next"]


def scope_of(lab: RestLab) -> dict[str, Any]:
    """Return a poll, as servers pass it on."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": PULL,
        "raw_path": PULL.encode(),
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {lab.key}".encode())],
    }


class Caller:
    """Who polls, until `gone`."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self._said = False

    async def receive(self) -> dict[str, Any]:
        if self._said:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        self._said = True
        return {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.parametrize("turns", range(12))
def test_an_event_that_comes_as_the_caller_goes_is_sent_or_kept(shared: RestLab, turns: int) -> None:
    id = shared.key_id(shared.key)

    async def story() -> list[str]:
        caller, sent = Caller(), b""

        async def send(message: dict[str, Any]) -> None:
            nonlocal sent
            sent += message.get("body", b"")

        call = asyncio.ensure_future(shared.app(scope_of(shared), caller.receive, send))
        while id not in shared.core.channels.polls:
            await asyncio.sleep(0)
        shared.core.channels.put(id, {"async-responses": [{"id": f"at {turns}", "status": 200}]})
        for _ in range(turns):
            await asyncio.sleep(0)
        caller.gone.set()
        await call
        return ids(json.loads(sent)) if sent else ids((await shared.acall("GET", PULL)).json())

    assert shared.run(story()) == [f"at {turns}"]


def test_events_are_kept_until_they_were_sent(lab: RestLab) -> None:
    put(lab, "a", "b")
    engine = sa.create_engine(lab.database)

    def kept() -> int:
        with engine.connect() as another:
            return int(another.scalar(sa.select(sa.func.count()).select_from(schema.channel_messages)) or 0)

    async def story() -> list[int]:
        found = []

        async def send(message: dict[str, Any]) -> None:
            await lab.core.store.written()
            found.append(kept())

        await lab.app(scope_of(lab), Caller().receive, send)
        return [*found, kept()]

    counts = lab.run(story())
    engine.dispose()
    assert counts[-1] == 0 and set(counts[:-1]) == {2}


def test_what_could_not_be_sent_is_told_to_the_next_poll(lab: RestLab) -> None:
    put(lab, "a")

    async def broken(message: dict[str, Any]) -> None:
        raise OSError("the connection is broken")

    async def story() -> None:
        with pytest.raises(OSError, match="broken"):
            await lab.app(scope_of(lab), Caller().receive, broken)

    lab.run(story())
    assert ids(lab.get(PULL)) == ["a"]


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

    assert lab.run(story()) == 401


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
    row = outbox.OVERHEAD_B + len('{"id":"00","status":200}')
    monkeypatch.setattr(outbox, "QUEUE_B", 20 * row)
    monkeypatch.setattr(outbox, "CHECKED_EVERY", 20)
    lab = RestLab(database)
    try:
        for n in range(30):
            put(lab, f"{n:02}")
        assert ids(lab.get(PULL)) == [f"{n:02}" for n in range(10, 30)]
        put(lab, "stale")
        later = lab.core.store.now() + outbox.KEPT_S + 1
        monkeypatch.setattr(lab.core.store, "now", lambda: later)
        put(lab, "fresh")
        assert ids(lab.get(PULL)) == ["fresh"]
    finally:
        lab.close()


def test_a_message_has_a_thousand_events_or_four_megabytes(lab: RestLab) -> None:
    put(lab, *(f"{n}" for n in range(1100)))
    assert [len(ids(lab.get(PULL))) for _ in range(2)] == [1000, 100]
    id = lab.key_id(lab.key)

    async def leave() -> None:
        for n in range(6):
            value = {"id": f"big {n}", "status": 200, "payload": "A" * (1 << 20)}
            lab.core.channels.put(id, {"async-responses": [value]})

    lab.run(leave())
    got = [ids(lab.get(PULL)) for _ in range(2)]
    assert got == [["big 0", "big 1", "big 2"], ["big 3", "big 4", "big 5"]]


def test_a_channel_nobody_polls_is_closed_and_gets_no_news(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.open_channel(lab.key)
    lab.until(lambda: not lab.core.channels.polls)
    later = lab.core.store.now() + IDLE_S["LONG_POLLING"] + 1
    monkeypatch.setattr(lab.core.store, "now", lambda: later)
    assert lab.call("GET", "/v2/notification/channel").status_code == 404

    async def news() -> None:
        lab.core.channels.broadcast(lab.core.account_id, {"de-registrations": ["x"]})

    lab.run(news())
    put(lab, "answer")
    assert lab.get(PULL) == {"async-responses": [{"id": "answer", "status": 200}]}


def test_what_came_before_a_channel_ended_goes_with_it_and_what_came_after_waits(
    lab: RestLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.open_channel(lab.key)
    lab.until(lambda: not lab.core.channels.polls)
    put(lab, "before")
    later = lab.core.store.now() + IDLE_S["LONG_POLLING"] + 1
    monkeypatch.setattr(lab.core.store, "now", lambda: later)
    put(lab, "after")
    assert ids(lab.get(PULL)) == ["after"]


def test_what_is_too_old_is_let_go_by_itself(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.open_channel(lab.key)
    lab.until(lambda: not lab.core.channels.polls)
    put(lab, "before")
    later = lab.core.store.now() + outbox.KEPT_S + 1
    monkeypatch.setattr(lab.core.store, "now", lambda: later)

    async def tidy() -> None:
        lab.core.channels._tidy()

    lab.run(tidy())
    for table in (schema.channels, schema.channel_messages):
        assert lab.run(rows(lab, table)) == []


async def rows(lab: RestLab, table: sa.Table) -> list[Any]:
    return lab.core.store.rows(sa.select(table))


def test_a_poll_at_another_process_is_refused_until_the_first_is_over(lab: RestLab) -> None:
    id = lab.key_id(lab.key)

    async def story() -> list[int]:
        table, said = lab.core.channels.table, []
        await lab.acall("GET", "/v2/notification/channel")
        table.open(id, "LONG_POLLING")
        assert table.hold(id, "LONG_POLLING", "elsewhere", 60)
        said.append((await lab.acall("GET", PULL)).status_code)
        table.release(id, "elsewhere")
        lab.core.channels.put(id, {"notifications": [{"ep": "x"}]})
        said.append((await lab.acall("GET", PULL)).status_code)
        return said

    assert lab.run(story()) == [409, 200]


def test_what_a_killed_service_had_in_hand_is_free_after_its_restart(lab: RestLab) -> None:
    id = lab.key_id(lab.key)

    async def hold() -> None:
        lab.core.channels.table.open(id, "LONG_POLLING")
        assert lab.core.channels.table.hold(id, "LONG_POLLING", "who was killed", 60)
        await lab.core.store.written()

    lab.run(hold())
    if lab.core.store.shared:
        pytest.skip("other processes may have channels in hand: theirs are free when the time is over")
    lab.restart()
    put(lab, "x")
    assert ids(lab.get(PULL)) == ["x"]


KINDS = {"pull": "LONG_POLLING", "callback": "CALLBACK", "websocket": "WEB_SOCKET"}


@pytest.mark.parametrize("there", KINDS)
def test_a_key_has_a_channel_of_one_kind_and_the_others_are_refused(lab: RestLab, there: str) -> None:
    key = lab.new_key()
    id = lab.key_id(key)
    lab.core.callbacks.sender = Accepting()

    def opened(kind: str) -> int:
        if kind == "pull":
            put(lab, "x", key=key)
            return lab.call("GET", PULL, key=key).status_code
        json = {"url": "http://127.0.0.1/"} if kind == "callback" else None
        return lab.call("PUT", f"/v2/notification/{kind}", key=key, json=json).status_code

    assert opened(there) in (200, 201, 204)
    assert lab.get("/v2/notification/channel", key=key) == {"delivery_mechanism": KINDS[there]}
    for other in KINDS.keys() - {there}:
        assert opened(other) == 400
        expected = 200 if other == "pull" else 404
        assert lab.call("DELETE", f"/v2/notification/{other}", key=key).status_code == expected
        assert lab.call("GET", "/v2/notification/channel", key=key).json() == {"delivery_mechanism": KINDS[there]}
    assert lab.call("DELETE", f"/v2/notification/{there}", key=key).status_code in (200, 204)
    assert lab.call("GET", "/v2/notification/channel", key=key).status_code == 404
    assert lab.run(rows(lab, schema.channels)) == [] and id


class Accepting:
    """A callback that takes everything."""

    async def put(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        return 204

    async def close(self) -> None:
        pass


def test_what_was_dropped_while_it_was_told_takes_nothing_newer_with_it(
    lab: RestLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = lab.key_id(lab.key)
    later = lab.core.store.now() + 1

    async def story() -> list[str]:
        box = lab.core.channels.outbox
        lab.core.channels.put(id, {"async-responses": [{"id": "old"}]})
        batch = box.next(id)
        assert batch is not None
        box.clear(id)
        monkeypatch.setattr(lab.core.store, "now", lambda: later)
        lab.core.channels.put(id, {"async-responses": [{"id": "new"}]})
        box.taken(batch)
        left = box.next(id)
        return [] if left is None else ids(left.message)

    assert lab.run(story()) == ["new"]
