"""Captures: what Wireshark's dissectors make of them, and that a disk that is full is named."""

from __future__ import annotations

import asyncio
import errno
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import Type
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.capture import MessageLog
from pdmlab.clock import DeviceClock
from pdmlab.errors import NetworkError
from pdmlab.network.download import download
from pdmlab.network.interfaces import EthernetInterface, LoWPANInterface
from pdmlab.network.link import Link
from pdmlab.network.nsapi import NsapiError, nsapi_error
from pdmlab.network.sockets import TCPSocket, UDPSocket
from pdmlab.network.wire import checksum
from tests.tools import program

MakeDesk = Callable[..., Any]  # the desk fixture of conftest.py
CHECKED = [
    "-o",
    "tcp.reassemble_out_of_order:TRUE",
    "-o",
    "ip.check_checksum:TRUE",
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
]
SECOND = 1_000_000_000


def tshark(path: Path, *arguments: str) -> list[str]:
    """Return what tshark says about a capture, with all checksums checked, line by line."""
    command = [program("tshark"), "-n", "-r", str(path), *CHECKED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def fields(path: Path, wanted: str, *names: str) -> list[list[str]]:
    lines = tshark(path, "-Y", wanted, "-T", "fields", *(word for name in names for word in ("-e", name)))
    return [line.split("\t") for line in lines]


def record(board: Any, path: Path, work: Callable[[], object]) -> None:
    with board.net.capture(path):
        board.run(work)
        board.clock.call(lambda: board.clock.sleep(60 * SECOND))


@pytest.mark.debian
@pytest.mark.parametrize("bearer", ["ethernet", "lte-m", "6lowpan"])
def test_wireshark_finds_nothing_wrong_with_a_download(desk: MakeDesk, tmp_path: Path, bearer: str) -> None:
    path = tmp_path / "download.pcapng"
    board = desk(Link.of(bearer, latency=100_000_000, jitter=0, loss=0.0))
    record(board, path, lambda: download(board.net, "downloads.pdmlab", "/file", 1024))
    bad = "_ws.malformed || tcp.checksum.status == 0 || ip.checksum.status == 0 || udp.checksum.status == 0"
    assert tshark(path, "-Y", bad) == []
    assert tshark(path, "-Y", "tcp.analysis.flags && !tcp.analysis.window_update") == []
    [(code, length, size)] = fields(path, "http.response", "http.response.code", "http.content_length", "frame.cap_len")
    assert (code, int(length)) == ("200", len(board.content)) and int(size) > 40
    hosts = fields(path, "http.request", "http.request.full_uri")
    assert hosts == [["http://downloads.pdmlab/file"]]
    assert len(fields(path, "dns", "dns.id")) == 2
    assert fields(path, "dns.flags.response == 1", "dns.resp.name") == [["downloads.pdmlab"]]


@pytest.mark.debian
def test_times_are_the_devices_in_nanoseconds_and_all_is_said_to_be_simulated(desk: MakeDesk, tmp_path: Path) -> None:
    path = tmp_path / "times.pcapng"
    board = desk(Link.of("ethernet", latency=100_000_001, jitter=0, up=0, down=0, call_time=0))
    record(board, path, lambda: download(board.net, "downloads.pdmlab", "/file", 1024))
    (syn,), (answer,) = (
        fields(path, f"tcp.flags.syn == 1 && tcp.flags.ack == {acks}", "frame.time_epoch") for acks in (0, 1)
    )
    start = board.net.link.attach_time + 2 * 100_000_001  # connected, and DNS asked
    assert syn[0] == f"{start // SECOND}.{start % SECOND:09d}"
    assert round((float(answer[0]) - float(syn[0])) * SECOND) == pytest.approx(200_000_002, abs=1000)
    raw = path.read_bytes()
    assert raw.count(b"SIMULATED") >= 3 and b"device clock" in raw and b"pdmlab" in raw
    assert struct.unpack_from("<I", raw)[0] == 0x0A0D0D0A
    directions = {row[0] for row in fields(path, "tcp", "frame.packet_flags_direction")}
    assert directions == {"0x00000001", "0x00000002"} or directions == {"1", "2"}


@pytest.mark.debian
def test_what_is_lost_on_the_way_to_the_board_is_not_there_and_its_repetition_is(
    desk: MakeDesk, tmp_path: Path
) -> None:
    path = tmp_path / "loss.pcapng"
    board = desk(Link.of("ethernet", latency=10_000_000, loss=0.03))
    record(board, path, lambda: download(board.net, "downloads.pdmlab", "/file", 1024))
    assert tshark(path, "-Y", "tcp.analysis.lost_segment")
    assert tshark(path, "-Y", "_ws.malformed || tcp.checksum.status == 0") == []
    assert len(fields(path, "http.response.code == 200", "http.content_length")) == 1  # reassembled all the same


@pytest.mark.debian
def test_datagrams_above_the_mtu_are_seen_as_fragments_and_coap_is_dissected(desk: MakeDesk, tmp_path: Path) -> None:
    path = tmp_path / "udp.pcapng"
    board = desk(Link.of("ethernet", jitter=0))
    ask = Message(code=codes.GET, uri_path=("3", "0"))
    ask.mtype, ask.mid, ask.token = Type.CON, 0x1234, b"\1"

    def work() -> None:
        socket = UDPSocket(board.net)
        socket.sendto("downloads.pdmlab", 5683, ask.encode())
        socket.sendto("downloads.pdmlab", 9, bytes(4000))
        socket.close()

    record(board, path, work)
    assert fields(path, "coap", "coap.mid", "coap.opt.uri_path") == [["4660", "3,0"]]
    assert fields(path, "udp.dstport == 9", "udp.length", "ip.fragment.count") == [["4008", "3"]]
    assert tshark(path, "-Y", "_ws.malformed || ip.checksum.status == 0 || udp.checksum.status == 0") == []


@pytest.mark.debian
def test_ipv6_fragments_of_a_mesh_node_are_put_together(clock: DeviceClock, fabric: Any, tmp_path: Path) -> None:
    path = tmp_path / "mesh.pcapng"
    fabric.host("far", Link.of("thread"))
    net = LoWPANInterface(clock, fabric=fabric, link=Link.of("6lowpan", oversize="fragment"))

    def work() -> None:
        net.connect()
        UDPSocket(net).sendto("far", 7, bytes(3000))
        clock.sleep(10 * SECOND)

    with net.capture(path):
        clock.call(work)
    assert fields(path, "udp.dstport == 7", "ipv6.src", "udp.length") == [["2001:db8::2", "3008"]]
    assert tshark(path, "-Y", "_ws.malformed || udp.checksum.status == 0") == []


@pytest.mark.debian
def test_messages_of_a_log_stand_there_in_plain_text_without_their_secrets(desk: MakeDesk, tmp_path: Path) -> None:
    path = tmp_path / "plain.pcapng"
    board = desk()
    log = MessageLog(endpoint="device", clock="device")
    with board.net.capture(path, log):
        for number, (segments, payload) in enumerate(((("3", "0"), b"open"), (("0", "1", "5"), b"the key"))):
            put = Message(code=codes.PUT, uri_path=segments, payload=payload)
            put.mtype, put.mid, put.token = Type.CON, number, b"\1"
            log("in", ("198.51.100.7", 5684), put.encode(), number * 1000)
    put = Message(code=codes.PUT, uri_path=("3",), payload=b"afterwards")
    put.mtype, put.mid = Type.CON, 9
    log("in", ("198.51.100.7", 5684), put.encode(), 3000)
    rows = fields(path, "coap", "coap.opt.uri_path", "frame.comment", "ip.src", "data.data", "data-text-lines")
    assert [row[:3] for row in rows] == [
        ["3,0", "plain text from the message log of device: it went over coap; device clock", "198.51.100.7"],
        ["0,1,5", "plain text from the message log of device: it went over coap; device clock", "198.51.100.7"],
    ]
    raw = path.read_bytes()
    assert b"open" in raw and b"the key" not in raw and b"*******" in raw and b"afterwards" not in raw


@pytest.mark.debian
def test_bytes_of_a_real_connection_stand_in_segments_made_up_for_them(clock: DeviceClock, tmp_path: Path) -> None:
    path = tmp_path / "live.pcapng"
    net = EthernetInterface(clock, link=Link(latency=1_000_000, mss=536))
    clock.pace = "live"
    ports: list[int] = []

    async def serve() -> asyncio.Server:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1500\r\n\r\n" + bytes(1500))
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        return server

    server = clock.call_async(serve())

    def work() -> None:
        net.connect()
        socket = TCPSocket(net)
        socket.connect("127.0.0.1", ports[0])
        socket.send(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        while socket.recv(1000):
            pass
        socket.close()

    with net.capture(path):
        clock.call(work)

    async def end() -> None:
        server.close()
        await server.wait_closed()

    clock.call_async(end())
    decoded = ["-d", f"tcp.port=={ports[0]},http"]
    lines = tshark(path, *decoded, "-Y", "http", "-T", "fields", "-e", "http.content_length", "-e", "frame.comment")
    assert lines[-1].startswith("1500") and "made up" in lines[-1]
    assert tshark(path, "-Y", "_ws.malformed || tcp.analysis.flags || tcp.checksum.status == 0") == []


def test_a_full_disk_is_named_when_the_capture_ends_and_the_board_goes_on(desk: MakeDesk) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    board = desk()
    with pytest.raises(NetworkError, match="the capture /dev/full could not be written: No space left"):
        board.net.capture("/dev/full")
    recording = board.net.capture("/dev/null")
    recording._file._file.close()
    recording._file._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115  # the disk fills up meanwhile
    got = board.run(lambda: download(board.net, "downloads.pdmlab", "/file", 1024))
    assert got.bytes == len(board.content) and recording.error is not None
    with pytest.raises(NetworkError, match="No space left on device") as error:
        recording.close()
    assert error.value.hint and not board.net.watchers


def test_a_folder_that_is_not_there_is_named(desk: MakeDesk, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="No such file or directory"):
        desk().net.capture(tmp_path / "none" / "x.pcapng")


def test_without_a_capture_nothing_is_taken_and_after_it_nothing_more(desk: MakeDesk, tmp_path: Path) -> None:
    board = desk()
    with board.net.capture(tmp_path / "x.pcapng") as recording:
        board.run(lambda: download(board.net, "downloads.pdmlab", "/file", 1024))
    count = recording.packets
    assert count > 300 and repr(recording).endswith(f"{count} packets, closed>")
    assert "SIMULATED" in recording._repr_html_() and f"{count} packets" in recording._repr_html_()
    board.clock.call(lambda: download(board.net, "downloads.pdmlab", "/file", 1024))
    assert recording.packets == count


def test_an_error_of_the_work_is_not_hidden_by_the_captures_own(desk: MakeDesk) -> None:
    board = desk()
    with pytest.raises(NetworkError, match="of the work"), board.net.capture("/dev/null") as recording:
        recording.error = NetworkError("of the disk")
        raise nsapi_error(NsapiError.BUSY, "of the work")


@given(st.binary(min_size=1, max_size=200))
def test_the_checksum_is_rfc_1071s(data: bytes) -> None:
    padded = data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert checksum(data) == ~total & 0xFFFF


def test_captures_of_one_log_each_have_all_its_messages(desk: MakeDesk, tmp_path: Path) -> None:
    board, log = desk(), MessageLog(endpoint="board")
    message = Message(code=codes.GET)
    message.mtype, message.mid, message.token = Type.CON, 1, b"t"

    def say() -> None:
        log("out", ("198.18.0.1", 5683), message.encode(), 5)

    with board.net.capture(tmp_path / "outer.pcapng", log) as outer:
        say()
        with board.net.capture(tmp_path / "inner.pcapng", log) as inner:
            say()
        say()
    say()
    assert (outer.packets, inner.packets) == (3, 1)


def test_two_captures_into_one_file_are_refused(desk: MakeDesk, tmp_path: Path) -> None:
    board = desk()
    path = tmp_path / "x.pcapng"
    with board.net.capture(path), pytest.raises(NetworkError, match="is being captured into already"):
        board.net.capture(tmp_path / "." / "x.pcapng")
    with board.net.capture(path):
        pass
    assert not board.net.watchers


def test_a_closed_board_is_not_captured(tmp_path: Path) -> None:
    with DeviceClock() as clock:
        net = EthernetInterface(clock)
    with pytest.raises(NetworkError, match="is closed"):
        net.capture(tmp_path / "x.pcapng")
    assert not list(tmp_path.iterdir())


def test_after_a_full_disk_the_capture_counts_what_can_be_read_from_it(desk: MakeDesk, tmp_path: Path) -> None:
    board = desk()
    path = tmp_path / "x.pcapng"
    recording = board.net.capture(path)
    file = recording._file._file

    class Filling:
        """A disk with room for 10000 B, the last of them in the middle of a packet."""

        left = 10_000

        def write(self, block: bytes) -> None:
            file.write(block[: self.left])
            self.left -= len(block)
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            file.close()

    recording._file._file = Filling()
    board.run(lambda: download(board.net, "downloads.pdmlab", "/file", 1024))
    with pytest.raises(NetworkError, match="No space left") as error:
        recording.close()
    assert "the disk is full" in str(error.value.hint)
    assert 10 < recording.packets == len(tshark(path)) and path.stat().st_size < 10_000


@pytest.mark.parametrize(("name", "said"), [("none/x.pcapng", "there is no folder"), (".", "that is a folder")])
def test_a_place_where_no_capture_can_be_is_explained(desk: MakeDesk, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(NetworkError) as error:
        desk().net.capture(tmp_path / name)
    assert said in str(error.value.hint) and "full" not in str(error.value.hint)
