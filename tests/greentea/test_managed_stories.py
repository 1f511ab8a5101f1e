"""connect and update on a virtual board, with a live service on loopback: whole, and with things gone wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pdmlab.cli import main
from pdmlab.cloud import Cloud
from pdmlab.errors import ConfigError
from pdmlab.greentea import SdkHostTests, run
from pdmlab.greentea.management import CloudManagement
from pdmlab.greentea.result import Result
from pdmlab.service import Service, serve
from pdmlab.sim import VirtualBoard
from pdmlab.update.bootloaders.interface import KINDS, Kind

JUMP = "[BOOT] All clear. Jumping to application (at address 0x10400)."
CONNECT = [
    "Connect to Ethernet", "Initialize SD+FAT", "Format FAT", "Initialize Simple PDMC ",
    "Pelion DM Bootstrap & Register", "Pelion DM Directory", "Pelion DM Re-register", "Post-reset Identity",
    "ResourceLwM2M GET", "ResourceLwM2M SET Test", "ResourceLwM2M PUT Test", "Resource LwM2M POST Test",
]  # fmt: skip
UPDATE = [
    *CONNECT[:6], "Firmware Prepare", "Firmware Download", "Firmware Update", "Pelion DM Re-register",
    "Post-update Identity",
]  # fmt: skip
AUTOFORMATTED = [
    "[SMCC] Initializing storage.", "[SMCC] Autoformatting the storage.",
    "[SMCC] Reset storage to an empty state.", "[SMCC] Starting developer flow",
]  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PDMLAB_STATE", str(tmp_path_factory.mktemp("state")))
        patch.chdir(tmp_path_factory.mktemp("project"))  # no credentials of a project of one's own
        with serve(name="greentea") as service:
            yield service


@pytest.fixture
def cloud(service: Service) -> Iterator[Cloud]:
    with Cloud(service.url, service.api_key) as cloud:
        yield cloud


@pytest.fixture
def board(service: Service) -> Iterator[VirtualBoard]:
    with VirtualBoard("K64F", memory=True, seed=1) as board:
        yield board


def boards_lines(result: Result) -> list[str]:
    assert result.transcript is not None
    lines: list[str] = result.transcript.loc[result.transcript["direction"] == "board", "text"].to_list()
    return lines


def test_connect_has_twelve_cases_and_all_are_ok(board: VirtualBoard, cloud: Cloud) -> None:
    result = run(board, "connect", cloud=cloud)
    assert result.ok, result
    assert result.cases["case"].to_list() == CONNECT
    assert set(result.cases["result"]) == {"OK"}
    assert result.host_test == "sdk_host_tests"
    lines = boards_lines(result)
    # Of its starts only the one within the suite is certain: how often the host had to reset it before it was in
    # step with it, and whether the line still carried a start before that, is the machine's pace.
    assert lines[lines.index("{{__timeout;600}}") :].count(JUMP) == 1
    (device_id,) = {line.rpartition(" ")[2] for line in lines if line.startswith("[INFO] Connected to Pelion")}
    assert len(device_id) == 32
    assert device_id not in cloud.devices().frame().to_csv()  # deleted at the end


@pytest.mark.parametrize("bootloader", KINDS)
def test_update_has_eleven_cases_and_the_new_firmware_runs(bootloader: Kind, cloud: Cloud, service: Service) -> None:
    """The trial bootloader starts signed images only; the client over mbed-bootloader takes manifests v1."""
    with VirtualBoard("K64F", memory=True, seed=1, bootloader=bootloader) as board:
        the_new_firmware_runs(board, cloud, service)


def the_new_firmware_runs(board: VirtualBoard, cloud: Cloud, service: Service) -> None:
    result = run(board, "update", cloud=cloud, developer=service.developer)
    assert result.ok, result
    assert result.cases["case"].to_list() == UPDATE
    assert set(result.cases["result"]) == {"OK"}
    installed = board.installed()
    assert installed is not None
    assert (installed.version, installed.ready_key) == ("1.0.1", "firmware_update")
    lines = boards_lines(result)
    assert "[INFO] Firmware download started. Size: 192.00KB" in lines
    assert any(line.startswith("[INFO] Firmware download completed. 192.00KB in ") for line in lines)
    assert "{{firmware_update;1}}" in lines
    (row,) = result.rows.itertuples()
    assert (row.operation, row.bytes) == ("firmware", 192 * 1024)
    percents = result.progress["percent"].to_list()
    assert percents == sorted(percents) and percents[-1] == 100.0


def test_sotp_erased_between_boots_is_another_device(board: VirtualBoard, cloud: Cloud) -> None:
    class Erased(SdkHostTests):
        def __init__(self) -> None:
            super().__init__(CloudManagement(cloud))
            advance = self.answers["test_advance"]

            def erase_and_advance(value: str) -> None:
                board.faults.erase_sotp()
                advance(value)

            self.answers["test_advance"] = erase_and_advance

    result = run(board, "connect", cloud=cloud, host_tests={"sdk_host_tests": Erased})
    assert result.result == "FAIL"
    outcome = dict(zip(result.cases["case"], result.cases["result"], strict=True))
    assert [case for case, word in outcome.items() if word != "OK"] == ["Post-reset Identity"]
    message = result.cases.set_index("case").loc["Post-reset Identity", "message"]
    assert message == "Device ID is inconsistent. SOTP and Secure Storage was not preserved."
    lines = boards_lines(result)
    second_boot = lines[len(lines) - lines[::-1].index(JUMP) :]
    first = second_boot.index(AUTOFORMATTED[0])
    assert second_boot[first : first + 4] == AUTOFORMATTED
    assert any("was device" in note for note in result.notes)


def test_an_update_signed_by_somebody_else_is_refused(board: VirtualBoard, cloud: Cloud, tmp_path: Path) -> None:
    from pdmlab.update.developer import Developer

    stranger = Developer(tmp_path)
    stranger.init("elsewhere.example", "lab")
    result = run(board, "update", cloud=cloud, developer=stranger)
    assert result.result == "FAIL", result
    outcome = dict(zip(result.cases["case"], result.cases["result"], strict=True))
    assert outcome["Firmware Prepare"] == "OK" and outcome["Firmware Download"] == "FAIL"
    assert outcome["Firmware Update"] == outcome["Post-update Identity"] == "SKIPPED"
    assert any(
        line.startswith("[SMCC] Error occurred : MbedCloudClient::UpdateWarning") for line in boards_lines(result)
    )


def test_a_board_without_a_network_fails_the_first_case(board: VirtualBoard, cloud: Cloud) -> None:
    board.faults.unplug_network()
    result = run(board, "connect", cloud=cloud)
    assert result.result == "FAIL"
    assert result.cases["result"].to_list() == ["FAIL", *["SKIPPED"] * 11]
    assert "Device failed to connect to Network" in result.cases.loc[0, "message"]


def test_a_card_that_is_not_there_fails_before_the_client(board: VirtualBoard, cloud: Cloud) -> None:
    board.faults.pull_card()
    result = run(board, "connect", cloud=cloud)
    failed = result.cases.loc[result.cases["result"] == "FAIL", "case"].to_list()
    assert result.result == "FAIL" and failed == ["Initialize SD+FAT"], result
    assert any("-5005" in line for line in boards_lines(result))


def test_credentials_of_another_account_are_noticed_at_once(
    board: VirtualBoard, cloud: Cloud, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    others = replace(service.credentials(), account_id="f" * 32)
    monkeypatch.setattr(service, "credentials", lambda: others)
    result = run(board, "connect", cloud=cloud)
    assert result.result == "FAIL"
    assert f"the board's credentials are of account {'f' * 32}" in result.reason


def test_a_managed_suite_needs_a_service(board: VirtualBoard) -> None:
    with pytest.raises(ConfigError, match="needs a service"):
        run(board, "connect")


def test_the_command_starts_a_service_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["test", "-m", "K64F", "-n", "connect,update", "--run"])
    assert done.exit_code == 0, done.output
    assert "test suite results: 2 OK" in done.output
    assert "test case results: 23 OK" in done.output
    assert not list((tmp_path / "service").glob("test-*"))


def test_the_command_uses_the_service_that_the_settings_name(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdmlab.service._running", {})  # it might run anywhere
    monkeypatch.setenv("PDMLAB_HOST", service.url)
    monkeypatch.setenv("CLOUD_SDK_API_KEY", service.api_key)
    done = CliRunner().invoke(main, ["test", "-n", "connect"])
    assert done.exit_code == 0, done.output
