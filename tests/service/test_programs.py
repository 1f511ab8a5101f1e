"""Programs of others against a running service, with its CA, its credentials and its pre-shared keys."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

import pdmlab
from pdmlab.coap.dtls import dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.tls import tls_to
from pdmlab.coap.transport import Connection, Opener, udp
from pdmlab.errors import HandshakeFailed
from pdmlab.service import _running, serve
from pdmlab.service.service import Service
from pdmlab.update.credentials import Credentials
from tests.tools import program

STOCK = ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0", "-curves", "P-256", "-sigalgs", "ECDSA+SHA256")


@pytest.fixture
def service() -> Iterator[Service]:
    with serve() as running:
        yield running


def address_of(uri: str) -> tuple[str, int]:
    url = httpx.URL(uri)
    assert url.port is not None
    return url.host, url.port


def files_of(credentials: Credentials, folder: Path) -> tuple[str, str]:
    """Write certificate and key as programs take them."""
    assert credentials.bootstrap_device_certificate and credentials.bootstrap_device_private_key
    certificate, key = folder / "device.crt", folder / "device.key"
    certificate.write_bytes(
        x509.load_der_x509_certificate(credentials.bootstrap_device_certificate).public_bytes(Encoding.PEM)
    )
    private = load_der_private_key(credentials.bootstrap_device_private_key, None)
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(certificate), str(key)


def security_of(credentials: Credentials) -> Security:
    assert credentials.bootstrap_device_certificate and credentials.bootstrap_server_root_ca_certificate
    return Security(
        (credentials.bootstrap_device_certificate,),
        credentials.bootstrap_device_private_key,
        trust=(credentials.bootstrap_server_root_ca_certificate,),
    )


def s_client(*arguments: str) -> str:
    command = [program("openssl"), "s_client", "-ign_eof", *arguments]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as it:
        said = b""
        assert it.stdout is not None
        for line in it.stdout:
            said += line
            if b"Verify return code" in line or b"alert" in line:
                break  # it would go on until the server has had enough
        it.kill()
    return said.decode(errors="replace")


@pytest.mark.debian
@pytest.mark.parametrize("way", [(), ("-dtls1_2",)])
@pytest.mark.parametrize("when", ["0", "4294967295"])
def test_openssl_shakes_hands_as_the_stock_client_does_at_any_time(
    service: Service, tmp_path: Path, way: tuple[str, ...], when: str
) -> None:
    certificate, key = files_of(service.credentials(endpoint_name="desk1"), tmp_path)
    said = s_client(
        "-connect", "{}:{}".format(*address_of(service.bootstrap_uri)), *(way or ("-tls1_2",)), *STOCK[1:],
        "-CAfile", str(service.ca_file), "-cert", certificate, "-key", key, "-attime", when, "-verify_return_error",
        "-verify_ip", "127.0.0.1",
    )  # fmt: skip
    assert "Verify return code: 0 (ok)" in said, said
    assert "Cipher is ECDHE-ECDSA-AES128-CCM8" in said
    # All that the server says has to fit one record buffer of the device: 4096 B.
    heard = re.search(r"SSL handshake has read (\d+) bytes", said)
    assert heard and int(heard[1]) < 1600


@pytest.mark.debian
def test_who_has_no_certificate_of_the_ca_gets_no_handshake(service: Service, tmp_path: Path) -> None:
    where = ("-connect", "{}:{}".format(*address_of(service.lwm2m_uri)), *STOCK)
    assert "alert handshake failure" in s_client(*where)
    with serve(name="another") as other:
        certificate, key = files_of(other.credentials(), tmp_path)
    assert "alert unknown ca" in s_client(*where, "-cert", certificate, "-key", key)


@pytest.mark.parametrize(("transport", "scheme"), [("udp", "coaps"), ("tcp", "coaps+tcp")])
def test_a_board_that_does_not_trust_the_service_tells_it_why(service: Service, transport: str, scheme: str) -> None:
    with serve(name="another") as other:
        ca = other.credentials().bootstrap_server_root_ca_certificate
    credentials = replace(service.credentials(), bootstrap_server_root_ca_certificate=ca)
    with pdmlab.connect(f"sim://K64F?memory=1&transport={transport}") as board:
        board.flash_application("example", credentials=credentials)
        board.console.expect("not trusted here", timeout=30)
        given_up = time.monotonic() + 20  # of the 60 s that a handshake may take
        while not len(service.log.failures()) and time.monotonic() < given_up:
            time.sleep(0.01)
    failure = service.log.failures()[0]
    assert failure.kind == "unknown CA"
    assert f"no handshake with {scheme}://127.0.0.1:" in failure.happened
    assert "it ended it with alert unknown_ca (48)" in failure.happened


@pytest.mark.debian
@pytest.mark.parametrize("client", ["coap-client-openssl", "coap-client-gnutls"])
@pytest.mark.parametrize("transport", ["coaps", "coaps+tcp"])
def test_libcoap_comes_with_a_pre_shared_key(service: Service, client: str, transport: str) -> None:
    key = service.psk("desk1", b"sixteen bytes or")
    uri = f"{transport}{service.lwm2m_uri.removeprefix('coaps')}/.well-known/core"

    def ask(identity: str, secret: bytes) -> str:
        command = [program(client), "-B", "3", "-u", identity, "-k", secret.decode(), uri]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout

    assert "</rd>" in ask("desk1", key.key)
    assert "</rd>" not in ask("desk1", b"another key of 16")
    assert "</rd>" not in ask("desk2", key.key)


def test_a_dtls_connection_outlives_the_service(service: Service) -> None:
    credentials = service.credentials(endpoint_name="desk1")
    address = address_of(service.lwm2m_uri)
    request = lambda: Message(code=codes.GET, uri_path=(".well-known", "core"))
    handshakes: list[str] = []

    async def story() -> list[bytes]:
        endpoint = await Endpoint.open(dtls_to(udp(), address, security_of(credentials)))
        try:
            first = await endpoint.request(request(), Connection(*address, "coaps"))
            service.close()
            again = serve()
            assert address_of(again.lwm2m_uri) == address
            second = await endpoint.request(request(), Connection(*address, "coaps"))
            handshakes.extend(str(event) for event in again.log.kept() if "handshake" in str(event))
            return [first.payload, second.payload]
        finally:
            await endpoint.close()
            for each in list(_running.values()):
                each.close()

    first, second = asyncio.run(story())
    assert b"</rd>" in first and first == second
    assert handshakes == []


def test_keys_of_sessions_are_kept_for_wireshark_where_that_is_asked(service: Service, tmp_path: Path) -> None:
    service.close()
    file = tmp_path / "keys.log"
    with serve(keylog=file) as again:
        security = security_of(again.credentials())
        for role in (again.bootstrap_uri, again.lwm2m_uri):
            for opener in (dtls_to(udp(), address_of(role), security), tls_to(address_of(role), security)):

                async def come(opener: Opener = opener) -> None:
                    await (await Endpoint.open(opener)).close()

                asyncio.run(come())
    lines = file.read_text().splitlines()
    assert len(lines) == 4 and all(
        re.fullmatch(r"CLIENT_RANDOM [0-9A-Fa-f]{64} [0-9A-Fa-f]{96}", each) for each in lines
    )
    assert file.stat().st_mode & 0o077 == 0 or os.name != "posix"


def test_another_labs_credentials_do_not_open_this_one(service: Service) -> None:
    with serve(name="another") as other:
        stolen = security_of(other.credentials())
    believing = Security(stolen.certificates, stolen.private_key, trust=security_of(service.credentials()).trust)

    async def come(security: Security) -> None:
        await (await Endpoint.open(dtls_to(udp(), address_of(service.bootstrap_uri), security))).close()

    for security, reason in ((stolen, "unknown CA"), (believing, "unknown CA")):
        with pytest.raises(HandshakeFailed) as failed:
            asyncio.run(come(security))
        assert failed.value.reason == reason
