"""Which virtual boards this process has open, and the URLs that open them: sim://K64F?id=desk1&seed=7."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit

from pdmlab.boards import catalog
from pdmlab.client.download_protocol import DownloadProtocol
from pdmlab.client.download_protocol import check as check_download
from pdmlab.client.transport import Transport, check
from pdmlab.errors import ConfigError
from pdmlab.network import interface
from pdmlab.storage import blockdevice
from pdmlab.update import bootloaders

if TYPE_CHECKING:
    from pdmlab.sim.board import VirtualBoard

_EXAMPLE = "such as sim://K64F?id=desk1&seed=7"


@dataclass(frozen=True)
class Address:
    """What a sim:// URL says.

    id: whose flash and card it is; None: the target's name.
    transport: what the client of its images speaks: tcp, udp, udp_queue; None: mbed_app.json, or the client, decides.
    download: what that client fetches firmware by, coap or http; None likewise.
    bootloader: fota, mbed or trial; None: the one in its flash.
    memory: 0 for a board whose flash and card are files; otherwise a number that tells boards of one id apart.
    """

    target: str
    id: str | None = None
    seed: int | None = None
    memory: int = 0
    transport: Transport | None = None
    download: DownloadProtocol | None = None
    bootloader: bootloaders.Kind | None = None

    def __str__(self) -> str:
        given = {"id": self.id, "seed": self.seed, "memory": self.memory or None}
        given |= {"transport": self.transport, "download": self.download, "bootloader": self.bootloader}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        return f"sim://{self.target}{'?' if query else ''}{query}"

    @property
    def key(self) -> tuple[str, int]:
        """What no two open boards of a process share."""
        return self.id or catalog.find(self.target).target, self.memory


def parse(url: str) -> Address:
    """Read a URL.

    Raises:
        ConfigError: it has something that a virtual board has not.
    """
    parts = urlsplit(url)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = dict(pairs)
    unknown = sorted(set(query) - {"id", "seed", "memory", "transport", "download", "bootloader"})
    if parts.scheme != "sim" or not parts.netloc or parts.path not in ("", "/"):
        raise ConfigError(f"{url!r} names no virtual board", hint=_EXAMPLE)
    if unknown:
        raise ConfigError(f"a virtual board has no {', '.join(unknown)} ({url})", hint=_EXAMPLE)
    if len(query) < len(pairs):
        raise ConfigError(f"{url!r} says something twice", hint=_EXAMPLE)
    seed = _number(url, query, "seed")
    memory, transport = _number(url, query, "memory") or 0, check(query.get("transport"))
    download = check_download(query.get("download"))
    bootloader = bootloaders.kind(query.get("bootloader"))
    return Address(parts.netloc, query.get("id") or None, seed, memory, transport, download, bootloader)


def _number(url: str, query: dict[str, str], name: str) -> int | None:
    try:
        return int(query[name]) if name in query else None
    except ValueError:
        raise ConfigError(f"{name} in {url!r} is no whole number", hint=f"such as {name}=1") from None


def open_board(url: str) -> VirtualBoard:
    """Open the virtual board of a URL; one of the same id that this process has open is closed first.

    Raises:
        ConfigError: the URL has something that a virtual board has not.
        BoardNotFound, PortBusy: see VirtualBoard.
    """
    from pdmlab.sim.board import VirtualBoard

    address = parse(url)
    return VirtualBoard(
        address.target,
        id=address.id,
        seed=address.seed,
        memory=address.memory,
        transport=address.transport,
        download=address.download,
        bootloader=address.bootloader,
    )


def opened(url: str) -> VirtualBoard | None:
    """Return the board of this process that a URL means, if it is open."""
    return _opened.get(parse(url).key)


_opened: dict[tuple[str, int], VirtualBoard] = {}


def free_number(board_id: str) -> int:
    """Return the lowest number that no open board in memory of that id has."""
    number = 1
    while (board_id, number) in _opened:
        number += 1
    return number


def enter(board: VirtualBoard) -> None:
    """Note a board as open, and let get_default_instance() in a notebook mean it."""
    _opened[board.address.key] = board
    _make_default(board)


def leave(board: VirtualBoard) -> None:
    """Note a board as closed; the one opened before it is the default again."""
    if _opened.get(board.address.key) is board:
        del _opened[board.address.key]
    _make_default(next(reversed(_opened.values()), None))


def _make_default(board: VirtualBoard | None) -> None:
    blockdevice.set_default(None if board is None else lambda: board.storage.file_system_part)
    interface.set_default(None if board is None else lambda: board.network)
