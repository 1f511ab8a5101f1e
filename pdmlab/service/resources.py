"""What registered devices have: their paths, and the latest known value of each."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.lwm2m.linkformat import PIECE, Link
from pdmlab.lwm2m.paths import Path
from pdmlab.service.schema import resources
from pdmlab.service.statements import Statement
from pdmlab.service.store import Row, Rows
from pdmlab.service.values import format_name, published

if TYPE_CHECKING:
    from pdmlab.service.core import Core

MAX_KEPT = 3 * 86_400  # s a value may stay in the cache, whatever its device says
_SECRET = (0, 21)  # Security and OSCORE: a device that lists them is told nothing of it, and they are not kept

_MINE = resources.c.device_id == sa.bindparam("device")
_AT = resources.c.path == sa.bindparam("which")
_ALL = Statement(sa.select(resources).where(_MINE))
_ONE = Statement(sa.select(resources).where(_MINE, _AT))
_WORTH = Statement(
    sa.select(*(resources.c[name] for name in ("path", "aobs", "value", "content_format"))).where(
        _MINE, sa.or_(resources.c.aobs.is_not(None), resources.c.value.is_not(None))
    )
)
_PATHS = Statement(sa.select(resources.c.path).where(_MINE))
_TOKENS = Statement(sa.select(resources.c.path, resources.c.aobs).where(_MINE, resources.c.aobs.is_not(None)))
_DELETE = Statement(sa.delete(resources).where(_MINE))
_DELETE_ONE = Statement(sa.delete(resources).where(_MINE, _AT))
_INSERT = Statement(sa.insert(resources), [column.name for column in resources.c])
_KEEP = Statement(
    sa.update(resources)
    .where(_MINE, _AT)
    .values({name: sa.bindparam(name) for name in ("value", "content_format", "value_expires")})
)


@dataclass(frozen=True)
class Listed:
    """A registration's list as rows, without their device; gone: paths that it marks as deleted."""

    rows: Rows
    gone: set[str]


def listed_in_pieces(links: Sequence[Link]) -> Generator[None, None, Listed]:
    """Make rows of links, and yield after every PIECE of them."""
    rows: dict[Path, Row | None] = {}
    for number, link in enumerate(links, 1):
        if number % PIECE == 0:
            yield
        if link.path.object not in _SECRET:
            rows[link.path] = None if link.deleted else _row(link)
    gone = {str(path) for path, row in rows.items() if row is None}
    return Listed([row for row in rows.values() if row is not None], gone)


class Resources:
    """The resources of all registered devices."""

    def __init__(self, core: Core) -> None:
        self._store = core.store

    def replace(self, account_id: str, device_id: str, listed: Listed, *, new: bool) -> None:
        """Take a registration's list for the whole truth.

        new: a full registration, of which nothing older survives. Else an update: values of paths that are
        still there stay, and links marked as deleted make it a list of changes.
        """
        rows = [{**row, "device_id": device_id, "account_id": account_id} for row in listed.rows]
        with self._store.batch() as db:
            if not new:
                known = {row["path"]: row for row in self._store.rows(_WORTH, device=device_id)}
                for row in rows if known else ():
                    if (before := known.get(row["path"])) is not None:
                        _keep_on(row, before)
            if new or not listed.gone:
                _DELETE.run(db, device=device_id)
            else:
                changed = listed.gone | {row["path"] for row in rows}
                _DELETE_ONE.run_many(db, [{"device": device_id, "which": path} for path in changed])
            if rows:
                _INSERT.run_many(db, rows)

    def keep(self, device_id: str, path: str, value: bytes, content_format: int | None, max_age: int) -> bool:
        """Keep a value (max_age in s); return whether the path is one of the device's."""
        with self._store.batch() as db:
            expires = self._store.now() + min(max_age, MAX_KEPT)
            found = _KEEP.run(
                db, device=device_id, which=path, value=value, content_format=content_format, value_expires=expires
            )
        return found > 0

    def get(self, device_id: str, path: str) -> Row | None:
        """Return the row of a path; None if the device has not listed it."""
        return self._store.row(_ONE, device=device_id, which=path)

    def value(self, device_id: str, path: str) -> str | None:
        """Return the latest known value as text; None if there is none."""
        row = self.get(device_id, path)
        return None if row is None or row["value"] is None else row["value"].decode("utf-8", "replace")

    def list(self, device_id: str) -> Rows:
        """Return the rows of a device's leaves in numeric order: resources, and instances that list none."""
        rows = self._store.rows(_ALL, device=device_id)
        shown = leaves(row["path"] for row in rows)
        return sorted((row for row in rows if row["path"] in shown), key=_numbers)

    def missing(self, device_id: str, path: Path) -> bool:
        """Whether a registered device can be said not to have a path.

        An object or instance that is listed without what lies below it may have anything.
        """
        known = {row["path"] for row in self._store.rows(_PATHS, device=device_id)}
        text = str(path)
        if not known or text in known or any(each.startswith(text + "/") for each in known):
            return False
        above = path.parent
        while above is not None and str(above) not in known:
            above = above.parent
        if above is None:
            return True
        deeper = str(above) + "/"
        return len(above.ids) < 3 and any(each.startswith(deeper) for each in known)

    def tokens(self, device_id: str) -> dict[bytes, str]:
        """Return the tokens of a device's auto-observations, and the path of each."""
        rows = self._store.rows(_TOKENS, device=device_id)
        return {row["aobs"].to_bytes(2, "big"): row["path"] for row in rows}


def _keep_on(row: Row, before: Row) -> None:
    """Let a path of an update keep what it had, where the update says nothing else."""
    if row["aobs"] is None and before["aobs"] is not None:
        row["aobs"], row["observable"] = before["aobs"], True
    if row["value"] is None:
        row["value"], row["content_format"] = before["value"], before["content_format"]


def _row(link: Link) -> Row:
    value, content_format = (None, None) if link.v is None else published(link.path, link.v)
    return {
        "path": str(link.path),
        "rt": (link.rt or "")[:128],
        "observable": link.obs or link.aobs is not None,
        "aobs": link.aobs,
        "value": value,
        "content_format": content_format,
        "value_expires": None,
    }


def _numbers(row: Row) -> tuple[int, ...]:
    return tuple(map(int, row["path"][1:].split("/")))


def leaves(paths: Iterable[str]) -> set[str]:
    """Return the paths that are no mere parents of others; a resource stays beside its instances."""
    paths = set(paths)
    parents = {path.rpartition("/")[0] for path in paths if path.count("/") in (2, 3)}
    parents |= {parent.rpartition("/")[0] for parent in parents}
    return {path for path in paths if path not in parents or path.count("/") > 2}


def as_listed(rows: Iterable[Row]) -> Rows:
    """Return resource rows as registration events show them."""
    return [
        {
            "path": row["path"],
            "rt": row["rt"],
            "ct": "" if row["content_format"] is None else format_name(row["content_format"]),
            "obs": row["observable"],
            "if": "",
        }
        for row in rows
    ]
