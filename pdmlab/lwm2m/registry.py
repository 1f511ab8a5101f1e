"""The objects and resources that pdmlab knows: their names, types and operations (objects.toml)."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources

from pdmlab.lwm2m.content import ResourceType
from pdmlab.lwm2m.paths import Path


@dataclass(frozen=True, slots=True)
class ResourceDefinition:
    """A resource: `type` is None if it can only be executed; operations are letters of "RWE".

    What is `mandatory` stays when an instance is replaced by one without it.
    """

    id: int
    name: str
    operations: str
    type: ResourceType | None = None
    unit: str = ""
    multiple: bool = False
    secret: bool = False
    mandatory: bool = False


@dataclass(frozen=True)
class ObjectDefinition:
    """An object and its resources by id; `source` says where the definition is from."""

    id: int
    name: str
    multiple: bool
    source: str
    resources: dict[int, ResourceDefinition]


class Registry:
    """Object definitions by id."""

    def __init__(self, objects: dict[int, ObjectDefinition]) -> None:
        self.objects = objects

    def resource(self, path: Path) -> ResourceDefinition | None:
        """Return the definition of the resource at or above the path, if it is known."""
        found = self.objects.get(path.object)
        return found.resources.get(path.resource) if found is not None and path.resource is not None else None

    def name(self, path: Path) -> str:
        """Return what people call the path: "Device / Manufacturer"; the path itself where it has no name."""
        found = self.objects.get(path.object)
        if found is None:
            return str(path)
        resource = self.resource(path)
        which = f" {path.instance}" if found.multiple and path.instance is not None else ""
        if path.resource is None:
            return found.name + which
        return f"{found.name}{which} / {resource.name if resource is not None else path.resource}"


@functools.cache
def core_objects() -> Registry:
    """Return the registry of objects.toml, read once."""
    text = resources.files("pdmlab.lwm2m").joinpath("objects.toml").read_text(encoding="utf-8")
    objects = {}
    for row in tomllib.loads(text)["object"]:
        known = {each["id"]: ResourceDefinition(**each) for each in row.pop("resources")}
        objects[row["id"]] = ObjectDefinition(**row, resources=known)
    return Registry(objects)
