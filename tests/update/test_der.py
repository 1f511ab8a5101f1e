"""DER as manifests have it: what is written is read again, and nothing else is."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import ConfigError
from pdmlab.update import der
from tests.update.wrong import CERTIFICATE

KEY = ec.derive_private_key(0x5EED, ec.SECP256R1())


@given(st.integers(-(1 << 63), (1 << 64) - 1), st.text(max_size=300), st.binary(max_size=70_000), st.booleans())
def test_what_is_written_is_read(number: int, text: str, data: bytes, flag: bool) -> None:
    written = der.integer(number) + der.enumerated(number) + der.utf8(text) + der.octets(data) + der.boolean(flag)
    reader = der.Reader(der.sequence(written)).sequence()
    assert (reader.number(), reader.number(der.ENUMERATED), reader.text()) == (number, number, text)
    assert reader.maybe(der.UTF8) is None and reader.comes(der.OCTETS) and reader.value(der.OCTETS) == data
    assert reader.value(der.BOOLEAN) == (b"\xff" if flag else b"\x00")
    reader.end()


@given(st.binary(max_size=64))
def test_of_any_bytes_one_form_alone_is_read(data: bytes) -> None:
    for read, write in ((der.Reader.number, der.integer), (der.Reader.text, der.utf8)):
        reader = der.Reader(data)
        try:
            value = read(reader)
        except ValueError:
            continue
        assert write(value) + reader.rest() == data  # type: ignore[operator]


@pytest.mark.parametrize(
    "encoded",
    [
        "30",  # no length
        "308000",  # indefinite
        "30810100",  # a length in more bytes than it needs
        "3082000100",
        "3085000000000100",
        "3003020100ff",  # bytes that belong to nothing
        "30030201",  # a value that ends in the middle
        "300302010000",
        "3002020100",
        "30020200",  # a number of no bytes
        "300402020001",  # a number in more bytes than it needs
        "3004020 2ffff",
        "300c020a01020304050607080901",  # one that no field could have
    ],
)
def test_what_is_not_der_is_no_value(encoded: str) -> None:
    def read() -> None:
        outer = der.Reader(bytes.fromhex(encoded))
        inner = outer.sequence()
        outer.end()
        inner.number()
        inner.end()

    with pytest.raises(ValueError):
        read()


def test_another_programs_der_is_read() -> None:
    certificate = der.Reader(CERTIFICATE).sequence()
    assert certificate.whole(der.SEQUENCE) == x509.load_der_x509_certificate(CERTIFICATE).tbs_certificate_bytes


@given(st.binary(max_size=200), st.integers(1, 1 << 128))
def test_signatures_turn_into_64_bytes_and_verify(data: bytes, secret: int) -> None:
    key = ec.derive_private_key(secret, ec.SECP256R1())
    signature = der.sign(key, data)
    raw = der.raw_signature(signature)
    assert len(raw) == 64 and der.is_signature(key.public_key(), signature, data)
    assert der.is_raw_signature(key.public_key(), raw, data)
    assert not der.is_raw_signature(key.public_key(), raw, data + b"x")
    assert not der.is_raw_signature(key.public_key(), bytes(64), data)


def test_keys_of_other_curves_do_not_sign_for_update_clients() -> None:
    with pytest.raises(ConfigError, match="P-256"):
        der.sign(ec.generate_private_key(ec.SECP384R1()), b"")
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    assert not der.is_raw_signature(other, der.raw_signature(der.sign(KEY, b"")), b"")
