"""Observations: what devices tell by themselves, kept in the cache and passed on to every key that subscribed.

One observation serves all keys that want a path. Its token is in the database, so notifications keep coming
after a restart of the service; after a full registration, which ends observations on the device, it is made
again. Paths that the device observes for us (`aobs`) need no request at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.observation import Freshness
from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError, ServiceError
from pdmlab.lwm2m.paths import Path
from pdmlab.service.deployment_ways import UPDATES
from pdmlab.service.presubscriptions import Presubscriptions
from pdmlab.service.schema import observations as table
from pdmlab.service.schema.metrics import Metric
from pdmlab.service.statements import Statement
from pdmlab.service.store import Rows
from pdmlab.service.values import as_json, max_age_of, plain

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration

_log = logging.getLogger(__name__)

AUTO_TOKEN_B = 2
"""The token of an observation that a device makes by itself: its number, as `aobs=` in the registration has it."""

_DEVICE = table.c.device_id == sa.bindparam("device")
_PATH = table.c.path == sa.bindparam("which")
_ALL = Statement(sa.select(table).where(_DEVICE))
_WAITING = Statement(sa.select(table).where(_DEVICE, table.c.state == "waiting").order_by(table.c.path))
_TOKENS = Statement(sa.select(table).where(_DEVICE, table.c.state == "active", table.c.token.is_not(None)))
_SET = Statement(
    sa.update(table)
    .where(_DEVICE, _PATH)
    .values({name: sa.bindparam(name) for name in ("token", "state", "reason", "updated_at")})
)
_LOST = Statement(
    sa.update(table)
    .where(_DEVICE)
    .values(token=sa.null(), state="waiting", **{name: sa.bindparam(name) for name in ("reason", "updated_at")})
)
_DELETE = Statement(sa.delete(table).where(_DEVICE, _PATH))


class Observations(Presubscriptions):
    """The observations of all devices, and the subscriptions of all keys."""

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._tokens: dict[str, dict[bytes, str]] = {}
        self._fresh: dict[str, dict[bytes, Freshness]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._kicked: set[str] = set()
        self._reading: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._outdated: set[tuple[str, str]] = set()
        self._making: dict[str, dict[bytes, str]] = {}  # tokens of what is being asked for
        core.nodes.on_news.append(self._look_again)

    def table(self, device_id: str) -> Rows:
        """Return which tokens mean which paths: path, token (hex), state, why, and how many keys want it."""
        wanted: dict[str, int] = {}
        for each in self.of_device(device_id):
            wanted[each["path"]] = wanted.get(each["path"], 0) + 1
        rows = [
            {
                "path": row["path"],
                "token": (row["token"] or b"").hex(),
                "state": row["state"],
                "why": row["reason"],
                "keys": wanted.get(row["path"], 0),
            }
            for row in self._store.rows(_ALL, device=device_id)
        ]
        shown = {row["path"] for row in rows}
        rows += [
            {"path": path, "token": token.hex(), "state": "active", "why": "observed by the device itself", "keys": 0}
            for token, path in self._core.resources.tokens(device_id).items()
            if path not in shown
        ]
        return sorted(rows, key=lambda row: Path.parse(row["path"]))

    def _changed(self, device_id: str) -> None:
        self._keys.pop(device_id, None)
        if self._core.registrations.own(device_id) is not None:
            self._tokens.pop(device_id, None)
            self.kick(device_id)

    def _look_again(self) -> None:
        """Look at everything again: news may have been missed."""
        self._keys.clear()
        self._tokens.clear()
        self.resume()

    # -- what devices tell -----------------------------------------------------------------------------

    def notified(self, message: Message, peer: Address) -> bool:
        """Take a notification; return whether to acknowledge it, else the endpoint resets it.

        What this returns True for is on disk. A device's observations of its own are acknowledged even if it has not
        listed them: a reset disturbs the stock client (docs/wire.md 3.2).
        """
        registration = self._core.registrations.speaking(peer)
        if registration is None:
            return False
        device_id, number = registration.device_id, message.opt.observe
        path = self._tokens_of(device_id).get(message.token)
        if path is None:
            return number is not None and len(message.token) == AUTO_TOKEN_B
        registration.heard = self._core.now()
        self._core.metrics.count(registration.account_id, "device_observations")
        if message.code >= 128:
            self._ended_by_device(device_id, path, message)
            self._store.flush()
            return True
        if number is not None:
            fresh = self._fresh.setdefault(device_id, {}).setdefault(message.token, Freshness())
            if not fresh.accept(number, asyncio.get_running_loop().time()):
                return True
        if message.opt.block2 is not None and message.opt.block2.more:
            self._read(registration, path)
        else:
            self._take(registration, path, message)
            self._store.flush()
        self._core.requests.heard(device_id, queue_mode=registration.queue_mode)
        return True

    def _take(self, registration: Registration, path: str, message: Message, told: Collection[str] = ()) -> None:
        """Keep a value and pass it on, but to those who were told already."""
        device_id, format, max_age = registration.device_id, message.opt.content_format, max_age_of(message)
        payload, number = plain(path, message.payload, None if format is None else int(format))
        with self._store.batch():
            self._core.resources.keep(device_id, path, payload, number, max_age)
            self._pass_on(device_id, path, payload, number, max_age, told)
            if path.startswith(UPDATES):
                self._core.campaigns.told(registration, path, payload)

    def _pass_on(
        self, device_id: str, path: str, payload: bytes, format: int | None, max_age: int, told: Collection[str]
    ) -> None:
        keys = [key for key in self.keys_of(device_id).get(path, ()) if key not in told]
        if keys:
            value = {"ep": device_id, "path": path, **as_json(path, payload, format, max_age)}
            for key in keys:
                self._core.channels.put(key, {"notifications": [value]})

    def _read(self, registration: Registration, path: str) -> None:
        """Read a value that was told of in part; once more at the end, if it was told of again meanwhile."""
        key = registration.device_id, path
        if key in self._reading:
            self._outdated.add(key)
            return
        self._reading[key] = asyncio.get_running_loop().create_task(self._read_whole(registration, path))

    async def _read_whole(self, registration: Registration, path: str) -> None:
        key = registration.device_id, path
        message = Message(code=codes.GET)
        message.opt.uri_path = Path.parse(path).segments
        try:
            whole = await self._core.delivery.ask(registration.device_id, message)
            if whole.code < 128:
                self._take(registration, path, whole)
        except (NetworkError, ServiceError) as error:
            _log.warning("the value of %s that %s told of: %s", path, registration.device_id, error)
        finally:
            del self._reading[key]
        if key in self._outdated:
            self._outdated.discard(key)
            self._read(registration, path)

    def _ended_by_device(self, device_id: str, path: str, message: Message) -> None:
        reason = f"the device ended it: {message.code} {message.payload[:80].decode('utf-8', 'replace')}".strip()
        self._set(device_id, path, None, "refused", reason)

    def _tokens_of(self, device_id: str) -> dict[bytes, str]:
        tokens = self._tokens.get(device_id)
        if tokens is None:
            tokens = self._core.resources.tokens(device_id)
            tokens |= {row["token"]: row["path"] for row in self._store.rows(_TOKENS, device=device_id)}
            self._tokens[device_id] = tokens = tokens | self._making.get(device_id, {})
        return tokens

    # -- registrations come and go -----------------------------------------------------------------------

    def lost(self, registration: Registration) -> None:
        """Note, as part of a full registration, that the device has forgotten what was observed."""
        self.forget(registration.device_id)
        self.drop_manual(registration.device_id)
        reason = f"the device registered anew at {registration.registered_at} and forgot it"
        with self._store.batch() as db:
            _LOST.run(db, device=registration.device_id, reason=reason, updated_at=self._store.timestamp())
        self.presubscribe(registration)

    def relisted(self, registration: Registration) -> None:
        """Note, as part of an update, that the device has other paths than before."""
        self._tokens.pop(registration.device_id, None)
        self.presubscribe(registration, anew=False)

    def ended(self, registration: Registration) -> None:
        """Note, as part of its end, that a registration took its observations with it."""
        with self._store.batch() as db:
            reason = "the device is not registered any more"
            _LOST.run(db, device=registration.device_id, reason=reason, updated_at=self._store.timestamp())

    def forget(self, device_id: str) -> None:
        """Drop what is held in memory of a device."""
        self._tokens.pop(device_id, None)
        self._fresh.pop(device_id, None)
        self._keys.pop(device_id, None)

    # -- making them -------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Make, after a start, what was waiting."""
        for row in self._store.rows(sa.select(table.c.device_id).where(table.c.state == "waiting").distinct()):
            self.kick(row["device_id"])

    async def close(self) -> None:
        """Make none any more."""
        workers = [*self._workers.values(), *self._reading.values()]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    def kick(self, device_id: str) -> None:
        """Make the observations of a device that wait."""
        self._kicked.add(device_id)
        if device_id not in self._workers:
            self._workers[device_id] = asyncio.get_running_loop().create_task(self._work(device_id))

    async def _work(self, device_id: str) -> None:
        try:
            while device_id in self._kicked:
                self._kicked.discard(device_id)
                for row in self._store.rows(_WAITING, device=device_id):
                    if not await self._make(device_id, row["path"]):
                        break
        except ServiceError as error:
            _log.error("the observations of device %s cannot be made: %s", device_id, error)
        finally:
            del self._workers[device_id]

    async def _make(self, device_id: str, path: str) -> bool:
        """Observe a path; return whether to go on with the next one."""
        registration = self._core.registrations.find(device_id)
        obstacle = self._core.delivery.obstacle(device_id)
        if registration is None or obstacle is not None:
            return False
        if not self.is_wanted(device_id, path):
            self._remove(device_id, path)  # nobody wants it any more
            return True
        listed = self._core.resources.get(device_id, path)
        if listed is not None and listed["aobs"] is not None:
            with self._store.batch():
                self._set(device_id, path, None, "active", "observed by the device itself")
                told = self.fulfil_from_cache(device_id, path)
                if listed["value"] is not None:
                    self._pass_on(device_id, path, bytes(listed["value"]), listed["content_format"], 0, told)
            return True
        message = Message(code=codes.GET, observe=0)
        message.opt.uri_path = Path.parse(path).segments
        # Known before the answer is here: a notification may follow it at once.
        token = message.token = self._core.lwm2m.new_token(registration.peer)
        self._tokens_of(device_id)[token] = path
        fresh = self._fresh.setdefault(device_id, {})[token] = Freshness()
        self._making[device_id] = {token: path}  # one at a time
        try:
            answer = await self._core.delivery.ask(device_id, message)
        except NetworkError as error:
            self._core.metrics.count(registration.account_id, "device_subscription_request_error")
            self._set(device_id, path, None, "waiting", error.message)
            return False
        finally:
            del self._making[device_id]
        if self._core.registrations.find(device_id) is None:
            return False
        if not self.is_wanted(device_id, path):
            self._remove(device_id, path)  # unsubscribed meanwhile: its notifications will be reset
            return True
        with self._store.batch():
            refused = answer.code >= 128 or answer.opt.observe is None
            outcome: Metric = "device_subscription_request_error" if refused else "device_subscription_request_success"
            self._core.metrics.count(registration.account_id, outcome)
            if answer.code >= 128 or answer.opt.observe is None:
                status = 412 if answer.code < 128 else (answer.code >> 5) * 100 + (answer.code & 31)
                said = str(answer.code) if answer.code >= 128 else "it answered, but does not notify"
                self._set(device_id, path, None, "refused", f"the device refused: {said}")
                self.refuse(device_id, path, status, said)
                return True
            self._set(device_id, path, token, "active", "")
            self._tokens_of(device_id)[token] = path
            latest = fresh.accept(answer.opt.observe, asyncio.get_running_loop().time())
            format = answer.opt.content_format
            number, max_age = None if format is None else int(format), max_age_of(answer)
            told = self.fulfil(device_id, path, as_json(path, answer.payload, number, max_age))
            if latest:
                self._take(registration, path, answer, told)
        return True

    def _set(self, device_id: str, path: str, token: bytes | None, state: str, reason: str) -> None:
        if token is None:
            tokens = self._tokens.get(device_id)
            if tokens is not None:
                aobs = self._core.resources.tokens(device_id)
                for each in [each for each, of in tokens.items() if of == path and each not in aobs]:
                    del tokens[each]
                    self._fresh.get(device_id, {}).pop(each, None)
        with self._store.batch() as db:
            values = {"token": token, "state": state, "reason": reason, "updated_at": self._store.timestamp()}
            _SET.run(db, device=device_id, which=path, **values)

    def _remove(self, device_id: str, path: str) -> None:
        self._set(device_id, path, None, "waiting", "")
        with self._store.batch() as db:
            _DELETE.run(db, device=device_id, which=path)
