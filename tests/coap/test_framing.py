"""Messages in streams and records, bytes in and bytes out, typed from RFC 8323 and from the stock client's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.coap.framing import MAX_MESSAGE, BadFrame, Framing, Lengths, Records
from pdmlab.coap.recognition import framing_for, framing_of
from pdmlab.coap.reliable import Reliable
from pdmlab.errors import NetworkError


def b(text: str) -> bytes:
    return bytes.fromhex(text)


def reliable() -> Reliable:
    """An RFC 8323 framing whose peer has said no more than that it is one."""
    framing = Reliable()
    assert framing.receive(b("00e1")) == []
    return framing


# -- the stock client --------------------------------------------------------------------------------

PING = b("40000001")


def test_plain_tcp_has_four_bytes_of_length_in_front() -> None:
    framing = Lengths()
    assert framing.send(b("60450001 ff 61")) == b("00000006 60450001 ff 61")
    assert framing.receive(b("0000000740020001 b2 7264")) == [b("40020001 b2 7264")]
    assert not framing.unfinished


def test_length_frames_come_in_any_pieces() -> None:
    sent = b("00000004 40000001 00000006 60450002 ff61 00000004 70000003")
    whole = [b("40000001"), b("60450002 ff61"), b("70000003")]
    assert Lengths().receive(sent) == whole
    framing, got = Lengths(), []
    for each in sent:
        got += framing.receive(bytes([each]))
    assert got == whole
    assert not framing.unfinished
    framing.receive(sent[:5])
    assert framing.unfinished


@pytest.mark.parametrize("length", [0, 3, MAX_MESSAGE + 1, 0x47455420, 0xFFFFFFFF])
def test_length_that_no_message_has_is_refused_before_it_is_waited_for(length: int) -> None:
    with pytest.raises(BadFrame, match=f"a length of {length} B"):
        Lengths().receive(length.to_bytes(4, "big"))


def test_record_is_a_message_and_a_message_is_a_record() -> None:
    framing = Records()
    assert framing.receive(PING) == [PING]
    assert framing.send(PING) == PING
    assert not framing.unfinished


@pytest.mark.parametrize("framing", [Records(), Lengths()])
def test_stock_client_never_gets_more_than_it_reads_at_once(framing: Framing) -> None:
    assert framing.send(bytes(1152)).endswith(bytes(1152))
    with pytest.raises(NetworkError, match="1153 B is longer than the 1152 B"):
        framing.send(bytes(1153))


# -- RFC 8323 ----------------------------------------------------------------------------------------


def test_csm_goes_first_and_asks_for_no_bundled_blocks() -> None:
    # Length 4, no token, 7.01; Max-Message-Size (2) 1152; Block-Wise-Transfer (2+2), empty.
    assert Reliable().hello() == b("40 e1 22 0480 20")


def test_request_arrives_as_confirmable_and_its_answer_leaves_without_type_and_id() -> None:
    framing = reliable()
    # RFC 8323 figure 5: a GET of 1 byte of token, no options, no payload: 01 43 7f is a response; a request is alike.
    assert framing.receive(b("01 01 7f")) == [b("41 01 0001 7f")]
    assert framing.receive(b("21 01 80 b1 61")) == [b("41 01 0002 80 b1 61")]
    assert framing.send(b("61 45 0001 7f ff 6869")) == b("31 45 7f ff 6869")
    assert framing.take_owed() == []


def test_example_of_rfc_8323_section_3_2() -> None:
    # "01 43 7f": length 0, token of 1 byte, 2.03 Valid, token 7f (figure 5).
    assert reliable().receive(b("01 43 7f")) == [b("51 43 0001 7f")]


def test_what_is_sent_to_be_confirmed_is_acknowledged_on_the_spot() -> None:
    framing = reliable()
    assert framing.send(b("42 01 1234 abcd b1 61")) == b("22 01 abcd b1 61")
    assert framing.take_owed() == [b("60 00 1234")]
    assert framing.take_owed() == []
    assert framing.send(b("52 45 1235 abcd")) == b("02 45 abcd")
    assert framing.take_owed() == []


def test_empty_messages_have_no_place() -> None:
    framing = reliable()
    assert [framing.send(b(each)) for each in ("60001234", "70001234", "40001234")] == [b"", b"", b""]
    assert framing.receive(b("00 00 00 00")) == []
    assert framing.take_owed() == [] and framing.take_back() == b""


@pytest.mark.parametrize(
    ("body", "head"),
    [(0, "02"), (12, "c2"), (13, "d200"), (268, "d2ff"), (269, "e20000"), (1023, "e202f2")],
)
def test_lengths_are_written_and_read_at_the_edges(body: int, head: str) -> None:
    message = b("42 02 0001 abcd") + bytes(body)
    frame = b(head) + b("02 abcd") + bytes(body)
    framing = reliable()
    assert framing.send(message) == frame
    assert framing.receive(frame) == [b("42 02 0001 abcd") + bytes(body)]


def test_four_byte_length_is_read_and_refused() -> None:
    with pytest.raises(BadFrame, match="16384 B at most") as raised:
        reliable().receive(b("f0 00000000 01"))
    # 7.05 Abort; its diagnostic payload says why
    assert raised.value.farewell[2:4] == b("e5 ff")
    assert b"16384 B at most" in raised.value.farewell


def test_ping_is_answered_with_a_pong_of_its_token() -> None:
    framing = reliable()
    assert framing.receive(b("02 e2 abcd 10 e2 20")) == []  # the second with Custody (2), which needs no answer
    assert framing.take_back() == b("02 e3 abcd 00 e3")
    assert framing.take_back() == b""


def test_csm_says_how_much_the_peer_takes() -> None:
    framing = Reliable()
    with pytest.raises(NetworkError, match="1152 B"):
        framing.send(bytes([0x40, 1, 0, 1]) + bytes(1152))
    framing.receive(b("40 e1 22 2000 20"))  # 8192
    assert len(framing.send(bytes([0x40, 1, 0, 1]) + bytes(4000))) > 4000
    framing.receive(b("20 e1 21 40"))  # 64; a CSM may come again
    with pytest.raises(NetworkError, match="64 B"):
        framing.send(bytes([0x40, 1, 0, 1]) + bytes(64))


def test_critical_option_of_a_csm_that_nobody_knows_is_an_abort_that_names_it() -> None:
    with pytest.raises(BadFrame, match=r"option 9 of a 7\.01 is not known") as raised:
        Reliable().receive(b("10 e1 90"))
    # Bad-CSM-Option (2) is 0009
    assert raised.value.farewell[2:6].hex().endswith("220009") or b("22 0009 ff") in raised.value.farewell
    assert Reliable().receive(b("10 e1 a0")) == []  # an elective one


def test_abort_is_told_in_the_peers_words() -> None:
    with pytest.raises(BadFrame, match="the peer aborted the connection: no more memory"):
        reliable().receive(b("d0 02 e5 ff") + b"no more memory")


def test_release_ends_the_connection_when_all_is_answered() -> None:
    framing = reliable()
    framing.receive(b("01 01 7f 01 01 80 00 e4"))
    assert framing.leaving == "the peer released the connection"
    framing.send(b("61 45 0001 7f"))
    assert not framing.answered
    framing.send(b("61 45 0002 80"))
    assert framing.answered


def test_requests_that_are_never_answered_are_forgotten() -> None:
    framing = reliable()
    for number in range(3000):
        framing.receive(b("02 01") + number.to_bytes(2, "big"))
    assert len(framing._unanswered) == 256


def test_signals_that_are_not_known_are_ignored_and_broken_ones_abort() -> None:
    assert reliable().receive(b("00 e6 00 ff")) == []
    with pytest.raises(BadFrame, match="does not end"):
        reliable().receive(b("10 e2 25"))
    with pytest.raises(BadFrame, match="a reserved length"):
        reliable().receive(b("10 e2 f0"))
    with pytest.raises(BadFrame, match="a token of 9 B"):
        reliable().receive(b("09 01"))


# -- which is which ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "records", "kind"),
    [
        ("0000000c40", False, Lengths),
        ("0000047f50", False, Lengths),
        ("00e1", False, Reliable),
        ("40e122048020", False, Reliable),
        ("d001e1", False, Reliable),
        ("e00001e1", False, Reliable),
        ("00", False, None),
        ("0000", False, None),
        ("0000000c", False, None),
        ("d001", False, None),
        ("44020001", True, Records),
        ("60000001c0", True, Records),
        ("50e122048020", True, Reliable),  # the only overlap with a NON, and no message has the code 7.01
        ("00e1", True, Reliable),
        ("40", True, None),
    ],
)
def test_first_bytes_tell_how_a_peer_speaks(start: str, records: bool, kind: type[Framing] | None) -> None:
    framing = framing_of(b(start), records=records)
    assert (None if framing is None else type(framing)) is kind


@pytest.mark.parametrize(
    ("start", "records", "what"),
    [
        (b"GET / HTTP/1.1", False, "HTTP"),
        (b("1603010200010001fc0303"), False, "TLS, on a port without security"),
        (b("440100010203"), False, "CoAP as in datagrams"),
        (b("0000000c16"), False, "behind a length"),
        (b("0101017f"), False, "something that is not CoAP"),  # a request before any CSM
        (b("ffffffffffffffff"), True, "something that is not CoAP"),
    ],
)
def test_who_speaks_otherwise_is_told_apart(start: bytes, records: bool, what: str) -> None:
    with pytest.raises(BadFrame, match=what):
        framing_of(start, records=records)


def test_client_says_which_way_it_speaks() -> None:
    assert [framing_for(way).way for way in ("length", "record", "rfc8323")] == ["length", "record", "rfc8323"]


# -- properties --------------------------------------------------------------------------------------

messages = st.lists(
    st.builds(
        lambda kind, token, code, mid, rest: bytes((0x40 | kind << 4 | len(token), code)) + mid + token + rest,
        st.integers(0, 1),
        st.binary(max_size=8),
        st.sampled_from([1, 2, 3, 4, 0x45, 0x84, 0xA0]),
        st.binary(min_size=2, max_size=2),
        st.binary(max_size=1100),
    ),
    min_size=1,
    max_size=8,
)


@given(messages, st.lists(st.integers(1, 900), max_size=30), st.sampled_from([Lengths, Reliable]))
def test_what_one_end_sends_the_other_gets_however_the_stream_is_cut(
    sent: list[bytes], cuts: list[int], kind: type[Framing]
) -> None:
    here, there = kind(), kind()
    stream = here.hello() + b"".join(here.send(each) for each in sent)
    got: list[bytes] = []
    for cut in cuts:
        got += there.receive(stream[:cut])
        stream = stream[cut:]
    got += there.receive(stream)
    assert not there.unfinished
    if kind is Lengths:
        assert got == sent
    else:  # code, token and what follows; types and IDs are not on the wire
        assert [(each[1], each[0] & 15, each[4:]) for each in got] == [(e[1], e[0] & 15, e[4:]) for e in sent]


@given(st.lists(st.binary(max_size=300), max_size=20), st.sampled_from([Lengths, Reliable, Records]))
def test_anything_that_arrives_is_taken_or_refused_and_little_is_kept(
    arrived: list[bytes], kind: type[Framing]
) -> None:
    framing = kind()
    try:
        for each in arrived:
            framing.receive(each)
            assert len(getattr(framing, "_rest", b"")) <= MAX_MESSAGE + 16
    except BadFrame:
        pass


@given(st.binary(max_size=40), st.booleans())
def test_any_first_bytes_are_told_apart_or_refused(start: bytes, records: bool) -> None:
    try:
        framing = framing_of(start, records=records)
    except BadFrame:
        return
    assert framing is not None or len(start) < 6
