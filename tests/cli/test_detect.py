"""`pdmlab detect`: mbedls's columns in a table, and the JSON keys of mbedls and mbed-tools."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from pdmlab.boards import catalog, detection
from pdmlab.boards.detection import Found
from pdmlab.cli import main

K64F = Found(
    catalog.find("K64F"),
    serial_port="/dev/ttyACM0",
    mount_point=Path("/media/DAPLINK"),
    target_id="0240000034544e45001900048e3800525a91000097969900",
    serial_number="0240000034544e45001900048e3800525a91000097969900",
    interface_version="0244",
)
CABLE = Found(serial_port="/dev/ttyUSB0", reason="USB id 1a86:7523 belongs to no board in the catalogue")


@pytest.fixture(autouse=True)
def plugged(monkeypatch: pytest.MonkeyPatch) -> list[Found]:
    found = [K64F, CABLE]
    monkeypatch.setattr(detection, "find_boards", lambda: found)
    monkeypatch.setenv("COLUMNS", "250")
    return found


def test_a_board_is_a_row_in_mbedls_columns() -> None:
    done = CliRunner().invoke(main, ["detect"])
    assert done.exit_code == 0
    for word in ("platform_name", "platform_name_unique", "mount_point", "K64F[0]", "/dev/ttyACM0", "0240000034"):
        assert word in done.output
    assert "ttyUSB0" not in done.output and "1 more port is not recognised; -a says why." in done.output


def test_everything_is_shown_with_the_reason_why_it_is_no_board() -> None:
    output = CliRunner().invoke(main, ["detect", "-a"]).output
    assert "/dev/ttyUSB0" in output and "belongs to no board in the catalogue" in output


def test_json_has_the_keys_of_both_tools() -> None:
    (row,) = json.loads(CliRunner().invoke(main, ["detect", "--format", "json"]).output)
    assert row["platform_name"] == "K64F" and row["mount_point"] == "/media/DAPLINK"
    assert row["serial-port"] == "/dev/ttyACM0" and row["mount-points"] == ["/media/DAPLINK"]
    assert row["mbed-board"]["build-targets"] == ["K64F"] and row["mbed-board"]["product-code"] == "0240"
    rows = json.loads(CliRunner().invoke(main, ["detect", "-a", "--format", "json"]).output)
    assert rows[1]["reason"] == CABLE.reason and rows[1]["mbed-board"]["build-targets"] == []


def test_no_board_is_no_error_and_names_a_virtual_one(plugged: list[Found]) -> None:
    plugged.clear()
    done = CliRunner().invoke(main, ["detect"])
    assert done.exit_code == 0 and "pdmlab board K64F" in done.output
