"""A stock device with a certificate of its factory, over Python's own ssl: it shares no code with the service."""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from pdmlab.service import serve
from pdmlab.service.service import Service
from tests.service.works import Works
from tests.stock.stock import Device, Identity, TlsLine

PATH = "/v3/trusted-certificates"


@pytest.fixture
def service() -> Iterator[Service]:
    with serve(name="stock-factory") as running:
        yield running


def address_of(uri: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(uri)
    assert parts.hostname is not None and parts.port is not None
    return parts.hostname, parts.port


@pytest.mark.debian
def test_a_factorys_device_bootstraps_registers_and_is_turned_away_when_its_ca_is(
    service: Service, tmp_path: Path
) -> None:
    works, account = Works(tmp_path / "works"), service.account_id
    certificate, key = works.leaf("meter-0001")
    ca = service.credentials().bootstrap_server_root_ca_certificate
    assert ca is not None
    built_in = Identity(certificate, key, ca, above=(works.der("line"),))
    address = address_of(service.bootstrap_uri)
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.api_key}"}) as rest:
        with pytest.raises(OSError):
            talk(address, built_in, tmp_path)
        body = {"name": "works", "certificate": works.pem("root", "line"), "service": "bootstrap"}  # the CA below it
        trusted = rest.post(PATH, json=body).json()
        device = Device(TlsLine(address, built_in, tmp_path))
        security = device.bootstrap("meter-0001", account)
        device.line.close()
        own = Identity(security[3], security[5], security[4])
        subject = x509.load_der_x509_certificate(own.certificate).subject
        (place,) = subject.get_attributes_for_oid(NameOID.LOCALITY_NAME)
        registered = Device(TlsLine(address_of(security[0].decode()), own, tmp_path))
        location = registered.register("meter-0001", account, b"</3/0/0>", account)
        registered.line.close()
        assert location == ("rd", account, str(place.value))
        shown = rest.get(f"/v3/devices/{place.value}").json()
        assert (shown["ca_id"], shown["issuer_fingerprint"]) == (trusted["id"], trusted["certificate_fingerprint"])
        assert rest.put(f"{PATH}/{trusted['id']}", json={"status": "INACTIVE"}).status_code == 200
        with pytest.raises(ssl.SSLError, match=r"(?i)unknown.ca"):
            talk(address, built_in, tmp_path)


def talk(address: tuple[str, int], identity: Identity, folder: Path) -> None:
    """Connect and listen: in TLS 1.2 the server is heard before the handshake is over, or never."""
    line = TlsLine(address, identity, folder)
    try:
        line.receive()
    finally:
        line.close()
