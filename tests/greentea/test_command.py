"""`pdmlab test`: mbed CLI's options, mbedgt's tables, and an exit status that scripts can trust."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pdmlab.cli import main
from pdmlab.cli.test import matching
from pdmlab.errors import ConfigError
from pdmlab.runs import list_runs, load_run
from pdmlab.sim import VirtualBoard, bridge


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "state"))


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["test", *arguments])


def test_names_are_globs_of_our_names_and_of_mbeds() -> None:
    assert matching("fs-*") == ["fs-single", "fs-multi"]
    assert matching("simple*dev*connect") == ["connect"]
    assert matching("net-single,update") == ["net-single", "update"]
    assert len(matching("simple-mbed-cloud-client-tests-*")) == 7
    with pytest.raises(ConfigError, match="no suite is called 'fs-triple'"):
        matching("fs-*,fs-triple")


@pytest.mark.parametrize("names", ["", ",", " , "])
def test_names_that_name_nothing_are_refused(names: str) -> None:
    done = call("-n", names)
    assert done.exit_code == 1 and "-n names no suite\nhint: there are fs-single, " in done.output


def test_it_runs_suites_and_writes_reports(tmp_path: Path) -> None:
    files = {kind: tmp_path / f"report.{kind}" for kind in ("junit", "text", "json")}
    done = call(
        "-m", "K64F", "-t", "GCC_ARM", "-n", "net-multi", "--run",
        *(word for kind, file in files.items() for word in (f"--report-{kind}", str(file))),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "test suite results: 1 OK" in done.output and "test case results: 4 OK" in done.output
    assert 'classname="K64F.net-multi"' in files["junit"].read_text()
    assert files["text"].read_text() in done.output
    report = json.loads(files["json"].read_text())
    assert len(report["K64F"]["net-multi"]["rows"]) == 6
    assert '<property name="simulated" value="true" />' in files["junit"].read_text()
    assert "boards: SIMULATED K64F; seconds of the host clock" in done.output
    assert report["K64F"]["net-multi"]["simulated"] is True and report["K64F"]["net-multi"]["clock"] == "host"


def test_a_board_behind_a_line_says_itself_that_it_is_simulated(tmp_path: Path) -> None:
    with VirtualBoard("K64F", memory=True) as board:
        board.flash_application("net-multi")
        board.attach("its bridge")
        with bridge.tcp_bridge(board.uart) as (host, port):
            done = call(
                "-n", "net-multi", "-m", "K64F", "--board", f"socket://{host}:{port}",
                "--report-json", str(tmp_path / "report.json"),
            )  # fmt: skip
    assert done.exit_code == 0, done.output
    suite = json.loads((tmp_path / "report.json").read_text())["K64F"]["net-multi"]
    assert suite["simulated"] is True and {row["simulated"] for row in suite["rows"]} == {True}


def test_a_saved_log_is_run_like_a_board(tmp_path: Path) -> None:
    log, report = tmp_path / "net.log", tmp_path / "report.json"
    log.write_text(call("-n", "net-multi", "-v").output)  # as htrun prints it
    done = call("-n", "net-multi", "-m", "K66F", "--board", f"replay://{log}?pace=0", "--report-json", str(report))
    assert done.exit_code == 0, done.output
    assert "boards: SIMULATED K66F" in done.output  # by the log's own word
    assert len(json.loads(report.read_text())["K66F"]["net-multi"]["rows"]) == 6


def test_lines_that_could_not_be_read_are_said_on_the_screen(tmp_path: Path) -> None:
    log = tmp_path / "fs.log"
    log.write_text('{{end;success}}\n[FS] Wrote: "a-0.txt" 128.00KB (0.00KB/s, 3.05 secs)\n')
    done = call("-n", "fs-single", "--board", f"replay://{log}?pace=0")
    assert "1 line looks like a measurement, and could not be read:\n  [FS] Wrote: " in done.output, done.output


def test_saved_rows_are_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PDMLAB_DATA", str(tmp_path / "data"))
    done = call("-n", "net-multi", "--save")
    (name,) = list_runs()["run"]
    assert done.exit_code == 0 and f"the rows of net-multi are run {name}" in done.output
    assert len(load_run(name)) == 6 and load_run(name)["simulated"].all()


def test_verbose_shows_the_console_as_htrun_does() -> None:
    assert "][CONN][RXD] {{__host_test_name;default_auto}}" in call("-n", "net-multi", "-v").output


def test_a_failure_is_a_status_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdmlab.firmware.net_suites.corpus", lambda: bytes(128 * 1024))
    done = call("-n", "net-multi")
    assert done.exit_code == 1
    assert "test suite results: 1 FAIL" in done.output
    assert "FAIL: Ethernet 1 thread: line" in done.output and "character mismatch in body" in done.output


def test_a_board_that_is_named_by_its_url_is_driven(tmp_path: Path) -> None:
    with VirtualBoard("K66F", id="desk", memory=True) as board:
        done = call("-n", "net-multi", "--board", board.url)
    assert done.exit_code == 0, done.output
    assert "| K66F   | K66F          | net-multi  | OK     |" in done.output


def test_compile_builds_and_lists_list() -> None:
    assert "built fs-single for K64F: 196608 B" in call("-n", "fs-single", "--compile").output
    assert "simple-mbed-cloud-client-tests-dev_mgmt-update" in call("--compile-list").output
    assert "net-multi" in call("--run-list", "-m", "K66F").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "GCC_ARM"], "GCC_ARM is a toolchain, not a target\nhint: here, as in mbed CLI, -t is the toolchain"),
        (["-t", "K64F"], "K64F is a target, not a toolchain\nhint: here, as in mbed CLI"),
        (["-t", "TURBO_C"], "no toolchain is called 'TURBO_C'"),
        (["-m", "K65F", "-n", "net-multi"], "no board 'K65F' in the catalogue\nhint: did you mean"),
    ],
)
def test_wrong_names_say_what_is_right(arguments: list[str], said: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 1
    assert said in done.output
