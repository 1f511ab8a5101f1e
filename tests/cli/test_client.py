"""`pdmlab client`: devices at a server, as people start them and end them."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pdmlab.aio import LoopThread
from pdmlab.cli import main
from pdmlab.cli.client import COLDEST, WARMEST, Thermometer, _der
from pdmlab.cloud import Cloud
from pdmlab.coap.dtls import dtls
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.security import Security
from pdmlab.coap.transport import Address, Opener, udp
from pdmlab.service import serve
from tests.cli.processes import started
from tests.client.pki import Authority, write_pem

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


class Server:
    """A server in a thread of its own."""

    def __init__(self, opener: Opener) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.loop = LoopThread("server")
        self.endpoint = self.loop.run(Endpoint.open(opener, self._handle))
        self.where = f"127.0.0.1:{self.endpoint.address[1]}"

    async def _handle(self, message: Message, peer: Address) -> Message:
        self.asked.append((f"{message.code.name} {'/'.join(message.opt.uri_path)}", message.opt.uri_query))
        if message.opt.uri_path == ("rd",):
            return Message(code=codes.CREATED, location_path=("rd", str(len(self.asked))))
        return Message(code=codes.DELETED if message.code == codes.DELETE else codes.CHANGED)

    def close(self) -> None:
        self.loop.run(self.endpoint.close())
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(udp())
    yield server
    server.close()


def said(process: subprocess.Popen[str], *, lines: int) -> list[str]:
    assert process.stdout is not None
    return sorted(process.stdout.readline().strip() for _ in range(lines))


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


@posix
def test_a_device_registers_and_ctrl_c_deregisters_it(server: Server) -> None:
    with started("client", "-n", "board-1", "-u", server.where, "-l", "120") as process:
        lines = said(process, lines=2)
        assert lines == [f"SIMULATED board-1 at coap://{server.where}, until Ctrl-C", "board-1: registered at /rd/1"]
        end(process)
    assert server.asked == [("POST rd", ("ep=board-1", "lt=120", "lwm2m=1.1", "b=U")), ("DELETE rd/1", ())]


@posix
def test_a_small_fleet(server: Server) -> None:
    with started("client", "-n", "b", "-u", f"coap://{server.where}", "--count", "7", "--lwm2m", "1.0") as process:
        assert said(process, lines=8)[0] == f"SIMULATED 7 devices, b-0 to b-6, at coap://{server.where}, until Ctrl-C"
        end(process)
    assert sorted(query[0] for _, query in server.asked if query) == [f"ep=b-{number}" for number in range(7)]
    assert sum(each.startswith("DELETE") for each, _ in server.asked) == 7


@posix
def test_a_device_with_a_key(tmp_path: Path) -> None:
    server = Server(dtls(udp(), Security(psk_of={b"dev": b"secret-123"}.get)))
    key = tmp_path / "key"
    key.write_text(b"secret-123".hex() + "\n")
    try:
        with started("client", "-u", server.where, "-i", "dev", "-p", str(key), "-q") as process:
            assert said(process, lines=2)[1] == "pdmlab: registered at /rd/1"
            end(process)
    finally:
        server.close()
    assert server.asked[0][1][-2:] == ("b=U", "Q")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-i", "dev"], "credentials are not complete"),
        (["-u", "http://127.0.0.1"], "is no server's URI"),
        (["-n", ""], "has a name"),
        (["-u", "coaps://127.0.0.1"], "without a key or a certificate\nhint: -i and -p for a pre-shared key"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(arguments: list[str], why: str) -> None:
    done = CliRunner().invoke(main, ["client", *arguments])
    assert done.exit_code == 1
    assert why in done.output


def test_a_key_that_is_none_is_said_and_not_shown(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("not hex")
    done = CliRunner().invoke(main, ["client", "-i", "dev", "-p", str(key)])
    assert done.exit_code == 1
    assert "is no key in hex" in done.output
    assert "not hex" not in done.output


def test_certificates_and_keys_are_read_from_pem_and_der(tmp_path: Path) -> None:
    certificate, key = Authority().issue(CN="dev-1")
    pem, key_pem = write_pem(tmp_path, certificate, key)
    der = tmp_path / "certificate.der"
    der.write_bytes(certificate)
    assert _der(pem) == _der(der) == certificate
    assert x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(Encoding.DER) == certificate
    with_parameters = tmp_path / "with.pem"
    with_parameters.write_bytes(
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + key_pem.read_bytes()
    )
    assert _der(with_parameters) == _der(key_pem)


def test_the_same_seed_gives_the_same_devices_that_drift_alike() -> None:
    def drifted(seed: int) -> list[float]:
        thermometer = Thermometer(random.Random(seed))
        values = [thermometer.value]
        for _ in range(2000):
            thermometer.drift()
            values.append(thermometer.value)
        sensor = thermometer.objects[0]
        assert (sensor.read(0, 5601), sensor.read(0, 5602)) == (min(values), max(values))
        return values

    one, same, other = drifted(1), drifted(1), drifted(2)
    assert one == same != other
    assert len(set(one)) > 50 and all(COLDEST <= value <= WARMEST for value in one)
    assert all(abs(after - before) < 0.21 for before, after in itertools.pairwise(one))


@posix
def test_what_it_measures_can_be_observed() -> None:
    with serve() as service, started("client", "-n", "attic") as process:
        assert "registered" in said(process, lines=2)[1]
        with Cloud(service.url, service.api_key) as cloud:
            device = cloud.device("attic")
            with device.observe("/3303/0/5700") as values:
                first, later = values.take(2, timeout=60)
            assert first.value != later.value
            device.execute("/3303/0/5605")
            assert COLDEST <= float(str(device.read("/3303/0/5601"))) <= WARMEST
        end(process)


@posix
def test_without_an_address_it_goes_to_the_service_that_runs_or_is_named() -> None:
    with serve(name="bench") as bench, started("client") as unnamed, started("client", "--name", "bench") as named:
        for process in (unnamed, named):
            assert said(process, lines=2)[0] == f"SIMULATED pdmlab at {bench.plain_lwm2m_uri}, until Ctrl-C"
            end(process)
        both = CliRunner().invoke(main, ["client", "--name", "bench", "-u", "127.0.0.1"])
        assert both.exit_code == 1 and "either a name or an address" in both.output
        other = CliRunner().invoke(main, ["client", "--name", "desk"])
        assert other.exit_code == 1 and f"bench ({bench.url})" in other.output


@posix
def test_a_server_that_does_not_answer_is_waited_for_aloud() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        where = f"coap://127.0.0.1:{silent.getsockname()[1]}"
        with started("client", "-u", where) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith(f"no answer from {where} yet: it asks again, for up to 93 s")
            process.send_signal(signal.SIGTERM)
            process.wait(30)
