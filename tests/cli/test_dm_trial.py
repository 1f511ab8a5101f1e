"""`pdmlab dm update` for a board that starts signed images only: what it lacks is said, in the board's own words."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pdmlab.cli import main
from pdmlab.cli.updates import hint
from pdmlab.cloud import Cloud
from pdmlab.service import serve
from pdmlab.sim import VirtualBoard

CONNECTED = r"Connected to Pelion Device Management\. Device ID: ([0-9a-f]{32})"


def test_an_image_that_is_not_signed_is_refused_with_the_boards_words_and_the_option_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with serve() as service, VirtualBoard("K64F", id="trial", memory=True, seed=8, bootloader="trial") as board:
        board.flash_application("example")
        device_id = board.console.expect(CONNECTED, timeout=30)[1]
        Path("fw.bin").write_bytes(board.build("example", version="1.0.1"))
        folder = str(service.developer.folder)
        words = ["dm", "update", "device", "-D", device_id, "-p", "fw.bin", "--folder", folder]
        done = CliRunner().invoke(main, [*words, "--no-cleanup"])
        assert done.exit_code == 1, done.output
        last = next(line for line in done.output.splitlines() if line.startswith(device_id))
        own, helps = last.index("this device takes signed images only"), last.index("--sign-image")
        assert last.index("the device says") < own < helps < last.index("without base64"), last
        with Cloud(service.url, service.api_key) as cloud:
            (campaign,) = cloud.campaigns()
            (row,) = campaign.devices().itertuples()
            assert row.outcome in last  # the table says the same
            reason = campaign.device(device_id).reason
        assert reason.index("this device takes signed images only") < reason.index("--sign-image")


def test_what_to_look_at_when_the_time_is_up_depends_on_where_the_device_is() -> None:
    assert "no way back" in hint(["success", "rebooting"]) and "trial goes back" in hint(["rebooting"])
    assert "`pdmlab dm devices`" in hint(["waiting"]) and "--timeout" in hint(["downloading"])
