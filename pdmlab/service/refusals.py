"""What devices were refused, in their events: the message log forgets, and knows no names."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiocoap import Message

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address, text_of
from pdmlab.errors import ServiceError

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_log = logging.getLogger(__name__)

PAUSE_S = 60.0
"""Between two such events of a device: what it does wrong, it may do a thousand times a second."""
EVENT = "update.device.request-refused"


class Refusals:
    """Notes them."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._latest: dict[str, float] = {}
        self._passed_over: dict[str, int] = {}

    def note(self, endpoint: Endpoint, request: Message, peer: Address, response: Message) -> None:
        """Note that a request was answered with an error, if it is known whose it was."""
        core = self._core
        try:
            device_id = core.registrations.device_of(endpoint, peer)
            account_id = None if device_id is None else core.directory.account_of(device_id)
            if device_id is None or account_id is None:
                return
            now = core.now()
            if now - self._latest.get(device_id, -PAUSE_S) < PAUSE_S:
                self._passed_over[device_id] = self._passed_over.get(device_id, 0) + 1
                return
            self._latest[device_id] = now
            more = self._passed_over.pop(device_id, 0)
            asked = f"{request.code} /{'/'.join(request.opt.uri_path)}"[:100]
            said = response.payload[:200].decode("utf-8", "replace")
            with core.store.batch():
                core.directory.event(
                    account_id,
                    device_id,
                    EVENT,
                    description=f"{asked} was answered {response.code}: {said}",
                    data={"address": text_of(peer), "passed_over": more},
                )
        except ServiceError as error:
            _log.error("that a request was refused could not be kept: %s", error)

    def forget(self, device_id: str) -> None:
        """Drop what is held of a device that is gone."""
        self._latest.pop(device_id, None)
        self._passed_over.pop(device_id, None)
