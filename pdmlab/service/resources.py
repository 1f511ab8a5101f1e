"""What registered devices have: their paths, and the latest known value of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.lwm2m.linkformat import Link
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


class Resources:
    """The resources of all registered devices."""

    def __init__(self, core: Core) -> None:
        self._store = core.store

    def replace(self, account_id: str, device_id: str, links: Sequence[Link], *, new: bool) -> None:
        """Take a registration's list for the whole truth.

        new: a full registration, of which nothing older survives. Else an update: values of paths that are
        still there stay, and links marked as deleted make it a list of changes.
        """
        links = list({link.path: link for link in links if link.path.object not in _SECRET}.values())
        with self._store.batch() as db:
            if new:
                _DELETE.run(db, device=device_id)
                known: Row = {}
            else:
                known = {row["path"]: row for row in self._store.rows(_ALL, device=device_id)}
                listed = {str(link.path) for link in links}
                gone = {str(link.path) for link in links if link.deleted}
                if not gone:
                    gone = set(known) - listed
                _DELETE_ONE.run_many(db, [{"device": device_id, "which": path} for path in gone | listed])
            rows = [_row(account_id, device_id, link, known.get(str(link.path))) for link in links if not link.deleted]
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
        return [row for row in sorted(rows, key=_numbers) if row["path"] in leaves(row["path"] for row in rows)]

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


def _row(account_id: str, device_id: str, link: Link, known: Row | None) -> Row:
    value, content_format = (None, None) if link.v is None else published(link.path, link.v)
    aobs = link.aobs
    if known is not None:
        aobs = known["aobs"] if aobs is None else aobs
        if value is None:
            value, content_format = known["value"], known["content_format"]
    return {
        "device_id": device_id,
        "path": str(link.path),
        "account_id": account_id,
        "rt": (link.rt or "")[:128],
        "observable": link.obs or aobs is not None,
        "aobs": aobs,
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
