"""Greentea, the host's side: key-value protocol, runner, host tests, measured rows and reports.

>>> from pdmlab.greentea import run_suite
>>> run_suite(board).cases
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.greentea.host_tests import HostTest
    from pdmlab.greentea.report import to_json, to_junit, to_text
    from pdmlab.greentea.result import WORDS, Result
    from pdmlab.greentea.runner import run_suite
    from pdmlab.greentea.sdk_host_tests import SdkHostTests
    from pdmlab.greentea.suites import run

_HOMES = {
    "WORDS": "pdmlab.greentea.result",
    "HostTest": "pdmlab.greentea.host_tests",
    "Result": "pdmlab.greentea.result",
    "SdkHostTests": "pdmlab.greentea.sdk_host_tests",
    "run": "pdmlab.greentea.suites",
    "run_suite": "pdmlab.greentea.runner",
    "to_json": "pdmlab.greentea.report",
    "to_junit": "pdmlab.greentea.report",
    "to_text": "pdmlab.greentea.report",
}
__all__ = ["WORDS", "HostTest", "Result", "SdkHostTests", "run", "run_suite", "to_json", "to_junit", "to_text"]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
