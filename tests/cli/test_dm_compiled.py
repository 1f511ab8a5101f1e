"""What `pdmlab dm init` writes, compiled as a firmware compiles it, leads a device to its bootstrap server."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_private_key

from pdmlab.cli import main
from pdmlab.coap.dtls import dtls_to
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.tls import tls_to
from pdmlab.coap.transport import Connection, Opener, udp
from pdmlab.service import serve
from pdmlab.service.certificates import Subject, subject_of
from pdmlab.service.service import Service
from pdmlab.update.credentials import CREDENTIALS_FILE, RESOURCES_FILE
from pdmlab.update.developer import Developer
from tests.tools import program

DEV = "MBED_CLOUD_DEV_"
TEXTS = [
    DEV + name
    for name in (
        "BOOTSTRAP_ENDPOINT_NAME", "ACCOUNT_ID", "BOOTSTRAP_SERVER_URI", "MANUFACTURER", "MODEL_NUMBER",
        "SERIAL_NUMBER", "DEVICE_TYPE", "HARDWARE_VERSION",
    )
]  # fmt: skip
ARRAYS = [
    DEV + name
    for name in ("BOOTSTRAP_DEVICE_CERTIFICATE", "BOOTSTRAP_SERVER_ROOT_CA_CERTIFICATE", "BOOTSTRAP_DEVICE_PRIVATE_KEY")
]
RESOURCES = ["vendor_id", "class_id", "default_certificate", "default_fingerprint", "update_public_key"]


def firmware() -> str:
    """Return a C program that links both files by a client's names and types, and says what is in them."""
    declared = [f"extern const char {name}[];" for name in TEXTS]
    declared += [f"extern const uint8_t {name}[]; extern const uint32_t {name}_SIZE;" for name in ARRAYS]
    declared += [f"extern const uint32_t {DEV}MEMORY_TOTAL_KB;"]
    declared += [
        f"extern const uint8_t arm_uc_{name}[]; extern const uint16_t arm_uc_{name}_size;" for name in RESOURCES
    ]
    said = [f'printf("{name} %s\\n", {name});' for name in TEXTS]
    said += [f'hex("{name}", {name}, {name}_SIZE);' for name in ARRAYS]
    said += [f'hex("{name}", arm_uc_{name}, arm_uc_{name}_size);' for name in RESOURCES]
    said += [f'printf("MEMORY %u\\n", (unsigned){DEV}MEMORY_TOTAL_KB);']
    hex_ = (
        "static void hex(const char *name, const uint8_t *bytes, unsigned size) {"
        ' printf("%s ", name); while (size--) printf("%02x", *bytes++); printf("\\n"); }'
    )
    return "\n".join(
        ["#include <inttypes.h>", "#include <stdio.h>", *declared, hex_, "int main(void) {", *said, "return 0; }\n"]
    )


@pytest.fixture
def service() -> Iterator[Service]:
    with serve() as running:
        yield running


@pytest.fixture
def compiled(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set a project up, compile its two files, and return what a program finds in them."""
    gcc = program("gcc")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["dm", "init", "-d", "company.com", "--model-name", "thermostat", "-q"])
    assert done.exit_code == 0, done.output
    assert f"devices built with them bootstrap at {service.bootstrap_uri}" in done.output
    assert "only this machine reaches that" in done.output
    (tmp_path / "firmware.c").write_text(firmware())
    built = subprocess.run(
        [gcc, "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-o", "firmware", "firmware.c", CREDENTIALS_FILE,
         RESOURCES_FILE], capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    out = subprocess.run(["./firmware"], capture_output=True, text=True, check=True).stdout
    return dict(line.split(" ", 1) for line in out.splitlines())


@pytest.mark.debian
def test_a_compiler_finds_what_the_service_made(compiled: dict[str, str], service: Service, tmp_path: Path) -> None:
    certificate, authority, key = (bytes.fromhex(compiled[name]) for name in ARRAYS)
    assert compiled[f"{DEV}BOOTSTRAP_SERVER_URI"] == service.bootstrap_uri
    assert compiled[f"{DEV}ACCOUNT_ID"] == service.account_id and compiled["MEMORY"] == "0"
    name = compiled[f"{DEV}BOOTSTRAP_ENDPOINT_NAME"]
    assert subject_of(certificate) == Subject(name, None, service.account_id)
    assert authority == service.call(lambda: service.core.pki.certificate)
    private = load_der_private_key(key, None)
    assert isinstance(private, ec.EllipticCurvePrivateKey) and len(key) == 138
    parsed = x509.load_der_x509_certificate(certificate)
    assert parsed.public_key() == private.public_key()
    parsed.verify_directly_issued_by(x509.load_der_x509_certificate(authority))
    assert max(len(certificate), len(authority)) <= 1024
    developer = Developer(tmp_path)
    resources = {name: bytes.fromhex(compiled[name]) for name in RESOURCES}
    assert resources["vendor_id"] == developer.resources.vendor_id and len(resources["class_id"]) == 16
    assert resources["default_certificate"] == developer.resources.default_certificate
    assert len(resources["default_certificate"]) <= 600 and len(resources["default_fingerprint"]) == 32
    numbers = developer.private_key.public_key().public_numbers()
    assert resources["update_public_key"] == b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


@pytest.mark.debian
@pytest.mark.parametrize("way", ["DTLS", "TLS"])
def test_a_device_with_what_was_compiled_in_is_let_in(compiled: dict[str, str], way: str) -> None:
    certificate, authority, key = (bytes.fromhex(compiled[name]) for name in ARRAYS)
    url = httpx.URL(compiled[f"{DEV}BOOTSTRAP_SERVER_URI"])
    assert url.port is not None
    security, address = Security((certificate,), key, trust=(authority,)), (url.host, url.port)
    # A board that was never told the time believes that it is 1970.
    openers: dict[str, tuple[Opener, Any]] = {
        "DTLS": (dtls_to(udp(), address, security, now=0), "coaps"),
        "TLS": (tls_to(address, security, now=0), "coaps+tcp"),
    }
    opener, scheme = openers[way]

    async def bootstrap() -> Message:
        endpoint = await Endpoint.open(opener)
        try:
            request = Message(code=codes.POST)
            request.opt.uri_path = ("bs",)
            name = compiled[f"{DEV}BOOTSTRAP_ENDPOINT_NAME"]
            request.opt.uri_query = (f"ep={name}", url.query.decode(), "mccv=4.13.2")
            return await endpoint.request(request, Connection(*address, scheme))
        finally:
            await endpoint.close()

    assert asyncio.run(bootstrap()).code == codes.CHANGED
