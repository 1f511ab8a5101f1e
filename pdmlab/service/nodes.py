"""The processes that share a database: who is there, which is known by a heartbeat, and what those who are gone leave.

Each has a name, and is a node. A device's connection belongs to one of them, which its registration names. Where the
database is one process's own (SQLite), there are no others, and nothing of this is asked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.errors import ServiceError
from pdmlab.service.listener import Listener
from pdmlab.service.schema import nodes as table
from pdmlab.service.schema import registrations
from pdmlab.service.store import Rows

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_log = logging.getLogger(__name__)

BEAT_S = 5.0
"""Between two heartbeats of a node, and between its looks at those of the others."""
DEAD_S = 20.0
"""A node whose heartbeat is as old is gone, and others do what it has left. Their clocks have to agree that far."""
FORGOTTEN_S = 7 * 86_400.0
"""How long a node is remembered that is gone, and has no device."""


class Nodes:
    """The nodes of a database, `name` among them.

    on_gone     called with the name of a node that has stopped or is not heard of any more
    on_news     called when news may have been missed: whatever one knows by heart is to be looked up again
    on_beat     called at each heartbeat, with the node's own time (Unix s)
    """

    def __init__(self, core: Core, name: str) -> None:
        self.name = name
        self.on_gone: list[Callable[[str], None]] = []
        self.on_news: list[Callable[[], None]] = []
        self.on_beat: list[Callable[[float], None]] = []
        self._core = core
        self._store = core.store
        self._run = ""
        self._known: dict[str, float] = {}
        """The others' heartbeats."""
        self._gone: set[str] = set()
        self._blind = False
        """Whether news were missed, and it could not be seen to yet."""
        self._timer: asyncio.TimerHandle | None = None
        self._listener: Listener | None = None
        if self._store.shared:
            self._store.on_reconnect.append(self._missed)
            core.bus.hear("node", self._heard, own=False)

    def __repr__(self) -> str:
        others = len(self._known.keys() - self._gone)
        return f"<Nodes: {self.name!r} and {others} other{'' if others == 1 else 's'}>"

    # -- asking ------------------------------------------------------------------------------------------

    def is_own(self, node: str) -> bool:
        """Whether a node is this process."""
        return not self._store.shared or node == self.name

    def lives(self, node: str) -> bool:
        """Whether a node is there, as far as its heartbeat tells."""
        return self.is_own(node) or self._core.now() - self._known.get(node, 0.0) <= DEAD_S

    def list(self) -> Rows:
        """Return the nodes by name: name, alive, devices, heartbeat (Unix s), started_at and addresses."""
        counted = sa.select(registrations.c.node, sa.func.count().label("devices")).group_by(registrations.c.node)
        devices = {row["node"]: row["devices"] for row in self._store.rows(counted)}
        rows = self._store.rows(sa.select(table).order_by(table.c.name)) if self._store.shared else []
        return [
            {
                "name": row["name"],
                "alive": row["name"] == self.name or self._core.now() - row["heartbeat"] <= DEAD_S,
                "devices": devices.get(row["name"], 0),
                **{name: row[name] for name in ("heartbeat", "started_at", "addresses")},
            }
            for row in rows
        ]

    # -- being one ---------------------------------------------------------------------------------------

    async def join(self) -> None:
        """Take the name, and hear what the others tell from now on.

        Raises:
            PortBusy: another process has the name.
            ServiceError: the database cannot be reached (503).
        """
        if not self._store.shared:
            return
        self._listener = Listener(self._store.url, self.name, self._core.bus.heard, self._missed)
        await self._listener.open()
        self._run = self._store.ids.new()
        self._write(started_at=self._store.timestamp(), run=self._run, heartbeat=self._core.now())
        rows = self._others()
        self._known = {row["name"]: row["heartbeat"] for row in rows}
        self._gone = {name for name in self._known if not self.lives(name)}

    def begin(self, addresses: Mapping[str, str]) -> None:
        """Show the others that this one is there, with its addresses, and go on doing so."""
        if self._store.shared:
            self._write(addresses=dict(addresses), heartbeat=self._core.now())
            self._beat()

    def look(self) -> None:
        """Hear at once what others have told; else the loop does, in its turn."""
        if self._listener is not None:
            self._listener.look()

    def leave(self) -> None:
        """Stop being one: the others do what is left. A second call does nothing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._run:
            try:
                self._write(heartbeat=0.0)
            except ServiceError as error:
                _log.info("the others will miss this process by themselves: %s", error)
            self._run = ""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _write(self, **values: object) -> None:
        mine = table.c.name == self.name
        with self._store.begin() as db:
            if not db.execute(sa.update(table).where(mine).values(values)).rowcount:
                db.execute(sa.insert(table).values(name=self.name, **values))
            if "run" not in values:
                self._core.bus.tell("node", self.name)

    def _beat(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)
        now = self._core.now()
        try:
            with self._store.begin() as db:
                mine = table.c.name == self.name, table.c.run == self._run
                if not db.execute(sa.update(table).where(*mine).values(heartbeat=now)).rowcount:
                    _log.error("another process has taken the name %r on %r", self.name, self._store)
                    return
            self._look_at_others(now)
            if self._blind:
                self._look_everywhere()
            for hear in self.on_beat:
                hear(now)
        except ServiceError as error:
            _log.warning("no heartbeat: %s", error)

    def _look_at_others(self, now: float) -> None:
        self._known = {row["name"]: row["heartbeat"] for row in self._others()}
        gone = {name for name in self._known if not self.lives(name)}
        missed, self._gone = gone - self._gone, gone
        for name in sorted(missed):
            _log.info("the process %r has ended, or is not heard of any more", name)
            for hear in self.on_gone:
                hear(name)
        for name in gone:
            if self._known[name] < now - FORGOTTEN_S:
                self._forget(name)

    def _others(self) -> Rows:
        return self._store.rows(sa.select(table.c.name, table.c.heartbeat).where(table.c.name != self.name))

    def _forget(self, name: str) -> None:
        with self._store.begin() as db:
            used = sa.exists().where(registrations.c.node == name)
            old = table.c.heartbeat < self._core.now() - FORGOTTEN_S
            db.execute(sa.delete(table).where(table.c.name == name, old, ~used))

    def _heard(self, name: str) -> None:
        """Another node has come or gone."""
        if self._timer is not None:
            self._gone.discard(name)
            self._look_at_others(self._core.now())

    def _missed(self) -> None:
        """Look everywhere, once the loop has its turn: news may have passed while nobody could hear them."""
        if self._timer is not None:
            asyncio.get_running_loop().call_soon(self._look_everywhere)

    def _look_everywhere(self) -> None:
        self._blind = False
        try:
            for hear in self.on_news:
                hear()
        except ServiceError as error:
            _log.warning("what was missed is looked for again later: %s", error)
            self._blind = True
