"""Programs of others and whole boards against what an account trusts: openssl, libcoap and a virtual board."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import pdmlab
from pdmlab.service import serve
from pdmlab.service.service import Service
from pdmlab.update.credentials import Credentials
from tests.service.works import Works
from tests.tools import program

CONNECTED = r"Connected to Pelion Device Management\. Device ID: ([0-9a-f]{32})"
NAME, SECRET = "my-endpoint-0001", "sixteen bytes or"


@pytest.fixture
def service() -> Iterator[Service]:
    with serve() as running:
        yield running


@pytest.fixture
def rest(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.api_key}"}) as client:
        yield client


@pytest.mark.debian
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_virtual_board_with_a_factorys_certificate_goes_all_the_way(
    service: Service, rest: httpx.Client, tmp_path: Path, transport: str
) -> None:
    works = Works(tmp_path / "works")
    certificate, key = works.leaf("meter-0001", by="root")
    body = {"name": "works", "certificate": works.pem("root"), "service": "bootstrap"}
    trusted = rest.post("/v3/trusted-certificates", json=body).json()
    credentials = Credentials(
        "meter-0001",
        rest.get("/v3/server-credentials/bootstrap").json()["server_uri"],
        service.account_id,
        bootstrap_device_certificate=certificate,
        bootstrap_server_root_ca_certificate=service.credentials().bootstrap_server_root_ca_certificate,
        bootstrap_device_private_key=key,
    )
    with pdmlab.connect(f"sim://K64F?memory=1&transport={transport}") as board:
        board.flash_application("example", credentials=credentials)
        id = board.console.expect(CONNECTED, timeout=60)[1]
        device = rest.get(f"/v3/devices/{id}").json()
    assert (device["endpoint_name"], device["ca_id"]) == ("meter-0001", trusted["id"])
    assert device["device_execution_mode"] == 5 and device["account_id"] == service.account_id


@pytest.mark.debian
@pytest.mark.parametrize("client", ["coap-client-openssl", "coap-client-gnutls"])
@pytest.mark.parametrize("transport", ["coaps", "coaps+tcp"])
def test_libcoap_asks_to_bootstrap_with_a_pre_shared_key(
    service: Service, rest: httpx.Client, client: str, transport: str
) -> None:
    body = {"endpoint_name": NAME, "secret_hex": SECRET.encode().hex()}
    assert rest.post("/v2/device-shared-keys", json=body).status_code == 201
    address, _, query = service.bootstrap_uri.removeprefix("coaps").partition("?")

    def ask(path: str, *options: str, secret: str = SECRET) -> str:
        command = [program(client), "-B", "2", *options, "-u", NAME, "-k", secret, f"{transport}{address}{path}"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout

    assert "</bs>" in ask("/.well-known/core")
    assert "</bs>" not in ask("/.well-known/core", secret="another key of 16")
    ask(f"/bs?ep={NAME}&{query}", "-m", "post")
    (begun,) = rest.get("/lab/bootstrap").json()
    assert (begun["endpoint_name"], begun["security"]) == (NAME, "psk")
    assert rest.get(f"/v3/devices/{begun['device_id']}").json()["endpoint_name"] == NAME
    assert rest.delete(f"/v2/device-shared-keys/{NAME}").status_code == 204
    assert "</bs>" not in ask("/.well-known/core")
