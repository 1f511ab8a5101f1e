"""The lab's CA: what it signs, what it refuses to sign, and that it is there whole or not at all."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from pdmlab.errors import ServiceError
from pdmlab.service.certificates import Subject, key_der, new_key, read_request, subject_of
from pdmlab.service.core import Core
from pdmlab.service.pki import Pki
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import device_certificates, own_certificates
from pdmlab.service.store import Store
from tests.service.test_store import migrated
from tests.tools import program

ACCOUNT, DEVICE = "0123456789abcdef0123456789abcdef", "f" * 32


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pdmlab.sqlite"


@pytest.fixture
def opened(file: Path) -> Iterator[Callable[[], Pki]]:
    """Open the database anew, and return its CA."""
    stores: list[Store] = []

    def open_() -> Pki:
        for store in stores:
            store.close()
        stores.append(Store(f"sqlite:///{file}"))
        stores[-1].open()
        return Pki(stores[-1])

    yield open_
    for store in stores:
        store.close()


def parsed(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def openssl(*arguments: str, data: bytes = b"") -> str:
    done = subprocess.run([program("openssl"), *arguments], input=data, capture_output=True, timeout=30)
    return (done.stdout + done.stderr).decode()


def pem(der: bytes) -> bytes:
    return parsed(der).public_bytes(Encoding.PEM)


# -- what it signs -------------------------------------------------------------------------------------------


def test_every_certificate_is_valid_from_1970_to_9999_on_p256(opened: Callable[[], Pki]) -> None:
    pki = opened()
    key = new_key().public_key()
    signed = [
        pki.certificate,
        pki.server_certificate("bootstrap"),
        pki.server_certificate("lwm2m"),
        pki.developer_certificate(key, "desk1", ACCOUNT),
    ]
    for der in signed:
        # UTCTime has no year 9999, GeneralizedTime no need for 1970 (RFC 5280 section 4.1.2.5).
        assert b"\x17\x0d700101000000Z\x18\x0f99991231235959Z" in der and len(der) <= 600
        certificate = parsed(der)
        assert isinstance(certificate.public_key().curve, ec.SECP256R1)
        assert isinstance(certificate.signature_hash_algorithm, hashes.SHA256)
        certificate.verify_directly_issued_by(parsed(pki.certificate))
    assert len({parsed(der).serial_number for der in signed}) == len(signed)


@pytest.mark.debian
@pytest.mark.parametrize("when", [0, 1, 1_780_000_000, 4_294_967_295, 253_402_300_000])
def test_openssl_believes_in_them_whatever_time_it_is(opened: Callable[[], Pki], tmp_path: Path, when: int) -> None:
    pki = opened()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(pem(pki.certificate))
    developer = pki.developer_certificate(new_key().public_key(), "desk1", ACCOUNT)
    for name, der, purpose in (
        ("server", pki.server_certificate("lwm2m"), "sslserver"),
        ("device", developer, "sslclient"),
    ):
        leaf = tmp_path / f"{name}.pem"
        leaf.write_bytes(pem(der))
        strict = ("-x509_strict", "-purpose", purpose, "-attime", str(when))
        assert openssl("verify", *strict, "-CAfile", str(ca), str(leaf)) == f"{leaf}: OK\n"
    other = "sslserver" if purpose == "sslclient" else "sslclient"
    assert "unsuitable certificate purpose" in openssl("verify", "-purpose", other, "-CAfile", str(ca), str(leaf))


def test_a_servers_certificate_is_for_the_addresses_that_devices_are_told(opened: Callable[[], Pki]) -> None:
    pki = opened()
    names = lambda der: [
        str(each.value) for each in parsed(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ]
    first = pki.server_certificate("lwm2m")
    assert names(first) == ["127.0.0.1", "::1", "localhost"]
    assert opened().server_certificate("lwm2m") == first
    pki = opened()
    pki.addresses = "192.0.2.7", "2001:db8::7", "lab.example"
    other = pki.server_certificate("lwm2m")
    assert names(other) == ["127.0.0.1", "::1", "localhost", "192.0.2.7", "2001:db8::7", "lab.example"]
    assert parsed(other).public_key() == parsed(first).public_key()
    pki = opened()
    pki.addresses = tuple(f"2001:db8::{n:x}" for n in range(1000))
    # Certificate, ServerHello and ServerKeyExchange together have to fit a record buffer of 4096 B.
    assert len(pki.server_certificate("lwm2m")) < 1024


def test_a_device_is_named_by_cn_l_and_ou(opened: Callable[[], Pki]) -> None:
    pki = opened()
    with pki._store.begin() as db:
        at = pki._store.timestamp()
        account = pki._store.account_id
        db.execute(
            sa.text("INSERT INTO devices (id, account_id, created_at, updated_at) VALUES (:i, :a, :t, :t)"),
            {"i": DEVICE, "a": account, "t": at},
        )
        key = new_key()
        der = pki.device_certificate(key.public_key(), "desk1", DEVICE, account)
    assert subject_of(der) == Subject("desk1", DEVICE, account)
    (row,) = pki._store.rows(sa.select(device_certificates))
    assert (row["device_id"], row["endpoint_name"], row["certificate"]) == (DEVICE, "desk1", der)
    assert int(row["serial_number"], 16) == parsed(der).serial_number
    assert row["not_after"] == "9999-12-31T23:59:59.000000Z"
    assert subject_of(pki.developer_certificate(key.public_key(), "desk1", account)) == Subject("desk1", None, account)


@pytest.mark.parametrize("name", ["", "x" * 65, "é" * 33])
def test_a_name_that_no_certificate_holds_is_refused(opened: Callable[[], Pki], name: str) -> None:
    with pytest.raises(Refused, match=r"the endpoint name '.*' has \d+ B; a certificate takes 1 to 64"):
        opened().developer_certificate(new_key().public_key(), name, ACCOUNT)


def test_a_private_key_has_the_138_bytes_that_the_client_has_room_for() -> None:
    assert {len(key_der(new_key())) for _ in range(20)} == {138}
    assert key_der(new_key()).startswith(bytes.fromhex("308187020100301306072a8648ce3d020106082a8648ce3d030107"))


def test_nothing_shows_a_key(opened: Callable[[], Pki]) -> None:
    pki = opened()
    security = pki.security("bootstrap")
    assert security.trust == (pki.certificate,) and security.certificates == (pki.server_certificate("bootstrap"),)
    for shown in (repr(pki), repr(security), repr(pki._authority)):
        assert security.private_key.hex() not in shown and repr(security.private_key) not in shown
    assert pki.name in repr(pki) and pki.name.startswith("pdmlab CA ")


# -- what devices ask for by EST -----------------------------------------------------------------------------


def request(
    *attributes: tuple[x509.ObjectIdentifier, str],
    key: object = None,
    hash: hashes.HashAlgorithm | None = None,
) -> bytes:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    hash = None if isinstance(key, ed25519.Ed25519PrivateKey) else hash or hashes.SHA256()
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hash).public_bytes(Encoding.DER)


CN, L, OU = NameOID.COMMON_NAME, NameOID.LOCALITY_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME


@pytest.mark.debian
def test_a_request_that_openssl_made_is_read(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    der = tmp_path / "request.der"
    said = openssl(
        "req", "-new", "-sha256", "-key", str(key), "-subj", f"/L={DEVICE}/OU={ACCOUNT}/CN=desk1",
        "-outform", "DER", "-out", str(der), "-config", os.devnull,
    )  # fmt: skip
    assert der.exists(), said
    found = read_request(der.read_bytes())
    assert found.subject == Subject("desk1", DEVICE, ACCOUNT)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert found.public_key == private.public_key()


@pytest.mark.parametrize(
    ("der", "said"),
    [
        (b"", "cannot be read"),
        (b"\x30\x03\x02\x01\x00", "cannot be read"),
        (bytes(1025), "has 1025 B; at most 1024 B are taken"),
        (request((L, DEVICE)), "has no CN"),
        (request((CN, "a"), (CN, "b")), "more than one CN"),
        (request((CN, "a"), (OU, "b"), (OU, "c")), "more than one OU"),
        (request((CN, "a"), key=ec.generate_private_key(ec.SECP384R1())), "not on P-256"),
        (request((CN, "a"), key=ec.generate_private_key(ec.SECP256K1())), "not on P-256"),
        (request((CN, "a"), key=rsa.generate_private_key(65537, 2048)), "not on P-256"),
        (request((CN, "a"), key=ed25519.Ed25519PrivateKey.generate()), "not on P-256"),
        (request((CN, "a"), hash=hashes.SHA384()), "not signed with SHA-256"),
        (request((CN, "a"))[:-1] + b"\x00", "cannot be read|not signed with SHA-256"),
    ],
)
def test_a_request_that_does_not_prove_its_key_is_refused(der: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said) as refused:
        read_request(der)
    assert refused.value.status == 400


def test_what_is_too_long_is_refused_without_a_warning() -> None:
    long = request((L, DEVICE), (CN, "n" * 64))
    assert read_request(long).subject.endpoint_name == "n" * 64
    # 65 characters: cryptography writes no such name, so that the length of a good one is raised by hand.
    attribute = b"\x0c\x40" + b"n" * 64
    assert attribute in long
    with pytest.raises(Refused):
        read_request(long.replace(attribute, b"\x0c\x41" + b"n" * 65))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_mutated_request_does_more_than_be_refused(data: st.DataObject) -> None:
    der = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(der) - 1))
        match data.draw(st.sampled_from(["change", "cut", "insert"])):
            case "change":
                der[at] = data.draw(st.integers(0, 255))
            case "cut":
                del der[at : at + data.draw(st.integers(1, 9))]
            case "insert":
                der[at:at] = data.draw(st.binary(max_size=9))
        if not der:
            return
    for read in (read_request, subject_of):
        try:
            read(bytes(der))
        except Refused:
            pass


SAMPLE = request((L, DEVICE), (OU, ACCOUNT), (CN, "desk1"))

# -- that it is there ----------------------------------------------------------------------------------------

DIES = """
import os, signal, sys
from pdmlab.service.pki import Pki
from pdmlab.service.store import Store
store = Store(f"sqlite:///{sys.argv[1]}")
store.open()
pki = Pki(store)
if sys.argv[2] == "before":
    with store.begin():
        pki.open()
        pki.server_certificate("lwm2m")
        os.kill(os.getpid(), signal.SIGKILL)
print(pki.certificate.hex(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_kill_leaves_a_whole_ca_or_none(file: Path, opened: Callable[[], Pki]) -> None:
    def dies(when: str) -> str:
        done = subprocess.run([sys.executable, "-c", DIES, str(file), when], capture_output=True, text=True, timeout=60)
        assert done.returncode == -signal.SIGKILL, done.stderr
        return done.stdout.strip()

    assert dies("before") == ""
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM own_certificates").fetchone() == (0,)
    database.close()
    made = dies("after")
    assert made and opened().certificate.hex() == made


@pytest.mark.parametrize(
    ("role", "changes", "said"),
    [
        ("authority", {"certificate": b"\x30\x00"}, "cannot be used"),
        ("authority", {"private_key": b"no key"}, "cannot be used"),
        ("authority", {"private_key": key_der(new_key())}, "do not belong together"),
        ("lwm2m", {"private_key": key_der(new_key())}, "do not belong together"),
    ],
)
def test_a_certificate_that_is_damaged_is_said(
    opened: Callable[[], Pki], role: str, changes: dict[str, bytes], said: str
) -> None:
    pki = opened()
    pki.server_certificate("lwm2m")
    with pki._store.begin() as db:
        db.execute(sa.update(own_certificates).where(own_certificates.c.role == role).values(changes))
    pki = opened()
    with pytest.raises(ServiceError, match=said) as error:
        pki.security("lwm2m")
    assert "put back a copy of the database" in error.value.hint and repr(role) in error.value.message
    for value in changes.values():
        assert value.hex() not in str(error.value)


def test_a_database_that_cannot_be_written_is_said(opened: Callable[[], Pki]) -> None:
    pki = opened()
    pki._store.connection.exec_driver_sql("PRAGMA query_only = ON")
    for _ in range(2):
        with pytest.raises(
            ServiceError, match=r"could not be written: .*\nhint: is the disk full or read-only"
        ) as error:
            pki.security("lwm2m")
        assert error.value.status == 503
    pki._store.connection.exec_driver_sql("PRAGMA query_only = OFF")
    assert pki.security("lwm2m").trust == (opened().certificate,)


def test_credentials_of_an_older_service_are_given_a_certificate(file: Path) -> None:
    engine = migrated(f"sqlite:///{file}", "0001")
    with engine.connect() as connection:
        at = "2026-01-01T00:00:00.000000Z"
        connection.execute(
            sa.text("INSERT INTO accounts (id, created_at, updated_at) VALUES (:a, :t, :t)"), {"a": ACCOUNT, "t": at}
        )
        connection.execute(
            sa.text(
                "INSERT INTO developer_certificates"
                " (id, account_id, name, security_file_content, created_at, updated_at)"
                " VALUES (:i, :a, 'old', '// coap', :t, :t)"
            ),
            {"i": DEVICE, "a": ACCOUNT, "t": at},
        )
        connection.commit()
    engine.dispose()
    core = Core(f"sqlite:///{file}")
    core.store.open()
    row = core.developers.get(ACCOUNT, DEVICE)
    assert row["endpoint_name"] == DEVICE
    certificate = x509.load_pem_x509_certificate(row["certificate"].encode())
    certificate.verify_directly_issued_by(parsed(core.pki.certificate))
    assert core.developers.get(ACCOUNT, DEVICE) == row
    core.store.close()
