"""Greentea, the host's side: key-value protocol, runner, host tests, measured rows and reports.

>>> from pdmlab.greentea import run_suite
>>> run_suite(board).cases
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.greentea.host_tests import HostTest
    from pdmlab.greentea.report import to_json, to_junit, to_text
    from pdmlab.greentea.result import WORDS, Result
    from pdmlab.greentea.runner import run_suite
    from pdmlab.greentea.sdk_host_tests import SdkHostTests
    from pdmlab.greentea.suites import run

_HOMES = {
    "WORDS": "result",
    "HostTest": "host_tests",
    "Result": "result",
    "SdkHostTests": "sdk_host_tests",
    "run": "suites",
    "run_suite": "runner",
    "to_json": "report",
    "to_junit": "report",
    "to_text": "report",
}
__all__ = ["WORDS", "HostTest", "Result", "SdkHostTests", "run", "run_suite", "to_json", "to_junit", "to_text"]

__getattr__ = lazily(__name__, _HOMES)
