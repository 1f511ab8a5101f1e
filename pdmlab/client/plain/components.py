"""Object 33629, Advanced Firmware Update, read-only: what object 5 says, as servers of some vendors look for it.

AVSystem's object has an instance for each component of a device; here there is one, the application. Package, Package
URI and Update are left to object 5.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from pdmlab.client.plain.objects import Content, TableObject
from pdmlab.lwm2m.registry import core_objects

OBJECT = 33629
APPLICATION = "application"
_SAME = (3, 5, 6, 7, 8, 9)
_NAME, _CURRENT = 14, 15


class ComponentsObject(TableObject):
    """The components of a device; made by `FirmwareObject.components`.

    read: returns a value of object 5; running: returns the version that runs.
    """

    def __init__(self, read: Callable[[int], Content], running: Callable[[], str]) -> None:
        shown: dict[int, Content | Callable[..., object]] = {_NAME: APPLICATION, _CURRENT: running}
        for resource in _SAME:
            shown[resource] = functools.partial(read, resource)
        known = core_objects().objects[OBJECT]
        read_only = {id: known.resources[id] for id in shown}  # what could be written is not there
        super().__init__(OBJECT, {0: shown}, definition=replace(known, resources=read_only))

    def __repr__(self) -> str:
        return f"<ComponentsObject /{OBJECT}, {APPLICATION} {self.read(0, _CURRENT)!r}>"

    def mirrored(self, resource: int) -> None:
        """Hear that a value of object 5 is another."""
        if resource in _SAME:
            self.changed(0, resource)
