"""Requests to devices: taken or refused here, and queued until they can be delivered (request_queues.py)."""

from __future__ import annotations

import re

import sqlalchemy as sa

from pdmlab.service.asking import METHODS, media_type, split_uri
from pdmlab.service.queue import Queue, queue
from pdmlab.service.refusal import Refused
from pdmlab.service.request_queues import OF_DEVICE, RequestQueues
from pdmlab.service.schema import api_keys, devices, requests
from pdmlab.service.statements import Statement

MAX_QUEUED = 20
"""Requests that may wait for one device."""
DEFAULT_EXPIRY_S = 3 * 86_400.0
MAX_PAYLOAD = 1 << 20  # B

_ASYNC_ID = re.compile(r"[A-Za-z0-9_\-]{1,40}", re.ASCII)

_COUNT = Statement(sa.select(sa.func.count()).where(OF_DEVICE))
_GIVEN = [column.name for column in requests.c if column.name not in ("number", "state", "reason", "node")]
_INSERT = Statement(sa.insert(requests), _GIVEN)
_QUEUED = requests.c.state == "queued"
_LATEST = Statement(
    sa.select(sa.func.max(requests.c.number).label("number")).where(
        OF_DEVICE,
        requests.c.api_key_id == sa.bindparam("key"),
        requests.c.async_id == sa.bindparam("id"),
        _QUEUED,
    )
)
_UNDO = Statement(sa.delete(requests).where(requests.c.number == sa.bindparam("which"), _QUEUED))
_ACCOUNT = Statement(sa.select(api_keys.c.account_id).where(api_keys.c.id == sa.bindparam("key")))


class Requests(RequestQueues):
    """What keys ask of devices."""

    async def submit(
        self,
        api_key_id: str,
        device_id: str,
        async_id: str,
        method: str,
        uri: str,
        payload: bytes = b"",
        content_type: str | None = None,
        expiry_s: float | None = None,
        *,
        retry: int = 0,
        accept: str | None = None,
        ends_with_registration: bool = False,
    ) -> None:
        """Queue a request; it is on disk when this returns, and its answer comes on the key's channel.

        uri: a path, with a query for notification attributes ("/3/0/1?pmin=5"); expiry_s: how long it may wait;
        retry: how often it is sent again, after a time-out, when the device is heard the next time; accept: the media
        type that the answer is to have, as the device has it; ends_with_registration: whether it waits no longer than
        the registration that the device has now.

        Raises:
            Refused: DEVICE_NOT_FOUND (404), RESOURCE_NOT_FOUND, MALFORMED_ASYNC_ID, MALFORMED_JSON_CONTENT,
                UNSUPPORTED_CONTENT_TYPE, TOO_MANY_REQUESTS (400).
        """
        if not _ASYNC_ID.fullmatch(async_id):
            raise Refused(400, "MALFORMED_ASYNC_ID", hint="1 to 40 letters, digits, - and _")
        path, _ = split_uri(uri)
        if method not in METHODS:
            raise Refused(400, "MALFORMED_JSON_CONTENT", hint=f"method is one of {', '.join(METHODS)}")
        if len(payload) > MAX_PAYLOAD:
            raise Refused(413, "PAYLOAD_TOO_LARGE", hint=f"at most {MAX_PAYLOAD} B")
        content_type, accept = media_type(content_type), media_type(accept)
        account_id = self._store.scalar(_ACCOUNT, key=api_key_id)
        if account_id is None or self._core.directory.account_of(device_id) != account_id:
            raise Refused(404, "DEVICE_NOT_FOUND", hint=f"this account has no device {device_id[:64]}")
        if self._core.registrations.find(device_id) is not None and self._core.resources.missing(device_id, path):
            raise Refused(400, "RESOURCE_NOT_FOUND", hint=f"the device has registered no {path}")
        if (self._store.scalar(_COUNT, device=device_id) or 0) >= MAX_QUEUED:
            raise _too_many()
        expires = self._core.now() + (DEFAULT_EXPIRY_S if expiry_s is None else max(expiry_s, 0.0))
        with self._store.batch() as db:
            _INSERT.run(
                db,
                account_id=account_id,
                api_key_id=api_key_id,
                device_id=device_id,
                async_id=async_id,
                method=method,
                uri=uri,
                payload=payload,
                content_type=content_type,
                accept=accept,
                ends_with_registration=ends_with_registration,
                retries=max(retry, 0),
                expires=expires,
                created_at=self._store.timestamp(),
            )
            self._core.bus.tell("queue", device_id)
        await self._store.written()
        if self._store.shared and self._taken_back(api_key_id, device_id, async_id):
            raise _too_many()
        self._deadline.at(expires)
        self._waiting.add(device_id)
        self.kick(device_id)

    def _taken_back(self, api_key_id: str, device_id: str, async_id: str) -> bool:
        """Take a request out of a queue that several processes have overfilled at once; return whether it was.

        Only what is committed is seen by all: whoever looks after that sees the others', or is seen by them.
        """
        if (self._store.scalar(_COUNT, device=device_id) or 0) <= MAX_QUEUED:
            return False
        with self._store.begin() as db:  # one after the other, so that no more are taken out than must be
            db.execute(sa.select(devices.c.id).where(devices.c.id == device_id).with_for_update(key_share=True))
            if (self._store.scalar(_COUNT, device=device_id) or 0) <= MAX_QUEUED:
                return False
            number = self._store.scalar(_LATEST, device=device_id, key=api_key_id, id=async_id)
            return number is not None and _UNDO.run(db, which=number) > 0

    def queue(self, device_id: str | None = None, *, account_id: str | None = None) -> Queue:
        """Return what waits for devices, and why: requests, observations to be made and manifests, in their order."""
        return queue(self._core, device_id, account_id)


def _too_many() -> Refused:
    return Refused(400, "TOO_MANY_REQUESTS", hint=f"{MAX_QUEUED} requests wait for this device already")
