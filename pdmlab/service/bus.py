"""News between the parts of a service, and between processes that share a database: something has changed, look there.

News say where to look, never what is there: the database has that, and whoever hears late finds the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

Topic = Literal["channel", "queue", "device", "campaign", "account", "key", "shared key"]
"""What subjects are: the id of an API key whose channel has news; of a device that has something to do in its queue,
or whose registration has changed; of a campaign; of an account, its keys or its quota; of an API key that may do other
things from now on, or nothing; the identity of a pre-shared key that is withdrawn."""

Hearer = Callable[[str], None]


class Bus:
    """The news of one service, heard at once by those in this process."""

    def __init__(self) -> None:
        self._hearers: dict[Topic, list[Hearer]] = {}

    def hear(self, topic: Topic, hearer: Hearer) -> None:
        """Have a function called with each subject of a topic, on the loop."""
        self._hearers.setdefault(topic, []).append(hearer)

    def tell(self, topic: Topic, subject: str) -> None:
        """Tell that something has changed, as part of the open transaction or batch: call it after the write."""
        for hearer in self._hearers.get(topic, ()):
            hearer(subject)
