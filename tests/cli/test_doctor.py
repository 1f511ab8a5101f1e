"""`pdmlab doctor`: what the lab needs, what was found, and how to mend what is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from OpenSSL import SSL

from pdmlab.boards import catalog, detection
from pdmlab.boards.detection import Found
from pdmlab.cli import doctor, main
from pdmlab.service import reach


@pytest.fixture(autouse=True)
def nothing_plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detection, "find_boards", list)
    monkeypatch.setenv("COLUMNS", "250")


def test_a_healthy_machine_is_told_so() -> None:
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 0, done.output
    for word in (
        "Python",
        "packages",
        "boards",
        "state folder",
        "data folder",
        "loopback TCP",
        "loopback UDP",
        "TLS and DTLS",
    ):
        assert word in done.output
    assert "broken" not in done.output


def test_a_folder_that_cannot_be_written_is_broken_and_has_a_fix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / "file"))
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 1
    assert "broken" in done.output and "set PDMLAB_STATE to a folder that you may write to" in done.output


def test_a_broken_settings_file_is_reported_and_the_rest_is_still_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pdmlab.toml").write_text("board = \n")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == 1
    assert "pdmlab.toml is no TOML" in done.output and "write lines such as: board" in done.output
    assert "loopback UDP" in done.output


def test_a_narrow_terminal_cuts_no_path_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PDMLAB_STATE", str(tmp_path / ("long" * 30)))
    assert "…" not in CliRunner().invoke(main, ["doctor"]).output


@pytest.mark.parametrize(("count", "said"), [(1, "(1 other serial port)"), (2, "(2 other serial ports)")])
def test_ports_are_counted_in_words(monkeypatch: pytest.MonkeyPatch, count: int, said: str) -> None:
    monkeypatch.setattr(detection, "find_boards", lambda: [Found(serial_port="/dev/ttyS0")] * count)
    (check,) = doctor.check_ports()
    assert said in check.found


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_requirements", lambda: ["click>=8", "no-such-package<2; python_version>'3'"])
    (check,) = doctor.check_packages()
    assert (check.state, check.found, check.fix) == ("broken", "missing: no-such-package", "python lab.py setup")


def test_a_port_without_permission_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Found(catalog.find("K64F"), serial_port="/dev/ttyACM0", reason="sudo usermod -aG dialout $USER")
    monkeypatch.setattr(detection, "find_boards", lambda: [board])
    found, port = doctor.check_ports()
    assert found.found == "K64F on /dev/ttyACM0"
    assert (port.name, port.state, port.fix) == ("/dev/ttyACM0", "broken", "sudo usermod -aG dialout $USER")


def test_a_program_that_only_tests_use_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_program", lambda name: None)
    checks = list(doctor.check_programs())
    assert {check.state for check in checks} == {"optional"}
    assert "sudo apt-get install libcoap3-bin" in checks[1].fix


def test_the_suite_of_stock_boards_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = doctor.check_security()
    assert check.state == "ok" and "pyOpenSSL" in check.found and "OpenSSL " in check.found
    assert check.found.endswith("with ECDHE-ECDSA-AES128-CCM8")
    monkeypatch.setattr(SSL.Connection, "get_cipher_list", lambda connection: ["ECDHE-ECDSA-AES128-GCM-SHA256"])
    (check,) = doctor.check_security()
    assert check.state == "broken" and "without ECDHE-ECDSA-AES128-CCM8" in check.found and "cryptography" in check.fix
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    (check,) = doctor.check_security()
    assert (check.state, check.fix) == ("broken", "python lab.py setup")


@pytest.mark.parametrize(
    ("addresses", "state", "found", "fix"),
    [
        (("192.0.2.1", "2001:db8::1"), "ok", "192.0.2.1, 2001:db8::1", "pdmlab service --host"),
        ((), "optional", "no address but loopback", "virtual boards need none"),
    ],
)
def test_addresses_that_boards_reach_are_listed(
    monkeypatch: pytest.MonkeyPatch, addresses: tuple[str, ...], state: str, found: str, fix: str
) -> None:
    monkeypatch.setattr(reach, "machine_addresses", lambda: addresses)
    (check,) = doctor.check_reach()
    assert (check.state, check.found) == (state, found) and fix in check.fix
