"""Certificates that devices ask for themselves: EST over CoAP, as the stock client speaks it, and its renewals.

A device POSTs a PKCS#10 request to est/sen while it bootstraps, to est/NAME/sen later; the answer is a version, a
count and the certificates, each behind its length. (RFC 9148 has PKCS#7 there, and other paths.)
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import TYPE_CHECKING

import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.transport import Address
from pdmlab.errors import NetworkError, ServiceError
from pdmlab.lwm2m import content
from pdmlab.lwm2m.paths import Path
from pdmlab.service.bootstrap_sequence import ENROLL
from pdmlab.service.certificates import CertificateRequest, read_request
from pdmlab.service.credentials import LWM2M
from pdmlab.service.refusal import Refused
from pdmlab.service.registering import answer
from pdmlab.service.schema import certificate_enrollments as table
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_log = logging.getLogger(__name__)

RENEW = Path.parse("/35011/0/27002")
VERSION = 1
NAME = re.compile(r"[\w.-]{1,50}", re.ASCII)
"""Names of certificates."""

_NAME_TYPE = 1
_STATUS = {
    0x500: "an error that it does not name",
    0x501: "an invalid parameter",
    0x502: "a buffer that is too small",
    0x503: "no memory left",
    0x504: "it has no certificate of that name",
    0x505: "it is busy with other renewals",
    0x506: "it does not understand the request",
    0x507: "the enrollment went wrong",
    0x508: "its storage failed",
    0x509: "the new certificate does not fit the key",
    0x50A: "its backup of the old one failed",
    0x50B: "the old one cannot be read",
    0x50C: "the old one cannot be restored",
    0x50D: "the state of the renewal cannot be kept",
    0x50E: "that certificate may not be renewed",
    0x50F: "the certificate is empty",
    0x510: "it is not ready for renewals",
    0x511: "its renewals could not be started",
}
"""ce_status.h of the client."""


_NEW = sa.select(table).where(table.c.enroll_status == "new").order_by(table.c.id)
_NEW_OF = Statement(_NEW.where(table.c.device_id == sa.bindparam("device")).limit(1))


class Est:
    """The EST interface of both servers, and the renewals under way."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._renewing: dict[str, asyncio.Task[None]] = {}
        core.bus.hear("queue", self._look, own=False)
        core.nodes.on_gone.append(self._close_left)

    # -- what devices ask --------------------------------------------------------------------------------

    async def at_bootstrap(self, message: Message, peer: Address) -> Message:
        """Answer POST est/sen of a device that has just been told to ask for its certificate."""
        sequence = self._core.bootstrap.enrolling(peer)
        if sequence is None or sequence.enrolled is None:
            return answer(codes.FORBIDDEN, "nobody was told to ask for a certificate: POST /bs comes first")
        begun = self._core.now()
        response = self._enroll(message, sequence.device, sequence.name, LWM2M)
        if response.code < 128:
            self._core.bootstrap.did(
                sequence, ENROLL, str(response.code), len(message.payload), self._core.now() - begun
            )
            self._core.credentials.prune(sequence.device["id"])
            await self._store.written()
            if not sequence.enrolled.done():
                sequence.enrolled.set_result(None)
        return response

    async def renewed(self, message: Message, peer: Address) -> Message:
        """Answer POST est/NAME/sen, or est/sen, of a registered device."""
        registration = self._core.registrations.at(peer)
        proof = self._core.credentials.proof(self._core.lwm2m, peer)
        if registration is None or proof.device_id != registration.device_id:
            return answer(codes.FORBIDDEN, "only a device that has registered with its certificate gets another")
        path = message.opt.uri_path
        name = path[1] if len(path) == 3 else LWM2M
        if not NAME.fullmatch(name):
            return answer(codes.BAD_REQUEST, "the certificate's name is 1 to 50 letters, digits and '._-'")
        if not self._core.issuers.signs(registration.account_id, name):
            return answer(codes.FORBIDDEN, f"nobody signs certificates of the name {name}")
        device = self._core.directory.find(registration.device_id)
        if device is None:
            return answer(codes.FORBIDDEN, "the device was deleted")
        response = self._enroll(message, device, registration.endpoint_name, name)
        if response.code < 128:
            self._core.credentials.prune(device["id"], proof.serial_number)
            self._core.directory.event(
                device["account_id"],
                device["id"],
                "update.device.certificate-enrolled",
                description=f"The certificate {name} was signed anew",
                data={"name": name},
            )
            await self._store.written()
        return response

    def _enroll(self, message: Message, device: Row, endpoint_name: str, name: str) -> Message:
        if message.opt.content_format not in (None, content.TEXT, content.OPAQUE):
            return answer(codes.UNSUPPORTED_CONTENT_FORMAT, "a certificate request is PKCS#10 in DER")
        try:
            request = read_request(message.payload)
            fault = _fault(request, device, endpoint_name)
            if fault is not None:
                return answer(codes.FORBIDDEN, fault)
            with self._store.batch():
                signed = self._core.pki.device_certificate(
                    request.public_key, endpoint_name, device["id"], device["account_id"], name=name
                )
        except Refused as error:
            return answer(codes.BAD_REQUEST, error.message)
        return Message(code=codes.CHANGED, payload=chain_of(signed))

    # -- what people ask ---------------------------------------------------------------------------------

    async def renew(self, account_id: str, device_id: str, name: str = LWM2M) -> Row:
        """Ask a device to renew a certificate; return the enrollment, which tells later how it went.

        Raises:
            Refused: there is no such device (404), nobody signs certificates of that name (400), the device is not
                registered, cannot be asked now, or renews none (423), or a renewal of it is under way (409).
        """
        core = self._core
        if core.directory.find(device_id, account_id) is None:
            raise Refused(404, f"there is no device {device_id[:64]}", type="not_found")
        if not NAME.fullmatch(name):
            raise Refused(400, f"{name[:60]!r} is no certificate's name", type="validation_error")
        if not core.issuers.signs(account_id, name):
            raise Refused(
                400,
                f"no certificate issuer is configured for {name}",
                type="validation_error",
                hint="POST /v3/certificate-issuer-configurations names certificates that devices may renew",
            )
        elsewhere = core.delivery.is_elsewhere(device_id)
        obstacle = core.delivery.obstacle(device_id)
        if obstacle is not None and not elsewhere:
            raise Refused(423, obstacle, type="locked")
        if core.resources.missing(device_id, RENEW):
            raise Refused(423, f"the device has no {RENEW}: it cannot renew certificates", type="locked")
        if device_id in self._renewing or self._store.row(_NEW_OF, device=device_id) is not None:
            raise Refused(409, "a renewal is under way at this device", type="conflict")
        at = self._store.timestamp()
        row: Row = {
            "id": self._store.ids.new(),
            "account_id": account_id,
            "device_id": device_id,
            "certificate_name": name,
            "enroll_status": "new",
            "enroll_result": None,
            "enroll_result_detail": None,
            "created_at": at,
            "updated_at": at,
        }
        with self._store.begin() as db:
            db.execute(sa.insert(table).values(row))
            core.bus.tell("queue", device_id)
        if not elsewhere:
            self._begin(row)
        return row

    def enrollment(self, account_id: str, id: str) -> Row | None:
        """Return a renewal as it is now; None if the account has none of that id."""
        return self._store.row(sa.select(table).where(table.c.account_id == account_id, table.c.id == id))

    async def _ask(self, row: Row) -> None:
        message = Message(code=codes.POST, payload=name_tlv(row["certificate_name"]))  # no Content-Format: 4.3
        message.opt.uri_path = RENEW.segments
        try:
            try:
                response = await self._core.delivery.ask(row["device_id"], message)
            except NetworkError as error:
                self._completed(row["id"], "failure", error.message)
            else:
                self._completed(row["id"], *_outcome(response))
        except ServiceError as error:
            _log.error("how the renewal %s went could not be kept: %s", row["id"], error)
        finally:
            del self._renewing[row["device_id"]]

    def _completed(self, id: str, result: str, detail: str | None) -> None:
        values = {"enroll_status": "completed", "enroll_result": result, "enroll_result_detail": detail}
        with self._store.batch() as db:
            db.execute(sa.update(table).where(table.c.id == id).values(updated_at=self._store.timestamp(), **values))

    def resume(self) -> None:
        """Close, after a start, what was under way: the device's answer has gone to nobody."""
        self._close_left()

    def _close_left(self, _: str = "") -> None:
        """Close what nobody asks: neither this process, nor the one that the device is connected to."""
        for row in self._store.rows(_NEW):
            device_id = row["device_id"]
            if device_id not in self._renewing and not self._core.delivery.is_elsewhere(device_id):
                self._completed(row["id"], "failure", "the service was restarted meanwhile")

    def _look(self, device_id: str) -> None:
        """Ask a device that is connected to this process for what another process was asked."""
        if self._core.registrations.own(device_id) is None or device_id in self._renewing:
            return
        row = self._store.row(_NEW_OF, device=device_id)
        if row is not None:
            self._begin(row)

    def _begin(self, row: Row) -> None:
        self._renewing[row["device_id"]] = asyncio.get_running_loop().create_task(self._ask(row))

    async def close(self) -> None:
        """Wait for no device any more."""
        tasks = list(self._renewing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def chain_of(*certificates: bytes) -> bytes:
    """Return certificates (DER), the device's own first, as the client reads them."""
    return bytes((VERSION, len(certificates))) + b"".join(len(each).to_bytes(2, "big") + each for each in certificates)


def name_tlv(name: str) -> bytes:
    """Return what /35011/0/27002 wants: a type, a length and the certificate's name with a NUL, all counted."""
    value = name.encode() + b"\0"
    return _NAME_TYPE.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


def _fault(request: CertificateRequest, device: Row, endpoint_name: str) -> str | None:
    subject = request.subject
    if subject.endpoint_name != endpoint_name:
        return f"CN={subject.endpoint_name} is not the endpoint name"
    if subject.device_id not in (None, device["id"]):
        return f"L={subject.device_id} is not the device"
    if subject.account_id not in (None, device["account_id"]):
        return f"OU={subject.account_id} is not the account"
    return None


def _outcome(response: Message) -> tuple[str, str | None]:
    said = response.payload[:20].decode("ascii", "replace").strip()
    if response.code >= 128:
        return "failure", f"the device refused: {response.code} {said}".strip()
    status = int(said) if said.isascii() and said.isdigit() else 0 if not said else -1
    if status == 0:
        return "success", None
    return "failure", f"the device reports status {said}: {_STATUS.get(status, 'no status of this client')}"
