"""What the client needs of the board that it runs on; whoever boots a board sets `current_platform`."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn, Protocol

from pdmlab.errors import ConfigError

if TYPE_CHECKING:
    from pdmlab.client.download_protocol import DownloadProtocol
    from pdmlab.client.transport import Transport
    from pdmlab.clock import DeviceClock
    from pdmlab.storage.blockdevice import BlockDevice
    from pdmlab.storage.kv.nvstore import NVStore
    from pdmlab.update.bootloaders.interface import Bootloader
    from pdmlab.update.candidate import CandidateSlot
    from pdmlab.update.candidate_v2 import UpdateStorage
    from pdmlab.update.layout import FlashLayout


class Console(Protocol):
    """Where stdout goes: the serial line."""

    def write(self, text: str) -> None:
        """Print text as it is."""
        ...


class CompiledIn(Protocol):
    """What the running image has compiled in."""

    @property
    def credentials(self) -> Mapping[str, str] | None:
        """mbed_cloud_dev_credentials.c: C name to text, bytes as base64; None if it has none."""
        ...

    @property
    def update_resources(self) -> Mapping[str, str] | None:
        """update_default_resources.c, likewise."""
        ...

    @property
    def transport(self) -> Transport | None:
        """What mbed_app.json says that the client speaks; None if it says nothing."""
        ...

    @property
    def download_protocol(self) -> DownloadProtocol | None:
        """What mbed_app.json says that firmware is fetched by; None if it says nothing."""
        ...

    @property
    def options(self) -> Mapping[str, object]:
        """What else mbed_app.json says: under "fota", how candidates are written."""
        ...


class Platform(Protocol):
    """A running board, as the client sees it."""

    @property
    def clock(self) -> DeviceClock:
        """The board's clock, whose loop the client runs on."""
        ...

    @property
    def uart(self) -> Console:
        """The serial line."""
        ...

    @property
    def image(self) -> CompiledIn:
        """The running image."""
        ...

    @property
    def flash(self) -> BlockDevice:
        """The whole internal flash."""
        ...

    @property
    def layout(self) -> FlashLayout:
        """Where what lies in it."""
        ...

    @property
    def nvstore(self) -> NVStore:
        """Where the root of trust is kept."""
        ...

    @property
    def candidate(self) -> CandidateSlot | UpdateStorage:
        """Where a downloaded firmware waits for the bootloader: storage locations for mbed-bootloader, else a slot."""
        ...

    @property
    def bootloader(self) -> Bootloader:
        """What has started this application: its kind says which headers and manifests the board takes."""
        ...

    @property
    def boot_log(self) -> str:
        """What the bootloader printed at this start."""
        ...

    def random_bytes(self, n: int) -> bytes:
        """Return n bytes of the board's TRNG."""
        ...

    def reset(self) -> NoReturn:
        """Restart the board at once."""
        ...


current_platform: contextvars.ContextVar[Platform] = contextvars.ContextVar("current_platform")
"""The board that the running device thread belongs to."""


def platform() -> Platform:
    """Return the running board.

    Raises:
        ConfigError: this code does not run on a board.
    """
    try:
        return current_platform.get()
    except LookupError:
        raise ConfigError(
            "the client runs on a board, and this code does not",
            hint="put it into a function and call board.run(function)",
        ) from None
