"""News between the parts of a service, and between processes that share a database: something has changed, look there.

News say where to look, never what is there: the database has that, and whoever hears late finds the same. To other
processes they go with the commit (PostgreSQL's NOTIFY), all of a transaction together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import sqlalchemy as sa

from pdmlab.service.statements import Statement
from pdmlab.service.store import Store

Topic = Literal["channel", "queue", "device", "campaign", "account", "key", "shared key", "node", "unanswered"]
"""What subjects are: the id of an API key whose channel has news; of a device that has something to do in its queue,
or whose registration has changed; of a campaign; of an account, its keys or its quota; of an API key that may do other
things from now on, or nothing; the identity of a pre-shared key that is withdrawn; the name
of a process that has come or gone; and, because it has no row, a request that wants no answer (JSON)."""

Hearer = Callable[[str], None]
News = tuple[Topic, str]

CHANNEL = "pdmlab"
"""The channel of NOTIFY, in a database."""
MAX_B = 7_900
"""Bytes that one NOTIFY carries, at most: PostgreSQL takes less than 8000."""

_NOTIFY = Statement(sa.select(sa.func.pg_notify(CHANNEL, sa.bindparam("news", type_=sa.Text))))


class Bus:
    """The news of one service: heard at once by those in this process, soon by those in others."""

    def __init__(self, store: Store, sender: str = "") -> None:
        self._store = store
        self._sender = sender
        self._hearers: dict[Topic, list[tuple[Hearer, bool]]] = {}
        self._news: dict[News, None] = {}
        if store.shared:
            store.before_commit.append(self._send)

    def hear(self, topic: Topic, hearer: Hearer, *, own: bool = True) -> None:
        """Have a function called with each subject of a topic, on the loop; own: what this process tells, too."""
        self._hearers.setdefault(topic, []).append((hearer, own))

    def tell(self, topic: Topic, subject: str) -> None:
        """Tell that something has changed, as part of the open transaction or batch: call it after the write."""
        if self._store.shared:
            self._news[topic, subject] = None
            if not self._store.writing:
                self._send()
        for hearer, own in self._hearers.get(topic, ()):
            if own:
                hearer(subject)

    def heard(self, payload: str) -> None:
        """Pass on what some process has told, unless it was this one."""
        sender, news = json.loads(payload)
        if sender == self._sender:
            return
        for topic, subject in news:
            for hearer, _ in self._hearers.get(topic, ()):
                hearer(subject)

    def _send(self) -> None:
        news, self._news = list(self._news), {}
        for payload in _payloads(self._sender, news):
            self._store.rows(_NOTIFY, news=payload)


def _payloads(sender: str, news: Sequence[News]) -> Iterator[str]:
    """Return news in payloads that are small enough."""
    begin, end, size = f'["{sender}",[', "]]", 0
    some: list[str] = []
    for each in news:
        text = json.dumps(each, separators=(",", ":"))
        if some and len(begin) + size + len(text) + len(end) > MAX_B:
            yield begin + ",".join(some) + end
            some, size = [], 0
        some.append(text)
        size += len(text) + 1
    if some:
        yield begin + ",".join(some) + end
