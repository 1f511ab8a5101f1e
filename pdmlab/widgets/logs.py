"""A message log as it grows: a service's, a device's or a client's own, or one that is asked for over REST."""

from __future__ import annotations

from collections import deque
from html import escape
from typing import Any, Protocol

import ipywidgets

from pdmlab.capture import LoggedMessage
from pdmlab.capture.kept import Kept, KeptEvent
from pdmlab.capture.view import Messages
from pdmlab.errors import PdmlabError
from pdmlab.widgets.view import View

KEPT = 2_000
"""Rows that are kept of what is asked for: the latest."""


class Asked(Protocol):
    """A Cloud or one of its devices."""

    def messages(self, after: int = -1) -> list[LoggedMessage]:
        """Return the rows with a greater number."""
        ...


class Fetched(Messages):
    """The rows of a log that is elsewhere: in words already, so that none of them is here as it passed."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._rows: deque[LoggedMessage] = deque(maxlen=KEPT)

    def __repr__(self) -> str:
        return f"<{self.title}, {len(self._rows)} rows>"

    @property
    def title(self) -> str:
        """See Messages.title."""
        id = getattr(self._asked, "id", "")
        return f"Log of device {id}" if id else "Log of the service"

    def kept(self) -> list[Kept | KeptEvent]:
        """Return nothing: what is here came as words."""
        return []

    def rows(self) -> list[LoggedMessage]:
        """See Messages.rows."""
        return list(self._rows)

    @property
    def mark(self) -> int:
        """Ask for what is new; return the number that the next message will have.

        Raises:
            PdmlabError: the service does not answer, or refuses.
        """
        self._rows.extend(self._asked.messages(self._rows[-1].number if self._rows else -1))
        return self._rows[-1].number + 1 if self._rows else 0


class MessagesView(View):
    """The latest messages in words, and below them what failed, with what it means and what to do."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._seen = -1
        self.table = ipywidgets.HTML()
        self.failures = ipywidgets.HTML()
        super().__init__([self.table, self.failures], still=lambda: f"{self.table.value}{self.failures.value}")
        self.look()

    def look(self) -> bool:
        """Show the log as it is now; decode it only when there is something new. False if it cannot be asked for."""
        try:
            mark = self._messages.mark
        except PdmlabError as error:
            self.failures.value = f"<small>{escape(error.message)}</small>"
            return False
        if mark != self._seen:
            self._seen = mark
            self.table.value = self._messages._repr_html_()
            failed = self._messages.failures()
            self.failures.value = f"<b>{escape(_count(len(failed)))}</b>{failed._repr_html_()}" if len(failed) else ""
        return True


def _count(number: int) -> str:
    return "One thing failed" if number == 1 else f"{number} things failed"


def messages(messages: Messages | Asked | Any) -> MessagesView:  # Any: a Cloud's methods are made for both its kinds
    """Show a log as it grows: service.log, service.device_log(id), client.log; or of a Cloud or its device, by REST.

    By calls: the log itself shows as a table; log.failures() has what failed; device.log().
    """
    view = MessagesView(messages if isinstance(messages, Messages) else Fetched(messages))
    view.follow(view.look, every=0.5 if isinstance(messages, Messages) else 2.0)
    return view
