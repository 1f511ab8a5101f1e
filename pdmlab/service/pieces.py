"""The bytes of firmware images, in the database a piece at a time: none is ever in memory as a whole.

All processes that share a database serve them; a device's block is a part of a piece, of which the latest are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

import sqlalchemy as sa

from pdmlab.errors import ServiceError
from pdmlab.service.refusal import not_found
from pdmlab.service.schema import firmware_images, image_pieces, upload_jobs
from pdmlab.service.statements import Statement

if TYPE_CHECKING:
    from pdmlab.service.core import Core

_log = logging.getLogger(__name__)

PIECE = 1 << 16  # B; the last piece of an image may be smaller
KEPT_B = 16 << 20
"""Pieces kept in memory, of all images (B)."""
AT_ONCE = 16  # pieces that are written, read or deleted before everybody else has a turn: a few milliseconds

_C = image_pieces.c
_READ = Statement(sa.select(_C.data).where(_C.image_id == sa.bindparam("image"), _C.number == sa.bindparam("which")))
_WRITE = Statement(sa.insert(image_pieces), [column.name for column in _C])
_REPLACE = Statement(
    sa.update(image_pieces)
    .where(_C.image_id == sa.bindparam("image"), _C.number == sa.bindparam("which"))
    .values(data=sa.bindparam("data"))
)


class Pieces:
    """All images' bytes."""

    def __init__(self, core: Core) -> None:
        self._store = core.store
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._kept_B = 0
        self._dropping: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Pieces, {len(self._kept)} in memory, {self._kept_B} B>"

    def append(self, account_id: str, image_id: str, size: int, data: bytes | memoryview) -> None:
        """Put data behind the first `size` bytes of an image, as part of the open transaction."""
        number, filled = divmod(size, PIECE)
        with self._store.begin() as db:
            if filled:
                data = memoryview(data)
                head, data = data[: PIECE - filled], data[PIECE - filled :]
                tail = self._piece(image_id, number)
                _REPLACE.run(db, image=image_id, which=number, data=tail[:filled] + head)
                number += 1
            rows = [
                {
                    "image_id": image_id,
                    "number": number + start // PIECE,
                    "account_id": account_id,
                    "data": bytes(data[start : start + PIECE]),
                }
                for start in range(0, len(data), PIECE)
            ]
            if rows:
                _WRITE.run_many(db, rows)

    def read(self, image_id: str, start: int, stop: int) -> bytes:
        """Return the bytes from start to stop, which the image must have.

        Raises:
            Refused: the image has been deleted (404).
        """
        first, last = start // PIECE, (stop - 1) // PIECE
        if first == last:
            return self._recent(image_id, first)[start - first * PIECE : stop - first * PIECE]
        found = b"".join(self._recent(image_id, number) for number in range(first, last + 1))
        return found[start - first * PIECE : stop - first * PIECE]

    async def checksum(self, image_id: str, size: int) -> str:
        """Return the SHA-256 of an image's first `size` bytes in hex; others have their turns meanwhile."""
        digest = hashlib.sha256()
        for number in range(-(-size // PIECE)):
            digest.update(self._piece(image_id, number)[: size - number * PIECE])
            if number % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
        return digest.hexdigest()

    def drop(self, image_id: str) -> None:
        """Delete an image's bytes, little by little; what a killed service leaves of them goes at the next start."""
        for key in [key for key in self._kept if key[0] == image_id]:
            self._kept_B -= len(self._kept.pop(key))
        task = asyncio.get_running_loop().create_task(self._drop(image_id))
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)

    def tidy(self) -> None:
        """Delete what belongs to no image and no upload."""
        owned = [sa.select(firmware_images.c.id), sa.select(upload_jobs.c.image_id)]
        for row in self._store.rows(
            sa.select(_C.image_id).where(*(_C.image_id.not_in(each) for each in owned)).distinct()
        ):
            self.drop(row["image_id"])

    async def close(self) -> None:
        """Delete nothing more until the next start."""
        for task in (tasks := list(self._dropping)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drop(self, image_id: str) -> None:
        # Whoever asks for it may be mistaken: bytes that an image has are not deleted.
        mine = sa.and_(_C.image_id == image_id, ~sa.exists().where(firmware_images.c.id == image_id))
        try:
            while (first := self._store.scalar(sa.select(sa.func.min(_C.number)).where(mine))) is not None:
                with self._store.begin() as db:
                    db.execute(sa.delete(image_pieces).where(mine, _C.number < first + AT_ONCE))
                await asyncio.sleep(0)
        except ServiceError as error:
            _log.error("the bytes of a deleted image are still there: %s", error)

    def _recent(self, image_id: str, number: int) -> bytes:
        key = image_id, number
        found = self._kept.get(key)
        if found is None:
            found = self._kept[key] = self._piece(image_id, number)
            self._kept_B += len(found)
            while self._kept_B > KEPT_B:
                self._kept_B -= len(self._kept.popitem(last=False)[1])
        else:
            self._kept.move_to_end(key)
        return found

    def _piece(self, image_id: str, number: int) -> bytes:
        data = self._store.scalar(_READ, image=image_id, which=number)
        if data is None:
            raise not_found("firmware image", image_id)
        return bytes(data)
