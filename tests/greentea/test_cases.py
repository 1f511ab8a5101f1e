"""Cases are followed from their names to their ends."""

from __future__ import annotations

from pdmlab.firmware import fs_suites, net_suites
from pdmlab.greentea.cases import SEED_NAMES, CaseTracker, seed_name
from pdmlab.greentea.protocol import parse

CONNECT = [
    "Initialize Simple PDMC ", "Pelion DM Bootstrap & Register", "Pelion DM Directory", "Pelion DM Re-register",
    "Post-reset Identity", "ResourceLwM2M GET", "ResourceLwM2M SET Test", "ResourceLwM2M PUT Test",
    "Resource LwM2M POST Test", "Firmware Prepare", "Firmware Download", "Firmware Update",
]  # fmt: skip


def follow(*lines: str) -> CaseTracker:
    tracker = CaseTracker()
    for time, line in enumerate(lines):
        for event in parse(line, float(time)):
            tracker.feed(event)
    return tracker


def test_a_case_is_ok_failed_broken_off_or_left_out() -> None:
    tracker = follow(
        "{{__testcase_count;4}}",
        *(f"{{{{__testcase_name;{name}}}}}" for name in "abcd"),
        "{{__testcase_start;a}}",
        "{{__testcase_finish;a;1;0}}",
        "{{__testcase_start;b}}",
        ":42::FAIL: Expected 0 Was -5005 (fs_suites.py)",
        "{{__testcase_finish;b;0;1}}",
        "{{__testcase_start;c}}",
        "[ERROR] Device failed to register.",
    )
    assert tracker.announced == 4
    assert [(case.name, case.result) for case in tracker.cases] == [
        ("a", "OK"), ("b", "FAIL"), ("c", "ERROR"), ("d", "SKIPPED"),
    ]  # fmt: skip
    a, b, c, _ = tracker.cases
    assert a.host_s == 1.0
    assert b.message == "line 42: Expected 0 Was -5005 (fs_suites.py)"
    assert b.lines == [":42::FAIL: Expected 0 Was -5005 (fs_suites.py)"]
    assert c.message == "Device failed to register."
    assert tracker.current is c


def test_a_case_that_a_restart_begins_anew_is_one_case() -> None:
    tracker = follow(
        "{{__testcase_start;Connect to Ethernet}}",
        "{{__testcase_finish;Connect to Ethernet;1;0}}",
        "{{__testcase_start;Connect to Ethernet}}",
        "{{__testcase_finish;Connect to Ethernet;2;0}}",
    )
    (case,) = tracker.cases
    assert (case.result, case.passed, case.failed) == ("OK", 2, 0)


def test_a_failure_stays_one_when_the_case_runs_again() -> None:
    tracker = follow(
        "{{__testcase_start;a}}", "{{__testcase_finish;a;0;1}}", "{{__testcase_start;a}}", "{{__testcase_finish;a;1;0}}"
    )
    assert [case.result for case in tracker.cases] == ["FAIL"]


def test_a_finish_without_a_start_counts() -> None:
    (case,) = follow("{{__testcase_finish;a;1;0}}").cases
    assert (case.name, case.result, case.host_s) == ("a", "OK", 0.0)


def test_names_of_stock_firmware_map_to_the_seeds() -> None:
    assert set(SEED_NAMES.values()) == set(CONNECT)
    assert seed_name("Pelion Bootstrap & Reg.") == "Pelion DM Bootstrap & Register"
    for name in CONNECT:
        assert seed_name(name) == name
    assert seed_name("SD+FAT 1 file, buff   256") == "SD+FAT 1 file, buff   256"
    assert fs_suites.HOST_TEST == net_suites.HOST_TEST == "default_auto"
