"""OpenSSL as the stock client wants it, and failed handshakes in words; bytes in and out of both ends."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from pdmlab.coap import psk
from pdmlab.coap.handshake import Handshake, client_hello, spoken, suite_names
from pdmlab.coap.openssl import client_context, connection, failure, identity_of, resumed, server_context
from pdmlab.coap.security import Security
from pdmlab.errors import ConfigError, HandshakeFailed
from tests.coap.certificates import ALWAYS, Authority

CA = Authority("Lab CA")
SERVER, CLIENT = CA.security("server"), CA.security("board-1")
PSK = Security(psk_of={b"board-1": b"secret-key-of-16"}.get)

# What the stock client sends first, from reference docs/wire.md 1.3: one suite and the renegotiation SCSV; signature
# algorithms 0403 and 0303, secp256r1, point formats, encrypt-then-mac, extended master secret, session ticket.
STOCK_HELLO = bytes.fromhex(
    "1603030055 01000051 0303" + "5a" * 32 + "00 0004 c0ae00ff 0100 0024"
    "000d0006 0004 04030303"
    "000a0004 0002 0017"
    "000b0002 0100"
    "00160000"
    "00170000"
    "00230000"
)  # fmt: skip


class Ends:
    """A server's and a client's end, with everything that went between them."""

    def __init__(self, server: SSL.Context, client: SSL.Context) -> None:
        self.server = connection(server, Handshake(server=True))
        self.client = connection(client, Handshake(server=False))
        self.wire: list[tuple[str, bytes]] = []
        self.got: list[tuple[str, bytes]] = []
        self.failures: dict[str, HandshakeFailed] = {}

    def run(self) -> Ends:
        """Carry bytes both ways until nothing moves."""
        ends = {"client": (self.client, self.server), "server": (self.server, self.client)}
        moved = True
        while moved:
            moved = False
            for name, (end, other) in ends.items():
                if name not in self.failures:
                    try:
                        self.got.append((name, end.recv(4096)))
                        moved = True
                    except SSL.WantReadError:
                        pass
                    except SSL.Error as error:
                        self.failures[name] = failure(end, error, f"the other, {name}'s view")
                try:
                    data = end.bio_read(65536)
                except SSL.WantReadError:
                    continue
                self.wire.append((name, data))
                seen: Handshake = other.get_app_data()
                seen.arrived(data)
                other.bio_write(data)
                moved = True
        return self


def meet(server: Security, client: Security, **options: float) -> Ends:
    return Ends(server_context(server), client_context(client, **options)).run()


def records(data: bytes) -> list[tuple[int, bytes]]:
    """Cut a flight into its TLS records: type and body."""
    out, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at + 3 : at + 5], "big")
        out.append((data[at], data[at + 5 : at + 5 + length]))
        at += 5 + length
    return out


# -- what the stock client wants ---------------------------------------------------------------------


def test_suite_is_the_stock_clients_and_both_ends_know_each_other() -> None:
    ends = meet(SERVER, CLIENT)
    assert ends.failures == {}
    hello, answer = ends.wire[0][1], ends.wire[1][1]
    assert client_hello(hello).suites[0] == 0xC0AE  # type: ignore[union-attr]
    body = records(answer)[0][1]
    assert body[0] == 2  # ServerHello
    assert body[4:6].hex() == "0303"
    session = body[38]
    assert body[39 + session : 41 + session].hex() == "c0ae"
    known, server = identity_of(ends.server), identity_of(ends.client)
    assert known is not None and server is not None
    assert (known.kind, known.name, known.certificates) == ("certificate", "board-1", CLIENT.certificates)
    assert (server.name, server.certificates) == ("server", SERVER.certificates)


def test_server_hello_begins_with_the_time() -> None:
    before = int(time.time())
    ends = meet(SERVER, CLIENT)
    random = records(ends.wire[1][1])[0][1][6:38]
    # OpenSSL asks time(2), whose seconds begin a few milliseconds late.
    assert before - 1 <= int.from_bytes(random[:4], "big") <= int(time.time())
    assert random == ends.client.server_random()


def test_certificate_flight_has_no_root_and_fits_a_device() -> None:
    flight = meet(SERVER, CLIENT).wire[1][1]
    assert CA.der not in flight
    assert SERVER.certificates[0] in flight
    assert len(flight) < 4096  # MBEDTLS_SSL_MAX_CONTENT_LEN, docs/wire.md 1.3


def test_client_may_renegotiate_and_server_may_be_asked_again_who_it_is() -> None:
    ends = meet(SERVER, CLIENT)
    seen: Handshake = ends.server.get_app_data()
    assert (seen.begun, seen.done) == (1, 1)
    assert ends.client.renegotiate()
    ends.run()
    assert ends.failures == {}
    assert (seen.begun, seen.done) == (2, 2)
    ends.client.send(b"still here")
    assert ends.run().got == [("server", b"still here")]
    known = identity_of(ends.server)
    assert known is not None and known.name == "board-1"


def test_session_is_resumed_by_its_id_without_certificates_and_without_tickets() -> None:
    server, first = server_context(SERVER), client_context(CLIENT)
    ends = Ends(server, first).run()
    assert not resumed(ends.server)
    session = psk.session_bytes(ends.client)

    again = Ends(server, client_context(CLIENT))  # another process would have made its own context
    assert psk.resume(again.client, session)
    again.run()
    assert again.failures == {}
    assert resumed(again.server) and resumed(again.client)
    sent = b"".join(data for name, data in again.wire if name == "server")
    kinds = [body[0] for kind, body in records(sent) if kind == 22]
    assert kinds[0] == 2  # ServerHello; then only the encrypted Finished: no Certificate (11), no NewSessionTicket (4)
    assert len(sent) < 200 and SERVER.certificates[0] not in sent
    known = identity_of(again.server)
    assert known is not None and known.name == "board-1"


def test_session_of_another_server_is_a_full_handshake() -> None:
    session = psk.session_bytes(meet(SERVER, CLIENT).client)
    ends = Ends(server_context(SERVER), client_context(CLIENT))
    psk.resume(ends.client, session)
    assert ends.run().failures == {}
    assert not resumed(ends.server)


def test_key_log_has_what_wireshark_needs() -> None:
    lines: list[str] = []
    ends = meet(replace(SERVER, keylog=lines.append), CLIENT)
    random = ends.client.client_random()
    secret = ends.client.master_key()
    assert random is not None and secret is not None
    assert lines == [f"CLIENT_RANDOM {random.hex()} {secret.hex()}"]


def test_sec1_keys_work_too() -> None:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_der_private_key,
    )

    assert CLIENT.private_key is not None
    key = load_der_private_key(CLIENT.private_key, None)
    sec1 = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert meet(SERVER, replace(CLIENT, private_key=sec1)).failures == {}


def test_key_of_another_certificate_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        server_context(replace(SERVER, private_key=CLIENT.private_key))
    with pytest.raises(ConfigError, match="cannot be used"):
        client_context(replace(CLIENT, certificates=(b"0\x03abc",)))


def test_pre_shared_keys_make_an_identity() -> None:
    ends = meet(PSK, Security(psk=(b"board-1", b"secret-key-of-16")))
    assert ends.failures == {}
    known = identity_of(ends.server)
    assert known is not None
    assert (known.kind, known.name, known.certificates) == ("psk", "board-1", ())


@pytest.mark.parametrize("suite", ["PSK-AES128-CCM8", "PSK-AES128-CBC-SHA256", "PSK-AES128-GCM-SHA256"])
def test_pre_shared_key_suites_of_other_clients(suite: str) -> None:
    client = client_context(Security(psk=(b"board-1", b"secret-key-of-16")))
    client.set_cipher_list(f"{suite}:@SECLEVEL=0".encode())
    ends = Ends(server_context(PSK), client).run()
    assert ends.failures == {}
    assert ends.server.get_cipher_name() == suite


# -- failures ----------------------------------------------------------------------------------------


def utc(year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


STRANGER = Authority("Somebody Else's CA")
EXPIRED = ALWAYS[0], utc(2020)
FUTURE = utc(2100), ALWAYS[1]


@pytest.mark.parametrize(
    ("server", "client", "side", "reason", "words"),
    [
        (SERVER, replace(CA.security("x"), trust=(STRANGER.der,)), "client", "unknown CA", "Lab CA"),
        (SERVER, replace(CA.security("x"), trust=(STRANGER.der,)), "server", "unknown CA", "unknown_ca (48)"),
        (SERVER, replace(STRANGER.security("x"), trust=(CA.der,)), "server", "unknown CA", "Somebody Else's CA"),
        (SERVER, replace(STRANGER.security("x"), trust=(CA.der,)), "client", "unknown CA", "unknown_ca (48)"),
        (SERVER, CA.security("x", EXPIRED), "server", "certificate expired", "until 2020-01-01"),
        (SERVER, CA.security("x", FUTURE), "server", "certificate in the future", "from 2100-01-01"),
        (CA.security("s", EXPIRED), CLIENT, "client", "certificate expired", "until 2020-01-01"),
        (CA.security("s", EXPIRED), CLIENT, "server", "certificate expired", "certificate_expired (45)"),
        (CA.security("s", FUTURE), CLIENT, "client", "certificate in the future", "from 2100-01-01"),
        (SERVER, Security(psk=(b"a", b"b" * 16)), "server", "no common suite", "PSK-AES128-CCM8, PSK-AES128-GCM"),
        (SERVER, Security(psk=(b"a", b"b" * 16)), "client", "no common suite", "handshake_failure (40)"),
        (PSK, Security(psk=(b"nobody", b"b" * 16)), "server", "unknown identity", "'nobody'"),
        (PSK, Security(psk=(b"nobody", b"b" * 16)), "client", "unknown identity", "unknown_psk_identity (115)"),
        (PSK, Security(psk=(b"board-1", b"b" * 16)), "server", "wrong key", "decrypt"),
        (PSK, Security(psk=(b"board-1", b"b" * 16)), "client", "wrong key", "bad_record_mac (20)"),
    ],
)
def test_failure_is_told_in_words(server: Security, client: Security, side: str, reason: str, words: str) -> None:
    told = meet(server, client).failures[side]
    assert told.reason == reason
    assert words in told.message
    assert told.alert is not None
    assert told.hint


def test_client_without_a_certificate() -> None:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(b"ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0")
    told = Ends(server_context(SERVER), context).run().failures["server"]
    assert told.reason == "no certificate"
    assert "credentials" in str(told)


def test_client_of_an_old_or_too_new_version() -> None:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_VERSION)
    context.set_max_proto_version(SSL.TLS1_1_VERSION)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    told = Ends(server_context(SERVER), context).run().failures["server"]
    assert told.reason == "wrong version"
    assert "TLS 1.1 with" in told.message
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    told = Ends(server_context(SERVER), context).run().failures["server"]
    assert (told.reason, "TLS 1.3 AES256-GCM" in told.message) == ("wrong version", True)


def test_what_the_device_thinks_the_time_is_decides_for_a_client() -> None:
    server = CA.security("s", (utc(2020), utc(2040)))
    assert meet(server, CLIENT, now=utc(2025).timestamp()).failures == {}
    told = meet(server, CLIENT, now=0).failures["client"]
    assert told.reason == "certificate in the future"
    assert "secure time" in str(told)


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (b"hello there\n", "plain text"),
        (bytes.fromhex("0000000c 40020001 b2726491dead"), "CoAP without TLS, each message behind its length"),
        (bytes.fromhex("44010001 deadbeef b2726400"), "CoAP without TLS"),
        (bytes.fromhex("00e1"), "CoAP over TCP without TLS (RFC 8323)"),
        (bytes.fromhex("16fefd000000000000000000"), "DTLS, in a stream"),
        (bytes(range(200, 220)), "something that is not TLS"),
    ],
)
def test_peer_that_speaks_no_tls(sent: bytes, what: str) -> None:
    end = connection(server_context(SERVER), Handshake(server=True))
    seen: Handshake = end.get_app_data()
    seen.arrived(sent)
    end.bio_write(sent)
    with pytest.raises(SSL.Error) as raised:
        end.do_handshake()
    told = failure(end, raised.value, "192.0.2.1:1")
    assert told.reason == "not TLS"
    assert told.message == f"no handshake with 192.0.2.1:1: it spoke {what}"


def test_peer_that_says_nothing_or_goes() -> None:
    seen = Handshake(server=True)
    assert (seen.timed_out("p", 10).reason, seen.closed("p").reason) == ("timed out", "closed")
    assert "nothing came in 10 s" in seen.timed_out("p", 10).message
    seen.arrived(STOCK_HELLO)
    assert "not complete after 10 s" in seen.timed_out("p", 10).message
    seen = Handshake(server=True)
    seen.arrived(b"GET / HTTP/1.0")
    assert seen.timed_out("p", 10).reason == seen.closed("p").reason == "not TLS"


# -- parts -------------------------------------------------------------------------------------------


def test_stock_client_hello_is_read() -> None:
    hello = client_hello(STOCK_HELLO)
    assert hello is not None
    assert (hello.version, hello.suites) == (0x0303, (0xC0AE,))
    assert str(hello) == "TLS 1.2 with ECDHE-ECDSA-AES128-CCM8"
    assert spoken(STOCK_HELLO) is None


def test_stock_client_hello_is_answered_with_its_suite_and_no_ticket() -> None:
    end = connection(server_context(SERVER), Handshake(server=True))
    end.bio_write(STOCK_HELLO)
    with pytest.raises(SSL.WantReadError):
        end.do_handshake()
    messages = [body for kind, body in records(end.bio_read(65536)) if kind == 22]
    assert [body[0] for body in messages] == [2, 11, 12, 13, 14]  # … Certificate, key exchange, request, done
    hello = messages[0]
    after = 39 + hello[38]
    assert hello[after : after + 2].hex() == "c0ae"
    extensions, at = [], after + 5
    while at < len(hello):
        extensions.append(hello[at] << 8 | hello[at + 1])
        at += 4 + (hello[at + 2] << 8 | hello[at + 3])
    assert sorted(extensions) == [0x000B, 0x0017, 0xFF01]  # point formats, extended master secret, renegotiation info


def test_datagram_client_hello_is_read_past_its_cookie() -> None:
    body = bytes.fromhex("fefd") + bytes(32) + b"\0" + b"\x04cook" + bytes.fromhex("0004c0a800ff0100")
    head = b"\x01" + len(body).to_bytes(3, "big") + bytes(5) + len(body).to_bytes(3, "big")
    record = bytes.fromhex("16fefd") + bytes(8) + (len(head) + len(body)).to_bytes(2, "big") + head + body
    assert str(client_hello(record)) == "DTLS 1.2 with PSK-AES128-CCM8"


@pytest.mark.parametrize("end", range(0, len(STOCK_HELLO), 3))
def test_cut_hello_is_none_or_whole(end: int) -> None:
    hello = client_hello(STOCK_HELLO[:end])
    assert hello is None or hello.suites == (0xC0AE,)


def test_many_and_unknown_suites_are_named() -> None:
    assert suite_names([0xC0AE, 0xFFFE]) == "ECDHE-ECDSA-AES128-CCM8, 0xFFFE"
    assert suite_names(range(20)).endswith(" and 12 more")
    assert suite_names([]) == "no suites"


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x16\x03\x01", STOCK_HELLO[:43], b"\x16\xfe\xfd" + bytes(10) + b"\x01"]),
)
def test_any_first_bytes_are_read_or_not(data: bytes, start: bytes) -> None:
    hello = client_hello(start + data)
    assert hello is None or str(hello)
    assert spoken(start + data) is None or isinstance(spoken(start + data), str)
