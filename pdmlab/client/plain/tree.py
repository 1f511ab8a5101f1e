"""All objects of a device by path: what is there, what it says of itself, and its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from aiocoap.numbers import codes

from pdmlab.client.plain.objects import Content, Lwm2mObject, Refusal
from pdmlab.errors import ConfigError
from pdmlab.lwm2m.linkformat import Link
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.payload import Values
from pdmlab.lwm2m.registry import ResourceDefinition
from pdmlab.lwm2m.values import ResourceType, Value

SECURITY = 0
SERVER = 1
OSCORE = 21
HIDDEN = (SECURITY, OSCORE)
"""Objects that no LwM2M server may see (LwM2M 1.1 core, 6.2.1)."""


class ObjectTree:
    """Objects by id; `on_change` hears of each path below which something is new."""

    def __init__(self, objects: Iterable[Lwm2mObject] = ()) -> None:
        self._objects: dict[int, Lwm2mObject] = {}
        self.on_change: Callable[[Path], None] | None = None
        for each in objects:
            self.add(each)

    def add(self, new: Lwm2mObject) -> None:
        """Offer one more.

        Raises:
            ConfigError: there is one of that id.
        """
        if new.id in self._objects:
            raise ConfigError(f"the device has an object /{new.id} already", hint="add instances to that one")
        self._objects[new.id] = new
        new.on_change = self._changed
        self._changed(Path.of(new.id))

    def _changed(self, path: Path) -> None:
        if self.on_change is not None:
            self.on_change(path)

    def __iter__(self) -> Iterator[Lwm2mObject]:
        return iter(sorted(self._objects.values(), key=lambda each: each.id))

    def __getitem__(self, id: int) -> Lwm2mObject:
        return self._objects[id]

    def __contains__(self, id: int) -> bool:
        return id in self._objects

    # -- what is there -------------------------------------------------------------------------------------

    def object(self, path: Path) -> Lwm2mObject:
        """Return the object at or above a path; raise Refusal if there is none, or nobody may see it."""
        if path.object in HIDDEN:
            raise Refusal(codes.UNAUTHORIZED, f"/{path.object} is for the bootstrap server")
        if path.object not in self._objects:
            raise Refusal(codes.NOT_FOUND, f"there is no object /{path.object}")
        return self._objects[path.object]

    def require(self, path: Path) -> Lwm2mObject:
        """Return the object of a path that exists down to its last id; raise Refusal if it does not."""
        found = self.object(path)
        if not self.exists(path):
            raise Refusal(codes.NOT_FOUND, f"there is no {path}")
        return found

    def exists(self, path: Path) -> bool:
        """Return whether there is such an object, instance, resource or resource instance."""
        found = self._objects.get(path.object)
        if found is None or (path.instance is not None and path.instance not in found.instances()):
            return False
        if path.instance is None or path.resource is None:
            return found is not None
        known = found.resources(path.instance).get(path.resource)
        if known is None or path.resource_instance is None:
            return known is not None
        value = found.read(path.instance, path.resource) if "E" not in known.operations else None
        return isinstance(value, dict) and path.resource_instance in value

    def definition(self, path: Path) -> ResourceDefinition | None:
        """Return the definition of the resource at or above a path; None if it has none."""
        found = self._objects.get(path.object)
        return found.definition(path.resource) if found is not None and path.resource is not None else None

    def type_of(self, path: Path) -> ResourceType | None:
        """Return the type of the resource at or above a path."""
        known = self.definition(path)
        return known.type if known is not None else None

    # -- values --------------------------------------------------------------------------------------------

    def values(self, path: Path | None, *, secret: bool = False) -> Values:
        """Return what can be read at or below a path (None: the root).

        A path that does not exist has no values. `secret` shows what no server may read: bootstrap's view.
        """
        values: Values = {}
        for found in self if path is None else [each for each in self if each.id == path.object]:
            if found.id in HIDDEN and not secret:
                continue
            for instance in found.instances():
                for id, known in found.resources(instance).items():
                    here = Path.of(found.id, instance, id)
                    wanted = path is None or path.contains(here) or here.contains(path)
                    if wanted and known.type is not None and ("R" in known.operations or secret):
                        _put(values, here, path, found.read(instance, id))
        return values

    # -- what it says of itself ----------------------------------------------------------------------------

    def links(self) -> list[Link]:
        """Return what registration says: objects with another version than 1.0 or no instances, and instances."""
        links: list[Link] = []
        for found in self:
            if found.id in HIDDEN:
                continue
            instances = list(found.instances())
            if found.version != "1.0" or not instances:
                links.append(object_link(found))
            links += [Link(Path.of(found.id, instance)) for instance in instances]
        return links


def object_link(found: Lwm2mObject) -> Link:
    """Return the link of an object, with its version if that needs to be said."""
    return Link(Path.of(found.id), others={"ver": found.version} if found.version != "1.0" else {})


def leaves(values: Values) -> dict[Path, Value]:
    """Return the values one by one, those of multiple resources by their instances' paths."""
    flat: dict[Path, Value] = {}
    for path, value in values.items():
        if isinstance(value, dict):
            flat.update({path / id: each for id, each in value.items()})
        else:
            flat[path] = value
    return flat


def _put(values: Values, here: Path, path: Path | None, value: Content) -> None:
    if path is None or path.resource_instance is None:
        values[here] = value
    elif isinstance(value, dict) and path.resource_instance in value:
        values[here] = {path.resource_instance: value[path.resource_instance]}
