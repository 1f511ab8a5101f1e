"""`connect`: one call that opens any board, by a URL or by the name of a port.

>>> connect("sim://K64F?id=desk1&seed=7")
>>> connect("/dev/ttyACM0")
>>> connect()  # what the setting `board` says; a virtual K64F where it says nothing
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import metadata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pdmlab import settings
from pdmlab.errors import BoardNotFound, ConfigError

if TYPE_CHECKING:
    from pdmlab.boards.board import Board

ENTRY_POINTS = "pdmlab.boards"
"""The group in which a package names, by URL scheme, the function that opens its boards: opener(url) -> Board."""
PYSERIAL_SCHEMES = ("socket", "rfc2217", "spy", "alt", "hwgrep", "loop")
"""Schemes that pyserial opens itself: a real board, or a program that stands for one, is behind them."""
_EXAMPLES = "such as 'sim://K64F', '/dev/ttyACM0' or 'COM7'"

_ours: dict[str, Board] = {}
_said = False


def connect(url: str | None = None, *, target: str | None = None) -> Board:
    """Open a board; a second call for the same board closes and replaces the first, so a cell can be run again.

    Args:
        url: sim://K64F?id=desk1&seed=7, a port such as /dev/ttyACM0 or COM7, socket://host:port or another
            pyserial URL. None: the setting `board`, else a virtual K64F, which says so.
        target: Mbed's name of a real board that cannot be recognised by its USB ids.

    Raises:
        ConfigError: no such kind of URL. BoardNotFound: no such board, target or port.
        PortBusy: another process has the board.
    """
    if url is None:
        url = _chosen()
    if not isinstance(url, str):
        raise ConfigError(f"a board is opened by its URL or port as text, not by {url!r}", hint=_EXAMPLES)
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme and scheme not in PYSERIAL_SCHEMES:
        if target is not None:
            raise ConfigError(f"{url!r} names its board itself; target={target!r} does not go with it")
        return _opener(scheme, url)(url)
    if not url.strip():
        raise ConfigError("an empty URL names no board", hint=_EXAMPLES)
    return _open_port(url, target)


def _chosen() -> str:
    """Return what the setting says, and say once that a board is simulated if nobody chose it."""
    global _said
    chosen = settings.load()
    url = chosen.text("board")
    if chosen.origin("board") == "default" and not _said:
        _said = True
        print(
            f"SIMULATED board {url}, since none was named. A real one: connect('/dev/ttyACM0'), or PDMLAB_BOARD",
            file=sys.stderr,
        )
    return url


def _opener(scheme: str, url: str) -> Callable[[str], Board]:
    entries = metadata.entry_points(group=ENTRY_POINTS)
    for entry in entries.select(name=scheme):
        opener: Callable[[str], Board] = entry.load()
        return opener
    known = sorted({*entries.names, *PYSERIAL_SCHEMES})
    raise ConfigError(
        f"nothing here opens {url!r}: the scheme {scheme!r} is unknown",
        hint=f"known are {', '.join(f'{name}://' for name in known)} and plain ports: /dev/ttyACM0, COM7",
    )


def _open_port(url: str, target: str | None) -> Board:
    from pdmlab.boards.board import SerialBoard

    key = os.path.realpath(url) if os.sep in url and "://" not in url else url
    before = _ours.pop(key, None)
    if before is not None:
        before.close()
    try:
        board: Board = SerialBoard(url, target=target)
    except BoardNotFound as error:
        named = _target(url)
        if named is None:
            raise
        raise BoardNotFound(error.message, hint=f"a virtual {named} is connect('sim://{named}')") from error
    _ours[key] = board
    return board


def _target(name: str) -> str | None:
    from pdmlab.boards import catalog

    try:
        return catalog.find(name).target
    except BoardNotFound:
        return None
