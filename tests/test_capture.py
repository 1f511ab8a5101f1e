"""The message log: rows, lines, frame and journal; what it never holds."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
import time
from pathlib import Path

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.optionnumbers import OptionNumber
from aiocoap.numbers.types import Type

from pdmlab.capture import LoggedMessage, MessageLog
from pdmlab.capture.journal import Journal
from pdmlab.capture.kept import MOST, Direction, Kept
from pdmlab.capture.plain import PlainCapture, packet
from pdmlab.capture.words import LONGEST
from pdmlab.clock import DeviceClock
from pdmlab.coap.endpoint import Endpoint
from pdmlab.lwm2m.dialect import LwM2M
from pdmlab.network.fabric import Fabric

PEER = ("192.0.2.1", 5683)
SECRET = b"-----the private key-----"


def message(code: codes.Code, path: str = "", kind: Type = Type.CON, token: bytes = b"\1", **options: object) -> bytes:
    made = Message(code=code, **options)
    if path:
        made.opt.uri_path = tuple(path.strip("/").split("/"))
    made.mtype, made.mid, made.token = kind, 0x1234, token
    data: bytes = made.encode()
    return data


def test_a_row_says_who_sent_what_to_whom_and_when() -> None:
    log = MessageLog(endpoint="device", clock="device")
    post = message(codes.POST, "rd", payload=b"</3/0>", content_format=40, max_age=0, uri_query=("ep=desk1", "lt=60"))
    log("out", PEER, post, 1_500_000_000)
    created = message(codes.CREATED, kind=Type.ACK, location_path=("rd", "acc", "dev"))
    log("in", PEER, created, 1_520_000_000)
    first, second = log
    assert first == LoggedMessage(
        number=0, time_ns=1_500_000_000, clock="device", endpoint="device", device="", name="", direction="out",
        scheme="coap", peer="192.0.2.1:5683", type="CON", code="POST", mid=0x1234, token="01", path="/rd",
        query="?ep=desk1&lt=60", options="Content-Format 40 (application/link-format), Max-Age 0", payload_B=6,
        payload="</3/0>", outcome="acknowledged",
    )  # fmt: skip
    assert (second.path, second.query) == ("/rd", "?ep=desk1&lt=60")  # its request's
    assert second.options == "Location-Path /rd/acc/dev"
    assert (second.answers, second.round_trip_ms) == (0, 20.0)
    assert log.lines().splitlines() == [
        "    1.500000 s  device  ->  192.0.2.1:5683  CON  POST  mid 4660  token 01  /rd?ep=desk1&lt=60  "
        "Content-Format 40 (application/link-format), Max-Age 0  6 B </3/0>",
        "    1.520000 s  device  <-  192.0.2.1:5683  ACK  2.01 Created  mid 4660  token 01  /rd  "
        "Location-Path /rd/acc/dev  (after 20.0 ms)",
    ]


def test_blocks_and_empty_messages_are_written_as_people_write_them() -> None:
    log = MessageLog()
    log("in", PEER, message(codes.GET, "fw", block2=(3, False, 5)), 0)
    log("out", PEER, message(codes.CONTENT, kind=Type.ACK, block2=(3, True, 5), size2=4096, payload=bytes(512)), 0)
    log("in", PEER, message(codes.EMPTY, kind=Type.RST, token=b""), 0)
    get, content, reset = log
    assert get.options == "Block2 3/0/512"
    assert content.options == "Block2 3/1/512 (block 4 of about 8), Size2 4096"
    assert content.payload == ""  # a part of something binary says nothing
    assert (reset.type, reset.code, reset.token) == ("RST", "reset", "")


def test_an_option_that_nobody_named_is_no_obstacle() -> None:
    log = MessageLog()
    strange = Message(code=codes.GET, uri_path=("a",))
    strange.mtype, strange.mid = Type.CON, 1
    strange.opt.add_option(OptionNumber(65000).create_option(decode=b"x"))
    log("out", PEER, strange.encode(), 0)
    assert [row.options for row in log] == ["Option 65000 78"]


def test_the_frame_has_a_row_a_message_and_its_columns_when_empty() -> None:
    log = MessageLog()
    assert list(log.frame().columns) == list(LoggedMessage.__dataclass_fields__)
    log("in", PEER, message(codes.GET, "3/0/0"), 5)
    frame = log.frame()
    assert frame.shape[0] == len(log) == 1
    assert frame.loc[0, "path"] == "/3/0/0"
    assert frame.loc[0, "time_ns"] == 5


def test_only_the_latest_are_in_memory_and_all_in_the_journal(tmp_path: Path) -> None:
    journal = tmp_path / "log.jsonl"
    log = MessageLog(limit=3, journal=journal)
    for n in range(10):
        log("in", PEER, message(codes.GET, f"3/0/{n}"), n)
    assert [row.path for row in log] == ["/3/0/7", "/3/0/8", "/3/0/9"]
    log.close()
    log.close()
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [row["path"] for row in rows] == [f"/3/0/{n}" for n in range(10)]
    assert LoggedMessage(**rows[-1]) == list(log)[-1]
    log("in", PEER, message(codes.GET), 0)  # goes on without
    assert len(journal.read_text().splitlines()) == 10


def test_a_journal_is_continued(tmp_path: Path) -> None:
    journal = tmp_path / "log.jsonl"
    for _ in range(2):
        log = MessageLog(journal=journal)
        log("in", PEER, message(codes.GET, "3"), 0)
        log.close()
    assert len(journal.read_text().splitlines()) == 2


def test_a_full_disk_ends_the_journal_and_not_the_endpoint() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full here")
    mode = full.stat().st_mode
    log = MessageLog(journal=full)
    log("in", PEER, message(codes.GET, "3"), 0)
    log.close()
    assert full.stat().st_mode == mode  # it is everybody's
    assert log.journal_error is not None
    assert "journal ended" in repr(log)
    log("in", PEER, message(codes.GET, "3"), 0)
    log.close()
    assert len(log) == 2


def test_a_slow_disk_holds_no_message_up_and_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdmlab.capture.journal.MOST_WAITING", 8)
    disk, written = threading.Event(), list[int]()

    def line(row: LoggedMessage) -> str:
        if threading.current_thread() is not threading.main_thread():
            disk.wait(30)
        written.append(row.number)
        return str(row.number)

    log = MessageLog()
    journal = Journal(tmp_path / "log.txt", log.dialect, line)
    log.watch(journal)
    for n in range(8):
        log("in", PEER, message(codes.GET, f"3/0/{n}"), n)  # nobody writes yet, and nobody waits
    assert not (tmp_path / "log.txt").read_text()
    disk.set()
    for n in range(300):
        log("in", PEER, message(codes.GET, f"3/0/{n}"), n)
    assert len(journal._waiting) <= 9
    journal.close()
    assert written == list(range(308))
    assert (tmp_path / "log.txt").read_text().split() == [str(n) for n in range(308)]


def test_what_passed_is_on_the_disk_soon_though_nobody_closes_the_journal(tmp_path: Path) -> None:
    log = MessageLog(journal=tmp_path / "log.jsonl")
    log("in", PEER, message(codes.GET, "3"), 0)
    end = time.monotonic() + 20
    while not (found := (tmp_path / "log.jsonl").read_text()) and time.monotonic() < end:
        time.sleep(0.01)
    assert json.loads(found)["path"] == "/3"
    log.close()


def test_a_journal_that_is_large_is_set_aside_and_begun_anew(tmp_path: Path) -> None:
    log = MessageLog()
    journal = Journal(tmp_path / "log.jsonl", log.dialect, most_B=20_000)
    log.watch(journal)
    for n in range(200):
        log("in", PEER, message(codes.GET, f"3/0/{n}"), n)
    journal.close()
    older, newer = ((tmp_path / name).read_text().splitlines() for name in ("log.jsonl.1", "log.jsonl"))
    numbers = [json.loads(line)["number"] for line in older + newer]
    assert numbers == list(range(numbers[0], 200)) and len(older) > 10
    assert all(file.stat().st_size < 50_000 for file in tmp_path.iterdir())
    assert journal.error is None


def test_a_capture_that_is_large_is_set_aside_and_begun_anew(tmp_path: Path) -> None:
    log = MessageLog()
    with PlainCapture(log, tmp_path / "x.pcapng", most_B=20_000):
        for n in range(200):
            log("in", PEER, message(codes.GET, f"3/0/{n}"), n)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.pcapng", "x.pcapng.1"]
    assert all(file.stat().st_size < 21_000 for file in tmp_path.iterdir())
    assert all(file.read_bytes().startswith(bytes.fromhex("0a0d0d0a")) for file in tmp_path.iterdir())
    assert b"199" in (tmp_path / "x.pcapng").read_bytes()


def test_what_was_said_is_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("")
    (tmp_path / "log.jsonl").chmod(0o644)
    log = MessageLog(journal=tmp_path / "log.jsonl")
    with log.capture(tmp_path / "live.pcapng"):
        log("in", PEER, message(codes.GET, "3"), 0)
    log.save(tmp_path / "after.pcapng")
    log.close()
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == dict.fromkeys(
        ("log.jsonl", "live.pcapng", "after.pcapng"), 0o600
    )


# -- secrets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["0", "0/0", "0/0/5", "00/0/5", "est/sen", "est", "21/0/3", "021"])
def test_what_goes_to_the_security_object_and_enrolment_is_kept_as_its_size(path: str, tmp_path: Path) -> None:
    journal = tmp_path / "log.jsonl"
    log = MessageLog(journal=journal)
    for direction, back in (("in", "out"), ("out", "in")):
        log(direction, PEER, message(codes.PUT, path, payload=SECRET), 0)  # type: ignore[arg-type]
        log(back, PEER, message(codes.CONTENT, kind=Type.ACK, payload=SECRET), 0)  # type: ignore[arg-type]
    log.close()
    assert [row.payload for row in log] == ["(kept secret)"] * 4
    assert [row.payload_B for row in log] == [len(SECRET)] * 4
    for text in (log.lines(), log.frame().to_json(), journal.read_text(), str(list(log))):
        assert "private" not in text
        assert SECRET.hex(" ")[:12] not in text


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_manifest_is_kept_unless_the_key_of_its_payload_is_behind_it(direction: Direction, tmp_path: Path) -> None:
    log, manifest, key = MessageLog(), bytes(range(200)), b"the payload's key"[:16]
    with log.capture(tmp_path / "log.pcapng"):
        log(direction, PEER, message(codes.POST, "10252/0/1", payload=manifest), 0)
        log(direction, PEER, message(codes.POST, "10252/0/1", payload=manifest + b"\x81\x10" + key), 0)
        half = manifest + b"\x81\x10" + key[:8]
        log(direction, PEER, message(codes.POST, "10252/0/1", payload=half, block1=(0, True, 4)), 0)
    plain, secret, part = log
    assert plain.payload.startswith("00 01 02") and secret.payload == "(kept secret)"
    assert part.payload.startswith("(kept secret)")
    for text in (log.lines(), log.frame().to_json(), str(log.kept())):
        assert key[:8].hex(" ") not in text and key[:8].decode() not in text
    assert key[:8] not in (tmp_path / "log.pcapng").read_bytes()


def test_a_secret_answer_stays_one_when_the_other_side_asks_with_the_same_token() -> None:
    log = MessageLog()
    log("out", PEER, message(codes.GET, "0/0/5"), 0)
    log("in", PEER, message(codes.POST, "rd"), 0)  # same peer, same token, the other way
    log("in", PEER, message(codes.CONTENT, kind=Type.ACK, payload=SECRET), 0)
    log("out", PEER, message(codes.CREATED, kind=Type.ACK, payload=b"open"), 0)
    assert [row.payload for row in log] == ["", "", "(kept secret)", "open"]
    assert [row.path for row in log] == ["/0/0/5", "/rd", "/0/0/5", "/rd"]


def test_a_secret_answer_stays_one_while_many_others_ask() -> None:
    log = MessageLog(limit=10)
    log("out", PEER, message(codes.GET, "0/0/5"), 0)
    for n in range(39):
        log("out", ("192.0.2.9", n), message(codes.GET, "3"), 0)
    log("in", PEER, message(codes.CONTENT, kind=Type.ACK, payload=SECRET), 0)
    assert list(log)[-1].payload == "(kept secret)"


# -- hostile and busy --------------------------------------------------------------------------------


def test_peers_neither_fill_the_log_nor_write_on_the_terminal() -> None:
    log = MessageLog(limit=10)
    long = "x" * 255
    for n in range(200):
        made = message(codes.GET, "/".join([long] * 50), uri_query=(long,) * 50, token=bytes((n,)))
        log("in", PEER, made, 0)
    log("in", PEER, message(codes.GET, "\x1b[2J\n/é", payload=b"\x1b[2J" * 1000, uri_host="\x07"), 0)
    assert all(len(row.path) <= LONGEST + 1 and len(row.query) <= LONGEST + 1 for row in log)
    assert len(log) == 10
    for kept in log.kept():
        assert isinstance(kept, Kept)
        assert len(kept.data) <= MOST
    last = list(log)[-1]
    assert last.path == "/\\x1b[2J\\n/é"
    assert last.payload_B == 4000
    assert last.payload.startswith("1b 5b 32 4a")
    assert log.lines().replace("\n", "").isprintable()


def test_two_threads_may_log_while_a_third_reads(tmp_path: Path) -> None:
    log = MessageLog(limit=100, journal=tmp_path / "log.jsonl")

    def write(name: str) -> None:
        tap = log.of(name)
        for n in range(300):
            tap("in", PEER, message(codes.GET, f"3/0/{n}"), n)

    threads = [threading.Thread(target=write, args=(name,)) for name in ("device", "service")]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        log.lines()
        log.frame()
    for thread in threads:
        thread.join()
    log.close()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 600
    assert {row["endpoint"] for row in rows} == {"device", "service"}


def test_a_tap_sees_every_message_duplicates_and_their_replies_too() -> None:
    log = MessageLog(clock="device")

    async def handler(request: Message, peer: object) -> Message:
        return Message(code=codes.CONTENT, payload=b"21.5")

    async def story() -> None:
        server = await Endpoint.open(fabric.host("server").opener(5683), handler, tap=log.of("server"), seed=1)
        client = await Endpoint.open(fabric.host("client").opener(), tap=log.of("client"), seed=2)
        await client.request(Message(code=codes.GET, uri_path=("3303", "0", "5700")), server.address)
        stranger = fabric.host("stranger").open_datagram(lambda data, peer: None)
        again = bytes.fromhex("41017777aab161")
        stranger.send(again, server.address)
        await client.request(Message(code=codes.GET, uri_path=("3303", "0", "5700")), server.address)
        stranger.send(again, server.address)
        await asyncio.sleep(1)
        await client.close()
        await server.close()

    with DeviceClock() as clock:
        fabric = Fabric(clock)
        clock.call_async(story())
    seen = [(row.direction, row.type, row.code) for row in log if row.token == "aa"]
    assert seen == [("in", "CON", "GET"), ("out", "ACK", "2.05 Content")] * 2
    others = [row for row in log if row.token != "aa"]
    assert len(others) == 8
    assert {row.path for row in others} == {"/3303/0/5700"}
    assert all(row.clock == "device" for row in others)


# -- what is no message ------------------------------------------------------------------------------


def test_what_cannot_be_read_is_a_line_in_its_devices_log_and_says_why() -> None:
    log = MessageLog(endpoint="lwm2m", clock="device", dialect=LwM2M())
    register = message(codes.POST, "rd", uri_query=("ep=desk1",))

    def handler(request: Message, peer: object) -> Message:
        return Message(code=codes.CREATED, location_path=("rd", "acc", "dev1"))

    async def story() -> None:
        server = await Endpoint.open(fabric.host("server").opener(5683), handler, tap=log, seed=1)
        device = fabric.host("device").open_datagram(lambda data, peer: None)
        for data in (
            register,
            "4001aaaaff",
            "5001bbbb9c",
            "2001cccc",
            "41",
            f"4003ddddb180ff{SECRET.hex()}",
            "4000eeee",
        ):
            device.send(data if isinstance(data, bytes) else bytes.fromhex(data), server.address)
            await asyncio.sleep(1)
        assert server.malformed == 5
        await server.close()

    with DeviceClock() as clock:
        fabric = Fabric(clock)
        clock.call_async(story())
    rows = list(log.of_device("dev1"))
    said = [(row.direction, row.type, row.code, row.payload_B, row.payload) for row in rows[2:]]
    assert said == [
        ("in", "CON", "unreadable", 5, "a payload marker without a payload; it begins 40 01 aa aa…"),
        ("out", "RST", "reset", 0, ""),
        ("in", "NON", "unreadable", 5, "option 9 does not end; it begins 50 01 bb bb 9c"),
        ("in", "", "unreadable", 4, "not a CoAP version 1 message; it begins 20 01 cc cc"),
        ("in", "", "unreadable", 1, "not a CoAP version 1 message; it begins 41"),
        ("in", "CON", "unreadable", 32, "option 11 is not UTF-8; it begins 40 03 dd dd b1 80…"),
        ("out", "RST", "reset", 0, ""),
        ("in", "CON", "ping", 0, ""),
        ("out", "RST", "reset", 0, ""),
    ]
    assert (rows[2].outcome, rows[3].mid) == ("reset", 0xAAAA)
    assert not any(SECRET[:4] in kept.data for kept in log.kept() if isinstance(kept, Kept))
    failures = list(log.failures())
    assert [each.kind for each in failures] == ["unreadable"] * 5  # and the ping, which is reset, is no failure
    assert failures[0].happened.endswith("40 01 aa aa…; it was answered by a reset")
    assert "unreadable" in log.lines() and "unreadable" in log._repr_html_()
    assert any(isinstance(kept, Kept) and kept.fault and packet(kept) for kept in log.kept())


def test_a_reset_is_told_from_the_end_that_sent_it() -> None:
    log = MessageLog(clock="device")
    reset = bytes.fromhex("70001234")
    log("in", PEER, message(codes.CONTENT, payload=b"21", observe=4), 0)
    log("out", PEER, reset, 0)
    log("out", ("192.0.2.2", 5683), message(codes.GET, "3"), 0)
    log("in", ("192.0.2.2", 5683), reset, 0)
    ours, theirs = log.failures()
    assert (ours.kind, ours.happened) == ("reset by this end", "this end answered CON 2.05 Content by a reset")
    assert "nobody observes" in ours.means and "restarted" not in ours.means
    assert (theirs.kind, theirs.happened) == ("reset", "CON GET /3 was reset by the peer")
