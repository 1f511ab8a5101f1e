"""Enrollments over REST: one by one, and by file, whatever is in it and whenever the service ends."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import ServiceError
from pdmlab.service import bulk
from pdmlab.service.core import Core
from pdmlab.service.enrollment import fingerprint_of, identity_of
from pdmlab.service.identity_lists import IdentityLines
from pdmlab.service.schema import device_enrollments, enrollment_bulk_parts, enrollment_bulks
from tests.service.restlab import RestLab

UPLOADS, DELETES = "/v3/device-enrollments-bulk-uploads", "/v3/device-enrollments-bulk-deletes"


def identity(name: str) -> str:
    """Return the identity of a device whose certificate is some bytes."""
    return identity_of(name.encode())


@pytest.fixture(scope="module")
def lab(shared_database: str) -> Iterator[RestLab]:
    lab = RestLab(shared_database, hold_s=0.05)
    yield lab
    lab.close()


@pytest.fixture(scope="module")
def neighbour(lab: RestLab) -> str:
    """The key of another account's administrator."""

    async def make() -> str:
        return lab.core.accounts.create_account({"display_name": "next door"}, {"email": "n@example.com"})[2]

    return lab.run(make())


def enroll(lab: RestLab, name: str, status: int = 201, key: str | None = None) -> dict[str, Any]:
    answer = lab.call("POST", "/v3/device-enrollments", json={"enrollment_identity": identity(name)}, key=key)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


# -- one by one --------------------------------------------------------------------------------------------------


def test_an_identity_is_the_fingerprint_of_a_certificate() -> None:
    shown = identity(name="a certificate")
    assert shown.startswith("A-") and len(shown) == 97
    assert fingerprint_of(shown) == fingerprint_of(shown.lower().replace("a-", "A-", 1))
    assert fingerprint_of(shown) == hashlib.sha256(b"a certificate").hexdigest()


def test_an_enrollment_waits_for_its_device(lab: RestLab) -> None:
    made = enroll(lab, "waits")
    assert (made["object"], made["enrollment_identity"]) == ("enrollment", identity("waits"))
    assert made["claimed_at"] is None and made["enrolled_device_id"] is None
    assert made["expires_at"] > made["created_at"] and made["etag"].isalnum()
    path = f"/v3/device-enrollments/{made['id']}"
    assert lab.get(path) == made and made in lab.get("/v3/device-enrollments?limit=1000")["data"]
    assert lab.call("DELETE", path).status_code == 204
    assert [lab.call(method, path).status_code for method in ("GET", "DELETE")] == [404, 404]
    enroll(lab, "waits")  # it is free again


@pytest.mark.parametrize(
    "text",
    [
        "A-35:e7",
        "A_" + identity("x")[2:],
        "B-" + identity("x")[2:],
        "A-" + "zz:" * 31 + "zz",
        identity("x") + ":00",
        " " + identity("x"),
        identity("x") + "\n",
        "",
        None,
        5,
    ],
)
def test_what_is_no_identity_is_refused(lab: RestLab, text: object) -> None:
    answer = lab.call("POST", "/v3/device-enrollments", json={"enrollment_identity": text})
    assert (answer.status_code, answer.json()["type"]) == (400, "validation_error")


def test_a_device_is_enrolled_once_in_all_accounts(lab: RestLab, neighbour: str) -> None:
    mine = enroll(lab, "once")
    assert enroll(lab, "once", 409)["type"] == "duplicate"
    assert mine["id"] not in str(enroll(lab, "once", 409, key=neighbour))
    lower = "A-" + identity("once")[2:].lower()  # the same device
    assert (
        lab.call("POST", "/v3/device-enrollments", json={"enrollment_identity": lower}, key=neighbour).status_code
        == 409
    )
    for method in ("GET", "DELETE"):
        assert lab.call(method, f"/v3/device-enrollments/{mine['id']}", key=neighbour).status_code == 404
    assert mine["id"] not in str(lab.get("/v3/device-enrollments", key=neighbour))


def test_an_enrollment_whose_time_is_up_is_none(lab: RestLab, neighbour: str) -> None:
    late = enroll(lab, "late")

    async def pass_by() -> None:
        with lab.core.store.begin() as db:
            mine = device_enrollments.c.id == late["id"]
            db.execute(sa.update(device_enrollments).where(mine).values(expires_at="2020-01-01T00:00:00.000000Z"))

    lab.run(pass_by())
    assert lab.call("GET", f"/v3/device-enrollments/{late['id']}").status_code == 404
    assert enroll(lab, "late", key=neighbour)["id"] != late["id"]


# -- files: what is in them ----------------------------------------------------------------------------------------

A, B = identity("a"), identity("b")
FILE = f'''"A-11, whatever the header says",
"{A}",
{B}, and a note
 \t{A}  , spaces are left out
  "{A}"   , around quotation marks too
"" , nothing in quotation marks is an error
" {A} ", spaces within them as well
A_wrong,
,,
, nothing

{A}:00
"{A}
"{A}" and more, "{A}"'''
FOUND = [A, B, A, A, "", f" {A} ", "A_wrong", f"{A}:00", f'"{A}', f'"{A}" and more']


@given(data=st.data(), ends=st.sampled_from([b"\n", b"\r", b"\r\n"]))
def test_identities_are_found_however_a_file_is_cut(data: st.DataObject, ends: bytes) -> None:
    content = FILE.encode().replace(b"\n", ends)
    places = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    lines, found = IdentityLines(), list[bytes]()
    for start, stop in zip([0, *places], [*places, len(content)], strict=True):
        found += lines.feed(content[start:stop])
    assert [each.decode() for each in found + lines.end()] == FOUND


@given(st.lists(st.binary(max_size=3000), max_size=6))
def test_any_bytes_are_lines_and_what_is_kept_of_them_is_little(pieces: list[bytes]) -> None:
    lines = IdentityLines()
    for piece in [*pieces, b"x" * 5000]:
        assert all(0 <= len(each) <= 128 and b"\n" not in each for each in lines.feed(piece))
        assert len(lines._rest) <= 1024
    lines.end()


# -- files: what becomes of them -----------------------------------------------------------------------------------


def send(lab: RestLab, content: str | bytes, path: str = UPLOADS, status: int = 201, key: str | None = None) -> Any:
    answer = lab.call("POST", path, files={"enrollment_identities": ("list.csv", content)}, key=key)
    assert answer.status_code == status, answer.text
    return answer.json()


def completed(lab: RestLab, made: dict[str, Any], path: str = UPLOADS) -> dict[str, Any]:
    assert made["status"] == "new" and made["completed_at"] is None and made["full_report_file"] is None
    lab.until(lambda: lab.core.bulks._task.done())  # type: ignore[union-attr]
    state = lab.get(f"{path}/{made['id']}")
    assert state["status"] == "completed" and state["processed_count"] == state["total_count"]
    return dict(state)


def report(lab: RestLab, url: str) -> list[list[str]]:
    answer = lab.call("GET", urlsplit(url).path)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv")
    assert answer.text.endswith("\r\n")
    return list(csv.reader(io.StringIO(answer.text), strict=True))


def test_a_file_enrolls_its_devices_and_reports_what_became_of_each(lab: RestLab) -> None:
    here, new = identity("here already"), [identity(f"new {number}") for number in range(3)]
    enroll(lab, "here already")
    made = send(lab, "header\n" + "\n".join([new[0], "nonsense", here, f'"{new[1]}", note', new[0], new[2]]))
    assert (made["object"], made["total_count"]) == ("enrollment-identity-bulk-uploads", 6)
    state = completed(lab, made)
    assert (state["errors_count"], state["total_count"]) == (3, 6)
    header, *rows = report(lab, state["full_report_file"])
    assert header == [
        "entity__id",
        "entity__created_at",
        "error__code",
        "error__type",
        "error__message",
        "error__fields",
    ]
    said = [(row[0], bool(row[1]), row[2], row[3]) for row in rows]
    assert said == [
        (new[0], True, "", ""),
        ("nonsense", False, "400", "validation_error"),
        (here, False, "409", "duplicate"),
        (new[1], True, "", ""),
        (new[0], False, "409", "duplicate"),
        (new[2], True, "", ""),
    ]
    header, *rows = report(lab, state["errors_report_file"])
    assert header == ["entity__id", "error__code", "error__type", "error__message", "error__fields"]
    assert [row[0] for row in rows] == ["nonsense", here, new[0]]
    listed = [each["enrollment_identity"] for each in lab.get("/v3/device-enrollments?limit=1000")["data"]]
    assert [each for each in listed if each in new] == new


def test_a_file_deletes_enrollments_with_their_devices(lab: RestLab, neighbour: str) -> None:
    first, second = enroll(lab, "to go 1"), enroll(lab, "to go 2")
    enroll(lab, "theirs", key=neighbour)

    async def claim() -> str:
        core = lab.core
        row = core.directory.add(core.account_id, endpoint_name="claimed", device_execution_mode=5)
        with core.store.begin():
            core.enrollments.claimed(core.enrollments.find(core.account_id, second["id"]), row["id"])
        return str(row["id"])

    device = lab.run(claim())
    assert lab.get(f"/v3/device-enrollments/{second['id']}")["enrolled_device_id"] == device
    lines = [identity("to go 1"), identity("theirs"), "nonsense", identity("to go 2"), identity("to go 1")]
    state = completed(lab, send(lab, "\n".join(["header", *lines]), DELETES), DELETES)
    assert state["errors_count"] == 3
    header, *rows = report(lab, state["full_report_file"])
    assert header[1] == "entity__deleted_at"
    assert [(row[0], row[2]) for row in rows] == list(zip(lines, ["", "404", "400", "", "404"], strict=True))
    for id in (first["id"], second["id"]):
        assert lab.call("GET", f"/v3/device-enrollments/{id}").status_code == 404
    assert lab.call("GET", f"/v3/devices/{device}").status_code == 404
    assert enroll(lab, "theirs", 409)  # it is there still


@pytest.mark.parametrize("content", [b"", b"header only", b'"header"\n\n,,\n, nothing\n'])
def test_a_file_of_nothing_is_completed_at_once(lab: RestLab, content: bytes) -> None:
    state = completed(lab, send(lab, content))
    assert (state["total_count"], state["errors_count"]) == (0, 0)
    assert len(report(lab, state["full_report_file"])) == 1


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(lab: RestLab) -> None:
    count = lambda: lab.core.store.scalar(sa.select(sa.func.count()).select_from(enrollment_bulk_parts))

    async def counted() -> int:
        return int(count())

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"A" * (1 << 16)
            yield b"\n"

    async def receive() -> None:
        with pytest.raises(ServiceError, match="10485760"):
            await lab.core.bulks.receive(lab.core.account_id, "upload", endless())

    before = lab.run(counted())
    assert "10485760" in send(lab, b"header\n" + b"A\n" * (5 << 20), status=400)["message"]
    lab.run(receive())
    assert lab.run(counted()) == before
    assert lab.call("POST", UPLOADS, content=b"x" * (102 << 20)).status_code == 413


@pytest.mark.parametrize(
    "options", [{}, {"json": {}}, {"data": {"enrollment_identities": "text"}}, {"files": {"f": b""}}]
)
def test_what_is_no_file_is_refused(lab: RestLab, options: dict[str, Any]) -> None:
    for path in (UPLOADS, DELETES):
        assert lab.call("POST", path, **options).status_code == 400


def test_a_file_is_its_accounts(lab: RestLab, neighbour: str) -> None:
    made = completed(lab, send(lab, f"h\n{identity('of this account')}"))
    for path in (f"{UPLOADS}/{made['id']}", urlsplit(made["full_report_file"]).path):
        assert lab.call("GET", path, key=neighbour).status_code == 404
    assert lab.call("GET", f"{DELETES}/{made['id']}").status_code == 404
    assert lab.call("GET", f"{UPLOADS}/{made['id']}/other.csv").status_code == 404


# -- files: size, and a service that ends --------------------------------------------------------------------------


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1 << 14):
        yield content[start : start + (1 << 14)]


def test_a_million_lines_are_worked_off_beside_everything_else(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop has its turn after each part, and what is in memory is a part."""
    monkeypatch.setitem(bulk.PART, "upload", 20_000)  # larger parts than usual, for the sake of time
    content = b"header\n" + b"nonsense\n" * 1_000_000

    async def story() -> tuple[dict[str, Any], int, int]:
        turns, largest = 0, 0
        core = lab.core
        row = await core.bulks.receive(core.account_id, "upload", pieces(content))
        while core.bulks._task is not None and not core.bulks._task.done():
            turns += 1
            await asyncio.sleep(0)
        row = core.bulks.find(core.account_id, "upload", row["id"])
        async for part in core.bulks.report(row, errors=True):
            largest = max(largest, part.count(b"\n"))
        return row, turns, largest

    row, turns, largest = lab.loop.run(story(), timeout=120)
    assert (row["status"], row["total_count"], row["errors_count"]) == ("completed", 1_000_000, 1_000_000)
    assert turns >= 50 and largest == 20_000


KILLED = """
import asyncio, os, signal, sys

from pdmlab.service.core import Core


async def pieces():
    yield sys.stdin.buffer.read()


async def story():
    core = Core(sys.argv[1])
    core.store.open()
    core.pki.open()
    write, parts = core.bulks._enroll, 0

    def killed(db, account_id, texts):
        nonlocal parts
        parts += 1
        results = list(write(db, account_id, texts))
        if parts == 3:
            os.kill(os.getpid(), signal.SIGKILL)  # what this part wrote is not committed
        return results

    core.bulks._enroll = killed
    row = await core.bulks.receive(core.account_id, "upload", pieces())
    print(row["id"], flush=True)
    await core.bulks._task


asyncio.run(story())
"""


def test_a_killed_service_goes_on_where_it_was_and_each_part_counts_once(database: str) -> None:
    names = [identity(f"device {number}") for number in range(1000)]
    content = "\n".join(["header", *names, "nonsense"]).encode()
    ended = subprocess.run([sys.executable, "-c", KILLED, database], input=content, stdout=subprocess.PIPE, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    id = ended.stdout.decode().strip()

    async def go_on() -> None:
        core, other = Core(database), Core(database)  # two processes, but for their memory
        for each in (core, other):
            each.store.open()
        half = core.bulks.find(core.account_id, "upload", id)
        assert (half["status"], half["processed_count"]) == ("processing", 200)
        for each in (core, other):
            each.bulks.resume()
        for each in (core, other):
            assert each.bulks._task is not None
            await each.bulks._task
        row = core.bulks.find(core.account_id, "upload", id)
        counts = row["status"], row["total_count"], row["processed_count"], row["errors_count"]
        assert counts == ("completed", 1001, 1001, 1)
        found = core.store.rows(sa.select(device_enrollments.c.enrollment_identity))
        assert {each["enrollment_identity"] for each in found} == set(names) and len(found) == 1000
        for each in (core, other):
            each.store.close()

    asyncio.run(go_on())


def test_a_file_that_never_came_whole_is_dropped(lab: RestLab) -> None:
    async def torn() -> AsyncIterator[bytes]:
        yield b"header\n" + identity("torn").encode() + b"\n"
        raise ConnectionResetError

    async def story() -> None:
        core = lab.core
        with pytest.raises(ConnectionResetError):
            await core.bulks.receive(core.account_id, "upload", torn())
        # One that a killed service was receiving has nobody to drop it, until its time is up.
        with core.store.begin() as db:
            old = {"id": core.store.ids.new(), "account_id": core.account_id, "kind": "upload", "status": "receiving"}
            at = "2020-01-01T00:00:00.000000Z"
            db.execute(sa.insert(enrollment_bulks).values(**old, created_at=at, updated_at=at))
        with pytest.raises(ServiceError, match="there is no bulk upload"):
            core.bulks.find(core.account_id, "upload", old["id"])
        core.bulks.resume()
        receiving = enrollment_bulks.c.status == "receiving"
        assert core.store.rows(sa.select(enrollment_bulks).where(receiving)) == []
        assert core.enrollments.of(fingerprint_of(identity("torn")) or "") is None

    lab.run(story())


def test_a_database_that_cannot_be_written_is_waited_for(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "AGAIN_S", 0.01)
    advance, failures = lab.core.bulks._advance, [ServiceError("the disk is full", status=503)] * 3

    def failing(row: dict[str, Any]) -> None:
        if failures:
            raise failures.pop()
        advance(row)

    monkeypatch.setattr(lab.core.bulks, "_advance", failing)
    made = completed(lab, send(lab, f"h\n{identity('patient')}"))
    assert (made["processed_count"], made["errors_count"], failures) == (1, 0, [])


def test_an_account_has_so_many_files_at_once(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MAX_WAITING", 0)
    assert send(lab, "h\n", status=429)["type"] == "rate_limit_exceeded"


def test_reports_are_kept_for_so_many_files(lab: RestLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "MAX_KEPT", 2)
    ids = [completed(lab, send(lab, "h\n"))["id"] for _ in range(4)]
    assert [lab.call("GET", f"{UPLOADS}/{id}").status_code for id in ids] == [404, 404, 200, 200]


# -- denials ---------------------------------------------------------------------------------------------------------


def test_denials_are_listed_for_a_certificate_of_the_account(lab: RestLab, neighbour: str) -> None:
    ca = "c" * 32

    async def deny() -> None:
        trusted = [{"id": ca, "account_id": lab.core.account_id}]
        with lab.core.store.begin():
            for name in ("one", "two", "one"):  # at once, which counts once
                lab.core.enrollments.denied(name, trusted, "nobody has enrolled it")

    lab.run(deny())
    page = lab.get(f"/v3/device-enrollment-denials?trusted_certificate_id__eq={ca}")
    assert [each["endpoint_name"] for each in page["data"]] == ["one", "two"]
    one = page["data"][0]
    assert (one["object"], one["trusted_certificate_id"]) == ("denied_device", ca)
    assert lab.get(f"/v3/device-enrollment-denials/{one['id']}") == one
    query = f"trusted_certificate_id__eq={ca}&endpoint_name__eq=two"
    assert [each["endpoint_name"] for each in lab.get(f"/v3/device-enrollment-denials?{query}")["data"]] == ["two"]
    assert lab.call("GET", "/v3/device-enrollment-denials").status_code == 400
    assert lab.get(f"/v3/device-enrollment-denials?{query}", key=neighbour)["data"] == []
    assert lab.call("GET", f"/v3/device-enrollment-denials/{one['id']}", key=neighbour).status_code == 404
    events = lab.get("/v3/device-events?event_type__eq=update.device.enrollment-denied")["data"]
    assert [each["description"] for each in events] == [
        "one was not let in: nobody has enrolled it",
        "two was not let in: nobody has enrolled it",
    ]
