"""The download itself: block after block from the server, through the payload's unpacker, into the candidate slot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeAlias, TypeVar

from pdmlab.errors import ImageRejected, ManifestRejected, NetworkError, ResponseError, StorageError
from pdmlab.update.candidate import CandidateSlot
from pdmlab.update.interface import Blocking, DownloadFailed, Fetch
from pdmlab.update.manifest import Manifest
from pdmlab.update.payloads.interface import Unpacker
from pdmlab.update.prefetch import Prefetch
from pdmlab.update.results import FotaResult

T = TypeVar("T")
Block: TypeAlias = tuple[bytes, bool, int | None]
"""What a Fetch returns."""

BLOCK_SIZE = 512  # SN_COAP_MAX_BLOCKWISE_PAYLOAD_SIZE of the stock client (B)
BUSY_DELAYS_S = (1, 2, 4, 8, 10)  # the stock client waits 1 to 10 s, doubling, after a 5.03
CORRUPTED = FotaResult.PAYLOAD_CORRUPTED


class Transfer:
    """One payload on its way into a slot that has been begun, or resumed.

    prefetch: how many blocks to ask for while one is written; the stock client does not
    """

    def __init__(
        self,
        manifest: Manifest,
        slot: CandidateSlot,
        unpacker: Unpacker,
        fetch: Fetch,
        blocking: Blocking,
        *,
        block_size: int = BLOCK_SIZE,
        prefetch: int = 0,
    ) -> None:
        self._manifest = manifest
        self._slot = slot
        self._unpacker = unpacker
        self._fetch = fetch
        self._blocking = blocking
        self._block_size = block_size
        self._prefetch = prefetch

    def __repr__(self) -> str:
        return f"<Transfer of {self._manifest.uri}, {self._manifest.payload_size} B, into {self._slot!r}>"

    async def run(self, start: int, progress: Callable[[int, int], object]) -> None:
        """Fetch the payload from position start on (B), and verify the image that it makes.

        Raises:
            DownloadFailed: with the result that the update ends with.
        """
        manifest, size, position = self._manifest, self._block_size, start
        async with self._source(range(start // size, -(-manifest.payload_size // size))) as block:
            while position < manifest.payload_size:
                number, skip = divmod(position, size)
                data, more, total = await block(number)
                self._check(number, position - skip, data, more, total)
                await on_medium(self._blocking, FotaResult.STORAGE_WRITE, self._take, data[skip:])
                position += len(data) - skip
                progress(position, manifest.payload_size)
        await on_medium(self._blocking, FotaResult.STORAGE_WRITE, self._finish)
        await on_medium(self._blocking, FotaResult.STORAGE_READ, self._slot.verify)

    def _source(self, numbers: range) -> AbstractAsyncContextManager[Callable[[int], Awaitable[Block]]]:
        return Prefetch(self._block, numbers, self._prefetch) if self._prefetch else nullcontext(self._block)

    def _check(self, number: int, start: int, data: bytes, more: bool, total: int | None) -> None:
        """Refuse a block that the manifest's payload cannot have."""
        uri, size, wanted = self._manifest.uri, self._block_size, self._manifest.payload_size
        after = start + len(data)
        if after > wanted or (total is not None and total > wanted and wanted % size):
            # FOTA_STATUS_FW_SIZE_MISMATCH, which is reported as this; a file that goes on behind a whole block is
            # not noticed, and only its beginning counts.
            raise DownloadFailed(
                FotaResult.INTERNAL, f"{uri} has {total or f'{after} B or more'} B, the manifest says {wanted}"
            )
        if total is not None and total < wanted:
            raise DownloadFailed(CORRUPTED, f"{uri} has {total} B, the manifest says {wanted}")
        if more and len(data) != size:
            raise DownloadFailed(CORRUPTED, f"block {number} of {uri} has {len(data)} B of {size}")
        if not more and after < wanted:
            raise DownloadFailed(FotaResult.DOWNLOAD_FAILED, f"{uri} ended after {after} of {wanted} B")

    def _take(self, data: bytes) -> None:
        self._keep(self._unpacker.feed(data))

    def _finish(self) -> None:
        self._keep(self._unpacker.finish())
        self._slot.flush()

    def _keep(self, pieces: Iterator[bytes]) -> None:
        slot, whole = self._slot, self._manifest.installed_size
        for piece in pieces:
            if slot.position + len(piece) > whole:
                raise DownloadFailed(CORRUPTED, f"the payload makes more than the image's {whole} B")
            slot.write(slot.position, piece)

    async def _block(self, number: int) -> Block:
        uri = self._manifest.uri
        for delay in (*BUSY_DELAYS_S, None):
            try:
                return await self._fetch(uri, number, self._block_size)
            except ResponseError as error:
                if delay is None or not error.code.startswith("5.03"):
                    raise DownloadFailed(
                        FotaResult.DOWNLOAD_FAILED, f"block {number} of {uri}: {error.message}"
                    ) from error
                await asyncio.sleep(delay)
            except NetworkError as error:
                raise DownloadFailed(FotaResult.DOWNLOAD_FAILED, f"block {number} of {uri}: {error.message}") from error
        raise AssertionError("the last attempt returns or raises")


async def on_medium(blocking: Blocking, result: FotaResult, work: Callable[..., T], *args: object) -> T:
    """Run blocking work on the candidate's medium, and return what it does; result: what it means if the medium fails.

    Raises:
        DownloadFailed: the medium fails, or the image or the payload is none.
    """
    try:
        return await blocking(work, *args)
    except ImageRejected as error:
        raise DownloadFailed(CORRUPTED, error.message) from error
    except ManifestRejected as error:
        raise DownloadFailed(FotaResult(error.result), error.message) from error
    except StorageError as error:
        raise DownloadFailed(result, error.message) from error
