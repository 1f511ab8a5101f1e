"""Reports: JUnit to the byte, mbedgt's tables, JSON; none invents a test case."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from pdmlab.greentea import run_suite, to_json, to_junit, to_text
from pdmlab.greentea.result import Result
from pdmlab.greentea.stock_lines import CONTRADICTION
from tests.greentea.scripted import ScriptedBoard, suite

GOLDEN = Path(__file__).parent / "golden"
DONE = ("{{end;success}}", "{{__exit;0}}")
FAILS = (
    "{{__testcase_count;3}}", "{{__testcase_name;SD+FAT format}}", "{{__testcase_name;SD+FAT 1 file, buff     1}}",
    "{{__testcase_name;SD+FAT 1 file, buff     4}}", "{{__testcase_start;SD+FAT format}}",
    "{{__testcase_finish;SD+FAT format;1;0}}", "{{__testcase_start;SD+FAT 1 file, buff     1}}",
    '[FS] Wrote: "mbed-file-test-0.txt" 128.00KB (39.38KB/s, 3.25 secs)',
    ":52::FAIL: no card: SD_BLOCK_DEVICE_ERROR_NO_DEVICE (fs_suites.py)",
    "{{__testcase_finish;SD+FAT 1 file, buff     1;0;1}}", "{{end;failure}}", "{{__exit;0}}",
)  # fmt: skip


def fixed(board: ScriptedBoard, name: str) -> Result:
    board.simulated = name == "sums"
    result = run_suite(board, name, sync=1, sync_timeout=0.01, timeout=0.05)
    return replace(result, started=1_700_000_000.0, host_s=2.5)


@pytest.fixture
def results() -> list[Result]:
    return [
        fixed(ScriptedBoard(suite("{{__testcase_start;a}}", "{{__testcase_finish;a;1;0}}", *DONE)), "sums"),
        fixed(ScriptedBoard(suite(*FAILS)), "fs-single"),
        fixed(ScriptedBoard(lambda _: [], ["Mbed Bootloader", "booting...", "idle \x07 <here>"]), "connect"),
        fixed(ScriptedBoard(suite("{{__testcase_start;b}}", *["waiting"] * 9)), "net-single"),
    ]


def test_junit_is_the_golden_file(results: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    text = to_junit(results, path)
    assert path.read_text(encoding="utf-8") == text == (GOLDEN / "junit.xml").read_text(encoding="utf-8")


def test_junit_counts_and_names_as_mbedgt_does(results: list[Result]) -> None:
    root = ElementTree.fromstring(to_junit(results).encode())
    assert root.attrib["tests"] == "5" and root.attrib["failures"] == "1" and root.attrib["errors"] == "2"
    classes = {case.attrib["classname"] for case in root.iter("testcase")}
    assert classes == {"K64F.sums", "K64F.fs-single", "K64F.net-single"}
    (connect,) = (s for s in root.iter("testsuite") if s.attrib["name"] == "K64F.connect")
    assert connect.attrib["tests"] == "0" and connect.attrib["errors"] == "1"
    said = connect.findtext("system-err") or ""
    assert said.startswith("SYNC_FAILED: the board prints, but answers no sync") and "idle � <here>" in said


def test_text_has_mbedgts_tables_and_why(results: list[Result]) -> None:
    text = to_text(results)
    assert "| target | platform_name | test suite | result      | elapsed_time (sec) |" in text
    assert "test suite results: 1 OK / 1 FAIL / 1 SYNC_FAILED / 1 TIMEOUT" in text
    assert "| K64F   | K64F          | fs-single  | SD+FAT 1 file, buff     4 | 0      | 0      | SKIPPED |" in text
    assert "test case results: 2 OK / 1 FAIL / 1 SKIPPED / 1 ERROR" in text
    assert "boards: SIMULATED K64F, K64F; seconds of the host clock" in text
    assert "connect on K64F:\nSYNC_FAILED: the board prints" in text
    assert "connect" not in text[text.index("test case report") : text.index("test case results")]


def test_json_has_mbedgts_keys_and_the_rows(results: list[Result], tmp_path: Path) -> None:
    to_json(results, tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["K64F"]
    assert {name: suite["single_test_result"] for name, suite in report.items()} == {
        "sums": "OK", "fs-single": "FAIL", "connect": "SYNC_FAILED", "net-single": "TIMEOUT",
    }  # fmt: skip
    assert (report["sums"]["simulated"], report["connect"]["simulated"]) == (True, False)
    failed = report["fs-single"]["testcase_result"]["SD+FAT 1 file, buff     1"]
    assert (failed["result_text"], failed["passed"], failed["failed"]) == ("FAIL", 0, 1)
    assert report["fs-single"]["rows"][0]["duration_s"] == pytest.approx(3.25038, abs=0.0005)
    assert report["connect"]["testcase_result"] == {}


def test_every_report_shows_the_lines_that_could_not_be_read(results: list[Result]) -> None:
    line = '[FS] Wrote: "mbed-file-test-0.txt" 128.00KB (infKB/s, 3.05 secs)'
    lines = ("{{__testcase_start;a}}", *[line] * 12, "{{__testcase_finish;a;1;0}}", *DONE)
    odd = fixed(ScriptedBoard(suite(*lines)), "fs-multi")
    assert odd.ok and "could not be read as measurements: 12, see" in odd._repr_html_()
    text = to_text([odd])
    assert "fs-multi on K64F: 12 lines look like a measurement, and could not be read:" in text
    assert text.count(f"  {line}: {CONTRADICTION}\n") == 10 and "  and 2 more, see the other reports\n" in text
    (told,) = ElementTree.fromstring(to_junit([odd]).encode()).iter("testsuite")
    assert (told.findtext("system-out") or "").count(line) == 12 and told.attrib["errors"] == "0"
    assert {p.attrib["name"]: p.attrib["value"] for p in told.iter("property")}["unread"] == "12"
    report = json.loads(to_json([odd, *results]))["K64F"]
    assert [row["text"] for row in report["fs-multi"]["unread"]] == [line] * 12 and report["sums"]["unread"] == []
    assert "could not be read" not in to_text(results) + to_junit(results)


def test_results_look_right_in_a_log_and_in_a_cell(results: list[Result]) -> None:
    good, failed, silent, hanging = results
    assert repr(good) == "<sums on SIMULATED K64F: OK, 1 OK, 2.5 s (host clock)>"
    assert repr(failed) == (
        "<fs-single on K64F: FAIL, 1 OK, 1 FAIL, 1 SKIPPED, 2.5 s (host clock)>\n"
        "SD+FAT 1 file, buff     1: line 52: no card: SD_BLOCK_DEVICE_ERROR_NO_DEVICE (fs_suites.py)"
    )
    assert repr(hanging).startswith("<net-single on K64F: TIMEOUT, 1 ERROR, 2.5 s (host clock)>\nthe suite was not")
    shown = silent._repr_html_()
    assert "<b style='color:#D55E00'>SYNC_FAILED</b>, no cases" in shown
    assert "&lt;here&gt;" in shown and "<here>" not in shown
    assert "<td>SD+FAT format</td><td>OK</td>" in failed._repr_html_()
