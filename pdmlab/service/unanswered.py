"""Requests that want no answer: sent past the queue and once, by the process that the device is connected to."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING

from pdmlab.coap.transport import scheme_of
from pdmlab.errors import NetworkError
from pdmlab.service.asking import media_type, message_of, split_uri
from pdmlab.service.delivery import below
from pdmlab.service.refusal import Refused
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core
    from pdmlab.service.register import Registration

_log = logging.getLogger(__name__)

MAX_UNANSWERED = 1024  # B, one message's worth


class Unanswered:
    """Tells devices something; whether it arrives, nobody learns."""

    def __init__(self, core: Core) -> None:
        self._core = core
        core.bus.hear("unanswered", self._heard, own=False)

    def tell(
        self, device_id: str, method: str, uri: str, payload: bytes = b"", content_type: str | None = None
    ) -> None:
        """Send a request that wants no answer.

        Raises:
            Refused: the device may sleep, or its transport has nothing of the kind (409); else as `submit` does.
        """
        path, _ = split_uri(uri)
        content_type = media_type(content_type)
        registration = self._core.registrations.find(device_id)
        if registration is None:
            raise Refused(404, "DEVICE_NOT_FOUND", hint="the device is not registered")
        over_tcp = "T" in registration.binding or scheme_of(registration.peer).endswith("tcp")
        if registration.queue_mode or over_tcp:
            raise Refused(409, "NO_RESPONSE_NOT_SUPPORTED", hint="the device is in queue mode, or on TCP")
        if self._core.resources.missing(device_id, path):
            raise Refused(400, "RESOURCE_NOT_FOUND", hint=f"the device has registered no {path}")
        if len(payload) > MAX_UNANSWERED:
            raise Refused(413, "PAYLOAD_TOO_LARGE", hint=f"without an answer there are no blocks: {MAX_UNANSWERED} B")
        row: Row = {"method": method, "uri": uri, "payload": payload, "content_type": content_type, "accept": None}
        if not self._core.nodes.is_own(registration.node):
            # It has no row: what may be lost on its way to the device may be lost on this way too.
            text = {**row, "device_id": device_id, "payload": base64.b64encode(payload).decode()}
            self._core.bus.tell("unanswered", json.dumps(text))
            return
        try:
            self._send(registration, row)
        except NetworkError as error:
            raise Refused(503, "DEVICE_NOT_CONNECTED", hint=error.message) from error

    def _send(self, registration: Registration, row: Row) -> None:
        message = message_of(row)
        below(message, registration.root)
        # docs/wire.md 1.9: the stock client resets what has an option that it does not know, this one among them.
        stock = self._core.resources.get(registration.device_id, "/10252/0/2") is not None
        self._core.lwm2m.tell(message, registration.peer, says_so=not stock)

    def _heard(self, subject: str) -> None:
        """Send what another process was asked to tell."""
        row: Row = json.loads(subject)
        registration = self._core.registrations.own(row["device_id"])
        if registration is None:
            return
        row["payload"] = base64.b64decode(row["payload"])
        try:
            self._send(registration, row)
        except NetworkError as error:
            _log.info("the device %s was not told: %s", registration.device_id, error.message)
