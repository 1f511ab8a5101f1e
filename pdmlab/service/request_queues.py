"""The queues of all devices, and the workers that empty them: one request at a time, in order, answered on channels."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.errors import NetworkError, ServiceError
from pdmlab.service.asking import TIMEOUT, cleared, hint_of, message_of, result_of, unanswered
from pdmlab.service.deadline import Deadline
from pdmlab.service.delivery import Asking
from pdmlab.service.schema import registrations, requests
from pdmlab.service.schema.metrics import Metric
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration

_log = logging.getLogger(__name__)

OF_DEVICE = requests.c.device_id == sa.bindparam("device")
_THIS = requests.c.number == sa.bindparam("which")
_NEXT = Statement(
    sa.select(requests).where(OF_DEVICE, requests.c.state != "acknowledged").order_by(requests.c.number).limit(1)
)
_ENDING = Statement(sa.select(requests).where(OF_DEVICE, requests.c.ends_with_registration).order_by(requests.c.number))
_MARKED = ("state", "reason", "retries", "node")
_SET = sa.update(requests).values({name: sa.bindparam(name) for name in _MARKED})
_MARK = Statement(_SET.where(_THIS))
_CLAIM = Statement(
    _SET.where(
        _THIS,
        requests.c.node == "",
        requests.c.state != "sent",
        requests.c.state != "acknowledged",
        sa.exists().where(
            registrations.c.device_id == requests.c.device_id, registrations.c.node == sa.bindparam("node")
        ),
    )
)
"""Take a request that no other process is asking a device, of a device that is connected to this one."""
_LATE = Statement(sa.select(requests).where(requests.c.expires <= sa.bindparam("now")).order_by(requests.c.number))
_DONE = Statement(sa.delete(requests).where(_THIS))


class RequestQueues:
    """The queues of all devices in the database, and what of them this process is delivering."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._kicked: set[str] = set()
        self._sending: set[int] = set()
        self._asking: dict[asyncio.Task[bool], str] = {}
        self._patient: set[str] = set()  # devices with a request that waits to be sent again
        self._waiting: set[str] = set()  # devices that may have a request in their queue
        self._deadline = Deadline(core, self._expire)
        core.bus.hear("queue", self._look, own=False)
        core.nodes.on_news.append(self._look_at_all)
        core.nodes.on_gone.append(self._left_by)

    def resume(self) -> None:
        """Go on after a start: what may have been executed already is not sent twice."""
        nodes = self._core.nodes
        with self._store.begin():
            for row in self._store.rows(sa.select(requests).where(requests.c.state.in_(("sent", "acknowledged")))):
                if nodes.is_own(row["node"]) or not nodes.lives(row["node"]):
                    self._orphaned(row)
        self._look_at_all()

    def _look_at_all(self) -> None:
        """Deliver what waits, wherever it is from."""
        rows = self._store.rows(sa.select(*(requests.c[n] for n in ("device_id", "state"))).order_by(requests.c.number))
        self._expire()
        self._waiting |= {row["device_id"] for row in rows}
        self._patient |= {row["device_id"] for row in rows if row["state"] == "waiting"}
        for device_id in {row["device_id"]: None for row in rows}:
            self.kick(device_id)

    def _look(self, device_id: str) -> None:
        """Deliver what another process has left for a device."""
        self._waiting.add(device_id)
        if self._core.registrations.own(device_id) is not None:
            self._deadline.next()
            self.kick(device_id)

    def _left_by(self, node: str) -> None:
        """Take over what a process has left that has ended."""
        for row in self._store.rows(sa.select(requests).where(requests.c.node == node)):
            self._orphaned(row)
        self._look_at_all()

    def _orphaned(self, row: Row) -> None:
        """Answer what was sent by a process that did not live to hear the answer: whether it was done, nobody knows."""
        if row["method"] == "POST":
            self._finish(row, TIMEOUT)

    def _is_asked(self, row: Row) -> bool:
        """Whether a request is on its way to the device, from this process or another one."""
        if row["node"] == "" or self._core.nodes.is_own(row["node"]):
            return row["number"] in self._sending
        return self._core.nodes.lives(row["node"])  # the device has left it: it tells when it has given up

    async def close(self) -> None:
        """Deliver nothing any more; the queues stay on disk."""
        self._deadline.close()
        workers = [*self._workers.values(), *self._asking]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    def kick(self, device_id: str) -> None:
        """Deliver what waits for a device that has registered or updated, or has just got something to do."""
        if device_id not in self._waiting:
            return
        self._kicked.add(device_id)
        if device_id not in self._workers:
            self._workers[device_id] = asyncio.get_running_loop().create_task(self._work(device_id))

    def heard(self, device_id: str, *, queue_mode: bool) -> None:
        """Deliver what waits for a sign of life, which has just come."""
        if queue_mode or device_id in self._patient:
            self.kick(device_id)

    async def _work(self, device_id: str) -> None:
        try:
            while device_id in self._kicked:
                self._kicked.discard(device_id)
                await self._empty(device_id)
        except ServiceError as error:
            _log.error("the queue of device %s stands still: %s", device_id, error)
        finally:
            del self._workers[device_id]

    async def _empty(self, device_id: str) -> None:
        while self._core.delivery.obstacle(device_id) is None:
            row = self._store.row(_NEXT, device=device_id)
            if row is None:
                self._waiting.discard(device_id)
                return
            if row["state"] == "sent":  # and nobody has heard how it went
                if self._is_asked(row):
                    return
                self._orphaned(row)
                continue
            if row["expires"] <= self._core.now():
                self._finish(row, TIMEOUT)
                continue
            if not await (self._execute(row) if row["method"] == "POST" else self._ask(row, Asking())):
                return

    async def _execute(self, row: Row) -> bool:
        """Ask a device to do something; once it has acknowledged that, the queue need not wait for its answer."""
        asking = Asking()
        self._sending.add(row["number"])
        task = asyncio.get_running_loop().create_task(self._ask(row, asking))
        self._asking[task] = row["device_id"]
        task.add_done_callback(self._asked)
        if await _settled(task, asking.acknowledged):
            return task.result()
        if row["state"] == "sent":
            await self._mark(row, "acknowledged", "the device has it, and has not answered yet")
        return True

    def _asked(self, task: asyncio.Task[bool]) -> None:
        device_id = self._asking.pop(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("a request to device %s: %s", device_id, error)

    async def _ask(self, row: Row, asking: Asking) -> bool:
        """Ask a device once; return whether to go on with its queue at once."""
        device_id = row["device_id"]
        asked = self._core.registrations.find(device_id)
        self._sending.add(row["number"])
        try:
            if not await self._sent(row):
                # Somebody was faster, or the device has left; then that is known from now on.
                return self._core.registrations.holds(device_id)
            answer = await self._core.delivery.ask(device_id, message_of(row), asking)
        except NetworkError as error:
            self._sending.discard(row["number"])
            go_on = await self._again(row, asked, error, asking)
            if asking.acknowledged.is_set() and row["state"] == "queued":
                self._waiting.add(device_id)  # the queue has gone on without it
                self.kick(device_id)
            return go_on
        else:
            self._finish(row, result_of(row, answer))
            return True
        finally:
            self._sending.discard(row["number"])

    async def _sent(self, row: Row) -> bool:
        """Note that a request goes out; False if it is not this process's to send it."""
        row.update(state="sent", reason="")
        if row["method"] != "POST":
            return True  # asking twice does no harm: no need to know after a crash
        if not self._store.shared:
            await self._mark(row, "sent", "")
            return True
        row["node"] = self._core.nodes.name
        with self._store.batch() as db:
            mine = _CLAIM.run(db, which=row["number"], **{name: row[name] for name in _MARKED}) > 0
        await self._store.written()
        return mine

    async def _mark(self, row: Row, state: str, reason: str) -> None:
        row.update(state=state, reason=reason)
        if state not in ("sent", "acknowledged"):
            row["node"] = ""
        with self._store.batch() as db:
            _MARK.run(db, which=row["number"], **{name: row[name] for name in _MARKED})
            self._pass_on(row)
        await self._store.written()

    def _pass_on(self, row: Row) -> None:
        """Let the process go on that has a device which has left this one."""
        if self._store.shared and self._core.registrations.own(row["device_id"]) is None:
            self._core.bus.tell("queue", row["device_id"])

    async def _again(self, row: Row, asked: Registration | None, error: NetworkError, asking: Asking) -> bool:
        """Decide after a failure; return whether to go on with the queue at once."""
        device_id = row["device_id"]
        now = self._core.registrations.find(device_id)
        if now is None and row["ends_with_registration"]:
            self._finish(row, cleared(f"{error.message}; its registration has ended"))
            return True
        moved = now is None or asked is None or (now.peer, now.node) != (asked.peer, asked.node)
        moved = moved or (now is not None and now.lost_at is not None)
        if row["expires"] <= self._core.now():
            self._finish(row, unanswered(error, left=moved))
            return True
        arrived = asking.acknowledged.is_set()
        if row["method"] == "POST" and (arrived or (moved and asking.sent)):
            # It may have done what it was told, and only the answer is lost: doing it twice may do harm.
            if row["retries"] == 0:
                hint = "it may have been executed: without retry= it is not sent twice"
                self._finish(row, unanswered(error, hint if moved else hint_of(row), left=moved))
                return True
            row["retries"] -= 1
        elif now is not None and now is asked and self._core.delivery.obstacle(device_id) is None:
            if not now.queue_mode and row["retries"] == 0:
                self._finish(row, unanswered(error, hint_of(row)))
                return True
            row["retries"] = max(row["retries"] - 1, 0)
            self._patient.add(device_id)
            await self._mark(row, "waiting", f"{error.message}; it is sent again when the device is heard")
            return False
        # Where it is now, or when it wakes, it has not been asked.
        await self._mark(row, "queued", error.message)
        return True

    def registration_ended(self, device_id: str, why: str) -> None:
        """Answer, as part of the end of a registration, what waits no longer than that."""
        if not self._store.shared and device_id not in self._waiting:
            return
        for row in self._store.rows(_ENDING, device=device_id):
            if not self._is_asked(row):  # what is on its way may still be answered
                self._finish(row, cleared(why))

    def _finish(self, row: Row, result: Row) -> None:
        with self._store.batch():
            self._answer(row, result)

    def _answer(self, row: Row, result: Row) -> None:
        with self._store.begin() as db:
            if _DONE.run(db, which=row["number"]):
                well = result["status"] < 400
                metric: Metric = "device_proxy_request_success" if well else "device_proxy_request_error"
                self._core.metrics.count(row["account_id"], metric)
                self._pass_on(row)
                self._core.channels.put(row["api_key_id"], {"async-responses": [{"id": row["async_id"], **result}]})

    # -- expiring ------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        try:
            for row in self._store.rows(_LATE, now=self._core.now()):
                if not self._is_asked(row) and not self._core.delivery.is_elsewhere(row["device_id"]):
                    self._finish(row, TIMEOUT)
        except ServiceError as error:
            _log.error("requests cannot expire: %s", error)
        self._deadline.next()


async def _settled(task: asyncio.Task[bool], acknowledged: asyncio.Event) -> bool:
    """Wait until a device has answered, or has said that it will; return whether it has answered."""
    waiting = asyncio.ensure_future(acknowledged.wait())
    try:
        await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
    return task.done()
