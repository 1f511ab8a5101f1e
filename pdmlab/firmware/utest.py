"""The board's side of Greentea: key-values over the serial line, and the test harness that prints cases with them.

What is printed, in which order, is what Mbed OS's greentea-client (protocol 1.3.0) and utest print, whose
default handlers end a suite at its first failure; lines end as with `platform.stdio-convert-newlines`.

>>> with Suite(device, timeout=60, host_test="default_auto", cases=["adds up"]) as suite:
...     with suite.case("adds up"):
...         assert 1 + 1 == 2
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from pdmlab.clock import SECOND
from pdmlab.errors import PdmlabError
from pdmlab.firmware.device import Device

VERSION = "1.3.0"
"""Of the key-value protocol, as greentea-client announces it."""
PREAMBLE = "mbed" * 8
"""Precedes the echo of the host's sync, so that noise before it is told from it."""

_KEY_VALUE = re.compile(r"\{\{\s*([^;{}]+);([^{}]*)\}\}")
_HERE = Path(__file__).parent
FAILURES = (AssertionError, PdmlabError)
"""What fails a case; any other exception is a defect of the firmware, and stops the board."""


class Greentea:
    """The key-value line to the host. Key-values that come before the host's sync are not heard."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def print(self, line: str) -> None:
        """Print a line."""
        self.device.uart.write(f"{line}\r\n")

    def send(self, key: str, *values: object) -> None:
        """Send a key with its values."""
        self.print(f"{{{{{';'.join(map(str, (key, *values)))}}}}}")

    def receive(self, timeout: float | None = None) -> tuple[str, str] | None:
        """Wait for a key-value from the host; None if none comes in `timeout` seconds of device time."""
        clock = self.device.clock
        until = None if timeout is None else clock.now() + round(timeout * SECOND)
        while True:
            left = None if until is None else max(until - clock.now(), 0) / SECOND
            line = self.device.uart.readline(left)
            if line is None:
                return None
            if found := _KEY_VALUE.search(line):
                return found[1], found[2].strip()

    def wait_for(self, *keys: str, timeout: float | None = None) -> tuple[str, str] | None:
        """Wait for one of these keys, passing over others; None after `timeout` seconds of device time.

        The host sends each answer several times; the copies are passed over like that.
        """
        until = None if timeout is None else self.device.clock.now() + round(timeout * SECOND)
        while True:
            left = None if until is None else max(until - self.device.clock.now(), 0) / SECOND
            heard = self.receive(left)
            if heard is None or heard[0] in keys:
                return heard

    def handshake(self, timeout: int, host_test: str) -> bool:
        """Wait for the host's sync, echo it and name the host test; False if the line has closed.

        timeout: seconds (host clock) after which the host gives the suite up.
        """
        while True:
            heard = self.receive()
            if heard is None:
                return False
            self.print(PREAMBLE)
            if heard[0] == "__sync":
                break
        self.send("__sync", heard[1])
        self.send("__version", VERSION)
        self.send("__timeout", timeout)
        self.send("__host_test_name", host_test)
        return True

    def send_row(self, measures: Mapping[str, object]) -> None:
        """Add a `pdmlab_row` to the stock lines: what was measured, and whether the board is simulated.

        Without measures it says that alone. A comma in a value is written %2C, and a per cent sign %25.
        """
        named = {**measures, "simulated": int(self.device.simulated)}
        self.send("pdmlab_row", ",".join(f"{name}={_escaped(value)}" for name, value in named.items()))

    def announce(self, cases: Sequence[str]) -> None:
        """Name the cases, so that the host can tell which were left out."""
        for name in cases:
            self.send("__testcase_name", name)

    def start_case(self, number: int, name: str) -> None:
        """Say that a case begins."""
        self.print("")
        self.print(f">>> Running case #{number}: '{name}'...")
        self.send("__testcase_start", name)

    def finish_case(self, name: str, passed: int, failed: int, reason: str = "") -> None:
        """Say how a case ended."""
        self.send("__testcase_finish", name, passed, failed)
        self.print(f">>> '{name}': {passed} passed, {failed} failed" + (f" with reason '{reason}'" if reason else ""))

    def fail(self, error: BaseException) -> None:
        """Print why a case fails, as Unity does: `:<line>::FAIL: <why> (<file>)`."""
        file, number = _where(error)
        text = error.message if isinstance(error, PdmlabError) else str(error)
        self.print(f":{number}::FAIL: {' '.join(text.split()) or 'Expression Evaluated To FALSE'} ({file})")

    def finish(self, success: bool) -> None:
        """Tell the host that the suite is over."""
        self.send("end", "success" if success else "failure")
        self.send("__exit", 0)


class Suite(Greentea):
    """A suite of utest: `with Suite(...)` waits for the host, and each `with suite.case(name)` is a case.

    Args:
        timeout: seconds (host clock) after which the host gives the suite up.
        host_test: what runs on the host's side, such as default_auto.
        cases: their names, in order.
    """

    def __init__(self, device: Device, *, timeout: int, host_test: str, cases: Sequence[str]) -> None:
        super().__init__(device)
        self.passed = 0
        self.failed = 0
        self._timeout = timeout
        self._host_test = host_test
        self._cases = cases

    def __enter__(self) -> Suite:
        self.handshake(self._timeout, self._host_test)
        self.send("__testcase_count", len(self._cases))
        self.print(f">>> Running {len(self._cases)} test cases...")
        self.announce(self._cases)
        return self

    def case(self, name: str) -> Case:
        """Give the next case; a failure in its `with` block fails it and, as in utest by default, ends the suite."""
        return Case(self, name)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if error is not None and not self.failed:  # no case's: the firmware itself is wrong
            return False
        self.print("")
        reason = " with reason 'Assertion Failed'" if self.failed else ""
        self.print(f">>> Test cases: {self.passed} passed, {self.failed} failed{reason}")
        if self.failed:
            self.print(">>> TESTS FAILED!")
        self.send("__testcase_summary", self.passed, self.failed)
        self.finish(not self.failed)
        return True


class Case:
    """One case of a suite, for `with`."""

    def __init__(self, suite: Suite, name: str) -> None:
        self._suite = suite
        self._name = name

    def __enter__(self) -> Case:
        self._suite.start_case(self._suite.passed + self._suite.failed + 1, self._name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._suite.passed += 1
            self._suite.finish_case(self._name, 1, 0)
        elif isinstance(error, FAILURES):
            self._suite.fail(error)
            self._suite.failed += 1
            self._suite.finish_case(self._name, 0, 1, "Assertion Failed")


def _escaped(value: object) -> str:
    """Return a value as it stands in a `pdmlab_row`, where commas part the pairs and braces would end the line."""
    text = str(value).replace("%", "%25").replace(",", "%2C")
    return text.replace("{", "(").replace("}", ")").replace("\n", " ")


def _where(error: BaseException) -> tuple[str, int]:
    """Return file and line of the firmware that failed: not of what it called."""
    frames = [
        (Path(frame.f_code.co_filename), number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename != __file__
    ]
    ours = [frame for frame in frames if frame[0].parent == _HERE] or frames[:1] or [(Path("?"), 0)]
    return ours[-1][0].name, ours[-1][1]
