"""What the update client asks of the device that it runs on: blocks, a memory, an application, a reboot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec

from pdmlab.errors import UpdateError
from pdmlab.update.manifest import Manifest
from pdmlab.update.results import FotaResult, FotaState

T = TypeVar("T")


class Step(Enum):
    """What an application may allow or refuse."""

    DOWNLOAD = "download"
    INSTALL = "install"


@dataclass(frozen=True)
class Answer:
    """What an application says to a step: go on, no, or later. reason: its own number for a no."""

    verdict: str
    reason: int = 0


ALLOWED = Answer("allowed")
DEFERRED = Answer("deferred")
"""Not now: the manifest is kept, and the application is asked again at the next start, or when it resumes."""


def rejected_for(reason: int = 0) -> Answer:
    """Return a no."""
    return Answer("rejected", reason)


class Fetch(Protocol):
    """Fetch block `number` of `size` bytes from uri: its bytes, whether more follow, the whole size if known.

    Raises ResponseError or NetworkError, which are result 24, or DownloadFailed with a result of its own.
    """

    def __call__(self, uri: str, number: int, size: int) -> Awaitable[tuple[bytes, bool, int | None]]: ...


class Blocking(Protocol):
    """Run blocking device code from a coroutine: `DeviceClock.blocking`."""

    def __call__(self, work: Callable[..., T], *args: object) -> Awaitable[T]: ...


class UpdateStore(Protocol):
    """What outlives a reset, in secure storage: the manifest under way (FOTA_MANIFEST_KEY), its key, versions.

    The key is that of the candidate or of the payload (FOTA_ENCRYPT_KEY). It stays until the installation has been
    looked at after the reboot, when the manifest is gone already. All of it blocks, and raises StorageError.
    """

    def load(self) -> bytes | None:
        """Return the kept manifest."""
        ...

    def save(self, manifest: bytes) -> None:
        """Keep a manifest."""
        ...

    def clear(self) -> None:
        """Forget it."""
        ...

    def load_key(self) -> bytes | None:
        """Return the kept key (16 B)."""
        ...

    def save_key(self, key: bytes) -> None:
        """Keep a key."""
        ...

    def clear_key(self) -> None:
        """Forget it."""
        ...


class Callbacks(Protocol):
    """What the update tells, and asks; each is awaited, so that a notification is acknowledged before the next step."""

    async def state(self, state: FotaState) -> None:
        """Take the new value of /10252/0/2."""
        ...

    async def result(self, result: FotaResult, reason: str) -> None:
        """Take the value of /10252/0/3, and the sentence behind it for the console."""
        ...

    async def authorise(self, step: Step, manifest: Manifest) -> Answer:
        """Return what the application says to this step, whenever it does."""
        ...

    def progress(self, done: int, total: int) -> None:
        """Take how much of the payload has been fetched (B)."""
        ...

    async def reboot(self) -> None:
        """Restart the board into its bootloader."""
        ...

    async def installed(self, component: str) -> None:
        """Take note of a component that has a new version, without a reboot."""
        ...


@dataclass(frozen=True)
class Trials:
    """What a bootloader says that starts signed images only, each on trial; blocking.

    image_key    what images must be signed by
    rejected     says why the image of a SHA-256, which was installed, does not run any more; None if that is not so
    allow_again  lets an image have another trial, as someone has asked for it anew
    """

    image_key: ec.EllipticCurvePublicKey
    rejected: Callable[[bytes], str | None]
    allow_again: Callable[[bytes], object]


class DownloadFailed(UpdateError):
    """An update ends with a result; a `fetch` raises it where the result is not 24 (download failed)."""

    def __init__(self, result: FotaResult, reason: str) -> None:
        super().__init__(reason)
        self.result = result


class Interrupted(Exception):
    """The server has forgotten the device in mid-download: a `fetch` raises it once the device is registered anew.

    The update then begins again from its kept manifest, as in the stock client, and goes on with what the slot holds.
    """
