"""What two processes do to the same rows in the same moment: between one's look and its write, the other writes."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import sqlalchemy as sa

from pdmlab.errors import ServiceError
from pdmlab.service.channel_table import CALLBACK, LONG_POLLING, WEB_SOCKET, Kind
from pdmlab.service.core import Core
from pdmlab.service.refusal import Refused
from pdmlab.service.requests import MAX_QUEUED
from pdmlab.service.rest.app import make_app
from pdmlab.service.schema import (
    channels,
    developer_keys,
    device_group_members,
    device_groups,
    firmware_images,
    image_pieces,
    requests,
    upload_jobs,
)
from pdmlab.service.statements import Statement
from pdmlab.service.store import Store
from tests.service.corelab import CoreLab
from tests.service.databases import KINDS, PostgreSQL, sqlite_in
from tests.service.fota import IMAGE, manifest_v3
from tests.service.several import SeveralLab, play

T = TypeVar("T")
IMAGE_BYTES = b"image" * 20_000


@pytest.fixture
def two(postgresql: PostgreSQL) -> Any:
    """Play a story with two processes, a and b."""
    url = postgresql.new()
    yield lambda story: play(story, url, "a", "b")
    postgresql.drop(url)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, in the middle of something else."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


def after(owner: object, name: str, other: Callable[[], object], *, call: int = 1) -> None:
    """Let another process do something right after one call of owner.name, the next or a later one."""
    method = getattr(owner, name)
    calls = 0

    def called(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        result = method(*args, **options)
        if calls == call:
            setattr(owner, name, method)
            other()
        return result

    setattr(owner, name, called)


def count(core: Core, table: sa.Table) -> int:
    return int(core.store.scalar(sa.select(sa.func.count()).select_from(table)))


# -- campaigns -----------------------------------------------------------------------------------------------


def manifests(core: Core) -> tuple[str, str]:
    made = []
    for version in ("1.1.0", "1.2.0"):
        image = core.firmware.add_image(core.account_id, "image", IMAGE)["id"]
        der = manifest_v3(IMAGE, f"coap://service/fw/{image}", version)
        made.append(core.firmware.add_manifest(core.account_id, version, der)["id"])
    return made[0], made[1]


def test_a_campaign_sends_the_manifest_that_it_shows(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account, (old, new) = a.account_id, manifests(a)
        id = a.campaigns.create(account, device_filter="", root_manifest_id=old)["id"]
        after(a.firmware, "manifest_data", lambda: b.campaigns.change(account, id, root_manifest_id=new))
        row = a.campaigns.start(account, id)
        assert (row["phase"], row["root_manifest_id"], row["version"]) == ("starting", new, "1.2.0")
        assert bytes(row["manifest"]) == a.firmware.manifest_data(new)

    two(story)


@pytest.mark.parametrize(
    "change", [{"root_manifest_id": "new"}, {"device_filter": "id=1"}, {"when": "2030-01-01T00:00:00Z"}]
)
def test_a_campaign_that_is_started_meanwhile_stays_as_it_is(two: Any, change: dict[str, str]) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account, (old, new) = a.account_id, manifests(a)
        id = a.campaigns.create(account, device_filter="state=registered", root_manifest_id=old)["id"]
        after(b.campaigns, "find", lambda: a.campaigns.start(account, id))
        with pytest.raises(Refused, match="has started meanwhile") as refused:
            b.campaigns.change(account, id, **({"root_manifest_id": new} if "root_manifest_id" in change else change))
        row = a.campaigns.find(account, id)
        assert refused.value.status == 403
        assert (row["root_manifest_id"], row["version"], row["device_filter"], row["when"]) == (
            old,
            "1.1.0",
            "state=registered",
            None,
        )

    two(story)


# -- uploads -------------------------------------------------------------------------------------------------


async def almost_there(core: Core) -> str:
    id = str(core.uploads.add(core.account_id, "image")["id"])
    await core.uploads.add_chunk(core.account_id, id, IMAGE_BYTES)
    return id


async def settled(core: Core) -> None:
    for task in list(core.firmware.pieces._dropping):
        await task


def test_an_upload_that_is_finished_while_it_is_deleted_is_an_image_with_its_bytes(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account, id = a.account_id, await almost_there(a)
        image_id = a.uploads.find(account, id)["image_id"]
        after(b.uploads, "find", lambda: at_once(a.uploads.add_chunk(account, id, b"")))
        b.uploads.delete(account, id)
        await settled(b)
        assert count(a, upload_jobs) == 0 and count(a, firmware_images) == 1
        for core in (a, b):
            image = core.firmware.open(image_id)
            assert image is not None and image.read(0, image.size) == IMAGE_BYTES

    two(story)


def test_an_upload_that_is_deleted_while_it_is_finished_leaves_nothing(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account, id = a.account_id, await almost_there(a)
        after(a.uploads, "_again", lambda: b.uploads.delete(account, id))
        with pytest.raises(Refused, match="there is no upload job") as refused:
            await a.uploads.add_chunk(account, id, b"")
        await settled(b)
        assert refused.value.status == 404
        assert count(a, upload_jobs) == count(a, firmware_images) == count(a, image_pieces) == 0

    two(story)


def test_the_bytes_of_an_image_are_not_dropped_by_mistake(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a = lab["a"].core
        id = a.firmware.add_image(a.account_id, "image", IMAGE_BYTES)["id"]
        a.firmware.pieces.drop(id)
        await settled(a)
        image = a.firmware.open(id)
        assert image is not None and image.read(0, image.size) == IMAGE_BYTES

    two(story)


def test_what_took_too_long_to_come_and_was_let_go_of_is_no_image(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core

        def parts() -> Any:
            yield IMAGE_BYTES
            with b.store.begin() as db:  # as a start that comes late does
                db.execute(sa.delete(upload_jobs))
            yield IMAGE_BYTES

        with pytest.raises(Refused, match="to come") as refused:
            await a.uploads.receive(a.account_id, "image", parts())
        await settled(a)
        assert refused.value.status == 409
        assert count(a, firmware_images) == count(a, image_pieces) == 0

    two(story)


# -- channels ------------------------------------------------------------------------------------------------


async def call(lab: CoreLab, method: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(make_app(lab.core, hold_s=1))
    async with httpx.AsyncClient(transport=transport, base_url="http://lab", timeout=None) as client:
        return await client.request(method, path, headers={"Authorization": f"Bearer {lab.key}"}, **options)


def opened(lab: CoreLab, kind: Kind, **values: object) -> None:
    """Open a channel of the tests' key, as another process does."""
    lab.core.channels.table.open(lab.key_id, kind, values)
    lab.core.store.flush()


def test_of_two_first_polls_one_is_refused(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]

        def polls() -> None:
            opened(b, LONG_POLLING)
            assert b.core.channels.table.hold(b.key_id, LONG_POLLING, "another poll", 60)
            b.core.store.flush()

        after(a.core.channels.table, "find", polls)
        answer = await call(a, "GET", "/v2/notification/pull")
        assert (answer.status_code, answer.text) == (409, "CHANNEL_ALREADY_POLLED")

    two(story)


def test_of_two_who_open_a_websocket_one_finds_it_open(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        after(a.core.channels.table, "find", lambda: opened(b, WEB_SOCKET), call=2)
        answer = await call(a, "PUT", "/v2/notification/websocket")
        assert (answer.status_code, answer.json()["status"]) == (200, "disconnected")

    two(story)


def test_of_two_callbacks_the_later_one_holds(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]

        async def put(*args: object) -> int:
            return 204

        monkeypatch.setattr(a.core.callbacks.sender, "put", put)
        first = {"url": "http://192.0.2.1/first", "headers": {}}
        after(a.core.channels.table, "find", lambda: opened(b, CALLBACK, **first), call=2)
        answer = await call(a, "PUT", "/v2/notification/callback", json={"url": "http://192.0.2.1/second"})
        assert answer.status_code == 204
        assert b.core.callbacks.get(b.key_id) == {"url": "http://192.0.2.1/second", "headers": {}}

    two(story)


def test_a_channel_of_another_kind_that_is_opened_meanwhile_stays(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        after(a.core.channels.table, "find", lambda: opened(b, WEB_SOCKET))
        answer = await call(a, "GET", "/v2/notification/pull")
        assert (answer.status_code, answer.text) == (400, "CHANNEL_ALREADY_EXISTS")
        assert b.core.channels.kind(b.key_id) == WEB_SOCKET

    two(story)


# -- groups --------------------------------------------------------------------------------------------------


def test_of_two_groups_of_one_name_one_is_made(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        account = a.core.account_id
        after(a.core.device_groups, "_unique", lambda: b.core.device_groups.add(account, "desk"))
        answer = await call(a, "POST", "/v3/device-groups", json={"name": "desk"})
        assert (answer.status_code, answer.json()["type"]) == (409, "duplicate")
        other = a.core.device_groups.add(account, "shelf")["id"]
        after(a.core.device_groups, "_unique", lambda: b.core.device_groups.add(account, "window"))
        answer = await call(a, "PUT", f"/v3/device-groups/{other}", json={"name": "window"})
        assert (answer.status_code, answer.json()["type"]) == (409, "duplicate")

    two(story)


@pytest.mark.parametrize("by", ["put_in", "set_of"])
def test_a_device_is_put_into_a_group_by_both(two: Any, by: str) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        account = a.core.account_id
        device = a.core.directory.add(account, endpoint_name="desk")["id"]
        group = a.core.device_groups.add(account, "desk")["id"]
        b.core.store.rows(sa.text("SELECT set_config('lock_timeout', '10ms', false)"))
        said = []

        def other() -> None:
            try:
                b.core.device_groups.put_in(account, group, [device])
            except ServiceError as error:  # it waits for the other one, and would get its turn
                said.append(error.status)

        if by == "put_in":
            after(a.core.device_groups, "_known", other)
            answer = await call(a, "POST", f"/v3/device-groups/{group}/devices/add", json={"device_id": device})
            assert answer.status_code == 204
        else:
            after(a.core.device_groups, "of", other, call=2)
            answer = await call(a, "PUT", f"/v3/devices/{device}", json={"groups": [group]})
            assert (answer.status_code, answer.json()["groups"]) == (200, [group])
        assert said == [503]
        b.core.device_groups.put_in(account, group, [device])
        assert count(a.core, device_group_members) == 1

    two(story)


# -- what is deleted meanwhile -------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["subscription", "request", "group"])
def test_a_device_that_is_deleted_meanwhile_is_not_found(two: Any, what: str) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        account = a.core.account_id
        device = a.core.directory.add(account, endpoint_name="desk")["id"]

        def delete() -> None:
            assert b.core.directory.remove(account, device)

        if what == "subscription":
            after(a.core.directory, "find", delete)
            answer = await call(a, "PUT", f"/v2/subscriptions/{device}/5000/0/1")
        elif what == "request":
            after(a.core.directory, "account_of", delete)
            body = {"method": "GET", "uri": "/5000/0/1"}
            answer = await call(a, "POST", f"/v2/device-requests/{device}?async-id=1", json=body)
        else:
            group = a.core.device_groups.add(account, "desk")["id"]
            after(a.core.device_groups, "_known", delete)
            answer = await call(a, "POST", f"/v3/device-groups/{group}/devices/add", json={"device_id": device})
        assert answer.status_code == 404
        assert answer.json()["type"] == "not_found" if what == "group" else answer.text == "DEVICE_NOT_FOUND"

    two(story)


@pytest.mark.parametrize("what", ["subscription", "request", "websocket"])
def test_a_key_that_is_revoked_meanwhile_is_invalid(two: Any, what: str) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        account = a.core.account_id
        device = a.core.directory.add(account, endpoint_name="desk")["id"]

        def revoke() -> None:
            b.core.accounts.delete_key(account, b.key_id)

        if what == "subscription":
            after(a.core.directory, "find", revoke)
            answer = await call(a, "PUT", f"/v2/subscriptions/{device}/5000/0/1")
        elif what == "request":
            after(a.core.directory, "account_of", revoke)
            body = {"method": "GET", "uri": "/5000/0/1"}
            answer = await call(a, "POST", f"/v2/device-requests/{device}?async-id=1", json=body)
        else:
            after(a.core.channels.table, "find", revoke, call=2)
            answer = await call(a, "PUT", "/v2/notification/websocket")
        assert (answer.status_code, answer.text) == (401, "INVALID_API_KEY")

    two(story)


# -- what is said of it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_database_error_has_no_values(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = sqlite_in(tmp_path) if kind == "sqlite" else request.getfixturevalue("postgresql").new()
    store = Store(url)
    store.open()
    secret = "".join(("not", "to", "be", "seen"))  # tracebacks have the lines of this file
    row = {"id": "1", "account_id": store.account_id, "name": secret}
    again = Statement(sa.insert(device_groups), ["id", "account_id", "name", "created_at", "updated_at"])
    at = {"created_at": "", "updated_at": ""}
    with store.begin() as db:
        db.execute(sa.insert(device_groups).values(row | at))
    said = []
    for write in (
        lambda db: db.execute(sa.insert(device_groups).values(row | at | {"id": "2"})),  # the name is taken
        lambda db: db.execute(sa.insert(device_groups), {**row, "id": "3", "created_at": None, "updated_at": ""}),
        lambda db: again.run(db, **row, **at),
        lambda db: again.run_many(db, [{**row, **at, "id": "4"}]),
        lambda db: again.run(db, **(row | {"id": "5", "name": secret * 2, "account_id": secret} | at)),
    ):
        with pytest.raises(sa.exc.IntegrityError) as error, store.begin() as db:
            write(db)
        said.append("".join(traceback.format_exception(error.value)))
        assert "IntegrityError" in said[-1]
    store.close()
    assert [each for each in said if secret in each] == []
    if kind == "postgresql":
        request.getfixturevalue("postgresql").drop(url)


def test_a_defect_is_logged_without_secrets(
    two: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(lab: SeveralLab) -> None:
        a = lab["a"]

        async def register(key: str, url: str, headers: dict[str, str]) -> None:
            broken = {"api_key_id": key, "account_id": a.core.account_id, "kind": None, "url": url, "headers": headers}
            with a.core.store.begin() as db:
                db.execute(sa.insert(channels).values(**broken, created_at="", updated_at=""))

        monkeypatch.setattr(a.core.callbacks, "register", register)
        body = {"url": "http://192.0.2.1/", "headers": {"Authorization": "Bearer very-secret"}}
        answer = await call(a, "PUT", "/v2/notification/callback", json=body)
        assert answer.status_code == 500
        assert "NotNullViolation" in caplog.text
        assert "very-secret" not in caplog.text + answer.text + str(answer.headers)

    two(story)


# -- what is set in the same moment --------------------------------------------------------------------------


def test_what_two_set_of_an_account_is_both_kept(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account = a.account_id
        b.store.rows(sa.text("SELECT set_config('lock_timeout', '10ms', false)"))
        said = []

        def other() -> None:
            try:
                b.accounts.update_account(account, {"city": "Oulu"})
            except ServiceError as error:  # it waits for the other one, and would get its turn
                said.append(error.status)

        after(a.accounts, "account", other)
        a.accounts.update_account(account, {"company": "pdmlab"})
        assert said == [503]
        b.accounts.update_account(account, {"city": "Oulu"})
        assert a.accounts.account(account)["fields"] == {"company": "pdmlab", "city": "Oulu"}

    two(story)


def test_of_two_developer_certificates_of_one_name_one_is_made(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account = a.account_id
        after(a.developers, "_certified", lambda: b.developers.add(account, "desk"))
        with pytest.raises(Refused, match="name desk already") as refused:
            a.developers.add(account, "desk")
        assert refused.value.status == 409
        assert count(a, developer_keys) == 1

    two(story)


def test_no_more_requests_wait_for_a_device_than_may_when_two_processes_take_them(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"], lab["b"]
        device = a.core.directory.add(a.core.account_id, endpoint_name="desk")["id"]

        async def submit(one: CoreLab, number: int) -> int:
            try:
                await one.core.requests.submit(one.key_id, device, f"{one.name}{number}", "GET", "/3/0/0")
            except Refused as refused:
                assert refused.message == "TOO_MANY_REQUESTS"
                return 0
            return 1

        taken = await asyncio.gather(*(submit(one, number) for number in range(30) for one in (a, b)))
        assert 0 < sum(taken) == count(b.core, requests) <= MAX_QUEUED
        for number in range(MAX_QUEUED):
            await submit(a, 100 + number)
        assert count(b.core, requests) == MAX_QUEUED and await submit(b, 200) == 0

    two(story)
