"""The host's side of a suite: what answers the board's keys and decides the result.

A host test of one's own derives from `HostTest`, puts what it answers into `answers`, and is handed to
`run_suite(..., host_tests={"its_name": ItsClass})`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

from pdmlab.greentea.protocol import KeyValue


class Talk(Protocol):
    """What a host test may do while its suite runs."""

    def send(self, key: str, value: object) -> None:
        """Send a key-value to the board.

        Raises:
            ConsoleLost: the line broke off.
        """
        ...

    def reset(self) -> None:
        """Press the board's reset button."""
        ...

    def complete(self, success: bool, reason: str = "") -> None:
        """End the suite, with the reason if it failed."""
        ...

    def log(self, text: str) -> None:
        """Say something in the report."""
        ...


class HostTest:
    """The base of host tests; by itself it leaves everything to the board's `end`."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[str], None]] = {}
        """Key -> what to do with its value."""
        self.talk: Talk

    def setup(self, talk: Talk) -> None:
        """Begin: the board has named this host test."""
        self.talk = talk

    def hear(self, event: KeyValue) -> bool:
        """Take a key of the board's; return whether it is one of this host test's."""
        answer = self.answers.get(event.key)
        if answer is None:
            return False
        answer(event.value)
        return True

    def result(self) -> bool | None:
        """Return the result if the board did not send `end`; None if there is none."""
        return None

    def teardown(self) -> None:
        """End, whatever happened."""


class EchoTest(HostTest):
    """Sends texts that the board must send back unchanged: `echo_count` of them."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = {"echo_count": self._begin, "echo": self._take}
        self._left = 0
        self._sent: list[str] = []
        self._back: list[str] = []

    def _begin(self, value: str) -> None:
        self._left = int(value)
        self.talk.send("echo_count", value)
        self._send()

    def _take(self, value: str) -> None:
        self._back.append(value)
        self._send()

    def _send(self) -> None:
        if self._left > 0:
            self._left -= 1
            self._sent.append(str(uuid.uuid4()))
            self.talk.send("echo", self._sent[-1])

    def result(self) -> bool | None:
        """Return whether what came back is what was sent."""
        return self._sent == self._back


HostTests: TypeAlias = Mapping[str, Callable[[], HostTest]]

BUILT_IN: HostTests = {"default": HostTest, "default_auto": HostTest, "echo": EchoTest}
"""By the names that boards ask for."""
