"""The bootstrap server: tells a device who it is and where its LwM2M server is.

Without security there is no certificate to know a device by: it is the same device again if it brings the id
(`iep`) that it was given, and a new one otherwise.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address
from pdmlab.errors import BootstrapFailed, NetworkError, PdmlabError, ServiceError
from pdmlab.lwm2m import content, tlv
from pdmlab.service.registering import answer, endpoint_name_of, query_of
from pdmlab.service.schema import bootstrap_endpoints
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_log = logging.getLogger(__name__)

NO_SECURITY = 3
SHORT_SERVER_ID = 1


class Bootstrap:
    """The bootstrap interface, and the sequences under way."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._sequences: dict[Address, asyncio.Task[None]] = {}

    async def request(self, endpoint: Endpoint, message: Message, peer: Address) -> Message:
        """Answer POST /bs: 2.04, and begin to write the device's configuration.

        Raises:
            Lwm2mError: the query cannot be read.
        """
        query = query_of(message)
        name = endpoint_name_of(query)
        account_id = query.get("aid") or self._core.account_id
        if not self._core.knows_account(account_id):
            return answer(codes.BAD_REQUEST, f"there is no account {account_id[:64]}")
        with self._store.batch():
            device = self._device(account_id, name, query.get("iep"), peer)
            self._note(device, name, peer, "requested", "POST /bs")
        await self._store.written()
        running = self._sequences.pop(peer, None)
        if running is not None:
            running.cancel()  # the device has begun anew
        task = asyncio.get_running_loop().create_task(self._sequence(endpoint, device, name, peer))
        self._sequences[peer] = task
        return Message(code=codes.CHANGED)

    async def close(self) -> None:
        """Break off what is under way: the devices ask again."""
        tasks = list(self._sequences.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def transcript(self, account_id: str) -> list[Row]:
        """Return each device's latest bootstrap: state, the step it came to, and why it failed."""
        return self._store.rows(
            sa.select(bootstrap_endpoints)
            .where(bootstrap_endpoints.c.account_id == account_id)
            .order_by(bootstrap_endpoints.c.device_id)
        )

    # -- who it is ---------------------------------------------------------------------------------------

    def _device(self, account_id: str, name: str, device_id: str | None, peer: Address) -> Row:
        directory = self._core.directory
        if device_id is not None:
            known = directory.find(device_id, account_id)
            if known is not None:
                return known
        # A device that tries again from the same port, not having come through, is no second device.
        tried = self._store.row(
            sa.select(bootstrap_endpoints.c.device_id)
            .where(
                bootstrap_endpoints.c.account_id == account_id,
                bootstrap_endpoints.c.endpoint_name == name,
                bootstrap_endpoints.c.address == _text(peer),
                bootstrap_endpoints.c.state != "finished",
            )
            .order_by(bootstrap_endpoints.c.device_id.desc())
            .limit(1)
        )
        if device_id is None and tried is not None:
            found = directory.find(tried["device_id"], account_id)
            if found is not None:
                return found
        return directory.add(account_id, endpoint_name=name, state="cloud_enrolling")

    # -- what it is told ---------------------------------------------------------------------------------

    async def _sequence(self, endpoint: Endpoint, device: Row, name: str, peer: Address) -> None:
        step = ""
        try:
            for name_of_step, request, wanted in self._steps(device):
                step = name_of_step
                response = await endpoint.request(request, peer)
                if response.code not in wanted:
                    reason = response.payload[:200].decode("utf-8", "replace")
                    raise BootstrapFailed(f"the device answered {response.code} {reason}".strip())
            self._finished(device, name, peer)
            await self._store.written()
        except (NetworkError, BootstrapFailed) as error:
            self._failed(device, name, peer, step, error)
        except ServiceError as error:
            _log.error("the bootstrap of device %s could not be kept: %s", device["id"], error)
        finally:
            if self._sequences.get(peer) is asyncio.current_task():
                del self._sequences[peer]

    def _steps(self, device: Row) -> list[tuple[str, Message, tuple[Code, ...]]]:
        delete = Message(code=codes.DELETE)
        delete.opt.uri_path = ("0",)
        put = Message(code=codes.PUT, payload=security_object(self._uri(device)))
        put.opt.uri_path = ("0",)
        put.opt.content_format = content.TLV
        finish = Message(code=codes.POST)
        finish.opt.uri_path = ("bs",)
        return [
            # A device that has nothing to delete may say so.
            ("DELETE /0", delete, (codes.DELETED, codes.NOT_FOUND)),
            ("PUT /0", put, (codes.CHANGED, codes.CREATED)),
            ("POST /bs", finish, (codes.CHANGED,)),
        ]

    def _uri(self, device: Row) -> str:
        return f"{self._core.lwm2m_uri}?aid={device['account_id']}&iep={device['id']}"

    def _finished(self, device: Row, name: str, peer: Address) -> None:
        at = self._store.timestamp()
        with self._store.batch():
            self._note(device, name, peer, "finished", "POST /bs")
            state = {} if self._core.registrations.find(device["id"]) is not None else {"state": "bootstrapped"}
            self._core.directory.change(device["id"], bootstrapped_timestamp=at, endpoint_name=name, **state)
            self._core.directory.event(
                device["account_id"],
                device["id"],
                "update.device.device-bootstrapped",
                description=f"Bootstrapped from {_text(peer)}",
                changes=state,
                state_change=bool(state),
            )

    def _failed(self, device: Row, name: str, peer: Address, step: str, error: PdmlabError) -> None:
        try:
            with self._store.batch():
                self._note(device, name, peer, "failed", step, error.message)
                self._core.directory.event(
                    device["account_id"],
                    device["id"],
                    "update.device.bootstrap-failed",
                    description=f"Bootstrap failed at {step}: {error.message}",
                    data={"step": step, "address": _text(peer)},
                )
        except ServiceError as cause:
            _log.error("that the bootstrap of device %s failed could not be kept: %s", device["id"], cause)

    def _note(self, device: Row, name: str, peer: Address, state: str, step: str, reason: str | None = None) -> None:
        at = self._store.timestamp()
        table = bootstrap_endpoints
        values = {
            "endpoint_name": name,
            "address": _text(peer),
            "state": state,
            "step": step,
            "reason": reason,
            "updated_at": at,
        }
        with self._store.batch() as db:
            if not db.execute(sa.update(table).where(table.c.device_id == device["id"]).values(values)).rowcount:
                db.execute(
                    sa.insert(table).values(
                        device_id=device["id"], account_id=device["account_id"], created_at=at, **values
                    )
                )


def security_object(uri: str) -> bytes:
    """Return Security instance 0 as the stock client takes it: an object instance in TLV that ends with resource 10."""
    values = [
        (0, content.to_bytes(uri, "string")),
        (1, content.to_bytes(False, "boolean")),
        (2, content.to_bytes(NO_SECURITY, "integer")),
        (10, content.to_bytes(SHORT_SERVER_ID, "integer")),
    ]
    return tlv.encode([tlv.object_instance(0, [tlv.resource(id, value) for id, value in values])])


def _text(peer: Address) -> str:
    return f"{peer[0]}:{peer[1]}"
