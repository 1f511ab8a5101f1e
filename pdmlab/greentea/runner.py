"""The host's side of Greentea: resets a board, syncs with it, answers it and says what came of it.

It drives anything with a console and a reset button, whatever its URL. Waiting and retrying are as in ARM's
htrun: the sync is sent up to `sync` times, and the board is reset before each further one; key-values before
its echo are not heard; the board's `__timeout` begins when it arrives.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from pathlib import Path

from pdmlab.errors import BoardError, ConsoleLost, MalformedEvent, PdmlabError
from pdmlab.greentea.board import Board, ConsoleLine
from pdmlab.greentea.cases import CaseTracker
from pdmlab.greentea.host_tests import BUILT_IN, HostTest, HostTests
from pdmlab.greentea.protocol import WAKE_UP, Event, KeyValue, Malformed, Text, format_key_value, parse
from pdmlab.greentea.result import Result, Word
from pdmlab.greentea.rows import ROW_KEY, Measured
from pdmlab.greentea.saving import SuiteRun, about_board
from pdmlab.greentea.silence import explain_fault, explain_silence

PREAMBLE_TIMEOUT = 10.0
"""Seconds (host clock) from the sync to the host test's name."""
AFTER_END = 1.0
"""Seconds (host clock) that `__exit` may come after `end`."""
_SLICE = 0.2


def run_suite(
    board: Board,
    suite: str = "suite",
    *,
    target: str | None = None,
    sync: int = 2,
    sync_timeout: float = 5.0,
    timeout: float | None = None,
    host_tests: HostTests | None = None,
    on_event: Callable[[Event], None] | None = None,
    save: bool = False,
    data: Path | str | None = None,
) -> Result:
    """Run the suite that is on the board and return what came of it; a failure is a result, not an exception.

    Args:
        suite, target: what reports call the suite and the board; default for the board: its catalogue name.
        sync: how often the sync is sent before SYNC_FAILED; negative for as long as it takes.
        sync_timeout: seconds (host clock) to wait for each echo.
        timeout: seconds (host clock) for the suite, instead of what the board asks for.
        host_tests: host tests by name, besides the built-in ones.
        on_event: called with everything that the board says, as it comes.
        save: keep the measured rows as a run, each as it comes; `result.run` is its name.
        data: the folder of the runs; default: the setting.
    """
    conversation = _Conversation(board, suite, target or board_name(board), sync, sync_timeout, timeout,
                                 {**BUILT_IN, **(host_tests or {})}, on_event)  # fmt: skip
    return conversation.run_and_save(data) if save else conversation.run()


def board_name(board: Board) -> str:
    """Return what reports call a board: its target name."""
    row = getattr(board, "info", None)
    return str(getattr(row, "target", None) or getattr(board, "target", None) or "board")


def measured_on(board: Board, suite: str, target: str | None = None) -> Measured:
    """Return what collects the suite's rows, with what the host takes the board for."""
    return Measured(target or board_name(board), getattr(board, "simulated", None), suite)


class _Over(Exception):
    """The conversation is over; carries the word, why, and what to try."""

    def __init__(self, word: Word, reason: str = "", hint: str = "") -> None:
        super().__init__(word)
        self.word = word
        self.reason = reason
        self.hint = hint


class _Conversation:
    """One run of a suite; it is the host test's `Talk`."""

    def __init__(
        self, board: Board, suite: str, target: str, sync: int, sync_timeout: float, timeout: float | None,
        host_tests: HostTests, on_event: Callable[[Event], None] | None,
    ) -> None:  # fmt: skip
        self._board = board
        self._console = board.console
        self._sync = sync
        self._sync_timeout = sync_timeout
        self._timeout = timeout
        self._host_tests = host_tests
        self._on_event = on_event
        self._host_test: HostTest | None = None
        self._cases = CaseTracker()
        self._success: bool | None = None
        self._completed: tuple[bool, str] | None = None
        self._exited = False
        self._no_reset = ""  # why the board could not be reset
        self._limit = 0.0
        self._begun = 0.0
        self._last: float | None = None  # when to stop listening, once the end has been said
        self._started = time.monotonic()
        self._result = Result(
            suite, target, "UNDEF", measured=measured_on(board, suite, target), about=about_board(board, target)
        )

    # -- what a host test may do -----------------------------------------------------------------------

    def send(self, key: str, value: object) -> None:
        self._console.write(format_key_value(key, value) + "\n")

    def reset(self) -> None:
        self._board.reset()

    def complete(self, success: bool, reason: str = "") -> None:
        # The board may still say how the case ended in which this happened.
        self._completed = (success, reason)
        self._last = time.monotonic() + AFTER_END

    def log(self, text: str) -> None:
        self._result.notes.append(text)

    # -- the course of it ------------------------------------------------------------------------------

    def run_and_save(self, data: Path | str | None) -> Result:
        """Run the suite and keep its rows as they come, also those of one that is interrupted."""
        result = self._result
        run = SuiteRun(result.suite, result.about, data=data)
        result.measured.on_row = run.keep
        state = "interrupted"
        try:
            self.run()
            state = "finished"
        finally:
            result.run = run.finish(result, state)
        return result

    def run(self) -> Result:
        result = self._result
        result.started = time.time()
        before = len(self._console.transcript) + self._forgotten()
        try:
            self._shake_hands()
            self._listen()
        except _Over as over:
            result.result, result.reason, result.hint = over.word, over.reason, over.hint
        except ConsoleLost as error:
            result.result, result.reason, result.hint = "IOERR_SERIAL", error.message, error.hint or ""
        finally:
            try:
                if self._host_test is not None:
                    self._host_test.teardown()
            except PdmlabError as error:
                self.log(f"the host test could not clean up: {error.message}")
            result.host_s = time.monotonic() - self._started
            result.measured.end(time.time())
            result.case_records = self._cases.cases
            since = max(before - self._forgotten(), 0)  # not by time: the lines of a log are older than the suite
            result.transcript = self._console.transcript.iloc[since:].reset_index(drop=True)
        return result

    def _forgotten(self) -> int:
        return int(getattr(self._console, "forgotten", 0))

    def _shake_hands(self) -> None:
        """Reset the board and have it echo a sync, or end with SYNC_FAILED."""
        sent: list[str] = []
        wrong = 0
        tries = self._sync
        while tries != 0:
            tries -= 1
            self._restart()
            sent.append(str(uuid.uuid4()))
            self._console.write(WAKE_UP)
            self.send("__sync", sent[-1])
            deadline = time.monotonic() + self._sync_timeout
            while (line := self._read(deadline)) is not None:
                for event in self._take(line):
                    if not isinstance(event, KeyValue) or event.key != "__sync":
                        continue
                    if event.value in sent:
                        return
                    wrong += 1
        why, hint = explain_silence(self._result.events, sent=len(sent), wrong=wrong, seconds=self._sync_timeout)
        raise _Over("SYNC_FAILED", why, self._no_reset or hint)

    def _restart(self) -> None:
        """Reset the board; where its line carries no break, take it as it is: it may have just booted."""
        self._console.skip()
        try:
            self._board.reset()
        except BoardError as error:
            if not self._no_reset:
                self._no_reset = f"{error.message}: {error.hint}" if error.hint else error.message
                self.log(f"not reset: {error.message}")

    def _listen(self) -> None:
        """Take what the board says, and answer it, until the suite is over."""
        self._limit = self._timeout or PREAMBLE_TIMEOUT
        self._begun = time.monotonic()
        while True:
            line = self._read(self._begun + self._limit if self._last is None else self._last)
            for event in self._take(line) if line is not None else ():
                if isinstance(event, KeyValue):
                    self._key_value(event)
                else:
                    self._watch_for_faults(event)
            self._stop_if_over(silent=line is None)

    def _key_value(self, event: KeyValue) -> None:
        match event.key:
            case "__version":
                self._result.version = event.value
            case "__timeout" if self._host_test is None:
                self._begun = time.monotonic()
                self._limit = self._timeout or float(event.number())
            case "__timeout_set" if self._timeout is None:
                self._limit = float(event.number())
            case "__timeout_adjust" if self._timeout is None:
                self._limit += event.number()
            case "__host_test_name" if self._host_test is None:
                self._begin(event.value)
            case "__exit":
                self._exited = True
            case "end":
                self._success = event.value == "success"
                self._last = self._last or time.monotonic() + AFTER_END
            case _ if self._host_test is not None and not event.system and self._completed is None:
                self._attempt(lambda test: test.hear(event))

    def _stop_if_over(self, *, silent: bool) -> None:
        """End if the board, or the host test, has said all; raise what came of it."""
        if self._completed is not None and (silent or self._exited or self._cases.current is None):
            success, reason = self._completed
            raise _Over("OK" if success else "FAIL", reason)
        if self._exited or (silent and self._success is not None):
            self._judge()
        if silent:
            raise self._ran_out()

    def _begin(self, name: str) -> None:
        """Start the host test that the board asks for."""
        # In a log, whatever a host test would answer has been answered.
        make = HostTest if getattr(self._board, "recorded", False) else self._host_tests.get(name)
        if make is None:
            raise _Over(
                "ERROR",
                f"the board asks for the host test {name!r}, which is not known here",
                f"known are {', '.join(sorted(self._host_tests))}; give it with host_tests={{{name!r}: …}}",
            )
        self._result.host_test = name
        self._host_test = make()
        self._attempt(lambda test: test.setup(self))

    def _attempt(self, work: Callable[[HostTest], object]) -> None:
        """Let the host test do something; what goes wrong in it ends the suite with ERROR."""
        assert self._host_test is not None
        try:
            work(self._host_test)
        except ConsoleLost:
            raise
        except PdmlabError as error:
            raise _Over(
                "ERROR", f"the host test {self._result.host_test}: {error.message}", error.hint or ""
            ) from error

    def _judge(self) -> None:
        """End with the board's word, else the host test's."""
        success = self._success
        if success is None and self._host_test is not None:
            success = self._host_test.result()
        if success is None:
            raise _Over("ERROR", "the board ended the suite without a result", "its firmware sends {{end;success}}")
        failed = [case for case in self._cases.cases if case.result in ("FAIL", "ERROR")]
        why = "; ".join(f"{case.name}: {case.message or 'failed'}" for case in failed)
        raise _Over("OK" if success else "FAIL", "" if success and not failed else why or "the board says failure")

    def _ran_out(self) -> _Over:
        limit = self._limit
        if self._host_test is None:
            return _Over(
                "TIMEOUT",
                f"the board echoed the sync, but named no host test in {limit:g} s",
                "is it a Greentea suite that runs there?",
            )
        case = self._cases.current
        where = f"in case {case.name!r}" if case is not None else "between cases"
        last = self._result.last_lines
        return _Over(
            "TIMEOUT",
            f"the suite was not over after {limit:g} s (host clock), {where}; last line: {last[-1] if last else ''!r}",
            "give it longer with timeout=, or look at result.transcript for what it waits for",
        )

    def _watch_for_faults(self, event: Event) -> None:
        """End at once if the board has printed that it stopped: it will say nothing more."""
        if isinstance(event, Text) and (stopped := explain_fault(event.text, self._result.events)):
            raise _Over(*stopped)

    # -- the line --------------------------------------------------------------------------------------

    def _read(self, deadline: float) -> ConsoleLine | None:
        """Return the next line, or None when the deadline (monotonic, s) has passed."""
        while True:
            left = deadline - time.monotonic()
            line = self._console.read_line(max(min(left, _SLICE), 0.0))
            if line is not None or left <= 0:
                return line

    def _take(self, line: ConsoleLine) -> list[Event]:
        """Return what a line says, and note it."""
        events = parse(line.text, line.time)
        for event in events:
            self._result.events.append(event)
            case = self._cases.current
            name = case.name if case is not None else ""
            try:
                self._cases.feed(event)
            except MalformedEvent as error:
                self._result.events.append(Malformed(str(event), error.message, line.time))
            if isinstance(event, KeyValue) and event.key == ROW_KEY:
                self._result.measured.row(event.value, name)
            elif isinstance(event, Text | Malformed):
                self._result.measured.line(event.text, name, line.time)
            if self._on_event is not None:
                self._on_event(event)
        return events
