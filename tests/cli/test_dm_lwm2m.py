"""`pdmlab dm update` and boards of other vendors: what they are sent is the file that is given, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pdmlab import Cloud, serve
from pdmlab.cli import main
from pdmlab.cli.naming import named_version
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.service import Service
from pdmlab.sim.board import VirtualBoard
from pdmlab.update.der import is_raw_signature
from pdmlab.update.developer import Developer
from pdmlab.update.header import FirmwareHeader
from tests.cli.processes import started

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
Run = Callable[..., Result]
REGISTERED = r"Registered at coaps://\S+\. Device ID: ([0-9a-f]{32})"


@pytest.fixture
def service() -> Iterator[Service]:
    with serve() as service:
        yield service


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()

    def invoked(*arguments: object) -> Result:
        done = runner.invoke(main, [str(each) for each in arguments])
        assert done.exit_code == 0, done.output
        return done

    return invoked


def test_a_board_of_another_vendor_is_updated_by_name(service: Service, run: Run, tmp_path: Path) -> None:
    run("dm", "init", "-d", "company.com", "--model-name", "meter", "-q")
    for version in ("1.0.1", "1.0.2"):
        run("board", "K64F", "--application", "lwm2m", "--fw-version", version, "--build", f"{version}.bin")
    run("dm", "create-suit", "-p", "1.0.2.bin", "-o", "1.0.2.suit")
    with VirtualBoard("K64F", id="meter", memory=True, seed=4) as board, Cloud(service.url, service.api_key) as cloud:
        board.flash_application("lwm2m")
        device_id = board.console.expect(REGISTERED, timeout=60)[1]
        device = cloud.device(device_id)
        assert not any(str(path).startswith("/10252/") for path in device.resources()["path"])
        done = run("dm", "update", "device", "-D", device_id, "-p", "1.0.1.bin")
        assert "deployed" in done.output or "success" in done.output.lower(), done.output
        assert str(board.installed()) == "lwm2m 1.0.1 (build 0)"
        assert board.console.expect(REGISTERED, timeout=60)[1] == device_id
        assert (device.read("/3/0/3"), device.read("/33629/0/15"), device.read("/5/0/5")) == ("1.0.1", "1.0.1", "1")
        run("dm", "update", "device", "-D", device_id, "-p", "1.0.2.suit")  # it says its version itself
        assert str(board.installed()) == "lwm2m 1.0.2 (build 0)"
        assert board.console.expect(REGISTERED, timeout=60)[1] == device_id


@posix
def test_a_device_of_the_command_line_is_pushed_a_package_that_names_its_version(
    service: Service, run: Run, tmp_path: Path
) -> None:
    run("dm", "init", "-d", "company.com", "--model-name", "meter", "-q")
    (tmp_path / "image.bin").write_bytes(bytes(range(256)) * 40)
    refused = CliRunner().invoke(main, ["dm", "package", "image", "-p", "image.bin", "-o", "meter.pkg"])
    assert refused.exit_code == 1 and "does not name its version" in refused.output
    run("dm", "package", "image", "-p", "image.bin", "-v", "2.0.0", "-o", "meter.pkg")
    options = ("--firmware", "push", "--advanced-firmware")
    with started("client", "-n", "meter", *options) as process, Cloud(service.url, service.api_key) as cloud:
        assert process.stdout is not None
        assert "registered" in "".join(process.stdout.readline() for _ in range(2))
        device = cloud.device("meter")
        assert (device.read("/5/0/9"), device.read("/33629/0/9")) == ("1", "1")
        told = run("dm", "update", "device", "-D", "meter", "-p", "meter.pkg").output
        assert "deployed" in told or "result 1" in told
        lines = [process.stdout.readline().strip() for _ in range(4)]
        assert lines == [
            "meter: firmware update: state 1 (downloading), version 1.0.0",
            "meter: firmware update: state 2 (downloaded), version 2.0.0",
            "meter: firmware update: state 3 (updating), version 2.0.0",
            "meter: firmware update: state 0 (idle), result 1 (the update succeeded), version 2.0.0",
        ]
        assert device.read("/3/0/3") == "2.0.0"


def test_an_image_is_signed_into_its_package_and_calls_itself_what_it_is(run: Run, tmp_path: Path) -> None:
    run("dm", "init", "-d", "company.com", "--model-name", "meter", "-q", "--no-credentials")
    image = build_image(ImageInfo("lwm2m", "1.2.3"), size=4096)
    (tmp_path / "image.bin").write_bytes(image)
    run("dm", "package", "image", "-p", "image.bin", "-m", "-o", "image.pkg")
    run("dm", "create-suit", "-p", "image.bin", "-o", "image.suit")
    package = (tmp_path / "image.pkg").read_bytes()
    header = FirmwareHeader.parse(package[:256])
    assert package[header.length :] == image and str(header.version) == "1.2.3"
    assert is_raw_signature(Developer(tmp_path).private_key.public_key(), header.signature, image)
    names = [named_version(data) for data in (image, package, (tmp_path / "image.suit").read_bytes())]
    assert names == ["1.2.3"] * 3
    assert [named_version(data) for data in (b"", b"\xd8\x6b", package[:6], b"another vendor's")] == [None] * 4
    other = CliRunner().invoke(main, ["dm", "package", "image", "-p", "image.bin", "-v", "2.0.0", "-o", "x"])
    assert other.exit_code == 1 and "says that it is version 1.2.3" in other.output
