"""The objects that every device has: its servers, itself, its connection and its place; firmware.py has object 5."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import IntEnum

from aiocoap.numbers import codes

from pdmlab.client.plain.objects import Action, Content, Refusal, TableObject
from pdmlab.client.plain.tree import SERVER
from pdmlab.lwm2m.registry import ResourceDefinition

DEVICE, CONNECTIVITY, FIRMWARE, LOCATION, STATISTICS = 3, 4, 5, 6, 7
FIRMWARE_VERSION_ID = 3  # of object 3
ETHERNET = 41  # of Network Bearer, /4/0/0
_BINDING = re.compile(r"[UMHTSN]+Q?[UMHTSN]*", re.ASCII)
_LONGEST = (1 << 32) - 1  # s


class Server(IntEnum):
    """Resources of object 1."""

    SHORT_ID = 0
    LIFETIME = 1
    PMIN = 2
    PMAX = 3
    DISABLE = 4
    DISABLE_TIMEOUT = 5
    STORING = 6
    BINDING = 7
    UPDATE = 8
    BOOTSTRAP = 9
    RETRY_COUNT = 17
    RETRY_TIMER = 18
    MUTE_SEND = 23


class ServerObject(TableObject):
    """Object 1; `on_execute` hears which server wants what: to disable, an update, a bootstrap."""

    def __init__(self, instances: Mapping[int, Mapping[int, Content]], *, version: str) -> None:
        super().__init__(SERVER, instances, version=version, fixed=False)
        self.on_execute: Callable[[int, Server], None] | None = None
        wanted = (Server.DISABLE, Server.UPDATE, *([Server.BOOTSTRAP] if version != "1.0" else []))
        self._actions = {int(each): self._definitions[each] for each in wanted}

    def resources(self, instance: int) -> dict[int, ResourceDefinition]:
        """See Lwm2mObject."""
        return dict(sorted({**super().resources(instance), **self._actions}.items()))

    def check(self, instance: int, resource: int, value: Content) -> None:
        """See Lwm2mObject."""
        super().check(instance, resource, value)
        known = self._definitions[resource]
        if known.unit == "s" and not (isinstance(value, int) and 0 <= value <= _LONGEST):
            raise Refusal(codes.BAD_REQUEST, f"{known.name} of {value!r} s")
        if resource == Server.LIFETIME and value == 0 and self.version == "1.0":
            raise Refusal(codes.BAD_REQUEST, "a lifetime without end came with LwM2M 1.1")
        if resource == Server.BINDING and (not isinstance(value, str) or _BINDING.fullmatch(value) is None):
            raise Refusal(codes.BAD_REQUEST, f"{value!r} is no binding")

    async def execute(self, instance: int, resource: int, arguments: str) -> None:
        """See Lwm2mObject."""
        if self.on_execute is not None:
            self.on_execute(instance, Server(resource))

    def number(self, instance: int, resource: Server, default: int) -> int:
        """Return a whole number of an instance, or what counts if it has none."""
        if instance not in self._instances:
            return default
        value = self._instances[instance].get(resource, default)
        return value if isinstance(value, int) else default

    def text(self, instance: int, resource: Server) -> str:
        """Return a text of an instance; "" if it has none."""
        value = self._instances.get(instance, {}).get(resource, "")
        return value if isinstance(value, str) else ""

    def instance_of(self, short_id: int) -> int | None:
        """Return the instance of a server; None if there is none."""
        return next((id for id, values in self._instances.items() if values.get(Server.SHORT_ID) == short_id), None)


class DeviceObject(TableObject):
    """Object 3, with a clock that the server can set."""

    _REBOOT, _FACTORY_RESET, _RESET_ERRORS, _ERRORS, _TIME = 4, 5, 12, 11, 13

    def __init__(
        self,
        values: Mapping[int, Content],
        *,
        version: str,
        reboot: Action,
        factory_reset: Action,
        now: Callable[[], float],
    ) -> None:
        actions: dict[int, Content | Callable[..., object]] = {
            self._REBOOT: reboot,
            self._FACTORY_RESET: factory_reset,
            self._RESET_ERRORS: lambda _: self.set(0, self._ERRORS, {0: 0}),
            self._TIME: lambda: round(self._now() + self._ahead),
        }
        super().__init__(DEVICE, {0: {**actions, **values}}, version=version)
        self._now = now
        self._ahead = 0.0

    def write(self, instance: int, resource: int, value: Content | None) -> None:
        """See Lwm2mObject."""
        if resource == self._TIME:
            self._ahead = value - self._now() if isinstance(value, int) else 0.0
            self.changed(instance, resource)
            return
        super().write(instance, resource, value)


class StatisticsObject(TableObject):
    """Object 7: bytes and messages each way, from Start to Stop."""

    _SENT, _RECEIVED, _LARGEST, _AVERAGE, _START, _STOP, _PERIOD = 2, 3, 4, 5, 6, 7, 8

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {"in": 0, "out": 0}
        self._largest = self._messages = 0
        self._collecting = False
        values: dict[int, Content | Callable[..., object]] = {
            self._SENT: lambda: self._sizes["out"] // 1000,
            self._RECEIVED: lambda: self._sizes["in"] // 1000,
            self._LARGEST: lambda: self._largest,
            self._AVERAGE: lambda: sum(self._sizes.values()) // max(self._messages, 1),
            self._START: lambda _: self._start(),
            self._STOP: lambda _: self._stop(),
            self._PERIOD: 0,
        }
        super().__init__(STATISTICS, {0: values})

    def _start(self) -> None:
        self._sizes = {"in": 0, "out": 0}
        self._largest = self._messages = 0
        self._collecting = True

    def _stop(self) -> None:
        self._collecting = False

    def count(self, direction: str, size: int) -> None:
        """Count a message of size (B), "in" or "out"."""
        if self._collecting:
            self._sizes[direction] += size
            self._largest = max(self._largest, size)
            self._messages += 1


def device_values(*, serial: str, firmware: str) -> dict[int, Content]:
    """Return what object 3 says of a device on a battery and USB: ids as OMA's ETS wants them (C.4)."""
    return {
        0: "pdmlab",
        1: "plain LwM2M client",
        2: serial,
        3: firmware,
        6: {0: 1, 1: 5},  # internal battery, USB
        7: {0: 3800, 1: 5000},
        8: {0: 125, 1: 900},
        9: 100,
        10: 64,
        11: {0: 0},
        14: "+00:00",
        15: "Etc/UTC",
        16: "U",
        17: "virtual",
        20: 0,
        21: 256,
    }


def other_objects(now: Callable[[], float]) -> list[TableObject]:
    """Return objects 4 and 6: a wired connection, and a place."""
    place: dict[int, Content] = {0: 52.2053, 1: 0.1218, 2: 6.0, 5: round(now())}
    return [
        TableObject(CONNECTIVITY, {0: {0: ETHERNET, 1: {0: ETHERNET}, 2: 0, 3: 100, 4: {0: "127.0.0.1"}}}),
        TableObject(LOCATION, {0: place}),
    ]
