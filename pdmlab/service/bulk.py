"""Enrollments by file: many are made or deleted, a part at a time, beside all else that the service does.

What came is in the database before it is acknowledged, and so is what became of each part, in one transaction with
it. A service that is killed goes on at the next part; of several that share the database each takes what is next.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import sqlalchemy as sa

from pdmlab.errors import ServiceError
from pdmlab.service.enrollment import fingerprint_of
from pdmlab.service.identity_lists import IdentityLines, csv_lines
from pdmlab.service.ids import timestamp
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import device_enrollments
from pdmlab.service.schema import enrollment_bulk_parts as parts
from pdmlab.service.schema import enrollment_bulks as table
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_log = logging.getLogger(__name__)

T = TypeVar("T")
Kind = Literal["upload", "delete"]

MAX_FILE = 10 << 20
"""Bytes of a file, the vendor's 10 MB."""
MAX_WAITING = 16
"""Files of an account that wait or are being worked on."""
MAX_KEPT = 100
"""Files of an account whose reports are kept; the oldest go."""
PART: Final = {"upload": 100, "delete": 50}
"""Identities that are worked off in one go: 4 ms."""
TOGETHER = 50  # parts that are written in one transaction as they come
ABANDONED_S = 3600.0  # after which a file that never came whole is dropped
AGAIN_S = 5.0  # after a part could not be written

DONE, INVALID, DUPLICATE, UNKNOWN = range(4)
_SAID: Final = {
    DONE: ("", "", "", ""),
    INVALID: ("400", "validation_error", "It is no enrollment identity.", "enrollment_identity"),
    DUPLICATE: ("409", "duplicate", "The enrollment identity is claimed already.", ""),
    UNKNOWN: ("404", "not_found", "The account has no such enrollment.", ""),
}
_MINE = sa.and_(parts.c.bulk_id == sa.bindparam("bulk"), parts.c.results.is_(None))
_NEXT = sa.select(parts).where(_MINE, parts.c.number > sa.bindparam("after")).order_by(parts.c.number).limit(1)
_UNFINISHED = sa.select(table).where(table.c.status.in_(("new", "processing"))).order_by(table.c.id)


class Bulks:
    """The files of all accounts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._task: asyncio.Task[None] | None = None
        self._after: dict[str, int] = {}  # the latest part of each file that this process has seen to

    # -- what people ask ---------------------------------------------------------------------------------

    async def receive(self, account_id: str, kind: Kind, file: AsyncIterable[bytes], *, size: int = 0) -> Row:
        """Keep a file, and begin to work it off; return its row. size: its bytes, as far as they are known before.

        Raises:
            Refused: it has more than MAX_FILE bytes (400), or MAX_WAITING of the account are waiting (429).
        """
        _check(size)
        waiting = table.c.account_id == account_id, table.c.status != "completed"
        if self._store.scalar(sa.select(sa.func.count()).select_from(table).where(*waiting)) >= MAX_WAITING:
            raise Refused(429, f"{MAX_WAITING} files are being worked off", type="rate_limit_exceeded", hint="wait")
        at, id = self._store.timestamp(), self._store.ids.new()
        row = {"id": id, "account_id": account_id, "kind": kind, "created_at": at, "updated_at": at}
        with self._store.begin() as db:
            db.execute(sa.insert(table).values(**row, status="receiving"))
        try:
            total = await self._keep(id, kind, file)
        except BaseException:
            with contextlib.suppress(ServiceError), self._store.begin() as db:
                db.execute(sa.delete(table).where(table.c.id == id))
            raise
        with self._store.begin() as db:
            db.execute(sa.update(table).where(table.c.id == id).values(status="new", total_count=total))
            self._make_room(db, account_id)
        self._go_on()
        return self.find(account_id, kind, id)

    def find(self, account_id: str, kind: Kind, id: str) -> Row:
        """Return a file's row.

        Raises:
            Refused: the account has no such file (404).
        """
        mine = table.c.account_id == account_id, table.c.kind == kind, table.c.id == id
        row = self._store.row(sa.select(table).where(*mine, table.c.status != "receiving"))
        if row is None:
            raise not_found(f"bulk {kind}", id)
        return row

    async def report(self, row: Row, *, errors: bool) -> AsyncIterator[bytes]:
        """Yield the report of a file as CSV: all its identities, or those with errors only."""
        when = f"entity__{'created' if row['kind'] == 'upload' else 'deleted'}_at"
        said = ("error__code", "error__type", "error__message", "error__fields")
        yield csv_lines([("entity__id", *(() if errors else (when,)), *said)])
        after = -1
        of_this = sa.select(parts).where(parts.c.bulk_id == row["id"], parts.c.results.is_not(None))
        while part := self._store.row(of_this.where(parts.c.number > after).order_by(parts.c.number).limit(1)):
            after = part["number"]
            lines = []
            for identity, result in zip(part["identities"].split(b"\n"), part["results"], strict=True):
                if errors and result == DONE:
                    continue
                at = () if errors else (part["processed_at"] if result == DONE else "",)
                lines.append((identity.decode("utf-8", "replace"), *at, *_SAID[result]))
            if lines:
                yield csv_lines(lines)
            await asyncio.sleep(0)

    # -- what comes --------------------------------------------------------------------------------------

    async def _keep(self, id: str, kind: Kind, file: AsyncIterable[bytes]) -> int:
        """Write a file's identities as parts; return how many there are."""
        lines, found, size, total, number = IdentityLines(), list[bytes](), 0, 0, 0
        most = PART[kind]
        async for data in file:
            size += len(data)
            _check(size)
            found += lines.feed(data)
            if len(found) >= most * TOGETHER:
                whole = len(found) // most * most
                number = self._write(id, number, most, found[:whole])
                total, found = total + whole, found[whole:]
            await asyncio.sleep(0)
        found += lines.end()
        self._write(id, number, most, found)
        return total + len(found)

    def _write(self, id: str, number: int, most: int, identities: list[bytes]) -> int:
        rows = [
            {"bulk_id": id, "number": number + place, "identities": b"\n".join(identities[at : at + most])}
            for place, at in enumerate(range(0, len(identities), most))
        ]
        if rows:
            with self._store.begin() as db:
                db.execute(sa.insert(parts), rows)
        return number + len(rows)

    def _make_room(self, db: sa.Connection, account_id: str) -> None:
        mine = table.c.account_id == account_id
        last = db.scalar(sa.select(table.c.id).where(mine).order_by(table.c.id.desc()).offset(MAX_KEPT).limit(1))
        if last is not None:
            db.execute(sa.delete(table).where(mine, table.c.id <= last, table.c.status == "completed"))

    # -- working it off ----------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on with what was there when the service ended, and drop what never came whole."""
        before = timestamp(self._store.now() - ABANDONED_S)
        with self._store.begin() as db:
            db.execute(sa.delete(table).where(table.c.status == "receiving", table.c.created_at < before))
        self._go_on()

    async def close(self) -> None:
        """Leave the rest to the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _go_on(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        """Take a part of each file in turn, until none is left."""
        while rows := await self._tried(lambda: self._store.rows(_UNFINISHED)):
            for row in rows:
                with contextlib.suppress(sa.exc.IntegrityError):
                    # Otherwise somebody has enrolled one of them meanwhile: the part is done anew, and finds it there.
                    await self._tried(functools.partial(self._advance, row))
                await asyncio.sleep(0)

    async def _tried(self, work: Callable[[], T]) -> T:
        """Do something with the database, as soon as it can be used."""
        while True:
            try:
                return work()
            except ServiceError as error:
                _log.error("enrollments by file wait: %s", error)
                await asyncio.sleep(AGAIN_S)

    def _advance(self, row: Row) -> None:
        """See to a file's next part, or find that all are done."""
        id = row["id"]
        part = self._store.row(_NEXT, bulk=id, after=self._after.get(id, -1)) or self._store.row(
            _NEXT, bulk=id, after=-1
        )
        at = self._store.timestamp()
        with self._store.begin() as db:
            if part is None:
                open_ = table.c.id == id, table.c.status != "completed"
                db.execute(sa.update(table).where(*open_).values(status="completed", completed_at=at, updated_at=at))
                self._after.pop(id, None)
                return
            self._after[id] = part["number"]
            this = parts.c.bulk_id == id, parts.c.number == part["number"], parts.c.results.is_(None)
            if not db.execute(sa.update(parts).where(*this).values(results=b"", processed_at=at)).rowcount:
                return  # another process has taken it
            texts = [each.decode("utf-8", "replace") for each in part["identities"].split(b"\n")]
            work = self._enroll if row["kind"] == "upload" else self._let_go
            results = bytes(work(db, row["account_id"], texts))
            done = sa.update(parts).where(parts.c.bulk_id == id, parts.c.number == part["number"])
            db.execute(done.values(results=results))
            db.execute(
                sa.update(table)
                .where(table.c.id == id)
                .values(
                    status="processing",
                    processed_count=table.c.processed_count + len(results),
                    errors_count=table.c.errors_count + sum(each != DONE for each in results),
                    updated_at=at,
                )
            )

    def _enroll(self, db: sa.Connection, account_id: str, texts: list[str]) -> Iterable[int]:
        c, enrollments = device_enrollments.c, self._core.enrollments
        prints = [fingerprint_of(each) for each in texts]
        if not any(prints):
            yield from [INVALID] * len(prints)
            return
        at = self._store.timestamp()
        wanted = c.fingerprint.in_({each for each in prints if each is not None})
        db.execute(sa.delete(device_enrollments).where(wanted, c.claimed_at.is_(None), c.expires_at <= at))
        taken = set(db.scalars(sa.select(c.fingerprint).where(wanted)))
        new: dict[str, str] = {}
        for text, fingerprint in zip(texts, prints, strict=True):
            if fingerprint is None:
                yield INVALID
            elif fingerprint in taken or fingerprint in new:
                yield DUPLICATE
            else:
                new[fingerprint] = text
                yield DONE
        if new:
            db.execute(sa.insert(device_enrollments), enrollments.rows(account_id, new))

    def _let_go(self, db: sa.Connection, account_id: str, texts: list[str]) -> Iterable[int]:
        c = device_enrollments.c
        prints = [fingerprint_of(each) for each in texts]
        wanted = c.account_id == account_id, c.fingerprint.in_({each for each in prints if each is not None})
        found = db.execute(sa.select(device_enrollments).where(*wanted)).mappings()
        mine = {row["fingerprint"]: dict(row) for row in found}
        for fingerprint in prints:
            if fingerprint is None:
                yield INVALID
            elif (row := mine.pop(fingerprint, None)) is None:
                yield UNKNOWN
            else:
                self._core.enrollments.let_go(row)
                yield DONE


def _check(size: int) -> None:
    if size > MAX_FILE:
        raise Refused(400, f"the file has more than {MAX_FILE} B", type="validation_error")
