"""The bootstrap server: tells a device who it is, where its LwM2M server is, and what it proves itself with there.

A device that was here before brings the id that it was given (`iep`); it is the same device if it also has the
certificate that it had then. Without security there is none, and the id alone counts. A pre-shared key is of one
device, and so is a certificate that a factory has made: they need no id.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, scheme_of, text_of
from pdmlab.errors import BootstrapFailed, ConfigError, NetworkError, PdmlabError, ServiceError
from pdmlab.service.bootstrap_plan import PRE_SHARED_KEY, Plan, Step, Told, steps
from pdmlab.service.bootstrap_sequence import ENROLL, Sequence, rehearsal, secured
from pdmlab.service.certificates import key_der, new_key
from pdmlab.service.claims import BootstrapClaims
from pdmlab.service.enrollment import colons
from pdmlab.service.factory import Claim, shown_of
from pdmlab.service.refusal import Refused
from pdmlab.service.registering import endpoint_name_of, query_of
from pdmlab.service.schema import bootstrap_endpoints as table
from pdmlab.service.schema.metrics import Metric
from pdmlab.service.shared_keys import WITHDRAWN
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_log = logging.getLogger(__name__)

ENROLLING_S = 247.0
"""How long a device may take to make its key and to ask for a certificate; as long as an exchange lives."""


class Bootstrap:
    """The bootstrap interface, and the sequences under way."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._sequences: dict[Address, Sequence] = {}
        self._claims = BootstrapClaims(core, self._busy)

    # -- what people say and see -------------------------------------------------------------------------

    def plan(self, account_id: str) -> Plan:
        """Return how devices of an account bootstrap."""
        kept = self._store.fact(_fact(account_id))
        return Plan() if kept is None else Plan(**json.loads(kept))

    def set_plan(self, account_id: str, plan: Plan) -> None:
        """Set how devices of an account bootstrap from now on."""
        self._store.remember(_fact(account_id), json.dumps(plan.as_json()))

    def transcript(self, account_id: str, device_id: str | None = None) -> list[Row]:
        """Return each device's latest bootstrap, or one's: state, all steps with their answers, and why it failed."""
        mine = sa.select(table).where(table.c.account_id == account_id)
        if device_id is not None:
            mine = mine.where(table.c.device_id == device_id)
        return self._store.rows(mine.order_by(table.c.device_id))

    def rehearse(self, account_id: str, endpoint_name: str = "device", *, secure: bool | None = None) -> list[Row]:
        """Return what a device would be asked, with sizes (B) and problems, and ask none; see `rehearsal`."""
        return rehearsal(self._core, account_id, endpoint_name, secure)

    # -- what devices ask --------------------------------------------------------------------------------

    async def request(self, endpoint: Endpoint, message: Message, peer: Address) -> Message:
        """Answer POST /bs: 2.04, and begin to write the device's configuration.

        Raises:
            Lwm2mError: the query cannot be read.
        """
        query = query_of(message)
        name = endpoint_name_of(query)
        proof = self._core.credentials.proof(endpoint, peer)
        claim = self._claims.account(query, name, proof)
        if isinstance(claim, Message):
            return claim
        account_id = claim.account_id if isinstance(claim, Claim) else claim
        with self._store.batch():
            running = self._sequences.get(peer)
            mine = running.device if running is not None and running.name == name else None
            if isinstance(claim, Claim):
                device = self._claims.of_factory(claim, query.get("iep"), proof)
            elif proof.kind == "psk":
                device = self._claims.of_shared_key(account_id, name, query.get("iep"))
            else:
                device = self._claims.device(account_id, name, query.get("iep"), proof, peer, mine)
            if isinstance(device, Message):
                return device
            plan = self.plan(account_id)
            if "mccv" not in query:  # not the stock client: by LwM2M a device needs its server object too
                plan = replace(plan, server=True)
            sequence = Sequence(endpoint, peer, device, name, proof, plan, self._core.now())
            sequence.trusted = claim.trusted if isinstance(claim, Claim) else None
            self._note(sequence, "requested")
        self._drop(peer)  # the device has begun anew
        self._sequences[peer] = sequence  # at once: another board must not be told the same id meanwhile
        self._core.metrics.count(account_id, "bootstraps_pending")
        try:
            await self._store.written()
        except BaseException:
            if self._sequences.get(peer) is sequence:
                del self._sequences[peer]
            raise
        if self._sequences.get(peer) is not sequence:
            return Message(code=codes.CHANGED)  # and has once more, meanwhile
        sequence.task = asyncio.get_running_loop().create_task(self._run(sequence))
        return Message(code=codes.CHANGED)

    def enrolling(self, peer: Address) -> Sequence | None:
        """Return the sequence of a device that is to ask for its certificate now."""
        sequence = self._sequences.get(peer)
        waits = sequence is not None and sequence.enrolled is not None and not sequence.enrolled.done()
        return sequence if waits else None

    def account_of(self, peer: Address) -> str | None:
        """Return whose device a peer is that is being told something just now."""
        sequence = self._sequences.get(peer)
        return None if sequence is None else sequence.device["account_id"]

    def lost(self, peer: Address, why: NetworkError) -> None:
        """Hear that a connection has ended: a device that was to ask for its certificate will not."""
        sequence = self.enrolling(peer)
        if sequence is not None and sequence.enrolled is not None:
            sequence.enrolled.set_exception(why)

    async def close(self) -> None:
        """Break off what is under way: the devices ask again."""
        tasks = [sequence.task for sequence in self._sequences.values() if sequence.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _busy(self, device_id: str, peer: Address) -> bool:
        """Whether somebody else is being told just now that it is this device."""
        return any(
            each.device["id"] == device_id and each.peer != peer and each.endpoint.connected(each.peer)
            for each in self._sequences.values()
        )

    def _drop(self, peer: Address) -> None:
        sequence = self._sequences.pop(peer, None)
        if sequence is not None and sequence.task is not None:
            sequence.task.cancel()

    def forget(self, device_id: str) -> None:
        """Break off what a device is told that was deleted: it asks again, and is another one."""
        for peer in [peer for peer, each in self._sequences.items() if each.device["id"] == device_id]:
            self._drop(peer)

    # -- what it is told ---------------------------------------------------------------------------------

    async def _run(self, sequence: Sequence) -> None:
        try:
            for step in self._steps(sequence):
                await self._ask(sequence, step)
            if sequence.enrolled is not None:
                sequence.step = ENROLL
                try:
                    async with asyncio.timeout(ENROLLING_S):
                        await sequence.enrolled
                except TimeoutError:
                    raise BootstrapFailed(f"the device asked for no certificate within {ENROLLING_S:.0f} s") from None
            self._finished(sequence)
            self._ended(sequence, "bootstraps_successful")
            await self._store.written()
        except (NetworkError, BootstrapFailed, Refused, ConfigError) as error:
            self._failed(sequence, error)
            self._ended(sequence, "bootstraps_failed")
        except ServiceError as error:
            _log.error("the bootstrap of device %s could not be kept: %s", sequence.device["id"], error)
        finally:
            if sequence.enrolled is not None and not sequence.enrolled.cancel() and not sequence.enrolled.cancelled():
                sequence.enrolled.exception()  # that the connection ended has been told by what was under way on it
            if self._sequences.get(sequence.peer) is sequence:
                del self._sequences[sequence.peer]

    async def _ask(self, sequence: Sequence, step: Step) -> None:
        sequence.step = step.name
        if self._core.directory.account_of(sequence.device["id"]) is None:
            raise BootstrapFailed("the device was deleted meanwhile")  # by another process
        begun = self._core.now()
        if step.name == "POST /bs" and sequence.security == "est":
            # Before the device can have heard that it is to ask.
            sequence.enrolled = asyncio.get_running_loop().create_future()
        try:
            response = await sequence.endpoint.request(step.request, sequence.peer)
        except NetworkError:
            if step.name != "POST /bs" or sequence.enrolled or sequence.endpoint.connected(sequence.peer):
                raise
            # docs/wire.md 2.2e: a device that closes the connection now has taken all of it.
            said = "connection closed"
        else:
            said = str(response.code)
            if response.code not in step.wanted:
                reason = response.payload[:200].decode("utf-8", "replace")
                raise BootstrapFailed(f"the device answered {said} {reason}".strip())
        self.did(sequence, step.name, said, len(step.request.payload), self._core.now() - begun)

    def did(self, sequence: Sequence, step: str, said: str, size: int, seconds: float) -> None:
        """Note a step that a device has come through: with what answer, how many bytes, in how long."""
        at = self._store.timestamp()
        sequence.done.append({"at": at, "step": step, "answer": said, "payload_B": size, "seconds": round(seconds, 3)})
        self._note(sequence, "requested")

    def _steps(self, sequence: Sequence) -> list[Step]:
        device, kind = sequence.device, sequence.proof.kind
        uri = self._core.uri(
            "lwm2m", secure=scheme_of(sequence.peer).startswith("coaps"), account_id=device["account_id"]
        )
        if kind == "none":
            told = Told(f"{uri}&iep={device['id']}")
        elif kind == "psk":
            identity = sequence.proof.endpoint_name.encode()
            key = self._core.shared_keys.of(identity)
            if key is None:
                raise BootstrapFailed(WITHDRAWN)
            told = Told(f"{uri}&iep={device['id']}", PRE_SHARED_KEY, certificate=identity, private_key=key)
        elif sequence.plan.mode == "est":
            told = secured(self._core, sequence.plan, uri)
        else:
            sequence.step = "PUT /0"
            own = new_key()
            signed = self._core.pki.device_certificate(
                own.public_key(), sequence.name, device["id"], device["account_id"]
            )
            self._core.credentials.prune(device["id"], sequence.proof.serial_number)
            told = secured(self._core, sequence.plan, uri, signed, key_der(own))
        problems = told.problems()
        if problems:
            sequence.step = "PUT /0"
            raise BootstrapFailed(f"no client would take it: {'; '.join(problems)}")
        return steps(sequence.plan, told, device["id"])

    # -- what becomes of it ------------------------------------------------------------------------------

    def _ended(self, sequence: Sequence, metric: Metric) -> None:
        """Count how a bootstrap ended, and that one of those that were under way when it began is not any more."""
        account_id = sequence.device["account_id"]
        self._core.metrics.count(account_id, "bootstraps_pending", -1, at=sequence.begun)
        self._core.metrics.count(account_id, metric)

    def _finished(self, sequence: Sequence) -> None:
        device, at = sequence.device, self._store.timestamp()
        with self._store.batch():
            self._note(sequence, "finished")
            state = {} if self._core.registrations.find(device["id"]) is not None else {"state": "bootstrapped"}
            known = {"device_key": colons(sequence.proof.fingerprint)} if sequence.proof.fingerprint else {}
            if sequence.trusted is not None:
                known = shown_of(sequence.trusted, sequence.proof)
            self._core.directory.change(
                device["id"], bootstrapped_timestamp=at, endpoint_name=sequence.name, **state, **known
            )
            self._core.directory.event(
                device["account_id"],
                device["id"],
                "update.device.device-bootstrapped",
                description=f"Bootstrapped from {text_of(sequence.peer)}",
                changes=state,
                data={"security": sequence.security, "steps": sequence.done},
                state_change=bool(state),
            )

    def _failed(self, sequence: Sequence, error: PdmlabError) -> None:
        device = sequence.device
        try:
            with self._store.batch():
                self._note(sequence, "failed", error.message)
                self._core.directory.event(
                    device["account_id"],
                    device["id"],
                    "update.device.bootstrap-failed",
                    description=f"Bootstrap failed at {sequence.step}: {error.message}",
                    data={"step": sequence.step, "address": text_of(sequence.peer), "steps": sequence.done},
                )
        except ServiceError as cause:
            _log.error("that the bootstrap of device %s failed could not be kept: %s", device["id"], cause)

    def _note(self, sequence: Sequence, state: str, reason: str | None = None) -> None:
        at, device = self._store.timestamp(), sequence.device
        values = {
            "endpoint_name": sequence.name,
            "address": text_of(sequence.peer),
            "security": sequence.security,
            "state": state,
            "step": sequence.step,
            "reason": reason,
            "steps": sequence.done,
            "updated_at": at,
        }
        if (
            sequence.proof.device_id is None
        ):  # else it is what it registers with, and says nothing of what it was built with
            values["fingerprint"] = sequence.proof.fingerprint or None
        with self._store.batch() as db:
            known = db.execute(sa.update(table).where(table.c.device_id == device["id"]).values(values)).rowcount
            if not known and self._core.directory.account_of(device["id"]) is not None:  # else it was deleted
                db.execute(
                    sa.insert(table).values(
                        device_id=device["id"], account_id=device["account_id"], created_at=at, **values
                    )
                )


def _fact(account_id: str) -> str:
    return f"bootstrap_plan/{account_id}"
