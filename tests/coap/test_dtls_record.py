"""Records of DTLS 1.2: published vectors, what openssl sent to itself, and properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.coap.dtls_association import Association, Flight
from pdmlab.coap.dtls_record import SUITES, WINDOW, Content, Protection, number_of, prf, split
from pdmlab.coap.transport import Connection, Identity

NAME = Connection("192.0.2.9", 40000, "coaps", 7)


def ends(name: str = "PSK-AES128-CCM8") -> tuple[Protection, Protection]:
    """Return both ends of an association."""
    secret, client, server = bytes(range(48)), b"c" * 32, b"s" * 32
    return (
        Protection.derive(SUITES[name], secret, client, server, server=False),
        Protection.derive(SUITES[name], secret, client, server, server=True),
    )


# -- published vectors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hash", "secret", "seed", "output"),
    [
        (
            "sha256",
            "9bbe436ba940f017b17652849a71db35",
            "a0ba9f936cda311827a6f796ffd5198c",
            "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af"
            "0fa022f7077def17abfd3797c0564bab4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
            "87347b66",
        ),
        (
            "sha384",
            "b80b733d6ceefcdc71566ea48e5567df",
            "cd665cf6a8447dd6ff8b27555edb7465",
            "7b0c18e9ced410ed1804f2cfa34a336a1c14dffb4900bb5fd7942107e81c83cde9ca0faa60be9fe34f82b1233c9146a0"
            "e534cb400fed2700884f9dc236f80edd8bfa961144c9e8d792eca722a7b32fc3d416d473ebc2c5fd4abfdad05d918425"
            "9b5bf8cd4d90fa0d31e2dec479e4f1a26066f2eea9a69236a3e52655c9e9aee691c8f3a26854308d5eaa3be85e099070"
            "3d73e56f",
        ),
    ],
)
def test_the_pseudo_random_function_gives_its_published_vectors(hash: str, secret: str, seed: str, output: str) -> None:
    """Those of the TLS working group's list (TLS 1.2 PRF test vectors, 2009)."""
    expected = bytes.fromhex(output)
    assert prf(bytes.fromhex(secret), b"test label", bytes.fromhex(seed), len(expected), hash) == expected


def test_the_cipher_of_ccm8_gives_nists_example() -> None:
    """SP 800-38C, example 3: a nonce of 12 B and a tag of 8 B, as RFC 6655 has them."""
    cipher = SUITES["PSK-AES128-CCM8"].cipher(bytes(range(0x40, 0x50)))
    sealed = cipher.encrypt(bytes(range(0x10, 0x1C)), bytes(range(0x20, 0x38)), bytes(range(0x14)))
    assert sealed.hex() == "e3b201a9f5b71a7a9b1ceaeccd97e70b6176aad9a4428aa5484392fbc1b09951"


# -- what openssl 3.0 s_client and s_server sent to each other, and the secret of their key log ------

OPENSSL = {
    "PSK-AES128-CCM8": (
        "84614d8a7b0ed8ec9f64985bea1f681ceb23014a891dcedde4bc82947aeaa9defe214142fdacdf18282ddc87e2362792",
        "e594b8478ffdd88da8723d5b86273abc2f27e92f7d73ef0f7b43819e13b0f119",
        "0c6c8ecb95415f5e0fecec6a4521666feb430166dcf55d5598885d976b107c5a",
        "16fefd000100000000000000280001000000000000dca6e9bf15d2bb2f2c731e91ca56c2f56da79b2aef4bc520a05e1ed2928ab459",
        "17fefd0001000000000001002000010000000000010f95b3e26e3a216b66c1c2eddaac733b47d4e5470b5f1909",
        "16fefd000100000000000000280001000000000000d9d60bd642e3428286d2fae9c653b741c045d0055d99f236a99218ff4941881d",
        "17fefd00010000000000010020000100000000000122a7556c9510d9de038e70f8083670015a59a94d3331cab8",
    ),
    "PSK-AES256-GCM-SHA384": (
        "445de9776b5b597ab1c434c3ed7f773376a7ae566433bf6e37b3cd6db98c125b835bdae36876d139e2f7a6fefdf40339",
        "6be9546cd554f957121b3935a9b176b6fd408b1dbe9e3e8bba0ad28daa1a42c6",
        "9001c936a9878d20be2ef3476f65c724c3cd42b5f73e2a99039596d0aa559011",
        "16fefd0001000000000000003003858de05a3cc79ae0b0b03b569291e6977da257ace8fdb3e81fb47aa8ac5adb2409067"
        "74c2c9164525174efe9361b4d",
        "17fefd0001000000000001002803858de05a3cc79b92b2fe9920af937cbd32e1f6c8125da3f81fc2a978ba2f4fb4fb370d26b4bfee",
        "16fefd00010000000000000030048cae512c58940ddd62fd8804e6b3e2e775cc95bbf36a5e82620f24507de7b8c33badd"
        "e9e37c0e69b4b6f2a8f8f70ea",
        "17fefd00010000000000010028048cae512c58940e0b185276bc81cfa9e586f7776c3f16768c3b8db9d509ba525c86ff80cf13a9de",
    ),
}


@pytest.mark.parametrize("name", OPENSSL)
def test_records_that_openssl_sent_to_itself_are_read(name: str) -> None:
    secret, client, server, *records = (bytes.fromhex(each) for each in OPENSSL[name])
    ours = {
        end: Protection.derive(SUITES[name], secret, client, server, server=end == "server")
        for end in ("server", "client")
    }
    client_finished, from_client, server_finished, from_server = records
    opened = ours["server"].open(client_finished)
    assert opened is not None
    assert opened[:12].hex() == "1400000c000300000000000c"  # Finished, the client's message 3
    assert ours["server"].open(from_client) == b"from the client\n"
    opened = ours["client"].open(server_finished)
    assert opened is not None
    assert opened[:12].hex() == "1400000c000400000000000c"
    assert ours["client"].open(from_server) == b"from the server\n"


def test_a_ccm_record_is_openssls_to_the_byte() -> None:
    secret, client, server, _, from_client, *_ = (bytes.fromhex(each) for each in OPENSSL["PSK-AES128-CCM8"])
    ours = Protection.derive(SUITES["PSK-AES128-CCM8"], secret, client, server, server=False)
    ours.sent = 1
    assert ours.seal(Content.APPLICATION_DATA, b"from the client\n") == from_client


# -- properties --------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(SUITES)), st.lists(st.binary(max_size=1200), min_size=1, max_size=5))
def test_what_one_end_seals_the_other_opens_once(name: str, texts: list[bytes]) -> None:
    client, server = ends(name)
    records = [client.seal(Content.APPLICATION_DATA, text) for text in texts]
    assert list(split(b"".join(records))) == records
    assert [number_of(record) for record in records] == [(1, n) for n in range(len(texts))]
    assert [server.open(record) for record in records] == texts
    assert [server.open(record) for record in records] == [None] * len(texts)
    assert client.open(records[0]) is None  # nobody takes his own for the peer's


@given(st.data())
def test_a_changed_record_is_dropped_and_changes_nothing(data: st.DataObject) -> None:
    client, server = ends(data.draw(st.sampled_from(sorted(SUITES))))
    assert server.open(client.seal(Content.APPLICATION_DATA, b"before")) == b"before"
    record = client.seal(Content.APPLICATION_DATA, b"message")
    at = data.draw(st.integers(0, len(record) - 1))
    changed = bytearray(record)
    changed[at] ^= data.draw(st.integers(1, 255))
    state = server.received, server._seen
    for each in split(bytes(changed)):
        assert server.open(each) is None
    assert (server.received, server._seen) == state
    assert server.open(record) == b"message"


@given(st.binary(max_size=80))
def test_whatever_comes_is_cut_and_refused_without_an_error(data: bytes) -> None:
    _, server = ends()
    for record in split(data):
        assert server.open(record) is None


@given(st.lists(st.integers(0, 200), max_size=80), st.booleans())
def test_the_window_takes_each_number_once_and_none_that_is_too_old(numbers: list[int], restored: bool) -> None:
    client, server = ends()
    taken: set[int] = set()
    if restored:
        server = Protection(server.suite, server.keys, received=50)
        taken = set(range(51))
    for number in numbers:
        client.sent = number
        got = server.open(client.seal(Content.APPLICATION_DATA, b"x"))
        expected = number not in taken and number > max(taken, default=-1) - WINDOW
        assert (got is not None) == expected, number
        if expected:
            taken.add(number)
    assert server.received == max(taken, default=-1)


def test_numbers_end_and_none_is_used_twice() -> None:
    client, _ = ends()
    client.sent = (1 << 48) - 1
    client.seal(Content.APPLICATION_DATA, b"last")
    assert client.exhausted
    with pytest.raises(OverflowError):
        client.seal(Content.APPLICATION_DATA, b"one more")


# -- associations ------------------------------------------------------------------------------------


def association(protection: Protection) -> Association:
    return Association(NAME, ("192.0.2.9", 40001), Identity("certificate", "dévice", (b"own", b"ca")), protection)


def test_an_association_comes_back_behind_what_was_reserved_and_takes_nothing_twice() -> None:
    client, server = ends()
    before = association(server)
    old = client.seal(Content.APPLICATION_DATA, b"old")
    server.open(old)
    before.reserved = 1000
    after = Association.from_bytes(before.to_bytes())
    assert (after.name, after.address, after.identity) == (NAME, ("192.0.2.9", 40001), before.identity)
    assert after.protection.sent == after.reserved == 1000
    assert after.protection.open(old) is None
    assert after.protection.open(client.seal(Content.APPLICATION_DATA, b"new")) == b"new"
    assert client.open(after.protection.seal(Content.APPLICATION_DATA, b"answer")) == b"answer"


@given(st.binary(max_size=60) | st.just(association(ends()[1]).to_bytes()), st.integers(0, 255), st.integers(0, 300))
def test_what_is_no_association_is_refused_as_such(data: bytes, value: int, at: int) -> None:
    data = data[:at] + bytes((value,)) + data[at + 1 :]
    try:
        again = Association.from_bytes(data)
    except ValueError:
        return
    again.protection.seal(Content.APPLICATION_DATA, b"a changed name, say, still is one")
    assert again.protection.open(bytes(60)) is None


def test_secrets_are_in_no_repr() -> None:
    client, _ = ends()
    texts = repr(client) + repr(association(client)) + repr(client.suite)
    for secret in client.keys:
        assert secret.hex() not in texts
        assert repr(secret)[2:-1] not in texts


def test_a_flight_is_numbered_anew_each_time_and_packed_by_the_mtu() -> None:
    client, server = ends()
    flight = Flight()
    flight.start_at(3)
    flight.parts = [(b"\x16\xfe\xfd", 0, bytes(80)), (b"\x14\xfe\xfd", 0, b"\x01"), (b"\x16\xfe\xfd", 1, b"Finished")]
    first = [list(split(datagram)) for datagram in flight.datagrams(client, 110)]
    second = [list(split(datagram)) for datagram in flight.datagrams(client, 1000)]
    assert [[number_of(record) for record in records] for records in first] == [[(0, 3), (0, 4)], [(1, 0)]]
    assert [[number_of(record) for record in records] for records in second] == [[(0, 5), (0, 6), (1, 1)]]
    assert server.open(second[0][2]) == b"Finished"


@pytest.mark.parametrize(
    ("kind", "data", "answers", "ends_it"),
    [
        (Content.ALERT, "0100", ["0100"], True),  # close_notify, answered by one
        (Content.ALERT, "0214", [], True),  # a fatal one
        (Content.ALERT, "0164", [], False),  # a warning
        (Content.ALERT, "02", [], False),  # half of one
        (Content.HANDSHAKE, "01000000000000000000000000", ["0164"], False),  # ClientHello: no_renegotiation
        (Content.HANDSHAKE, "00000000000000000000000000", ["0164"], False),  # HelloRequest
        (Content.HANDSHAKE, "1400000c0003000000000000" + "00" * 12, [], False),  # Finished, but nothing to send again
        (Content.HANDSHAKE, "", [], False),
        (Content.CHANGE_CIPHER_SPEC, "01", [], False),
    ],
)
def test_alerts_and_handshakes_within_an_association(kind: int, data: str, answers: list[str], ends_it: bool) -> None:
    client, server = ends()
    said, why = association(server).control(kind, bytes.fromhex(data), 1000)
    opened = [client.open(record) for datagram in said for record in split(datagram)]
    assert [each.hex() for each in opened if each is not None] == answers
    assert (why is not None) == ends_it
