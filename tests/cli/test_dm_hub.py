"""`pdmlab board --bootloader mbed` and `pdmlab dm update`: a board with the older update hub, as people have it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pdmlab.cli import main
from pdmlab.cloud import Cloud, Device
from pdmlab.service import serve
from pdmlab.service.service import Service
from pdmlab.update.manifest_v1 import SignedManifestV1
from tests.cli.processes import started

VERSION = "/10252/0/6"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.chdir(tmp_path)
    with serve() as service:
        yield service


def pdmlab(*arguments: str, status: int = 0) -> str:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == status, done.output + done.stderr
    return done.stdout


def the_device(cloud: Cloud) -> Device:
    for _ in range(600):
        for device in cloud.devices():
            if device.state == "registered":
                return device
        time.sleep(0.1)
    raise TimeoutError("no device has registered")


def test_a_board_with_the_older_hub_is_updated_like_any_other_and_again(service: Service, tmp_path: Path) -> None:
    pdmlab("dm", "init", "-d", "company.com", "--model-name", "thermostat", "-q")
    for version in ("1.0.1", "1.0.2"):
        pdmlab("board", "K64F", "--application", "example", "--fw-version", version, "--build", f"{version}.bin")
    words = ("board", "K64F", "--bootloader", "mbed", "--application", "example", "--id", "hub-board")
    with started(*words, cwd=tmp_path) as process, Cloud(service.url, service.api_key) as cloud:
        device = the_device(cloud)
        assert device.read("/10255/0/0") == "3"
        seen = [int(str(device.read(VERSION)))]
        # What an update without -v brought is followed by another one, as by the stock tools': versions are times.
        for version in ("1.0.1", "1.0.2"):
            told = pdmlab("dm", "update", "device", "-D", device.id, "-p", f"{version}.bin", "-o", "manifest")
            assert re.search(rf"{device.id}: The device runs \d+, signed 20\d\d-", told)
            manifest = SignedManifestV1.parse(Path("manifest").read_bytes()).manifest
            seen.append(int(str(cloud.device(device.id).read(VERSION))))
            assert seen[-1] == manifest.timestamp > seen[-2]
        older = pdmlab("dm", "update-v1", "-p", "1.0.1.bin", "-v", "5", "-i", device.id, "-w", "-t", "60", status=1)
        assert "221" in older
        assert int(str(cloud.device(device.id).read(VERSION))) == seen[-1]
        process.terminate()
