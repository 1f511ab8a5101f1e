"""Who may fill a log, and what outlasts a flood: shares of devices, refusals, connections that are still known."""

from __future__ import annotations

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import Type
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.capture import Event, MessageLog, Who
from pdmlab.capture.shares import _level
from pdmlab.coap.transport import Connection
from pdmlab.lwm2m.dialect import LwM2M

HOST = "192.0.2.1"
QUIET = Connection(HOST, 5001, "coaps+tcp", 1)
LOUD = Connection(HOST, 5002, "coaps+tcp", 2)


def made(code: codes.Code, path: str = "", kind: Type = Type.CON, mid: int = 1, **options: object) -> bytes:
    message = Message(code=code, **options)
    if path:
        message.opt.uri_path = tuple(path.split("/"))
    message.mtype, message.mid, message.token = kind, mid & 0xFFFF, (mid & 0xFFFF).to_bytes(2, "big")
    data: bytes = message.encode()
    return data


def filled(limit: int = 100) -> MessageLog:
    """Return a log in which two devices of one host have shaken hands, and registered."""
    log = MessageLog(endpoint="lwm2m", clock="device", dialect=LwM2M(), limit=limit)
    for peer, device, name in ((QUIET, "dev1", "desk1"), (LOUD, "dev2", "desk2")):
        log.event(peer, Event("handshake completed", "TLS", who=Who(device, name)))
        log("in", peer, made(codes.POST, "rd", uri_query=(f"ep={name}",)), 0)
        log("out", peer, made(codes.CREATED, kind=Type.ACK, location_path=("rd", "acc", device)), 0)
    return log


def flood(log: MessageLog, peer: tuple[str, int] = LOUD, count: int = 1000) -> None:
    for number in range(count):
        log("in", peer, made(codes.GET, "3/0/0", mid=number), 0)


def test_a_loud_device_displaces_nothing_of_the_others() -> None:
    log = filled()
    for number in range(30):
        log("out", QUIET, made(codes.GET, f"3/0/{number}", mid=number), 0)
    flood(log)
    quiet = log.of_device("dev1").rows()
    assert [row.path for row in quiet if row.code == "GET"] == [f"/3/0/{number}" for number in range(30)]
    assert sum(row.code == "GET" for row in log.of_device("dev2")) == 70
    assert len(log) == 100 + 6
    assert [row.number for row in log] == sorted(row.number for row in log)


def test_a_flood_leaves_refusals_with_their_requests_failed_handshakes_ends_and_registrations() -> None:
    log = filled()
    log("out", LOUD, made(codes.GET, "3/0/9", mid=7), 0)
    log("in", LOUD, made(codes.NOT_FOUND, kind=Type.ACK, mid=7), 0)
    log("out", LOUD, made(codes.PUT, "3/0/14", mid=8), 0)
    log("in", LOUD, bytes.fromhex("70000008"), 0)
    log.of("lwm2m").unreadable(LOUD, b"\x40\1\1\1\xff", "a payload marker without a payload", 0)
    log.event((HOST, 9), Event("handshake failed", "no", "unknown CA"))
    flood(log, count=5000)
    log.event(LOUD, Event("closed", "hung up"))
    kept = log.of_device("dev2").rows()
    assert [row.code for row in kept[:8]] == [
        "handshake completed", "POST", "2.01 Created", "GET", "4.04 Not Found", "PUT", "reset", "unreadable",
    ]  # fmt: skip
    assert (kept[4].path, kept[-1].code) == ("/3/0/9", "closed")
    failures = {each.kind: each.happened for each in log.failures()}
    assert failures.keys() == {"refused", "reset", "unreadable", "unknown CA"}
    assert (
        failures["refused"] == "4.04 Not Found to /3/0/9"
        and failures["reset"] == "CON PUT /3/0/14 was reset by the peer"
    )


def test_a_flood_of_one_failure_does_not_displace_another() -> None:
    log = filled()
    log("out", (HOST, 9), made(codes.GET, "3", mid=7), 0)
    log("in", (HOST, 9), made(codes.NOT_FOUND, kind=Type.ACK, mid=7), 0)
    for number in range(1000):
        log.event((HOST, 10_000 + number), Event("handshake failed", "no", "unknown CA"))
    assert {each.kind for each in log.failures()} == {"refused", "unknown CA"}
    assert len(log) <= 125


def test_whose_a_connection_is_stays_known_when_nothing_is_left_of_its_beginning() -> None:
    log = filled(limit=8)  # which keeps two of what is apart
    for number in range(50):
        log("in", Connection(HOST, 5003, "coaps+tcp", 3), made(codes.POST, "rd", mid=number), 0)
        log.event(LOUD, Event("handshake started"))
        flood(log, count=20)
    log("out", QUIET, made(codes.GET, "3/0/9", mid=50), 0)
    (row,) = log.of_device("desk1")
    assert (row.device, row.name, row.path) == ("dev1", "desk1", "/3/0/9")


def test_many_addresses_of_nobody_are_one_peer_among_others() -> None:
    log = filled()
    for number in range(20):
        log("out", QUIET, made(codes.GET, f"3/0/{number}", mid=number), 0)
    for port in range(5000):
        log("in", ("198.51.100.1", port), made(codes.GET, "3", mid=port), 0)
    assert sum(row.code == "GET" for row in log.of_device("dev1")) == 20


def test_many_hosts_of_nobody_leave_a_device_its_share() -> None:
    log = filled(limit=1000)
    for number in range(12):
        log("out", QUIET, made(codes.GET, f"3/0/{number}", mid=number), 0)
    for number in range(5000):
        log("in", (f"127.0.{number >> 8}.{number & 255}", 9), made(codes.GET, "3", mid=number), 0)
    assert sum(row.code == "GET" for row in log.of_device("dev1")) == 12
    assert len(log) <= 1250


def test_more_devices_than_rows_leave_those_that_spoke_last() -> None:
    log = MessageLog(clock="device", dialect=LwM2M(), limit=10)
    for number in range(50):
        peer = Connection(HOST, number, "coaps", number)
        log.event(peer, Event("handshake completed", "TLS", who=Who(f"dev{number}")))
        log("in", peer, made(codes.GET, "3", mid=number), 0)
    assert [row.device for row in log if row.code == "GET"] == [f"dev{number}" for number in range(40, 50)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=20), st.integers(1, 200))
def test_shares_are_as_even_as_their_sizes_let_them_be(sizes: list[int], most: int) -> None:
    level = _level(sorted(sizes), most)
    left = sum(min(size, level) for size in sizes)
    if sum(sizes) > most >= len(sizes):
        assert left <= most < left + len(sizes)
    if sum(sizes) <= most:
        assert left == sum(sizes)
