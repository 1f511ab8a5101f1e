"""What every board has, virtual or real, and the real one behind a serial port.

>>> with SerialBoard("/dev/ttyACM0") as board:
...     board.flash("firmware.bin")
...     board.console.expect("Jumping to application")
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pdmlab.boards import bridged
from pdmlab.boards.card import card
from pdmlab.boards.console import BAUD, Console
from pdmlab.boards.detection import Found, find_boards
from pdmlab.boards.dragdrop import TAKES_AT_MOST, flash_volume
from pdmlab.errors import BoardError, ConfigError, FlashFailed
from pdmlab.update.files import MAX_IMAGE, read_file

if TYPE_CHECKING:
    from types import TracebackType

Self = TypeVar("Self", bound="Board")


class BoardInfo(Protocol):
    """What is known of a board: its row of the catalogue (BoardRow), or little."""

    @property
    def target(self) -> str:
        """Mbed's target name, or "unknown"."""
        ...

    @property
    def name(self) -> str:
        """The name that its vendor prints on it."""
        ...

    @property
    def row(self) -> Mapping[str, Any]:
        """The catalogue's figures with their sources, for a run's provenance; empty if it has no row."""
        ...


class Board(Protocol):
    """A board: what a real one on a cable has."""

    @property
    def simulated(self) -> bool | None:
        """Whether the board is virtual; None if nobody knows."""
        ...

    @property
    def target(self) -> str:
        """Mbed's target name, or "unknown"."""
        ...

    @property
    def url(self) -> str:
        """What connect() opens it by."""
        ...

    @property
    def info(self) -> BoardInfo:
        """What the catalogue knows of it."""
        ...

    @property
    def console(self) -> Console:
        """Its serial line."""
        ...

    def flash(self, image: bytes | Path | str) -> None:
        """Write an application image and restart the board."""
        ...

    def reset(self) -> None:
        """Restart the board."""
        ...

    def scratch(self, *, seed: int) -> AbstractContextManager[Any]:
        """Give a board to measure on: on a virtual one, a fresh board with blank media."""
        ...

    def close(self) -> None:
        """Give back whatever this process holds of it."""
        ...

    def __enter__(self: Self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def _repr_html_(self) -> str: ...


@dataclass(frozen=True)
class UnknownBoard:
    """A board that the catalogue has no row of, and why it was not recognised."""

    name: str
    reason: str
    target: str = "unknown"

    @property
    def row(self) -> Mapping[str, Any]:
        """Empty: there are no figures."""
        return {}


OPENED_UP = (
    "boot_steps", "boots", "build", "clock", "fabric", "faults", "flash_application", "folder", "installed",
    "layout", "machine", "media", "network", "power_cycle", "power_off",
    "power_on", "powered", "run", "storage", "uart", "wait_for_end",
)  # fmt: skip
"""What a virtual board has besides."""


class SerialBoard:
    """A real board behind a serial port, or behind any other line that pyserial opens.

    `simulated` is False behind a serial port, and True where `pdmlab board` has noted that the line leads to a virtual
    board (bridged.py). Of any other pseudo-terminal or TCP line nobody knows: it is None, until rows of a suite tell
    (pdmlab/greentea/rows.py).

    Args:
        url: a port such as /dev/ttyACM0 or COM7, or a URL such as socket://host:port.
        target: Mbed's name of the board, where it cannot be told from its USB ids.
        baud: bit/s.

    Raises:
        BoardNotFound: no such port, or no such target. PortBusy: another program has the port.
    """

    def __init__(self, url: str, *, target: str | None = None, baud: int = BAUD) -> None:
        self.url = url
        self._target = target
        self._baud = baud
        self.found = _found(url)
        virtual = bridged.find(url)
        self.simulated: bool | None = True if virtual else None if bridged.leads_anywhere(url) else False
        if target is None and virtual not in (None, "unknown"):
            target = virtual
        self.info: BoardInfo = self.found.info(target)
        self.target = self.info.target
        self._closed = False
        self._console: Console | None = Console(url, name=self.label, baud=baud)

    @property
    def label(self) -> str:
        """What errors call the board."""
        return self.target if self.target != "unknown" else self.info.name

    @property
    def console(self) -> Console:
        """The serial line; opened again if it was lost, because somebody pulled the plug say."""
        self._require_open()
        if self._console is None or self._console.closed:
            if self._console is not None:
                self._console.close()
            self._console = Console(self.url, name=self.label, baud=self._baud)
        return self._console

    @property
    def mount_point(self) -> Path | None:
        """Where the volume of its interface chip is mounted now; None if it is not."""
        self.found = _found(self.url)
        return self.found.mount_point

    def flash(self, image: bytes | Path | str, *, timeout: float = TAKES_AT_MOST) -> None:
        """Copy an image onto the volume of the interface chip, wait until it has been taken, and reset.

        Args:
            image: a raw image or Intel hex: its bytes, or the path of a file.
            timeout: seconds that the interface chip may take.

        Raises:
            FlashFailed: the board shows no volume, or did not take the image (its FAIL.TXT is in the message).
        """
        if not isinstance(image, bytes):
            image = read_image_file(image)
        volume = self.mount_point
        if volume is None:
            raise FlashFailed(
                f"{self.label} on {self.url} shows no volume to copy an image to",
                hint="mount the volume of its interface chip (DAPLink, ST-Link), or flash it with its vendor's tool",
            )
        flash_volume(image, volume, board=self.label, timeout=timeout)
        self.reset()

    def reset(self) -> None:
        """Restart the board by a break on its serial line, which its interface chip turns into a reset.

        Raises:
            BoardError: the line carries no break.
        """
        console = self.console
        if not console.carries_break:
            raise BoardError(
                f"the line {self.url} carries no break, so {self.label} cannot be reset over it",
                hint="press its reset button; rfc2217:// carries breaks over TCP, socket:// and a pty do not",
            )
        console.send_break()

    @contextlib.contextmanager
    def scratch(self, *, seed: int) -> Iterator[SerialBoard]:
        """Give this board itself: a real one has no copies, and what is on its media stays there."""
        del seed
        self._require_open()
        yield self

    def _require_open(self) -> None:
        if self._closed:
            raise BoardError(f"{self.label} on {self.url} is closed", hint=f"pdmlab.connect({self.url!r}) opens it")

    if not TYPE_CHECKING:  # a type checker knows what is there

        def __getattr__(self, name: str) -> object:
            if name not in OPENED_UP:
                raise AttributeError(f"'SerialBoard' object has no attribute {name!r}", name=name, obj=self)
            target = self.target if self.target != "unknown" else "K64F"
            raise AttributeError(
                f"{self.label} on {self.url} has no {name!r}: only a virtual board can be opened up, such as "
                f"sim://{target}"
            )

    def close(self) -> None:
        """Give the port back; the transcript stays readable."""
        self._closed = True
        if self._console is not None:
            self._console.close()

    def __enter__(self) -> SerialBoard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _state(self) -> str:
        return "closed" if self._closed or self._console is None or self._console.closed else "open"

    def __repr__(self) -> str:
        return f"<board {'SIMULATED ' if self.simulated else ''}{self.target} on {self.url}, {self._state()}>"

    def _repr_html_(self) -> str:
        rows = {"board": self.info.name, "url": f"{self.url} ({self._state()})"}
        if isinstance(self.info, UnknownBoard):
            rows["not recognised"] = self.info.reason
        if self.found.target_id:
            rows["target id"] = self.found.target_id
        rows["volume"] = str(self.found.mount_point or "not mounted")
        if self.simulated is None:
            rows["simulated"] = "nobody knows: the rows of its suites may say it"
        return card(self.label, rows, simulated=bool(self.simulated))


def read_image_file(path: Path | str) -> bytes:
    """Return the bytes of an image file.

    Raises:
        FlashFailed: it cannot be read, or has more bytes than any image.
    """
    try:
        return read_file(path, MAX_IMAGE, "an image")
    except ConfigError as error:
        raise FlashFailed(error.message, hint="give the path of a .bin or .hex") from error


def _found(url: str) -> Found:
    return next((found for found in find_boards() if found.is_port(url)), Found(serial_port=url))
