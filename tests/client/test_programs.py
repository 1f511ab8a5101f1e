"""Devices against a server that others wrote: openssl s_server, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pdmlab.update.credentials import Credentials
from tests.client.bench import ACCOUNT, Bench
from tests.client.pki import ALWAYS, Authority, Times, write_pem, years
from tests.tools import program

pytestmark = pytest.mark.debian
SOON = 20.0


@contextmanager
def s_server(folder: Path, ca: Authority, times: Times, *options: str) -> Iterator[tuple[int, Path]]:
    """Run one that wants a certificate of the CA; give its port, and where it writes what it sees."""
    openssl = program("openssl")
    certificate, key = write_pem(folder, *ca.issue(times, CN="some-other-name.example"))
    trust, said = folder / "ca.pem", folder / "said.txt"
    trust.write_bytes(x509.load_der_x509_certificate(ca.certificate).public_bytes(Encoding.PEM))
    command = [openssl, "s_server", "-accept", "127.0.0.1:0", "-cert", str(certificate), "-key", str(key)]
    command += ["-CAfile", str(trust), "-Verify", "2", "-verify_return_error", "-no_ticket", *options]
    command += ["-cipher", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"]
    with said.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + SOON
            while b"ACCEPT" not in said.read_bytes():
                assert process.poll() is None and time.monotonic() < until, said.read_text()
                time.sleep(0.02)
            port = int(said.read_text().split("ACCEPT ")[1].split()[0].rpartition(":")[2])
            yield port, said
        finally:
            process.kill()


def compile_in(bench: Bench, ca: Authority, trusted: Authority, port: int) -> None:
    certificate, key = ca.issue(CN="desk-1")
    bench.image.credentials = Credentials(
        "desk-1",
        f"coaps://127.0.0.1:{port}?aid={ACCOUNT}",
        account_id=ACCOUNT,
        bootstrap_device_certificate=certificate,
        bootstrap_server_root_ca_certificate=trusted.certificate,
        bootstrap_device_private_key=key,
    ).to_mapping()


def boot(bench: Bench, enough: str, said: Path | None = None) -> str:
    """Boot until the server has seen something, or the device says something of an error; return it all."""

    async def story() -> str:
        client = await bench.connect()
        until = time.monotonic() + SOON
        while time.monotonic() < until:
            text = said.read_bytes().decode("latin-1") if said is not None else client.error_description
            if enough in text:
                return text
            await asyncio.sleep(0.02)
        raise AssertionError(text)

    return bench.play(story)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_s_server_shakes_hands_and_hears_the_first_message(tmp_path: Path, transport: str) -> None:
    bench, ca = Bench(), Authority()
    bench.image.transport = transport  # type: ignore[assignment]
    with s_server(tmp_path, ca, ALWAYS, "-tls1_2" if transport == "tcp" else "-dtls1_2") as (port, said):
        compile_in(bench, ca, ca, port)
        text = boot(bench, f"aid={ACCOUNT}", said)
    assert "ep=desk-1" in text and "mccv=4.13.2" in text
    assert "ECDHE-ECDSA-AES128-CCM8" in text and "CN=desk-1" in text.replace(" ", "")


def test_a_server_of_another_ca_is_not_spoken_to(tmp_path: Path) -> None:
    bench, ca = Bench(), Authority()
    with s_server(tmp_path, ca, ALWAYS, "-tls1_2") as (port, said):
        compile_in(bench, ca, Authority("Trusted CA"), port)
        assert "not trusted here" in boot(bench, "trying again")
        assert "unknown ca" in said.read_text().lower()


def test_a_server_that_does_not_renegotiate_cannot_set_the_clock(tmp_path: Path) -> None:
    """docs/wire.md 1.5: without the option a device whose clock is wrong does not get on."""
    bench, ca = Bench(), Authority()
    with s_server(tmp_path, ca, years(2020, 2060), "-tls1_2") as (port, _):
        compile_in(bench, ca, ca, port)
        said = boot(bench, "trying again")
        assert "renegotiat" in said and "[SMCC] Error code : 11" in bench.uart.lines()
