"""What a device is told at bootstrap: which way, in which order, and whether the stock client would take it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

from aiocoap import Message
from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.errors import ConfigError
from pdmlab.lwm2m import content, tlv

Mode: TypeAlias = Literal["certificates", "est"]

PRE_SHARED_KEY, CERTIFICATE, NO_SECURITY, EST = 0, 2, 3, 4
"""Security resource 2, as the client's M2MSecurity::SecurityModeType has it."""

SHORT_SERVER_ID = 1
SERVER_LIFETIME = 7200  # s, the stock example's own
MAX_ITEM = 1024  # B: the client's MAX_CERTIFICATE_SIZE
_URI, _IS_BOOTSTRAP, _MODE, _OWN, _AUTHORITY, _KEY, _SHORT_ID = 0, 1, 2, 3, 4, 5, 10
_NAMES = {_URI: "URI", _OWN: "device certificate", _AUTHORITY: "CA certificate", _KEY: "private key"}
_KEY_NAMES = {_OWN: "identity", _KEY: "pre-shared key"}
_WANTED = {CERTIFICATE: (_OWN, _AUTHORITY, _KEY), PRE_SHARED_KEY: (_OWN, _KEY), EST: (_AUTHORITY,)}
_ADDRESS = re.compile(r"coaps?://(\[[0-9A-Fa-f:.]+\]|[^/?#:\[\]]+):([0-9]{1,5})(\?[^#]*)?")


@dataclass(frozen=True)
class Plan:
    """How devices of an account are told who they are.

    mode      certificates: key and certificate are made here; est: the device makes its key, and asks by EST for a
              certificate
    delete    whether DELETE /0 comes first, which takes from the device what it knew
    server    whether PUT /1 tells short id, lifetime (s) and binding; the stock client does without
    """

    mode: Mode = "certificates"
    delete: bool = True
    server: bool = False
    lifetime: int = SERVER_LIFETIME

    def __post_init__(self) -> None:
        if self.mode not in ("certificates", "est"):
            raise ConfigError(f"{self.mode!r} is no way to bootstrap", hint="certificates or est")
        if not 60 <= self.lifetime <= 0x7FFF_FFFF:  # the client answers 4.06 to less
            raise ConfigError(f"a lifetime of {self.lifetime} s is not possible", hint="60 s or more")

    def as_json(self) -> dict[str, object]:
        """Return it as REST shows and keeps it."""
        return asdict(self)


@dataclass(frozen=True)
class Told:
    """Security instance 0 of a device; keys and certificates are DER.

    With a pre-shared key, `certificate` is its identity, and `private_key` the key itself.
    """

    uri: str
    mode: int = NO_SECURITY
    certificate: bytes | None = None
    authority: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)

    @property
    def items(self) -> list[tuple[int, bytes]]:
        """Resource ids and values. The last one is known to every client: an unknown last one would be its verdict."""
        values: list[tuple[int, bytes | None]] = [
            (_URI, content.to_bytes(self.uri, "string")),
            (_IS_BOOTSTRAP, content.to_bytes(False, "boolean")),
            (_MODE, content.to_bytes(self.mode, "integer")),
            (_OWN, self.certificate),
            (_AUTHORITY, self.authority),
            (_KEY, self.private_key),
            (_SHORT_ID, content.to_bytes(SHORT_SERVER_ID, "integer")),
        ]
        return [(id, value) for id, value in values if value is not None]

    def problems(self) -> list[str]:
        """Say why the stock client would not take it, or could not register with it; nothing if it would."""
        found = []
        address = _ADDRESS.fullmatch(self.uri)
        if address is None:
            found.append(f"the URI {self.uri!r} is not coap(s)://HOST:PORT?aid=ACCOUNT; the port is mandatory")
        else:
            if not 0 < int(address[2]) <= 0xFFFF:
                found.append(f"the URI has the port {address[2]}")
            if not re.search(r"[?&]aid=[^&]", address[3] or ""):
                found.append("the URI has no aid=: without an account id the client does not register")
            if (self.mode == NO_SECURITY) == self.uri.startswith("coaps"):
                found.append(f"security mode {self.mode} and {self.uri.partition(':')[0]}:// do not go together")
        items = dict(self.items)
        wanted = _WANTED.get(self.mode, ())
        names = _NAMES | (_KEY_NAMES if self.mode == PRE_SHARED_KEY else {})
        for id, name in names.items():
            if id in items and len(items[id]) > MAX_ITEM:
                found.append(f"the {name} has {len(items[id])} B; the client takes {MAX_ITEM}")
            if id != _URI and (id in items) != (id in wanted):
                found.append(f"security mode {self.mode} goes {'with' if id in wanted else 'without'} a {name}")
        return found


@dataclass(frozen=True)
class Step:
    """A request to the device, and with what it may answer."""

    name: str
    request: Message
    wanted: tuple[Code, ...] = (codes.CHANGED,)


def steps(plan: Plan, told: Told, device_id: str) -> list[Step]:
    """Return what is asked of a device, in order."""
    found = []
    if plan.delete:
        # A device that has nothing to delete may say so.
        found.append(Step("DELETE /0", _request(codes.DELETE, "0"), (codes.DELETED, codes.NOT_FOUND)))
    put = _request(codes.PUT, "0", security_object(told))
    found.append(Step("PUT /0", put, (codes.CHANGED, codes.CREATED)))
    if plan.server:
        put = _request(codes.PUT, "1", server_object(plan.lifetime))
        found.append(Step("PUT /1", put, (codes.CHANGED, codes.CREATED)))
    finish = _request(codes.POST, "bs")
    finish.opt.uri_query = (f"iep={device_id}",)  # EST takes its device id from here
    found.append(Step("POST /bs", finish))
    return found


def security_object(told: Told) -> bytes:
    """Return Security instance 0 as the stock client takes it: an object instance in TLV.

    Not as bare resources to /0/0: that deletes what it does not name, the client's certificate chain among it.
    """
    return tlv.encode([tlv.object_instance(0, [tlv.resource(id, value) for id, value in told.items])])


def server_object(lifetime: int) -> bytes:
    """Return Server instance 0: short id, lifetime (s) and binding."""
    values = [
        (0, content.to_bytes(SHORT_SERVER_ID, "integer")),
        (1, content.to_bytes(lifetime, "integer")),
        (7, content.to_bytes("U", "string")),
    ]
    return tlv.encode([tlv.object_instance(0, [tlv.resource(id, value) for id, value in values])])


def _request(code: Code, path: str, payload: bytes = b"") -> Message:
    message = Message(code=code, payload=payload)
    message.opt.uri_path = (path,)
    if payload:
        message.opt.content_format = content.TLV
    return message
