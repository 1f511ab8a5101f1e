"""What a device offers an LwM2M server: objects with instances and resources, and what may be done with them."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterable, Mapping
from inspect import isawaitable
from typing import Protocol, TypeAlias, runtime_checkable

from aiocoap.numbers import codes
from aiocoap.numbers.codes import Code

from pdmlab.errors import ConfigError, Lwm2mError
from pdmlab.lwm2m.paths import MAX_ID, Path
from pdmlab.lwm2m.payload import natural_type
from pdmlab.lwm2m.registry import ObjectDefinition, ResourceDefinition, core_objects
from pdmlab.lwm2m.values import Value, to_record

Content: TypeAlias = Value | dict[int, Value]
"""A resource's value; by instance id for a multiple resource."""

Action: TypeAlias = Callable[[str], object]
"""What an executable resource does; takes its arguments as text ("" without), may be a coroutine."""

MOST_INSTANCES = 1000
"""Object instances, or instances of one resource, that a server may create."""
MOST_BYTES = 1 << 20
"""What the values of one object may take (B), about; more is no device's."""

_SMALL = 64  # B that any value takes, about


class Refusal(Lwm2mError):
    """An operation is not possible; `code` is what the server is answered."""

    def __init__(self, code: Code, message: str = "") -> None:
        super().__init__(message)
        self.code = code


class Lwm2mObject(Protocol):
    """One object as requests find it. Whatever raises Refusal must not have changed anything."""

    id: int
    version: str
    on_change: Callable[[Path], None] | None

    def instances(self) -> Iterable[int]:
        """Return the ids of its instances, sorted."""
        ...

    def resources(self, instance: int) -> Mapping[int, ResourceDefinition]:
        """Return the resources of an instance, those that can only be written or executed too."""
        ...

    def definition(self, resource: int) -> ResourceDefinition | None:
        """Return a resource's definition, whether or not an instance has it; None if there is no such resource."""
        ...

    def read(self, instance: int, resource: int) -> Content:
        """Return a value."""
        ...

    def check(self, instance: int, resource: int, value: Content) -> None:
        """Raise Refusal if a value cannot be written, by whoever it is; its type and place are known to be right."""
        ...

    def write(self, instance: int, resource: int, value: Content | None) -> None:
        """Take a value that was checked; None takes the resource away."""
        ...

    def execute(self, instance: int, resource: int, arguments: str) -> Awaitable[None]:
        """Do what an executable resource does."""
        ...

    def create(self, instance: int) -> None:
        """Make an empty instance, or raise Refusal."""
        ...

    def delete(self, instance: int) -> None:
        """Take an instance away, or raise Refusal."""
        ...


@runtime_checkable
class TakesBlocks(Protocol):
    """An object one of whose values is too large to be held as a whole: its blocks are taken as they come."""

    def streams(self, resource: int) -> bool:
        """Whether it takes a resource so."""
        ...

    async def take(self, data: bytes, start: int, *, more: bool, total: int | None, sender: object) -> Code:
        """Take bytes that begin at `start`, of `total` (B) if that was said; return what is answered, or raise Refusal.

        sender: who sends it; blocks of two do not mix.
        """
        ...


class TableObject:
    """An object whose values are kept here: those of the registry, and anybody's own.

    Args:
        definition: what its resources are; by default the registry's of that id, else what the values look like.
        instances: instance id -> resource id -> value. A value is plain, a dict for a multiple resource, a function
            that is called for each read, or what to do when the resource is executed.
        fixed: servers may neither create nor delete instances: they stand for what the device has.
        on_write: hears of each value that a server has written: instance, resource, value.

    >>> temperature = TableObject(3303, {0: {5700: 21.5}})
    >>> temperature.read(0, 5700)
    21.5
    """

    def __init__(
        self,
        id: int,
        instances: Mapping[int, Mapping[int, Content | Callable[..., object]]] | None = None,
        *,
        definition: ObjectDefinition | None = None,
        version: str = "1.0",
        fixed: bool = True,
        on_write: Callable[[int, int, Content], object] | None = None,
    ) -> None:
        Path.of(id)
        self.id = id
        self.version = version
        self.on_change: Callable[[Path], None] | None = None
        known = definition or core_objects().objects.get(id)
        self._definitions = dict(known.resources) if known is not None else {}
        self.fixed = fixed
        self.on_write = on_write
        self.call: Callable[[Action, str], Awaitable[object]] | None = None
        """How actions are called, where they may not run on the loop itself."""
        self.post: Callable[..., object] = lambda work, *given: work(*given)
        """How `on_write` is called, likewise."""
        self._instances: dict[int, dict[int, Content]] = {}
        self._called: dict[tuple[int, int], Callable[..., object]] = {}
        for instance, resources in (instances or {}).items():
            self._instances[instance] = {}
            for resource, value in resources.items():
                self._offer(instance, resource, value)

    def _offer(self, instance: int, resource: int, value: Content | Callable[..., object]) -> None:
        Path.of(self.id, instance, resource)
        if callable(value):
            self._definitions.setdefault(resource, ResourceDefinition(resource, f"{self.id}/{resource}", "E"))
            self._called[instance, resource] = value
            return
        if resource not in self._definitions:
            sample = next(iter(value.values()), "") if isinstance(value, dict) else value
            self._definitions[resource] = ResourceDefinition(
                resource, f"{self.id}/{resource}", "RW", natural_type(sample), multiple=isinstance(value, dict)
            )
        self.fits(Path.of(self.id, instance, resource), value)
        self._instances[instance][resource] = value

    def __repr__(self) -> str:
        return f"<TableObject /{self.id}, instances {', '.join(map(str, self.instances())) or 'none'}>"

    # -- what requests find ------------------------------------------------------------------------------

    def instances(self) -> list[int]:
        """See Lwm2mObject."""
        return sorted(self._instances)

    def resources(self, instance: int) -> dict[int, ResourceDefinition]:
        """See Lwm2mObject."""
        present = {*self._instances[instance], *(resource for of, resource in self._called if of == instance)}
        return {id: self._definitions[id] for id in sorted(present)}

    def definition(self, resource: int) -> ResourceDefinition | None:
        """See Lwm2mObject."""
        return self._definitions.get(resource)

    def read(self, instance: int, resource: int) -> Content:
        """See Lwm2mObject."""
        called = self._called.get((instance, resource))
        if called is None:
            return self._instances[instance][resource]
        path = Path.of(self.id, instance, resource)
        try:
            value: Content = called()  # type: ignore[assignment]  # the next line looks whether it is one
            self.fits(path, value)
        except Exception as error:  # of the application's function; whoever reads is told, and nobody else is held up
            raise Refusal(codes.INTERNAL_SERVER_ERROR, f"{path} cannot be read now: {error}") from error
        return value

    def check(self, instance: int, resource: int, value: Content) -> None:
        """See Lwm2mObject."""
        held = sum(_size(each) for values in self._instances.values() for each in values.values())
        if held + _size(value) > MOST_BYTES:
            raise Refusal(codes.REQUEST_ENTITY_TOO_LARGE, f"/{self.id} has room for {MOST_BYTES} B")

    def write(self, instance: int, resource: int, value: Content | None) -> None:
        """See Lwm2mObject."""
        values = self._instances[instance]
        if value is None:
            values.pop(resource, None)
        else:
            values[resource] = value
        self.changed(instance, resource)
        if value is not None and self.on_write is not None:
            self.post(self.on_write, instance, resource, value)

    async def execute(self, instance: int, resource: int, arguments: str) -> None:
        """See Lwm2mObject."""
        called = self._called.get((instance, resource))
        if called is None:
            raise Refusal(codes.METHOD_NOT_ALLOWED, f"/{self.id}/{instance}/{resource} does nothing here")
        done = called(arguments) if self.call is None else await self.call(called, arguments)
        if isawaitable(done):
            await done

    def create(self, instance: int) -> None:
        """See Lwm2mObject."""
        if self.fixed or len(self._instances) >= MOST_INSTANCES:
            raise Refusal(codes.METHOD_NOT_ALLOWED, f"/{self.id} takes no more instances")
        self._instances[instance] = {}
        self.changed(instance)

    def delete(self, instance: int) -> None:
        """See Lwm2mObject."""
        if self.fixed:
            raise Refusal(codes.METHOD_NOT_ALLOWED, f"/{self.id}/{instance} cannot be deleted")
        self.drop(instance)

    # -- what the device itself does -----------------------------------------------------------------------

    def drop(self, instance: int) -> None:
        """Take an instance away, whoever may not."""
        del self._instances[instance]
        for key in [each for each in self._called if each[0] == instance]:
            del self._called[key]
        self.changed(instance)

    def add(self, instance: int, values: Mapping[int, Content | Callable[..., object]]) -> None:
        """Make an instance, or replace one."""
        if not 0 <= instance <= MAX_ID:
            raise ConfigError(f"{instance} is no instance id")
        self._instances[instance] = {}
        for resource, value in values.items():
            self._offer(instance, resource, value)
        self.changed(instance)

    def set(self, instance: int, resource: int, value: Content) -> None:
        """Set a value on the device's own behalf; what is read-only to servers too.

        Raises:
            ConfigError: there is no such resource, or the value is not of its type.
        """
        if instance not in self._instances or resource not in self._definitions:
            raise ConfigError(f"there is no /{self.id}/{instance}/{resource}", hint="add it with its object")
        self.fits(Path.of(self.id, instance, resource), value)
        self._instances[instance][resource] = value
        self.changed(instance, resource)

    def fits(self, path: Path, value: Content) -> None:
        """Raise ConfigError if a value is not of its resource's type."""
        known = self._definitions[path.ids[2]]
        values = list(value.values()) if isinstance(value, dict) else [value]
        if known.type is None or known.multiple != isinstance(value, dict):
            kind = "executed" if known.type is None else "several values" if known.multiple else "one value"
            raise ConfigError(f"{path} ({known.name}) cannot be {value!r}", hint=f"it is {kind}")
        try:
            for each in values:
                to_record(path, each, known.type)
        except Lwm2mError as error:
            raise ConfigError(f"{path} ({known.name}): {error.message}") from error

    def changed(self, *ids: int) -> None:
        """Say that something is new below an instance."""
        if self.on_change is not None:
            self.on_change(Path.of(self.id, *ids))

    def snapshot(self) -> dict[int, dict[int, Content]]:
        """Return a copy of all values, for `restore`."""
        return copy.deepcopy(self._instances)

    def restore(self, values: dict[int, dict[int, Content]]) -> None:
        """Set all instances back."""
        self._instances = copy.deepcopy(values)


def _size(value: Content) -> int:
    if isinstance(value, dict):
        return sum(_size(each) for each in value.values())
    return _SMALL + (len(value) if isinstance(value, str | bytes) else 0)
