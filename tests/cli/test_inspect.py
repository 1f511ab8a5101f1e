"""`pdmlab inspect` on a virtual board's own images."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pdmlab.cli import main
from pdmlab.firmware.device import Device
from pdmlab.sim import VirtualBoard
from pdmlab.storage import CredentialStore, LittleFileSystem2
from pdmlab.storage.kv import root_of_trust


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
