"""Notification attributes that one server has attached to paths, and how they are inherited."""

from __future__ import annotations

from collections.abc import Iterable

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.attributes import NotificationAttributes
from pdmlab.lwm2m.paths import Path

NONE = NotificationAttributes()
THRESHOLDS = ("gt", "lt", "st")
MOST_PATHS = 1000
"""Paths that a server may attach attributes to."""


class AttributeTable:
    """Attributes by path, of one server; others do not see them (LwM2M 1.1 core, 5.1.1)."""

    def __init__(self) -> None:
        self._own: dict[Path, NotificationAttributes] = {}

    def own(self, path: Path) -> NotificationAttributes:
        """Return those attached to this very path."""
        return self._own.get(path, NONE)

    def write(self, path: Path, queries: Iterable[str]) -> None:
        """Take a Write-Attributes request.

        Raises:
            Lwm2mError: they make no sense, or thresholds are attached to what is no resource.
        """
        new = self.own(path).updated(queries, version="1.1")
        if path.resource is None and any(name in THRESHOLDS for name, _ in new.items()):
            raise Lwm2mError(f"gt, lt and st compare values, and {path} is none", hint="attach them to a resource")
        if path not in self._own and len(self._own) >= MOST_PATHS:
            raise Lwm2mError(f"attributes are attached to {MOST_PATHS} paths already")
        self._own[path] = new

    def effective(self, path: Path, defaults: NotificationAttributes = NONE) -> NotificationAttributes:
        """Return what counts for a path: its own, completed by each level above and then by defaults."""
        found = NONE
        at: Path | None = path
        while at is not None:
            found = found.under(self.own(at))
            at = at.parent
        return found.under(defaults)

    def forget(self, path: Path) -> None:
        """Drop what is attached to a path that is no more, and below it."""
        for each in [each for each in self._own if path.contains(each)]:
            del self._own[each]
