"""Firmware images that come little by little: in chunks by an upload job, or in one request that is large.

A chunk is one transaction: it counts once, and whole. One whose answer was lost may be sent again: if it is the same
as the latest, and that was not answered, it is taken for it. Nothing else tells two equal chunks of an image apart.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.service.firmware import MAX_IMAGE
from pdmlab.service.ids import timestamp
from pdmlab.service.incoming import Content, Incoming
from pdmlab.service.pieces import PIECE
from pdmlab.service.refusal import Refused, not_found
from pdmlab.service.schema import upload_chunks, upload_jobs
from pdmlab.service.store import Row

if TYPE_CHECKING:
    from pdmlab.service.core import Core

MAX_CHUNK = 16 << 20  # B
MAX_CHUNKS, MAX_JOBS = 10_000, 100
"""Chunks of an upload; unfinished uploads of an account."""
PATIENCE_S = 3600.0
"""For how long an image may come in one request."""


class Uploads:
    """The uploads of all accounts."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._store = core.store
        self._busy: set[str] = set()

    # -- one request -----------------------------------------------------------------------------------------

    async def receive(
        self,
        account_id: str,
        name: str,
        parts: Iterable[bytes],
        *,
        description: str = "",
        encrypt: bool = False,
        then: Callable[[Row], object] = lambda row: None,
    ) -> Row:
        """Keep an image that comes in parts, some 1 MiB each; return its row. Others have their turns in between.

        then: what to do with the row in the same transaction.
        Raises as `Firmware.add_image` does; nothing is kept then.
        """
        job = self._begin(account_id, name, description, "receiving")
        incoming, pieces = Incoming(encrypt=encrypt), self._core.firmware.pieces
        try:
            for part in parts:
                self._core.firmware.must_fit(incoming.size + len(part))
                kept = incoming.kept
                with self._store.begin():
                    pieces.append(account_id, job["image_id"], kept, incoming.take(part))
                await asyncio.sleep(0)
            kept = incoming.kept
            last, content = incoming.finish()
            with self._store.begin() as db:
                pieces.append(account_id, job["image_id"], kept, last)
                if not db.execute(sa.delete(upload_jobs).where(upload_jobs.c.id == job["id"])).rowcount:
                    # Another process has started meanwhile, and has let go of what took so long: the bytes go too.
                    raise Refused(409, f"the image took more than {PATIENCE_S:.0f} s to come", hint="send it again")
                row = self._core.firmware.enter(job["image_id"], account_id, name, content, description=description)
                then(row)
            return row
        except BaseException:
            self._forget(job)
            raise

    def resume(self) -> None:
        """Let go of what was still coming in one request when its process ended."""
        late = timestamp(self._core.now() - PATIENCE_S)
        with self._store.begin() as db:
            db.execute(
                sa.delete(upload_jobs).where(upload_jobs.c.status == "receiving", upload_jobs.c.created_at < late)
            )
        self._core.firmware.pieces.tidy()

    async def close(self) -> None:
        """Let everything rest until the next start."""
        await self._core.firmware.pieces.close()

    # -- jobs ------------------------------------------------------------------------------------------------

    def add(self, account_id: str, name: str, *, description: str = "", encrypt: bool = False) -> Row:
        """Begin an upload in chunks, of an image that may be encrypted at its end; return its row.

        Raises:
            Refused: the account has MAX_JOBS that are unfinished (409).
        """
        open_ = sa.select(sa.func.count()).where(
            upload_jobs.c.account_id == account_id, upload_jobs.c.status == "in_progress"
        )
        if self._store.scalar(open_) >= MAX_JOBS:
            raise Refused(
                409, f"the account has {MAX_JOBS} unfinished uploads: delete some first", type="account_limit_exceeded"
            )
        return self._begin(account_id, name, description, "in_progress", encrypt=encrypt)

    def find(self, account_id: str, id: str) -> Row:
        """Return an upload's row; raise Refused (404) if the account has no such one."""
        c = upload_jobs.c
        found = sa.select(upload_jobs).where(c.account_id == account_id, c.id == id, c.status != "receiving")
        row = self._store.row(found)
        if row is None:
            raise not_found("upload job", id)
        return row

    def change(self, account_id: str, id: str, **changes: object) -> Row:
        """Change name or description; return the row. Raises as `find` does."""
        self.find(account_id, id)
        with self._store.begin() as db:
            changed = {**changes, "updated_at": self._store.timestamp()}
            db.execute(sa.update(upload_jobs).where(upload_jobs.c.id == id).values(**changed))
        return self.find(account_id, id)

    def delete(self, account_id: str, id: str) -> None:
        """Give an upload up; an image that it has become stays. Raises as `find` does."""
        self._forget(self.find(account_id, id))

    # -- chunks ----------------------------------------------------------------------------------------------

    def chunk(self, account_id: str, job_id: str, number: int) -> Row:
        """Return what is known of a chunk; raise Refused (404) if there is no such one."""
        row = self._chunk(job_id, number) if self.find(account_id, job_id) else None
        if row is None:
            raise not_found("chunk", str(number))
        return row

    async def add_chunk(self, account_id: str, job_id: str, data: bytes, md5: str | None = None) -> Row:
        """Append a chunk to an upload, and return the chunk's row; an empty one makes the image.

        md5: base64, as the header Content-MD5 has it.

        Raises:
            Refused: no such upload (404); it is finished, or nothing came before the end (400); the bytes are not
                those that md5 promises (400); another chunk is just being taken (409); it is too large (413).
        """
        told = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        if md5 is not None and md5.strip() != told:
            raise Refused(400, "the chunk's bytes are not those that Content-MD5 promises")
        if len(data) > MAX_CHUNK:
            raise Refused(413, f"the chunk has {len(data)} B; at most {MAX_CHUNK} B are taken")
        with self._alone(job_id):
            job = self.find(account_id, job_id)
            chunk = {"hash": hashlib.sha256(data).hexdigest(), "md5": told if md5 else "", "length": len(data)}
            if (again := self._again(job, chunk)) is not None:
                return again
            if job["status"] != "in_progress":
                raise Refused(400, f"upload job {job_id} is finished")
            if not job["size"] and not data:
                raise Refused(400, "the image is empty", hint="the empty chunk comes last, and ends the upload")
            if job["size"] + len(data) > MAX_IMAGE or job["chunks"] >= MAX_CHUNKS:
                raise Refused(413, f"the image has more than {MAX_IMAGE} B, or more than {MAX_CHUNKS} chunks")
            if not data:
                return await self._finish(job, chunk)
            with self._store.begin():
                row = self._count(job, chunk)
                self._core.firmware.pieces.append(account_id, job["image_id"], job["size"], data)
            return row

    def answered(self, chunk: Row) -> None:
        """Note that a chunk's sender has been told: the same bytes, when they come again, are more of the image."""
        c = upload_chunks.c
        mine = c.upload_job_id == chunk["upload_job_id"], c.number == chunk["number"]
        with self._store.begin() as db:
            db.execute(sa.update(upload_chunks).where(*mine).values(answered=True))

    # -- inside ----------------------------------------------------------------------------------------------

    def _begin(self, account_id: str, name: str, description: str, status: str, *, encrypt: bool = False) -> Row:
        at = self._store.timestamp()
        row: Row = {
            "id": self._store.ids.new(),
            "account_id": account_id,
            "name": name,
            "description": description,
            "datafile_encryption": encrypt,
            "status": status,
            "image_id": self._store.ids.new(),
            "size": 0,
            "chunks": 0,
            "firmware_image_id": None,
            "created_at": at,
            "updated_at": at,
        }
        with self._store.begin() as db:
            db.execute(sa.insert(upload_jobs).values(row))
        return row

    def _forget(self, job: Row) -> None:
        """Delete an upload; its bytes too, unless they have become an image, perhaps in this moment."""
        mine = upload_jobs.c.id == job["id"]
        with self._store.begin() as db:
            unfinished = db.execute(sa.delete(upload_jobs).where(mine, upload_jobs.c.status != "success")).rowcount
            if not unfinished:
                db.execute(sa.delete(upload_jobs).where(mine))
        if unfinished or job["status"] == "receiving":  # the row of the latter may have gone before, its bytes not
            self._core.firmware.pieces.drop(job["image_id"])

    @contextmanager
    def _alone(self, job_id: str) -> Iterator[None]:
        if job_id in self._busy:
            raise Refused(409, f"upload job {job_id} is just taking a chunk: one comes after the other")
        self._busy.add(job_id)
        try:
            yield
        finally:
            self._busy.discard(job_id)

    def _again(self, job: Row, chunk: Row) -> Row | None:
        """Return the latest chunk's row, if this is that one, sent again because its answer did not arrive."""
        last = self._chunk(job["id"], job["chunks"])
        if last is None or (last["hash"], last["length"]) != (chunk["hash"], chunk["length"]):
            return None
        return last if not last["answered"] or not chunk["length"] else None

    def _chunk(self, job_id: str, number: int) -> Row | None:
        c = upload_chunks.c
        return self._store.row(sa.select(upload_chunks).where(c.upload_job_id == job_id, c.number == number))

    def _count(self, job: Row, chunk: Row, **changes: object) -> Row:
        """Make a chunk the upload's next, as part of the open transaction; another process may have been faster."""
        at, c = self._store.timestamp(), upload_jobs.c
        number = job["chunks"] + 1
        as_it_was = c.id == job["id"], c.chunks == job["chunks"], c.status == "in_progress"
        counted = {"chunks": number, "size": job["size"] + chunk["length"], "updated_at": at, **changes}
        row = {
            "upload_job_id": job["id"],
            "number": number,
            "account_id": job["account_id"],
            **chunk,
            "answered": False,
            "created_at": at,
        }
        with self._store.begin() as db:
            if not db.execute(sa.update(upload_jobs).where(*as_it_was).values(**counted)).rowcount:
                self.find(job["account_id"], job["id"])  # it may have been deleted
                raise Refused(409, f"upload job {job['id']} has taken another chunk meanwhile")
            db.execute(sa.insert(upload_chunks).values(row))
        return row

    async def _finish(self, job: Row, chunk: Row) -> Row:
        """Make the image: until that is written, the upload goes on."""
        if job["datafile_encryption"]:
            return await self._encrypt(job, chunk)
        firmware = self._core.firmware
        checksum = await firmware.pieces.checksum(job["image_id"], job["size"])
        with self._store.begin():
            row = self._count(job, chunk, status="success", firmware_image_id=job["image_id"])
            firmware.enter(
                job["image_id"],
                job["account_id"],
                job["name"],
                Content(job["size"], checksum),
                description=job["description"],
            )
        return row

    async def _encrypt(self, job: Row, chunk: Row) -> Row:
        """Make an image of its own of what has come, encrypted, and let what has come go."""
        pieces, counted = self._core.firmware.pieces, list[Row]()
        ranges = ((at, min(at + PIECE, job["size"])) for at in range(0, job["size"], PIECE))

        def done(image: Row) -> None:
            id = image["id"]
            counted.append(self._count(job, chunk, status="success", firmware_image_id=id, image_id=id))

        await self.receive(
            job["account_id"],
            job["name"],
            (pieces.read(job["image_id"], start, stop) for start, stop in ranges),
            description=job["description"],
            encrypt=True,
            then=done,
        )
        pieces.drop(job["image_id"])
        return counted[0]
