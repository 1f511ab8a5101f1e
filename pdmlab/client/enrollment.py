"""Renewal of the device's certificate: what the server asks for by POST /35011/0/27002."""

from __future__ import annotations

import struct
from dataclasses import replace
from enum import IntEnum

from pdmlab.client import certificates
from pdmlab.client.background import Background
from pdmlab.client.est import enrol
from pdmlab.client.identity import Identity
from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.transport import Address
from pdmlab.errors import ConfigError, Lwm2mError, NetworkError, ResponseError, StorageError

LWM2M = "LWM2M"
"""The name of the one certificate that a device has besides the bootstrap server's."""
_NAME = 1


class Status(IntEnum):
    """What the answer says: CE_STATUS_* of the client (ce_status.h)."""

    SUCCESS = 0
    ERROR = 0x500
    ITEM_NOT_FOUND = 0x504
    DEVICE_BUSY = 0x505
    BAD_INPUT_FROM_SERVER = 0x506
    EST_ERROR = 0x507
    STORAGE_ERROR = 0x508


class Renewal:
    """Carries out one renewal at a time, over the connection that it is asked by."""

    def __init__(self, identity: Identity, background: Background) -> None:
        self._identity = identity
        self._background = background
        self._busy = False

    async def carry_out(self, payload: bytes, endpoint: Endpoint | None, peer: Address) -> bytes:
        """Return what to answer: the status as text."""
        if self._busy:
            return _text(Status.DEVICE_BUSY)
        self._busy = True
        try:
            return _text(await self._renew(payload, endpoint, peer))
        finally:
            self._busy = False

    async def _renew(self, payload: bytes, endpoint: Endpoint | None, peer: Address) -> Status:
        name, identity = read_name(payload), self._identity
        if name is None:
            return Status.BAD_INPUT_FROM_SERVER
        server = identity.server
        if name != LWM2M or server is None or not server.certificates or endpoint is None:
            return Status.ITEM_NOT_FOUND
        try:
            common_name, device_id = certificates.fields(server.certificates[0])
            made = await enrol(
                endpoint,
                peer,
                endpoint_name=common_name or identity.endpoint_name,
                device_id=device_id or identity.device_id or "",
                account_id=identity.account_id or "",
            )
        except (NetworkError, ResponseError, Lwm2mError, ConfigError):
            return Status.EST_ERROR
        renewed = replace(server, certificates=made.certificates, private_key=made.private_key)
        try:
            await self._background.blocking(identity.remember, renewed)
        except StorageError:
            return Status.STORAGE_ERROR
        return Status.SUCCESS


def read_name(payload: bytes) -> str | None:
    """Read which certificate to renew: u16 type 1, u16 length, the name with a NUL (big endian); None if it is none."""
    if len(payload) < 4:
        return None
    kind, length = struct.unpack_from(">HH", payload)
    name = payload[4:]
    if kind != _NAME or length != len(name) or name[-1:] != b"\0" or b"\0" in name[:-1] or not name[:-1].isascii():
        return None
    return name[:-1].decode() or None


def _text(status: Status) -> bytes:
    return str(int(status)).encode()
