"""Key-value stores as a story opens them."""

from __future__ import annotations

from pdmlab.storage.kv import NVStore
from pdmlab.storage.powercuts.geometry import Geometry
from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.steps import Contents, Step
from pdmlab.storage.powercuts.story import Places


def areas(geometry: Geometry) -> list[tuple[int, int]]:
    """Return NVStore's two areas (offset, size in B): the two sectors of the medium, or its halves."""
    sizes = [size for count, size in geometry.sectors for _ in range(count)]
    first = sizes[0] if len(sizes) == 2 else geometry.size // 2 // geometry.erase * geometry.erase
    return [(0, first), (first, geometry.size - first)]


class NumberedRecords:
    """NVStore; opened by its first look, as on a board."""

    def __init__(self, image: Image) -> None:
        self._store = NVStore(image, areas(image.geometry))
        self._store.keys()

    def take(self, step: Step, data: bytes, before: Contents) -> None:
        """Take a step."""
        key = int(step.name)
        if step.verb == "set":
            self._store.set(key, data)
        elif step.verb == "once":
            self._store.set_once(key, data)
        else:
            self._store.remove(key)

    def contents(self) -> Contents:
        """Read all records."""
        return {str(key): self._store.get(key) for key in self._store.keys()}  # noqa: SIM118

    def settle(self) -> Contents | None:
        """Do nothing: opening has done it."""
        return None

    def close(self) -> None:
        """Do nothing: it buffers nothing."""


def open_nvstore(image: Image) -> NumberedRecords:
    """Open NVStore in the two areas of an image."""
    return NumberedRecords(image)


def format_nothing(image: Image) -> None:
    """Do nothing: the store makes itself on blank flash."""


def in_nvstore(image: Image) -> Places:
    """Name areas and their master records."""
    both = areas(image.geometry)

    def place(operation: Operation) -> str:
        number = int(operation.address >= both[1][0])
        offset = operation.address - both[number][0]
        if operation.kind == "erase":
            return f"area {number}"
        return f"the master record of area {number}" if offset == 0 else f"a record in area {number}"

    return place
