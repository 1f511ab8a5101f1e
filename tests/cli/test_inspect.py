"""`pdmlab inspect` on a virtual board's own images."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pdmlab.cli import main
from pdmlab.cli.identified import identified
from pdmlab.firmware.device import Device
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.sim import VirtualBoard
from pdmlab.storage import CredentialStore, LittleFileSystem2
from pdmlab.storage.kv import root_of_trust
from pdmlab.update.developer import Developer
from pdmlab.update.packages import pack_image
from pdmlab.update.suit import convert


def provision(device: Device) -> str:
    root = root_of_trust(device.nvstore, device.random_bytes)
    fs = LittleFileSystem2("fs")
    fs.reformat(device.block_device)
    CredentialStore(fs, root).set("mbed.BootstrapDevicePrivateKey", b"very private")
    fs.unmount()
    return root.hex()


@pytest.fixture
def images() -> tuple[Path, Path, str]:
    with VirtualBoard("K64F", id="inspected", seed=3) as board:
        root = board.run(provision)
        assert board.folder is not None
        return board.folder / "sd.bin", board.folder / "flash.bin", root


def test_it_lists_what_is_stored_and_hides_the_secrets(images: tuple[Path, Path, str], tmp_path: Path) -> None:
    card, flash, root = images
    page = tmp_path / "seen.html"
    result = CliRunner().invoke(main, ["inspect", str(card), "--sotp", str(flash), "--html", str(page)])
    assert result.exit_code == 0, result.output
    assert "littlefs 2" in result.output
    assert "mbed.BootstrapDevicePrivateKey 12 B, encrypted, intact: yes (/WORKING/" in result.output
    result = CliRunner().invoke(main, ["inspect", str(flash), "--html", str(tmp_path / "flash.html")])
    assert "NVStore" in result.output and "4 (ROT)" in result.output
    for text in (result.output, page.read_text(), (tmp_path / "flash.html").read_text()):
        assert root not in text and "very private" not in text
    assert "<svg" in (tmp_path / "flash.html").read_text()


def test_a_wrong_dump_is_one_line_and_a_hint(images: tuple[Path, Path, str]) -> None:
    card, _, _ = images
    result = CliRunner().invoke(main, ["inspect", str(card), "--sotp", str(card)])
    assert result.exit_code == 1
    assert "ConfigError: the SOTP dump holds no root of trust" in result.output and "hint:" in result.output


def test_a_page_that_cannot_be_written_is_one_line_and_a_hint(images: tuple[Path, Path, str], tmp_path: Path) -> None:
    card, _, _ = images
    result = CliRunner().invoke(main, ["inspect", str(card), "--html", str(tmp_path / "nowhere" / "x.html")])
    assert result.exit_code == 1
    assert "ConfigError: cannot write" in result.output and "hint:" in result.output
    assert "Traceback" not in result.output and isinstance(result.exception, SystemExit)


def test_files_of_an_update_are_named_with_what_their_headers_say(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"

    def said(data: bytes) -> str:
        file.write_bytes(data)
        result = CliRunner().invoke(main, ["inspect", str(file)])
        assert result.exit_code == 0 and "nothing that is known" not in result.output, result.output
        return result.output

    image = build_image(ImageInfo("example", "1.0.2"))
    assert "a board's image: example 1.0.2, build 0" in said(image)
    package = pack_image(image, "1.0.2")
    assert f"a package: an image behind its header v3: FirmwareHeader(1.0.2, {len(image)} B, sha256=" in said(package)
    assert f"its header speaks of {len(package)}" in said(package[:-1])
    developer = Developer(tmp_path)
    developer.init("company.com", "thermostat")
    signed = developer.sign(image, uri="/0/file.bin", version="1.0.2")
    seen = said(signed)
    assert "a manifest v3; its signature is not checked" in seen and "/0/file.bin" in seen
    seen = said(developer.sign_v1(image, uri="/0/file.bin"))
    assert "a manifest v1; its signature is not checked" in seen and "/0/file.bin" in seen
    seen = said(convert(signed).manifest.sign(developer.private_key))
    assert "a SUIT envelope; its signature is not checked" in seen and "sequence number" in seen
    with VirtualBoard("K64F", memory=True, bootloader="mbed") as board:
        board.flash_application("example", version="2.0.0")
        seen = said(board.flash_image())
    assert "a whole flash, with the bootloader mbed" in seen and "header v2: FirmwareHeaderV2(2000000," in seen
    assert "image: example 2.0.0, build 0" in seen


def test_what_is_none_of_these_is_not_named(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    for data in (b"", b"0", b"0\x82\x01\x00" * 99, bytes(5000), b"\xff" * 5000, b"\xd8\x6b\xa0"):
        file.write_bytes(data)
        assert identified(file) == []
