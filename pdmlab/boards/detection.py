"""Which boards are plugged in: their ports and volumes, and why something that is there is not recognised.

>>> detect()  # one row a board, in the columns of mbedls
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pdmlab.boards import catalog
from pdmlab.boards.volumes import Volume, mounted_volumes

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.boards.board import BoardInfo
    from pdmlab.boards.catalog import BoardRow

_OWN_SERIAL_STARTS_WITH_TARGET_ID = "DAPLink"


class UsbPort(Protocol):
    """What pyserial's list_ports tells of a port."""

    device: str
    description: str
    vid: int | None
    pid: int | None
    serial_number: str | None


@dataclass(frozen=True)
class Found:
    """Something that is plugged in: a port, a volume, or both, and the board that they belong to if it is known.

    reason: why it was not recognised, or what is in the way of using it; empty if nothing is.
    """

    row: BoardRow | None = None
    serial_port: str | None = None
    mount_point: Path | None = None
    target_id: str = ""
    serial_number: str = ""
    interface_version: str = ""
    description: str = ""
    usb: tuple[int, int] | None = None
    reason: str = ""

    def info(self, target: str | None = None) -> BoardInfo:
        """Return what is known of the board; a target that is given by name goes before what was found.

        Raises:
            BoardNotFound: the catalogue has no such target.
        """
        from pdmlab.boards.board import UnknownBoard

        row = catalog.find(target) if target is not None else self.row
        return row or UnknownBoard(self.description or self.serial_port or "a board", self.reason or NOT_A_USB_PORT)

    def is_port(self, url: str) -> bool:
        """Whether this is the port that a url names, by a symbolic link too."""
        port = self.serial_port
        return port is not None and (port == url or (os.sep in url and os.path.realpath(url) == os.path.realpath(port)))


NOT_A_USB_PORT = "not a USB port: what is behind it cannot be told from here"


def find_boards(ports: Iterable[UsbPort] | None = None, volumes: Iterable[Volume] | None = None) -> list[Found]:
    """Return everything that is plugged in, recognised or not: boards first, then the other serial ports.

    Args:
        ports, volumes: what to look at instead of this machine's.
    """
    if ports is None:
        from serial.tools import list_ports

        ports = list_ports.comports()
    left = list(mounted_volumes() if volumes is None else volumes)
    found = []
    for port in sorted(ports, key=lambda port: port.device):
        volume = _volume_of(port, left)
        if volume is not None:
            left.remove(volume)
        found.append(_identify(port, volume))
    found = _pair_what_is_left(found, left)
    found += [_volume_alone(volume) for volume in left]
    return sorted(
        found, key=lambda item: (item.row is None, item.row.target if item.row else "", str(item.serial_port))
    )


def detect(everything: bool = False) -> pd.DataFrame:
    """Return what is plugged in, one row a board, in the columns of mbedls and two more: serial_number and reason.

    Args:
        everything: list also what is not recognised; `reason` says why, and what to do.
    """
    import pandas as pd

    rows = table(find_boards(), everything=everything)
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype="string")


COLUMNS = (
    "platform_name",
    "platform_name_unique",
    "mount_point",
    "serial_port",
    "target_id",
    "interface_version",
    "serial_number",
    "reason",
)


def table(found: Iterable[Found], *, everything: bool = False) -> list[dict[str, str | None]]:
    """Return rows of COLUMNS; platform_name_unique counts boards of one kind, as mbedls does."""
    counts: dict[str, int] = {}
    rows: list[dict[str, str | None]] = []
    for item in found:
        if item.row is None and not everything:
            continue
        name = item.row.target if item.row is not None else None
        unique = None
        if name is not None:
            unique = f"{name}[{counts.get(name, 0)}]"
            counts[name] = counts.get(name, 0) + 1
        rows.append(
            {
                "platform_name": name,
                "platform_name_unique": unique,
                "mount_point": str(item.mount_point) if item.mount_point is not None else None,
                "serial_port": item.serial_port,
                "target_id": item.target_id or None,
                "interface_version": item.interface_version or None,
                "serial_number": item.serial_number or None,
                "reason": item.reason or None,
            }
        )
    return rows


def as_mbed_tools(found: Iterable[Found], *, everything: bool = False) -> list[dict[str, Any]]:
    """Return the rows as JSON with the keys of mbedls and of `mbed-tools detect` beside each other."""
    shown = [item for item in found if everything or item.row is not None]
    return [
        {
            **row,
            "serial-number": row["serial_number"],
            "serial-port": row["serial_port"],
            "mount-points": [row["mount_point"]] if row["mount_point"] else [],
            "mbed-board": {
                "product-code": item.row.target_id if item.row is not None else None,
                "board-type": item.row.target if item.row is not None else None,
                "board-name": item.row.name if item.row is not None else None,
                "mbed-enabled": [],
                "mbed-os-support": [],
                "build-targets": [item.row.target] if item.row is not None else [],
            },
        }
        for item, row in zip(shown, table(shown, everything=True), strict=True)
    ]


def _volume_of(port: UsbPort, volumes: list[Volume]) -> Volume | None:
    serial = (port.serial_number or "").upper()
    if not serial:
        return None
    return next((v for v in volumes if serial in (v.serial_number.upper(), v.target_id)), None)


def _identify(port: UsbPort, volume: Volume | None) -> Found:
    usb = (port.vid, port.pid) if port.vid is not None and port.pid is not None else None
    kinds = [row for row in catalog.boards().values() if row.usb == usb]
    serial = (port.serial_number or "").upper()
    target_id = volume.target_id if volume is not None else ""
    if not target_id and any(row.interface == _OWN_SERIAL_STARTS_WITH_TARGET_ID for row in kinds):
        target_id = serial
    row = catalog.by_target_id(target_id) if target_id else None
    return Found(
        row,
        serial_port=port.device,
        mount_point=volume.mount_point if volume is not None else None,
        target_id=target_id,
        serial_number=serial,
        interface_version=volume.interface_version if volume is not None else "",
        description=port.description if port.description not in ("n/a", "") else "",
        usb=usb,
        reason=_permission(port.device) if row is not None else _why_unknown(usb, kinds, target_id),
    )


def _why_unknown(usb: tuple[int, int] | None, kinds: list[BoardRow], target_id: str) -> str:
    if usb is None:
        return NOT_A_USB_PORT
    if target_id:
        return f"target id {target_id[:4]} is in no row of the catalogue; name the board: connect(port, target=...)"
    if not kinds:
        return f"USB id {usb[0]:04x}:{usb[1]:04x} belongs to no board in the catalogue"
    return f"{kinds[0].interface} tells the board on its volume, which is not mounted: mount it, or name the board"


def _permission(device: str) -> str:
    if sys.platform == "win32" or not os.path.exists(device) or os.access(device, os.R_OK | os.W_OK):
        return ""
    return "you may not open the port: sudo usermod -aG dialout $USER, then log in again"


def _pair_what_is_left(found: list[Found], volumes: list[Volume]) -> list[Found]:
    """Give a port the only volume that nobody else has, where the operating system does not tell whose it is."""
    kinds = {row.usb for row in catalog.boards().values()}
    lonely = [item for item in found if item.usb in kinds and item.mount_point is None]
    unclaimed = [volume for volume in volumes if not volume.serial_number]
    if len(lonely) != 1 or len(unclaimed) != 1:
        return found
    (item,), (volume,) = lonely, unclaimed
    target_id = volume.target_id or item.target_id
    row = catalog.by_target_id(target_id) if target_id else None
    if row is None or row.usb != item.usb:
        return found
    volumes.remove(volume)
    paired = replace(
        item,
        row=row,
        mount_point=volume.mount_point,
        target_id=target_id,
        interface_version=volume.interface_version,
        reason=_permission(item.serial_port or ""),
    )
    return [paired if other is item else other for other in found]


def _volume_alone(volume: Volume) -> Found:
    return Found(
        catalog.by_target_id(volume.target_id) if volume.target_id else None,
        mount_point=volume.mount_point,
        target_id=volume.target_id,
        serial_number=volume.serial_number,
        interface_version=volume.interface_version,
        reason="its volume is mounted, and no serial port belongs to it: is its driver installed?",
    )
