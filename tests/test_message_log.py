"""What the log finds out: answers, retransmissions, devices, payloads in words; and what it writes for Wireshark."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import Type
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.capture import Event, KeyLog, LoggedMessage, MessageLog, Who
from pdmlab.capture.kept import Kept
from pdmlab.capture.plain import packet
from pdmlab.clock import DeviceClock
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Connection
from pdmlab.errors import ConfigError, NetworkError, TimedOut
from pdmlab.lwm2m import tlv
from pdmlab.lwm2m.dialect import LwM2M
from pdmlab.network.fabric import Fabric
from pdmlab.network.link import Link
from tests.tools import program

PEER = ("192.0.2.1", 40_000)
MS = 1_000_000
CON, NON, ACK, RST = Type.CON, Type.NON, Type.ACK, Type.RST


def made(
    code: codes.Code, path: str = "", kind: Type = CON, mid: int = 1, token: bytes = b"\1", **options: object
) -> bytes:
    message = Message(code=code, **options)
    if path:
        message.opt.uri_path = tuple(path.strip("/").split("/"))
    message.mtype, message.mid, message.token = kind, mid, token
    data: bytes = message.encode()
    return data


@pytest.fixture
def log() -> MessageLog:
    return MessageLog(endpoint="lwm2m", clock="device", dialect=LwM2M())


# -- answers, retransmissions, outcomes --------------------------------------------------------------


def test_a_separate_response_is_matched_by_its_token_and_both_acknowledgements_by_their_ids(log: MessageLog) -> None:
    log("out", PEER, made(codes.POST, "3201/0/5850", mid=7), 0)
    log("in", PEER, made(codes.EMPTY, kind=ACK, mid=7, token=b""), 5 * MS)
    log("in", PEER, made(codes.CHANGED, mid=900), 40 * MS)
    log("out", PEER, made(codes.EMPTY, kind=ACK, mid=900, token=b""), 41 * MS)
    post, ack, changed, ours = log
    assert [row.outcome for row in (post, changed)] == ["acknowledged", "acknowledged"]
    assert (changed.answers, changed.path, changed.round_trip_ms) == (post.number, "/3201/0/5850", 40)
    assert (ack.code, ack.path, ack.round_trip_ms, ack.answers) == ("acknowledged", "/3201/0/5850", 5, None)
    assert ours.round_trip_ms == 1


def test_retransmissions_say_which_they_are_and_the_round_trip_counts_from_the_first(log: MessageLog) -> None:
    get = made(codes.GET, "3/0/0", mid=7)
    for when in (0, 2_000, 6_000):
        log("out", PEER, get, when * MS)
    log("in", PEER, made(codes.CONTENT, kind=ACK, mid=7, payload=b"x"), 6_100 * MS)
    *tries, answer = log
    assert [(row.transmission, row.transmissions) for row in tries] == [(1, 3), (2, 3), (3, 3)]
    assert [row.outcome for row in tries] == ["acknowledged"] * 3
    assert answer.round_trip_ms == 6_100
    assert "2nd of 3 transmissions" in log.lines()


def test_a_message_that_comes_again_is_a_duplicate_and_so_is_the_stored_reply_a_retransmission(log: MessageLog) -> None:
    for when in (0, 4_000):
        log("in", PEER, made(codes.POST, "rd", mid=3, payload=b"</3/0>", content_format=40), when * MS)
        log("out", PEER, made(codes.CREATED, kind=ACK, mid=3, location_path=("rd", "a", "d")), (when + 1) * MS)
    first, answer, again, answered = log
    assert [row.transmission for row in log] == [1, 1, 2, 2]
    assert again.remarks == "duplicate, came the 2nd time"
    assert answered.remarks == "2nd of 2 transmissions"
    assert (first.remarks, answer.remarks) == ("", "1st of 2 transmissions, after 1.0 ms")
    assert answered.round_trip_ms is None


def test_a_message_id_is_used_again_for_another_message_and_is_no_duplicate(log: MessageLog) -> None:
    log("in", PEER, made(codes.GET, "3/0/0", mid=3), 0)
    log("in", PEER, made(codes.GET, "3/0/1", mid=3), MS)
    log("in", PEER, made(codes.GET, "3/0/1", mid=3), 300_000 * MS)
    assert [row.transmission for row in log] == [1, 1, 1]


def test_notifications_after_the_answer_have_the_path_and_no_round_trip(log: MessageLog) -> None:
    log("out", PEER, made(codes.GET, "3303/0/5700", mid=1, observe=0), 0)
    log("in", PEER, made(codes.CONTENT, kind=ACK, mid=1, observe=0, payload=b"20"), 10 * MS)
    log("in", PEER, made(codes.CONTENT, mid=50, observe=2, payload=b"21"), 9_000 * MS)
    get, first, told = log
    assert first.answers == get.number
    assert (told.path, told.answers, told.round_trip_ms) == ("/3303/0/5700", None, None)
    assert told.options == "Observe 2"


def test_what_is_never_acknowledged_is_told_by_the_endpoint_with_its_tries(log: MessageLog) -> None:
    async def story() -> None:
        endpoint = await Endpoint.open(fabric.host("server").opener(), tap=log, seed=1)
        with pytest.raises(TimedOut):
            await endpoint.request(Message(code=codes.GET, uri_path=("3", "0", "0")), ("198.51.100.1", 5683))
        await endpoint.close()

    with DeviceClock() as clock:
        fabric = Fabric(clock)
        clock.call_async(story())
    *tries, end = log
    assert [row.transmission for row in tries] == [1, 2, 3, 4, 5]
    assert {row.outcome for row in tries} == {"never acknowledged"}
    assert (end.type, end.code, end.path) == ("UDP", "gave up", "/3/0/0")
    assert end.payload.startswith("GET was not acknowledged after 5 transmissions in ")
    (failure,) = log.failures()
    assert failure.kind == "never acknowledged" and "queue mode" in failure.do


def test_an_acknowledgement_that_comes_too_late_after_all_counts(log: MessageLog) -> None:
    log("out", PEER, made(codes.GET, "3/0/0", mid=1), 0)
    log.of("lwm2m").event(PEER, Event("gave up", mid=1), 10 * MS)
    log("in", PEER, made(codes.CONTENT, kind=ACK, mid=1), 20 * MS)
    assert next(iter(log)).outcome == "acknowledged"


def test_a_lossy_link_shows_at_both_ends_what_was_lost(log: MessageLog) -> None:
    def handler(request: Message, peer: object) -> Message:
        return Message(code=codes.CONTENT, payload=b"21.5")

    async def story() -> None:
        server = await Endpoint.open(fabric.host("server").opener(5683), handler, tap=log.of("server"), seed=1)
        host = fabric.host("client", link=Link(latency=10 * MS, loss=0.2))
        client = await Endpoint.open(host.opener(), tap=log.of("client"), seed=2)
        for _ in range(20):
            await client.request(Message(code=codes.GET, uri_path=("3303", "0", "5700")), server.address)
        await client.close()
        await server.close()

    with DeviceClock() as clock:
        fabric = Fabric(clock, 3)
        clock.call_async(story())
    ours = [row for row in log if row.endpoint == "client" and row.code == "GET"]
    theirs = [row for row in log if row.endpoint == "server" and row.code == "GET"]
    assert sum(row.transmission > 1 for row in ours) > 3
    assert 20 < len(theirs) < len(ours)
    answers = [row for row in log if row.endpoint == "client" and row.answers is not None]
    assert len(answers) == 20
    assert sum(row.round_trip_ms == 20 for row in answers) < 20 < max(row.round_trip_ms or 0 for row in answers)


# -- payloads in words -------------------------------------------------------------------------------


def put_security(private_key: bytes, certificate: bytes) -> bytes:
    values = {0: b"coaps://127.0.0.1:5684?aid=acc&iep=dev1", 1: b"\0", 2: b"\2", 3: certificate, 4: certificate}
    values |= {5: private_key, 10: b"\1"}
    return tlv.encode([tlv.object_instance(0, [tlv.resource(id, value) for id, value in values.items()])])


def blocks(payload: bytes, size: int = 512) -> list[tuple[int, bool, bytes]]:
    parts = [payload[at : at + size] for at in range(0, len(payload), size)]
    return [(number, number < len(parts) - 1, part) for number, part in enumerate(parts)]


def test_the_security_object_comes_in_blocks_and_is_told_without_its_key(log: MessageLog, tmp_path: Path) -> None:
    certificate, key = _certificate("desk1", "0170f1a4b5c6000000000001001000aa"), b"\x30" + b"K" * 137
    body = put_security(key, certificate)
    parts = blocks(body, 256)
    assert len(parts) == 4
    with log.capture(tmp_path / "live.pcapng"):
        for number, more, part in parts:
            put = made(codes.PUT, "0", mid=number, payload=part, content_format=11542, block1=(number, more, 4))
            log("out", PEER, put, 0)
            log("in", PEER, made(codes.CHANGED, kind=ACK, mid=number, block1=(number, more, 4)), MS)
    log.save(tmp_path / "after.pcapng")
    sent = [row for row in log if row.direction == "out"]
    assert [row.payload for row in sent[:3]] == [f"(kept secret), {size} B so far" for size in (256, 512, 768)]
    told = sent[3].payload
    assert f"X.509 certificate, {len(certificate)} B, CN=desk1" in told
    assert "/0/0/5 Secret Key: 138 B (kept secret)" in told
    assert "LwM2M Server URI = coaps://127.0.0.1:5684?aid=acc&iep=dev1" in told
    assert sent[3].options == "Content-Format 11542 (application/vnd.oma.lwm2m+tlv), Block1 3/0/256 (block 4, the last)"
    assert {row.device for row in log} == {"0170f1a4b5c6000000000001001000aa"}
    for everything in (
        log.lines().encode(),
        log.frame().to_json().encode(),
        log._repr_html_().encode(),
        repr(log.kept()).encode(),
    ):
        assert b"KKKK" not in everything
    for file in tmp_path.iterdir():
        assert b"KKKK" not in file.read_bytes() and b"****" in file.read_bytes()


def test_a_pre_shared_key_and_its_identity_are_sizes_only(log: MessageLog) -> None:
    body = tlv.encode([tlv.resource(3, b"the identity"), tlv.resource(5, b"the key itself")])
    log("out", PEER, made(codes.PUT, "0/1", payload=body, content_format=11542), 0)
    (row,) = log
    assert row.payload == "/0/1/3 Public Key or Identity: 12 B (kept secret); /0/1/5 Secret Key: 14 B (kept secret)"


def test_of_a_manifest_with_the_key_of_its_payload_the_sizes_are_told(log: MessageLog) -> None:
    log("out", PEER, made(codes.POST, "10252/0/1", payload=bytes(200) + b"\x81\x10" + b"K" * 16), 0)
    (row,) = log
    assert row.payload == "manifest of 200 B, and the key of its payload (kept secret)"


def test_a_registration_in_blocks_is_counted_by_object_and_teaches_the_log_what_is_notified(log: MessageLog) -> None:
    links = ["</1/0/1>", '</3/0/0>;v="ACME"', '</3/0/2>;v="0";aobs="511"', '</10252/0/2>;aobs="512";obs']
    links += [f"</5000/0/{number}>" for number in range(90)]
    body = ",".join(links).encode()
    rows = blocks(body)
    assert len(rows) == 3
    for number, more, part in rows:
        size = {"size1": len(body)} if number == 0 else {}
        post = made(
            codes.POST, "rd", mid=number, payload=part, content_format=40, block1=(number, more, 5),
            uri_query=("ep=desk1", "lt=7200"), **size,
        )  # fmt: skip
        log("in", PEER, post, 0)
        code = codes.CONTINUE if more else codes.CREATED
        location = {} if more else {"location_path": ("rd", "acc", "dev1")}
        log("out", PEER, made(code, kind=ACK, mid=number, block1=(number, more, 5), **location), 0)
    log("in", PEER, made(codes.CONTENT, mid=90, token=(511).to_bytes(2, "big"), payload=b"A1"), 0)
    first, _, second, _, last, _, told = log
    assert first.options.endswith(f"Block1 0/1/512 (block 1 of about 3), Size1 {len(body)}")
    assert second.options.endswith("Block1 1/1/512 (block 2 of about 3)")
    assert first.payload.startswith("</1/0/1>,")
    assert last.payload == (
        f"together {len(body)} B: 94 links, 2 with values, 2 observed from now on: /1 LwM2M Server (1), /3 Device (2), "
        "/5000 Large Resource (90), /10252 Firmware Update of the Client (1)"
    ).replace("Firmware Update of the Client", _name(10252))
    assert (told.path, told.device, told.name) == ("/3/0/2", "dev1", "desk1")


def _name(object: int) -> str:
    from pdmlab.lwm2m.registry import core_objects

    return core_objects().objects[object].name


@pytest.mark.parametrize(
    ("path", "format", "payload", "words"),
    [
        ("3/0/0", 0, b"ACME", "Manufacturer = 'ACME'"),
        ("3/0/9", 0, b"87", "Battery Level = 87 %"),
        ("3", 11542, tlv.encode([tlv.resource(0, b"ACME"), tlv.multiple(6, [(0, b"\1"), (1, b"\5")])]),
         "/3/0/0 Manufacturer = 'ACME', /3/0/6/0 Available Power Sources = 1, /3/0/6/1 Available Power Sources = 5"),
        ("3/0/6", 11542, tlv.encode([tlv.multiple(6, [(0, b"\1")])]), "/3/0/6/0 Available Power Sources = 1"),
        ("3303/0/5700", 0, b"21.5", "Sensor Value = 21.5"),
        ("3303/0/5999", 0, b"21.5", "21.5"),
        ("5000/0/2", 42, bytes(range(256)), "Large Value = 256 B 0001020304050607…"),
        ("5999/0/2", 42, bytes(range(256)), "00 01 02 "),
        ("3", 110, b'[{"bn":"/3/0/","n":"0","vs":"ACME"},{"n":"9","v":87}]',
         "/3/0/0 Manufacturer = 'ACME', /3/0/9 Battery Level = 87 %"),
        ("3", 112, bytes.fromhex("82a321652f332f302f006130036441434d45a20061390218 57".replace(" ", "")),
         "/3/0/0 Manufacturer = 'ACME', /3/0/9 Battery Level = 87 %"),
        ("3/0/9", 0, b"not a number", "not a number"),
        ("3", 11542, b"\xff\xff\xff", "ff ff ff"),
        ("3/0/0", 0, b"\x1b[2J", "Manufacturer = '\\x1b[2J'"),
    ],
)  # fmt: skip
def test_values_are_told_by_name(log: MessageLog, path: str, format: int, payload: bytes, words: str) -> None:
    log("out", PEER, made(codes.GET, path), 0)
    log("in", PEER, made(codes.CONTENT, kind=ACK, payload=payload, content_format=format), 0)
    assert list(log)[1].payload.startswith(words)


def test_enrolment_shows_whom_the_request_and_the_certificates_name(log: MessageLog) -> None:
    csr, certificate = _request("desk1"), _certificate("desk1", "dev1")
    chain = b"\1\1" + len(certificate).to_bytes(2, "big") + certificate
    log("in", PEER, made(codes.POST, "est/sen", payload=csr, content_format=0), 0)
    log("out", PEER, made(codes.CHANGED, kind=ACK, payload=chain), 0)
    asked, answered = log
    assert asked.payload == f"certificate request, {len(csr)} B, CN=desk1"
    assert answered.payload == f"1 certificates: X.509 certificate, {len(certificate)} B, CN=desk1, L=dev1"
    assert (answered.device, answered.name) == ("dev1", "desk1")


def test_a_dialect_that_knows_nothing_leaves_secrets_out(tmp_path: Path) -> None:
    log = MessageLog(journal=tmp_path / "log.jsonl")
    log("out", PEER, made(codes.PUT, "0", payload=b"KKKK", content_format=11542), 0)
    log.close()
    assert next(iter(log)).payload == "(kept secret)"
    assert "KKKK" not in (tmp_path / "log.jsonl").read_text()


def test_secret_blocks_that_do_not_fit_together_are_not_told(log: MessageLog) -> None:
    body = put_security(b"\x30" + b"K" * 900, _certificate("desk1", "dev1"))
    for number, more, part in blocks(body)[1:]:
        log(
            "out",
            PEER,
            made(codes.PUT, "0", mid=number, payload=part, content_format=11542, block1=(number, more, 5)),
            0,
        )
    assert {row.payload for row in log} == {"(kept secret)"}


# -- devices -----------------------------------------------------------------------------------------


def test_a_devices_log_has_its_bootstrap_its_addresses_and_its_refused_tries(log: MessageLog) -> None:
    bootstrap, lwm2m = log.of("bootstrap"), log.of("lwm2m")
    there, later = ("192.0.2.1", 1000), Connection("192.0.2.1", 2000, "coaps+tcp", 4)
    bootstrap("in", there, made(codes.POST, "bs", uri_query=("ep=desk1", "aid=acc")), 0)
    bootstrap("out", there, made(codes.CHANGED, kind=ACK), 0)
    bootstrap("out", there, made(codes.POST, "bs", mid=5, uri_query=("iep=dev1",)), 0)
    bootstrap("in", ("192.0.2.9", 9), made(codes.POST, "bs", uri_query=("ep=other",)), 0)
    lwm2m.event(later, Event("handshake completed", "TLS", who=Who("dev1", "desk1")), 0)
    lwm2m("in", later, made(codes.POST, "rd", uri_query=("ep=desk1",)), 0)
    lwm2m("out", later, made(codes.CREATED, kind=ACK, location_path=("rd", "acc", "dev1")), 0)
    lwm2m("in", ("192.0.2.3", 3), made(codes.POST, "rd", uri_query=("ep=desk1",)), 0)
    lwm2m("out", ("192.0.2.3", 3), made(codes.FORBIDDEN, kind=ACK, payload=b"who are you?"), 0)
    mine = log.of_device("dev1")
    assert [row.number for row in mine] == [0, 1, 2, 4, 5, 6, 7, 8]
    assert len(mine) == 8 and "dev1" in repr(mine)
    assert list(log.of_device("desk1")) == list(mine)
    assert [row.number for row in log.of_device("other")] == [3]
    assert not len(log.of_device("nobody"))
    refused = list(mine)[-1]
    assert (refused.device, refused.name, refused.payload) == ("", "desk1", "who are you?")
    assert [failure.kind for failure in mine.failures()] == ["refused"]


def test_another_device_at_the_same_address_begins_a_log_of_its_own(log: MessageLog) -> None:
    for mid, (name, device) in enumerate((("desk1", "dev1"), ("desk2", "dev2"))):
        log("in", PEER, made(codes.POST, "rd", mid=mid, uri_query=(f"ep={name}",)), 0)
        log("out", PEER, made(codes.CREATED, kind=ACK, mid=mid, location_path=("rd", "acc", device)), 0)
        log("out", PEER, made(codes.GET, "3/0/0", mid=mid + 50, token=b"g"), 0)
    assert [row.number for row in log.of_device("dev1")] == [0, 1, 2]
    assert [row.number for row in log.of_device("dev2")] == [3, 4, 5]


def test_a_claim_that_was_refused_does_not_make_a_peer_that_device(log: MessageLog) -> None:
    log("in", PEER, made(codes.POST, "rd/acc/dev1", mid=1), 0)
    log("out", PEER, made(codes.NOT_FOUND, kind=ACK, mid=1), 0)
    assert [row.device for row in log] == ["", ""]


# -- counters, tables, frames ------------------------------------------------------------------------


def test_counters_tell_of_each_device(log: MessageLog) -> None:
    peer = Connection("192.0.2.1", 2000, "coaps+tcp", 4)
    tap = log.of("lwm2m")
    tap.event(peer, Event("handshake completed", who=Who("dev1", "desk1")), 0)
    for number in range(100):
        tap("out", peer, made(codes.GET, "3/0/0", mid=number, token=bytes((number,))), 0)
        if number == 3:
            tap("out", peer, made(codes.GET, "3/0/0", mid=number, token=bytes((number,))), 0)
        tap(
            "in",
            peer,
            made(codes.CONTENT, kind=ACK, mid=number, token=bytes((number,)), payload=b"ab"),
            (number + 1) * MS,
        )
    tap.event(peer, Event("handshake completed", resumed=True, who=Who("dev1", "desk1")), 0)
    tap.event(("192.0.2.7", 7), Event("handshake failed", "no handshake", "unknown CA"), 0)
    frame = log.counters()
    assert list(frame["device"]) == ["dev1", ""]
    row = frame.iloc[0]
    assert (row["sent"], row["received"], row["received_B"], row["retransmissions"]) == (101, 100, 200, 1)
    assert (row["handshakes_full"], row["handshakes_resumed"]) == (1, 1)
    assert (row["round_trip_p50_ms"], row["round_trip_p99_ms"]) == (50, 99)
    assert frame.iloc[1]["handshakes_failed"] == 1


def test_the_table_is_bounded_escaped_and_says_the_clock(log: MessageLog) -> None:
    for number in range(300):
        log("in", PEER, made(codes.GET, "<script>", mid=number), number)
    table = log._repr_html_()
    assert "<script>" not in table and "&lt;script&gt;" in table
    assert table.count("<tr") == 202  # the head, and who the other end is
    assert "300 messages and events, the latest 200 here" in table and "device clock" in table
    assert "lwm2m ↔ 192.0.2.1:40000" in table


def test_what_came_since_a_mark_knows_what_was_before(log: MessageLog) -> None:
    log("out", PEER, made(codes.GET, "3/0/0", mid=1), 0)
    mark = log.mark
    assert mark == 1
    log("out", PEER, made(codes.GET, "3/0/0", mid=1), 2_000 * MS)
    log("in", PEER, made(codes.CONTENT, kind=ACK, mid=1), 2_010 * MS)
    later = log.since(mark)
    assert [(row.number, row.transmission, row.round_trip_ms) for row in later] == [(1, 2, None), (2, 1, 2010)]
    assert len(later) == 2 and later.mark == 3 and "from number 1" in repr(later)
    assert MessageLog().mark == 0


def test_a_devices_own_log_is_about_one_device_whomever_it_talks_to() -> None:
    log = MessageLog(endpoint="device", clock="device", dialect=LwM2M(), own=True)
    servers = Connection("192.0.2.1", 5684, "coaps+tcp"), Connection("192.0.2.1", 5685, "coaps+tcp")
    log("out", servers[0], made(codes.POST, "bs", uri_query=("ep=desk1",)), 0)
    log("in", servers[0], made(codes.POST, "bs", mid=5, uri_query=("iep=dev1",)), 0)
    log.event(servers[1], Event("step", "TCP connect took 3 ms"))
    log("out", servers[1], made(codes.POST, "rd", uri_query=("ep=desk1",)), 0)
    assert {(row.device, row.name) for row in log} == {("dev1", "desk1")}
    assert len(log.counters()) == 1


def test_rows_survive_json_and_the_frame_has_integers_where_there_are_some(log: MessageLog) -> None:
    log("out", PEER, made(codes.GET, "3/0/0", mid=1), 0)
    log("in", PEER, made(codes.CONTENT, kind=ACK, mid=1, payload=b"x"), MS)
    frame = log.frame()
    assert list(frame["answers"].astype(object).where(frame["answers"].notna(), None)) == [None, 0]
    from dataclasses import asdict

    assert [LoggedMessage(**json.loads(json.dumps(asdict(row)))) for row in log] == list(log)


def test_host_time_is_the_time_of_day(log: MessageLog) -> None:
    log = MessageLog(now=lambda: 1_780_000_000_123_456_789)
    log("in", PEER, made(codes.GET, "3"), 5)
    (row,) = log
    assert row.time_ns == 1_780_000_000_123_456_789
    assert row.time == "20:26:40.123456"


# -- for Wireshark -----------------------------------------------------------------------------------


@pytest.mark.debian
def test_wireshark_reads_a_saved_log_as_coap_with_its_codes_paths_and_real_ends(
    log: MessageLog, tmp_path: Path
) -> None:
    tap = log.of("lwm2m")
    tap.here = {"coaps+tcp": ("127.0.0.1", 40_684)}
    peer = Connection("127.0.0.1", 51_234, "coaps+tcp", 9)
    tap(
        "in",
        peer,
        made(codes.POST, "rd", mid=3, uri_query=("ep=desk1", "lt=60"), payload=b"</3/0>", content_format=40),
        10 * MS,
    )
    tap("out", peer, made(codes.CREATED, kind=ACK, mid=3, location_path=("rd", "acc", "dev1")), 12 * MS)
    tap("out", peer, made(codes.GET, "3/0/0", mid=9, token=b"g"), 20 * MS)
    tap("in", peer, made(codes.CONTENT, kind=ACK, mid=9, token=b"g", payload=b"x" * 3000), 21 * MS)
    tap("in", peer, made(codes.CONTENT, kind=ACK, mid=9, token=b"g", payload=b"x"), 22 * MS)
    path = log.save(tmp_path / "log.pcapng")
    shown = _tshark(
        path, "ip.src", "exported_pdu.src_port", "ip.dst", "exported_pdu.dst_port", "coap.code", "coap.opt.uri_path",
        "coap.opt.location_path", "coap.response_to", "frame.cap_len", "frame.len", "frame.comment",
    )  # fmt: skip
    assert [row[:5] for row in shown] == [
        ["127.0.0.1", "51234", "127.0.0.1", "40684", "2"],
        ["127.0.0.1", "40684", "127.0.0.1", "51234", "65"],
        ["127.0.0.1", "40684", "127.0.0.1", "51234", "1"],
        ["127.0.0.1", "51234", "127.0.0.1", "40684", "69"],
        ["127.0.0.1", "51234", "127.0.0.1", "40684", "69"],
    ]
    assert [row[5] for row in shown] == ["rd", "", "3,0,0", "", ""]
    assert shown[1][6] == "rd,acc,dev1"
    assert [row[7] for row in shown] == ["", "1", "", "", "3"]
    assert int(shown[3][9]) - int(shown[3][8]) == 3000 + 6 - 1536
    assert shown[0][10] == "plain text from the message log of lwm2m: it went over coaps+tcp; device clock"


@pytest.mark.debian
def test_a_live_capture_is_whole_after_each_message_and_ends_with_its_context(log: MessageLog, tmp_path: Path) -> None:
    path = tmp_path / "live.pcapng"
    with log.capture(path) as capture:
        for number in range(3):
            log("in", ("2001:db8::1", 5683), made(codes.GET, f"3/0/{number}", mid=number), number)
            assert len(_tshark(path, "coap.opt.uri_path")) == number + 1
    log("in", PEER, made(codes.GET, "3"), 9)
    assert [row[1] for row in _tshark(path, "coap.opt.uri_path", "ipv6.src")] == ["2001:db8::1"] * 3
    assert "closed" in repr(capture)


def test_what_cannot_be_written_is_told(log: MessageLog, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="there is no folder"):
        log.save(tmp_path / "none" / "x.pcapng")
    with pytest.raises(NetworkError, match="that is a folder"):
        log.capture(tmp_path)


def test_a_full_disk_ends_the_capture_and_not_the_endpoint(log: MessageLog) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(NetworkError, match="the disk is full"):
        log.capture("/dev/full")


def _tshark(path: Path, *fields: str) -> list[list[str]]:
    wanted = [part for field in fields for part in ("-e", field)]
    found = subprocess.run(
        [program("tshark"), "-r", str(path), "-Y", "coap", "-T", "fields", "-E", "separator=|", *wanted],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [line.split("|") for line in found.stdout.splitlines()]


# -- the key log -------------------------------------------------------------------------------------


def test_a_key_log_is_its_owners_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    path.write_text("# before\n")
    path.chmod(0o644)
    with KeyLog(path) as keys:
        keys("CLIENT_RANDOM 00 11")
        keys("CLIENT_RANDOM 22 33\n")
    keys("CLIENT_RANDOM 44 55")
    assert path.read_text() == "# before\nCLIENT_RANDOM 00 11\nCLIENT_RANDOM 22 33\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert repr(keys) == f"<KeyLog {path}, 2 lines, closed>"
    with pytest.raises(ConfigError, match="cannot be written"):
        KeyLog(tmp_path / "none" / "keys.log")


def test_nothing_large_stays_of_a_row(log: MessageLog) -> None:
    log("in", PEER, made(codes.PUT, "5000/0/1", payload=bytes(60_000)), 0)
    (kept,) = log.kept()
    assert isinstance(kept, Kept)
    assert len(kept.data) == 1536 and kept.size > 60_000


# -- hostile -----------------------------------------------------------------------------------------

PATHS = (("rd",), ("bs",), ("0",), ("est", "sen"), ("3", "0"), ("3", "0", "0"), ("21",), ("rd", "a", "d"))


@st.composite
def passed(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw a message that a peer may send: half right, or nothing but bytes."""
    direction = draw(st.sampled_from(("in", "out")))
    if draw(st.booleans()):
        return direction, draw(st.binary(min_size=4, max_size=200))
    code = draw(st.sampled_from((1, 2, 3, 4, 65, 68, 69, 95, 132, 160)))
    options: dict[str, object] = {"content_format": draw(st.sampled_from((0, 40, 42, 110, 112, 11542, 65535)))}
    block = draw(st.sampled_from((None, (0, True, 0), (1, False, 0), (0, False, 5), (99999, True, 6))))
    if block is not None:
        options["block1" if code < 32 else "block2"] = block
    if code < 32:
        options["uri_path"] = draw(st.sampled_from(PATHS))
        options["uri_query"] = draw(st.sampled_from(((), ("ep=desk1",), ("iep=dev1",), ("ep", "=", "ep=\x1b[2J"))))
    else:
        options["location_path"] = draw(st.sampled_from(((), ("rd", "a", "dev1"), ("",))))
    payload = draw(
        st.one_of(
            st.binary(max_size=80),
            st.sampled_from(
                (b'</3/0/0>;v="1";aobs="511"', b"\x30\x03\x02\x01\x00", b"\1\1\0\2\x30\0", b"[{}]", b"\x80")
            ),
        )
    )
    message = Message(code=codes.Code(code), payload=payload, **options)
    message.mtype = Type(draw(st.integers(0, 3)))
    message.mid, message.token = draw(st.integers(0, 3)), draw(st.sampled_from((b"", b"\1", b"\1\xff")))
    return direction, message.encode()


@given(st.lists(passed(), max_size=12))
def test_whatever_passed_can_be_looked_at_in_every_way(messages: list[tuple[str, bytes]]) -> None:
    log = MessageLog(clock="device", dialect=LwM2M())
    for number, (direction, data) in enumerate(messages):
        log(direction, PEER, data, number)  # type: ignore[arg-type]
    assert len(log.rows()) == len(messages)
    assert log.lines().replace("\n", "").isprintable()
    assert "\x1b" not in log._repr_html_() + repr(log.failures()) + log.failures()._repr_html_()
    assert len(log.of_device("desk1")) <= len(log) and len(log.since(3)) <= len(log)
    log.counters(), log.frame()
    for kept in log.kept():
        if isinstance(kept, Kept):
            packet(kept)


# -- certificates ------------------------------------------------------------------------------------


def _name_of(common_name: str, device: str):  # type: ignore[no-untyped-def]
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if device:
        names.append(x509.NameAttribute(NameOID.LOCALITY_NAME, device))
    return x509.Name(names)


def _certificate(common_name: str, device: str) -> bytes:
    from datetime import UTC, datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(_name_of(common_name, device))
        .issuer_name(_name_of("a CA", ""))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2040, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def _request(common_name: str) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(_name_of(common_name, "")).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)
