"""Reports of suites: JUnit XML, a table in text, JSON; with the names and columns of mbedgt's reports.

A test case in a report is one that the board named. A suite that ended before the board named any (it did not
sync, say) has none: it says why in its own place, with the last lines of the console. Each says whether the boards
were simulated, and that its seconds are the host's.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from junitparser import Error, Failure, Skipped, xunit2

from pdmlab.greentea.cases import CaseRecord
from pdmlab.greentea.result import Result

_CLOCK = "host"  # whose seconds a report has
MOST_UNREAD = 10
"""Lines that could not be read that the table in text shows; the other reports have all."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd]")


def to_junit(results: Iterable[Result], path: Path | str | None = None) -> str:
    """Return the results as JUnit XML, and write it to path if one is given; a case's class is `target.suite`."""
    document = xunit2.JUnitXml("pdmlab")
    for result in results:
        document.add_testsuite(_junit_suite(result))
    document.update_statistics()
    suites: list[Any] = list(document)  # junitparser does not say that they are xunit2's
    for suite in suites:
        # An error of the suite's own counts, though it is no test case's.
        if suite.system_err and not suite.failures and not suite.errors:
            suite.errors = 1
            document.errors = (document.errors or 0) + 1
    root = ElementTree.fromstring(document.tostring())
    ElementTree.indent(root)
    text = f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _junit_suite(result: Result) -> Any:  # junitparser ships half its types
    suite = xunit2.TestSuite(f"{result.target}.{result.suite}")
    suite.timestamp = datetime.fromtimestamp(result.started, UTC).isoformat(timespec="seconds")
    properties = {
        "result": result.result,
        "host_test": result.host_test,
        "version": result.version,
        "simulated": "" if result.simulated is None else str(result.simulated).lower(),
        "clock": _CLOCK,
    }
    for name, value in properties.items():
        if value:
            suite.add_property(name, value)
    for case in result.case_records:
        suite.add_testcase(_junit_case(result, case))
    if unread := _unread(result):
        suite.add_property("unread", str(len(unread)))
        suite.system_out = _plain("\n".join([_unread_title(len(unread)), *unread]))
    if not result.ok:
        suite.system_err = _plain("\n".join(explanation(result)))
    return suite


def _junit_case(result: Result, case: CaseRecord) -> Any:
    entry = xunit2.TestCase(case.name, f"{result.target}.{result.suite}", round(case.host_s, 3))
    match case.result:
        case "FAIL":
            entry.result = [Failure(_plain(case.message or f"{case.failed} failed"), "FAIL")]
        case "ERROR":
            entry.result = [Error(_plain(f"it began, but did not end: {result.reason}"), result.result)]
        case "SKIPPED":
            entry.result = [Skipped("the board named it, but did not begin it", "SKIPPED")]
    if case.lines and case.result in ("FAIL", "ERROR"):
        entry.system_out = _plain("\n".join(case.lines))
    return entry


def explanation(result: Result) -> list[str]:
    """Return why a result is not OK, what to try, and the last lines of the console."""
    lines = [f"{result.result}: {result.reason}" if result.reason else result.result]
    if result.hint:
        lines.append(f"hint: {result.hint}")
    lines += [f"note: {note}" for note in result.notes]
    if result.last_lines:
        lines += ["the last lines of the console:", *(f"  {line}" for line in result.last_lines)]
    return lines


def _unread(result: Result) -> list[str]:
    """Return the lines that look like measurements and could not be read, with why."""
    return [f"{row['text']}: {row['why']}" for row in result.unread.to_dict("records")]


def _unread_title(count: int) -> str:
    return f"{count} {'line looks' if count == 1 else 'lines look'} like a measurement, and could not be read:"


def to_text(results: Sequence[Result], path: Path | str | None = None) -> str:
    """Return the results as mbedgt prints them: a table of suites, a table of cases, and why what failed did."""
    suites = [
        (r.target, r.target, r.suite, r.result, f"{r.host_s:.2f}") for r in results
    ]  # fmt: skip
    cases = [
        (r.target, r.target, r.suite, c.name, str(c.passed), str(c.failed), c.result, f"{c.host_s:.2f}")
        for r in results
        for c in r.case_records
    ]
    columns = ("target", "platform_name", "test suite")
    parts = [
        "test suite report:",
        _table((*columns, "result", "elapsed_time (sec)"), suites),
        f"test suite results: {_count(r.result for r in results)}",
        f"boards: {', '.join(dict.fromkeys(r.board for r in results)) or 'none'}; seconds of the {_CLOCK} clock",
    ]
    if cases:
        parts += [
            "test case report:",
            _table((*columns, "test case", "passed", "failed", "result", "elapsed_time (sec)"), cases),
            f"test case results: {_count(c.result for r in results for c in r.case_records)}",
        ]
    for result in results:
        if not result.ok:
            parts.append("\n".join([f"{result.suite} on {result.board}:", *explanation(result)]))
        if unread := _unread(result):
            parts.append(f"{result.suite} on {result.board}: {_unread_title(len(unread))}")
            parts += [f"  {line}" for line in unread[:MOST_UNREAD]]
            if len(unread) > MOST_UNREAD:
                parts.append(f"  and {len(unread) - MOST_UNREAD} more, see the other reports")
    text = "\n".join(parts) + "\n"
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def to_json(results: Iterable[Result], path: Path | str | None = None) -> str:
    """Return the results as JSON by target and suite, with mbedgt's keys and the measured rows."""
    document: dict[str, dict[str, Any]] = {}
    for r in results:
        document.setdefault(r.target, {})[r.suite] = {
            "single_test_result": r.result,
            "simulated": r.simulated,
            "elapsed_time": round(r.host_s, 3),
            "clock": _CLOCK,
            "platform_name": r.target,
            "reason": r.reason,
            "hint": r.hint,
            "host_test": r.host_test,
            "greentea_client": r.version,
            "started": datetime.fromtimestamp(r.started, UTC).isoformat(timespec="milliseconds"),
            "testcase_result": {
                case.name: {
                    "result_text": case.result, "passed": case.passed, "failed": case.failed,
                    "duration": round(case.host_s, 3), "message": case.message, "utest_log": case.lines,
                }
                for case in r.case_records
            },
            "rows": json.loads(r.rows.to_json(orient="records", double_precision=15)),
            "unread": json.loads(r.unread.to_json(orient="records", double_precision=15)),
            "last_lines": [] if r.ok else r.last_lines,
        }  # fmt: skip
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if path is not None:
        Path(path).write_text(text + "\n", encoding="utf-8")
    return text


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|-" + "-|-".join("-" * width for width in widths) + "-|"
    return "\n".join([line(columns), rule, *map(line, rows)])


def _count(words: Iterable[str]) -> str:
    return " / ".join(f"{number} {word}" for word, number in Counter(words).items()) or "none"


def _plain(text: str) -> str:
    """Return text without what XML cannot carry."""
    return _NOT_XML.sub("�", text)
