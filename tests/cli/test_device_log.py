"""`pdmlab dm log` and `pdmlab service --log`: what a device and the service said to each other."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.types import Type
from click.testing import CliRunner, Result

from pdmlab.aio import LoopThread
from pdmlab.capture import LoggedMessage, MessageLog
from pdmlab.cli import main
from pdmlab.cli.device_log import written
from pdmlab.cloud import Cloud
from pdmlab.errors import ConfigError, PdmlabError
from pdmlab.service import serve
from pdmlab.service.service import Service
from tests.cli.processes import started
from tests.service.restlab import Device

Run = Callable[..., Result]


@pytest.fixture
def service() -> Iterator[Service]:
    with serve() as running:
        yield running


@pytest.fixture
def device(service: Service) -> Iterator[Device]:
    port = int(str(service.plain_lwm2m_uri).rpartition(":")[2])
    with LoopThread("devices") as loop:
        device = Device(lambda work: loop.run(work, timeout=30), ("127.0.0.1", port), "desk1")
        device.register()
        yield device
        device.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["dm", "log", *arguments])


def test_a_devices_log_is_shown_by_its_name_or_id(service: Service, device: Device) -> None:
    with Cloud(service.url, service.api_key) as cloud:
        assert cloud.device(device.id).read("/3/0/0") == "pdmlab"
        frame = cloud.device(device.id).log()
        assert {"/rd", "/3/0/0"} <= set(frame["path"]) and set(frame["device"]) == {device.id}
        last = int(frame["number"].iloc[-1])
        assert [row.number for row in cloud.device(device.id).messages(last - 1)] == [last]
    for name in ("desk1", device.id):
        done = run(name)
        assert done.exit_code == 0, done.output
        assert "POST" in done.output and "/rd?ep=desk1" in done.output
        assert "Manufacturer = 'pdmlab'" in done.output
    assert str(service.device_log("desk1").lines()).splitlines() == run("desk1").output.splitlines()


def test_why_tells_what_failed_what_it_means_and_what_to_do(service: Service, device: Device) -> None:
    assert run("desk1", "--why").output == "nothing failed\n"
    del device.values["/3/0/9"]
    with Cloud(service.url, service.api_key) as cloud, pytest.raises(PdmlabError):
        cloud.device(device.id).read("/3/0/9")
    said = run("desk1", "--why").output
    assert re.search(r"what happened +4\.04 Not Found to /3/0/9", said)
    assert "what it means" in said and "what to do" in said


def test_why_tells_of_a_connection_that_closed_and_of_what_waits(service: Service) -> None:
    where = str(service.plain_lwm2m_uri).replace("coap:", "coap+tcp:")
    with started("client", "-n", "desk2", "-u", where) as process:
        assert process.stdout is not None
        assert "registered" in process.stdout.readline() + process.stdout.readline()
        assert run("desk2", "--why").output == "nothing failed\n"
        process.kill()  # it loses its power
        process.wait(30)
    with Cloud(service.url, service.api_key) as cloud:
        id = cloud.device("desk2").id
        end = time.monotonic() + 20
        while service.call(service.core.registrations.find, id).lost_at is None and time.monotonic() < end:
            time.sleep(0.01)
        httpx.post(
            f"{service.url}/v2/device-requests/{id}?async-id=1",
            json={"method": "GET", "uri": "/3303/0/5700"},
            headers={"Authorization": f"Bearer {service.api_key}"},
        ).raise_for_status()
    done = run("desk2", "--why")
    assert done.exit_code == 0, done.exception
    closed, waits = done.output.splitlines()
    assert re.fullmatch(
        r"[\d:.]+  coap\+tcp://\S+  its connection closed \(.+\), and it has not come back since", closed
    )
    assert re.match(r"GET /3303/0/5700 waits since [0-9T:.-]+Z: the device has no connection: ", waits)


def test_a_device_that_nobody_knows_is_an_error(service: Service) -> None:
    done = run("nobody")
    assert done.exit_code == 1 and "the directory has no device 'nobody'" in done.output


def test_without_a_device_the_log_is_of_all_and_of_peers_that_nobody_knows(service: Service, device: Device) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(20)
        stranger.sendto(bytes.fromhex("4145123407ff") + b"who am I?", device.server)  # an answer to nothing
        assert stranger.recv(100) == bytes.fromhex("70001234")
    said = run()
    assert said.exit_code == 0, said.output
    assert "/rd?ep=desk1" in said.output and "who am I?" in said.output
    assert "who am I?" not in run("desk1").output and run("desk1", "--why").output == "nothing failed\n"
    assert "reset by this end" in run("--why").output
    with Cloud(service.url, service.api_key) as cloud:
        last = cloud.messages()[-1].number
        assert [row.number for row in cloud.messages(last - 1)] == [last]
        assert len(cloud.log()) > len(cloud.device("desk1").log())


def test_a_name_that_several_devices_have_is_an_error_with_their_ids(service: Service, device: Device) -> None:
    ids = [device.id]

    def add() -> None:
        for _ in range(2):
            ids.append(str(service.core.directory.add(service.account_id, endpoint_name="desk1")["id"]))

    service.call(add)
    done = run("desk1")
    assert done.exit_code == 1 and "the directory has 3 devices 'desk1': " in done.output
    assert all(id in done.output for id in ids) and "give one's id" in done.output


# -- written as it passes ----------------------------------------------------------------------------


def get(mid: int) -> bytes:
    message = Message(code=codes.GET, uri_path=("3", "0", "0"))
    message.mtype, message.mid, message.token = Type.CON, mid, b"t"
    data: bytes = message.encode()
    return data


def test_the_ending_of_its_name_says_what_a_log_file_holds(tmp_path: Path) -> None:
    log = MessageLog(endpoint="lwm2m", clock="device")
    for name in ("log.txt", "log.jsonl", "log.pcapng"):
        with written(log, tmp_path / name):
            log("in", ("192.0.2.1", 5683), get(1), 7)
        log("in", ("192.0.2.1", 5683), get(2), 8)
    (line,) = (tmp_path / "log.txt").read_text().splitlines()
    assert line.endswith("lwm2m  <-  192.0.2.1:5683  CON  GET  mid 1  token 74  /3/0/0")
    (row,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert LoggedMessage(**json.loads(row)).path == "/3/0/0"
    assert (tmp_path / "log.pcapng").read_bytes().count(get(1)) == 1
    assert (tmp_path / "log.pcapng").read_bytes().count(get(2)) == 0
    with written(log, tmp_path / "log.pcapng"):  # started again: what was there is set aside
        log("in", ("192.0.2.1", 5683), get(3), 9)
    assert (tmp_path / "log.pcapng.1").read_bytes().count(get(1)) == 1
    assert (tmp_path / "log.pcapng").read_bytes().count(get(3)) == 1
    with written(log, None):
        pass
    with pytest.raises(ConfigError, match="cannot be written"), written(log, tmp_path / "none" / "log.txt"):
        pass


def test_a_dash_is_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    log = MessageLog(endpoint="lwm2m", clock="device")
    with written(log, Path("-")):
        log("in", ("192.0.2.1", 5683), get(1), 7)
        assert "GET" in capsys.readouterr().out


def test_the_service_writes_its_log_while_it_runs(tmp_path: Path) -> None:
    file = tmp_path / "service.log"
    with started("service", "--log", str(file)) as process, LoopThread("devices") as loop:
        said = _said(process)
        port = int(re.findall(r"coap://127\.0\.0\.1:(\d+)", said)[-1])
        device = Device(lambda work: loop.run(work, timeout=30), ("127.0.0.1", port), "desk1")
        device.register()
        end = time.monotonic() + 20
        while len(lines := file.read_text().splitlines()) < 2 and time.monotonic() < end:
            time.sleep(0.01)  # the answer may be here before its line is written
        device.close()
        assert [line.split("  ")[5] for line in lines] == ["POST", "2.01 Created"]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def _said(process: subprocess.Popen[str]) -> str:
    said = ""
    for line in process.stdout or ():
        said += line
        if "Ctrl-C" in line:
            break
    return said
