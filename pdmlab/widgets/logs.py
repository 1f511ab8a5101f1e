"""A message log as it grows: a service's, a device's, or a client's own."""

from __future__ import annotations

from html import escape

import ipywidgets

from pdmlab.capture.view import Messages
from pdmlab.widgets.view import View


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
        """Show the log as it is now; decode it only when there is something new."""
        mark = self._messages.mark
        if mark != self._seen:
            self._seen = mark
            self.table.value = self._messages._repr_html_()
            failed = self._messages.failures()
            self.failures.value = f"<b>{escape(_count(len(failed)))}</b>{failed._repr_html_()}" if len(failed) else ""
        return True


def _count(number: int) -> str:
    return "One thing failed" if number == 1 else f"{number} things failed"


def messages(messages: Messages) -> MessagesView:
    """Show a log as it grows: service.log, service.device_log(id) or client.log.

    By calls: the log itself shows as a table; log.failures() has what failed.
    """
    view = MessagesView(messages)
    view.follow(view.look, every=0.5)
    return view
