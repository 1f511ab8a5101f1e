"""Whole stories of stock devices against a running service: over TLS and plain TCP, by a client that shares no code."""

from __future__ import annotations

import dataclasses
import datetime
import ssl
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import pdmlab
from pdmlab.cloud import Cloud
from pdmlab.service.bootstrap_plan import Plan
from pdmlab.service.service import Service
from tests.stock.stock import Device, Identity, TcpLine, TlsLine

LINKS = b",".join(
    [b'</1/0/1>;v="7200";aobs="300"', b'</3/0/2>;v="0";aobs="511"', b"</5000/0/1>;obs"]
    + [b'</3303/%d/5700>;rt="Sensor";v="21.5";aobs="%d"' % (n, n + 600) for n in range(22)]
)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "state"))
    return tmp_path


@pytest.fixture
def service(lab: Path) -> Iterator[Service]:
    with pdmlab.serve(name="stock") as running:
        yield running


def address_of(uri: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(uri)
    assert parts.hostname is not None and parts.port is not None
    return parts.hostname, parts.port


def aid_of(uri: str) -> str:
    return urllib.parse.parse_qs(urllib.parse.urlsplit(uri).query)["aid"][0]


@dataclasses.dataclass
class Board:
    """What a stock device has compiled in, and what it has been given."""

    service: Service
    folder: Path
    security: dict[int, bytes] = dataclasses.field(default_factory=dict)
    chain: list[bytes] = dataclasses.field(default_factory=list)
    key: bytes = b""
    location: tuple[str, ...] = ()
    devices: list[Device] = dataclasses.field(default_factory=list)

    @property
    def compiled_in(self) -> Identity:
        credentials = self.service.credentials()
        assert credentials.bootstrap_device_certificate and credentials.bootstrap_device_private_key
        assert credentials.bootstrap_server_root_ca_certificate
        return Identity(
            credentials.bootstrap_device_certificate,
            credentials.bootstrap_device_private_key,
            credentials.bootstrap_server_root_ca_certificate,
        )

    @property
    def name(self) -> str:
        return self.service.credentials().bootstrap_endpoint_name

    @property
    def account(self) -> str:
        return aid_of(self.service.credentials().bootstrap_server_uri)

    @property
    def identity(self) -> Identity:
        return Identity(self.chain[0], self.key, self.security[4])

    @property
    def device_id(self) -> str:
        (place,) = x509.load_der_x509_certificate(self.chain[0]).subject.get_attributes_for_oid(NameOID.LOCALITY_NAME)
        return str(place.value)

    def bootstrap(self, device_id: str | None = None) -> Device:
        uri = self.service.credentials().bootstrap_server_uri
        assert uri.startswith("coaps://")
        device = self.keep(TlsLine(address_of(uri), self.compiled_in, self.folder))
        self.security = device.bootstrap(self.name, self.account, device_id)
        if 3 in self.security:
            self.chain, self.key = [self.security[3]], self.security[5]
            device.line.close()
        return device

    def connect(self, **options: object) -> Device:
        """Connect to the LwM2M server that bootstrap has named."""
        address = address_of(self.security[0].decode())
        return self.keep(TlsLine(address, self.identity, self.folder, **options))  # type: ignore[arg-type]

    def keep(self, line: TlsLine) -> Device:
        """Remember a line, which is closed at the end."""
        self.devices.append(Device(line))
        return self.devices[-1]

    def register(self, device: Device) -> None:
        aid = aid_of(self.security[0].decode())
        self.location = device.register(self.name, self.account, LINKS, aid, "mccv=4.13.2")


@pytest.fixture
def board(service: Service, lab: Path) -> Iterator[Board]:
    board = Board(service, lab)
    yield board
    for device in board.devices:
        device.line.close()


def test_a_stock_device_bootstraps_with_certificates_registers_and_is_read(board: Board) -> None:
    board.bootstrap()
    assert board.security[0].startswith(b"coaps://127.0.0.1:") and board.security[2] == b"\x02"
    leaf, ca = map(x509.load_der_x509_certificate, (board.security[3], board.security[4]))
    leaf.verify_directly_issued_by(ca)
    subject = {each.oid: each.value for each in leaf.subject}
    assert subject[NameOID.COMMON_NAME] == board.name
    device = board.connect()
    board.register(device)
    assert board.location == ("rd", board.account, board.device_id)
    with Cloud(board.service.url, board.service.api_key) as cloud:
        row = cloud.device(board.device_id)
        assert row.state == "registered"
    # an auto-observation by its token of 2 B, acknowledged
    device.say(0x45, b"\x01\xff", b"\x61\x02\x60\x20", b"1")
    assert board.service.call(lambda: board.service.core.resources.list(board.device_id)), "its resources are known"


def test_a_stock_device_enrols_by_est(board: Board) -> None:
    board.service.call(board.service.core.bootstrap.set_plan, board.account, Plan(mode="est"))
    device = board.bootstrap()
    assert board.security[2] == b"\x04" and board.security.keys() == {0, 1, 2, 4, 10}, "neither certificate nor key"
    (iep,) = [each[4:] for each in device.finish.opt.uri_query if each.startswith("iep=")]
    board.chain, board.key = device.enrol(board.name, iep, board.account)
    assert board.device_id == iep
    device.line.close()
    board.register(board.connect())
    assert board.location[2] == iep


def test_a_stock_device_without_security_speaks_tcp_with_lengths(service: Service) -> None:
    uri = service.plain_bootstrap_uri
    assert uri is not None and uri.startswith("coap://")
    device = Device(TcpLine(address_of(uri)))
    security = device.bootstrap("bench", aid_of(uri))
    device.line.close()
    assert security.keys() == {0, 1, 2, 10} and security[2] == b"\x03"
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(security[0].decode()).query)
    device = Device(TcpLine(address_of(security[0].decode())))
    more = [f"{name}={value[0]}" for name, value in query.items()]
    location = device.register("bench", "", LINKS, None, *more)
    assert location == ("rd", query["aid"][0], query["iep"][0])
    assert device.update(location) == "2.04"
    device.line.close()


def test_a_device_that_reconnects_updates_and_its_session_is_resumed(board: Board) -> None:
    board.bootstrap()
    device = board.connect()
    board.register(device)
    first = device.line
    assert isinstance(first, TlsLine) and not first.resumed
    session = first.session
    first.close()
    again = board.connect(context=first.context, session=session)
    assert isinstance(again.line, TlsLine) and again.line.resumed, "an abbreviated handshake"
    assert again.update(board.location) == "2.04"


def test_a_service_that_is_started_again_knows_its_devices(board: Board, lab: Path) -> None:
    board.bootstrap()
    device = board.connect()
    board.register(device)
    board.service.close()
    with pytest.raises((EOFError, OSError)):
        device.update(board.location)
    device.line.close()
    with pdmlab.serve(name="stock") as board.service:
        again = board.connect()
        assert again.update(board.location) == "2.04"
        # its auto-observations too: the token is known, so the notification is acknowledged
        again.say(0x45, b"\x01\xff", b"\x61\x02\x60\x20", b"2")
        assert again.update(("rd", board.account, "0" * 32)) in ("4.03", "4.04")


def test_firmware_comes_over_the_connection_and_by_http(board: Board) -> None:
    board.bootstrap()
    device = board.connect()
    board.register(device)
    image = bytes(n % 253 for n in range(30_000))
    with Cloud(board.service.url, board.service.api_key) as cloud:
        uploaded = cloud.firmware_image("image", image)
    assert device.fetch(uploaded.url) == image
    request = urllib.request.Request(uploaded.url, headers={"Range": "bytes=29990-"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 206 and answer.read() == image[29990:]


def test_whoever_has_no_certificate_of_the_lab_gets_nowhere(board: Board, lab: Path) -> None:
    address = address_of(board.service.credentials().bootstrap_server_uri)
    other, key = self_signed()
    with pytest.raises((ssl.SSLError, OSError, EOFError)):
        # TLS 1.2: the server's refusal comes with the handshake, or with the first read
        board.keep(TlsLine(address, Identity(other, key, board.compiled_in.ca), lab)).bootstrap("thief", board.account)
    context = board.compiled_in.context(lab)
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.check_hostname = False
    bare.minimum_version = bare.maximum_version = ssl.TLSVersion.TLSv1_2
    bare.set_ciphers("ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0")
    bare.load_verify_locations(cadata=board.compiled_in.ca)
    with pytest.raises((ssl.SSLError, OSError, EOFError)):
        board.keep(TlsLine(address, board.compiled_in, lab, context=bare)).bootstrap("thief", board.account)
    # Its own bootstrap certificate is none for the LwM2M server: it has no device id.
    device = board.keep(TlsLine(address_of(board.service.lwm2m_uri), board.compiled_in, lab, context=context))
    answer = device.ask(b"\x02", b"\xb2rd\x11\x28" + b"\x39ep=desk-1", b"</3/0/0>")
    assert answer.code.dotted in ("4.00", "4.03"), answer


def test_a_device_cannot_be_another(board: Board, lab: Path) -> None:
    board.bootstrap()
    mine = board.connect()
    board.register(mine)
    victim = Board(board.service, lab, devices=board.devices)
    victim.bootstrap()
    theirs = victim.connect()
    victim.register(theirs)
    assert victim.device_id != board.device_id
    assert mine.update(victim.location) in ("4.03", "4.04")
    options = b"\xb2rd" + b"".join(bytes([13, len(each) - 13]) + each.encode() for each in victim.location[1:])
    assert mine.ask(b"\x04", options).code.dotted in ("4.03", "4.04"), "nor deregister it"
    assert theirs.update(victim.location) == "2.04", "the other one is still there"


def self_signed() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])

    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC))
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.DER), secret
