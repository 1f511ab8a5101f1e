"""Resources: values, and what may be done with them, by the server and by the application."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from enum import IntEnum, IntFlag
from typing import TypeAlias

from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.client.background import Background
from pdmlab.errors import ConfigError, Lwm2mError
from pdmlab.lwm2m import content, tlv
from pdmlab.lwm2m.content import TLV, TLV_OLD, ResourceType, Value
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import core_objects

Instances: TypeAlias = dict[int, Value]
"""The values of a multiple resource, by instance id."""


class M2MMethod(IntFlag):
    """What the server may do with a resource: read, write, execute, delete."""

    GET = 1
    PUT = 2
    POST = 4
    DELETE = 8


class NotificationDeliveryStatus(IntEnum):
    """How a notification fares: NOTIFICATION_STATUS_* of mbed-client (m2mbase.h)."""

    INIT = 0
    BUILD_ERROR = 1
    RESEND_QUEUE_FULL = 2
    SENT = 3
    DELIVERED = 4
    SEND_FAILED = 5
    SUBSCRIBED = 6
    UNSUBSCRIBED = 7


class Resource:
    """A resource as the server sees it.

    Args:
        value: what it is at first; a dict makes it a multiple resource.
        name: what registration calls it (rt).
        publish: send the value along with registration.
        auto: notify the server without being asked (aobs), which publishes the value too.
        write: take the server's value and return what to answer; stores it unless given.
        execute: what POST does.
        answer_first: let the server have its answer before anything is executed.
        delayed: acknowledge POST at once, whatever it carries.
        reply: what POST does instead of `execute` where its answer waits for it: returns the answer's payload.
        refusal: what to answer when the server writes what is no value of the type.
    """

    def __init__(
        self,
        path: Path,
        type: ResourceType = "string",
        operations: M2MMethod = M2MMethod.GET,
        value: Value | Instances = "",
        *,
        name: str = "",
        publish: bool = False,
        auto: bool = False,
        write: Callable[[Value], Code] | None = None,
        execute: Callable[[bytes], Awaitable[None]] | None = None,
        answer_first: bool = True,
        delayed: bool = False,
        reply: Callable[[bytes], Awaitable[bytes]] | None = None,
        refusal: Code = codes.BAD_REQUEST,
    ) -> None:
        self.path = path
        self.name = name
        self.operations = operations
        self.is_observable = auto
        self.auto = auto
        self.publish = publish or auto
        self.answer_first = answer_first
        self.delayed = delayed
        self.reply = reply
        self.refusal = refusal
        self.sticky_format: int | None = None
        """The format that a GET asked for last; the stock client goes on with it in notifications."""
        self.on_change: Callable[[Resource], None] | None = None
        """Hears of each new value, on the thread that sets it."""
        self._type: ResourceType = type
        self._value = value
        self._write = write
        self._execute = execute

    @property
    def type(self) -> ResourceType:
        """How its value is written on the wire."""
        return self._type

    @property
    def value(self) -> Value | Instances:
        """What a read finds."""
        return self._value

    def update(self, value: Value | Instances) -> None:
        """Set the value."""
        self._value = value
        if self.on_change is not None:
            self.on_change(self)

    def write(self, value: Value, text: str | None = None) -> Code:
        """Set the value on the server's behalf, who may have written it as text; return the code to answer with."""
        if self._write is not None:
            return self._write(value)
        self.update(value)
        return codes.CHANGED

    async def execute(self, payload: bytes) -> None:
        """Do what POST asks for."""
        if self._execute is not None:
            await self._execute(payload)

    def content(self, accept: int | None = None) -> tuple[bytes, int]:
        """Return the value's bytes and their content format.

        Raises:
            Lwm2mError: the value cannot be written in the format asked for.
        """
        value = self.value
        if isinstance(value, dict):
            if accept not in (None, TLV, TLV_OLD):
                raise Lwm2mError(f"{self.path} has several values, which only TLV can carry")
            return tlv.encode([self.entry()]), accept or TLV
        format = content.default_format(self.type) if accept is None else accept
        return content.encode(value, self.type, format, self.path, wide_integers=True), format

    def entry(self) -> tlv.Entry:
        """Return the value as TLV carries it inside an object instance."""
        value, id = self.value, self.path.ids[-1]
        if isinstance(value, dict):
            return tlv.multiple(id, [(number, self._bytes(each)) for number, each in value.items()])
        return tlv.resource(id, self._bytes(value))

    def _bytes(self, value: Value) -> bytes:
        return content.to_bytes(value, self.type, wide_integers=True)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path} {self.name!r}>"


class MbedCloudClientResource(Resource):
    """A resource of the application; make it with `client.create_resource("3201/0/5853", "variable")`.

    Its value is text, as in the stock client, or bytes. Where the registry knows the path as a number and the
    text is one, it is observed and written as that.
    """

    def __init__(self, path: str, name: str) -> None:
        parsed = Path.parse(path)
        if len(parsed.ids) != 3:
            raise ConfigError(f"{path!r} is no resource", hint='"object/instance/resource", such as "3201/0/5853"')
        super().__init__(parsed, name=name, answer_first=False)
        self.background: Background | None = None
        """What calls the application back; set while the client is connected."""
        self._on_put: Callable[[MbedCloudClientResource, str], object] | None = None
        self._on_post: Callable[[MbedCloudClientResource, bytes], object] | None = None
        self._on_notification: Callable[[MbedCloudClientResource, NotificationDeliveryStatus], object] | None = None

    # -- the application's side ----------------------------------------------------------------------

    def set_value(self, value: str | int | float | bytes) -> None:
        """Set the value; may be called from any thread and from callbacks, and never waits for the network."""
        self.update(value if isinstance(value, str | bytes) else str(value + 0))  # True is 1

    def get_value(self) -> str:
        """Return the value as text."""
        value = self._value
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def get_value_int(self) -> int:
        """Return the value as a whole number; 0 if it is none, as C's atoi does."""
        try:
            return int(self.get_value())
        except ValueError:
            number = self.get_value_float()
            return int(number) if math.isfinite(number) else 0

    def get_value_float(self) -> float:
        """Return the value as a number; 0 if it is none, as C's atof does."""
        try:
            return float(self.get_value())
        except ValueError:
            return 0.0

    def methods(self, mask: M2MMethod) -> None:
        """Say what the server may do: M2MMethod.GET | M2MMethod.PUT."""
        self.operations = M2MMethod(mask)

    def observable(self, observable: bool = True) -> None:
        """Say whether the server may observe it."""
        self.is_observable = observable

    def attach_put_callback(self, callback: Callable[[MbedCloudClientResource, str], object] | None) -> None:
        """Call back with the resource and its new value after the server has written it."""
        self._on_put = callback

    def attach_post_callback(self, callback: Callable[[MbedCloudClientResource, bytes], object] | None) -> None:
        """Call back with the resource and the payload when the server executes it; it is answered afterwards."""
        self._on_post = callback

    def attach_notification_callback(
        self, callback: Callable[[MbedCloudClientResource, NotificationDeliveryStatus], object] | None
    ) -> None:
        """Call back when a notification was delivered or has failed, and when an observation starts or ends."""
        self._on_notification = callback

    # -- the server's side ---------------------------------------------------------------------------

    @property
    def type(self) -> ResourceType:
        value = self._value
        if isinstance(value, bytes):
            return "opaque"
        known = core_objects().resource(self.path)
        if known is not None and known.type in ("integer", "float", "boolean", "time"):
            try:
                content.to_bytes(content.from_text(str(value), known.type), known.type)
            except Lwm2mError:
                return "string"
            return known.type
        return "string"

    @property
    def value(self) -> Value | Instances:
        value = self._value
        if isinstance(value, bytes):
            return value
        return content.from_text(str(value), self.type)

    def content(self, accept: int | None = None) -> tuple[bytes, int]:
        value = self._value
        if isinstance(value, str) and accept in (None, content.TEXT, content.OPAQUE):
            return value.encode(), accept or content.TEXT  # as the application wrote it: "20" stays "20"
        return super().content(accept)

    def write(self, value: Value, text: str | None = None) -> Code:
        self.update(
            value if isinstance(value, bytes) else text if text is not None else content.to_text(value, self.type)
        )
        if self._on_put is not None and self.background is not None:
            self.background.post(self._on_put, self, self.get_value())
        return codes.CHANGED

    async def execute(self, payload: bytes) -> None:
        if self._on_post is not None and self.background is not None:
            await self.background.call(self._on_post, self, payload)

    def notified(self, status: NotificationDeliveryStatus) -> None:
        """Tell the application how a notification fared."""
        if self._on_notification is not None and self.background is not None:
            self.background.post(self._on_notification, self, status)
