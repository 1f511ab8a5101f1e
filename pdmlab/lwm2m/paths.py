"""LwM2M paths: object, object instance, resource, resource instance."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pdmlab.errors import Lwm2mError

MAX_ID = 65534  # 65535 is reserved (LwM2M 1.1 core, 7.3)
# Without leading zeros, so that a path has one spelling: /00/0/5 is not the secret key in disguise.
_ID = "(0|[1-9][0-9]{0,4})"
_PATTERN = re.compile(rf"/?{_ID}(?:/{_ID}(?:/{_ID}(?:/{_ID})?)?)?/?")


@dataclass(frozen=True, order=True, slots=True)
class Path:
    """A path of one to four ids, such as /3/0/13; sorts in numeric order.

    >>> Path.parse("/3/0/13").parent
    Path.parse('/3/0')
    """

    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.ids) <= 4 or not all(0 <= i <= MAX_ID for i in self.ids):
            raise Lwm2mError(
                f"{'/' + '/'.join(map(str, self.ids))!r} is no LwM2M path", hint=f"one to four ids from 0 to {MAX_ID}"
            )

    @classmethod
    def parse(cls, text: str) -> Path:
        """Read "/3/0/13" or "3/0/13".

        Raises:
            Lwm2mError: it is none.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise Lwm2mError(f"{text[:80]!r} is no LwM2M path", hint="write it as /object/instance/resource: /3/0/13")
        return cls(tuple(int(part) for part in match.groups() if part is not None))

    @classmethod
    def of(cls, *ids: int) -> Path:
        """Make a path of ids."""
        return cls(ids)

    def __str__(self) -> str:
        return "/" + "/".join(map(str, self.ids))

    def __repr__(self) -> str:
        return f"Path.parse({str(self)!r})"

    @property
    def segments(self) -> tuple[str, ...]:
        """What Uri-Path options carry."""
        return tuple(map(str, self.ids))

    @property
    def object(self) -> int:
        """The object id."""
        return self.ids[0]

    @property
    def instance(self) -> int | None:
        """The object instance id, if the path has one."""
        return self.ids[1] if len(self.ids) > 1 else None

    @property
    def resource(self) -> int | None:
        """The resource id, if the path has one."""
        return self.ids[2] if len(self.ids) > 2 else None

    @property
    def resource_instance(self) -> int | None:
        """The resource instance id, if the path has one."""
        return self.ids[3] if len(self.ids) > 3 else None

    @property
    def parent(self) -> Path | None:
        """The path one level up; None above an object."""
        return Path(self.ids[:-1]) if len(self.ids) > 1 else None

    def __truediv__(self, id: int) -> Path:
        return Path((*self.ids, id))

    def contains(self, other: Path) -> bool:
        """Return whether other is this path or lies below it."""
        return other.ids[: len(self.ids)] == self.ids
