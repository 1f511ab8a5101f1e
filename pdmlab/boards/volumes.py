"""The USB volume of a board's interface chip (DAPLink, ST-Link, Nu-Link): where it is mounted, and what it says."""

from __future__ import annotations

import os
import re
import string
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_CODE = re.compile(r"[?&]code=([0-9A-Fa-f]{4,})|auth=([0-9A-Fa-f]{4,})")
_DETAIL = re.compile(r"^(?:#\s*)?([A-Za-z ]+?):\s*(.+?)\s*$", re.MULTILINE)
_MARKS = ("MBED.HTM", "DETAILS.TXT")
_BY_ID = Path("/dev/disk/by-id")
_MOUNTS = Path("/proc/self/mounts")


@dataclass(frozen=True)
class Volume:
    """A mounted interface volume.

    target_id: its chip's id; the first four digits are the board's. Empty if the volume does not say.
    interface_version: of the chip's firmware, as the volume tells it.
    serial_number: of the USB device that it belongs to; empty where the operating system does not tell.
    """

    mount_point: Path
    target_id: str = ""
    interface_version: str = ""
    serial_number: str = ""


def mounted_volumes() -> list[Volume]:
    """Return the interface volumes that are mounted now."""
    serials = _serials_by_mount()
    return [
        volume
        for folder in _mount_points()
        if (volume := read_volume(folder, serial_number=serials.get(folder, ""))) is not None
    ]


def read_volume(folder: Path, *, serial_number: str = "") -> Volume | None:
    """Read what the volume at a folder says of its board; None if it is no interface chip's."""
    texts = {}
    for name in _MARKS:
        try:
            texts[name] = (folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:  # not there, or the volume went away
            continue
    if not texts:
        return None
    details = {name.strip().lower(): value for name, value in _DETAIL.findall(texts.get("DETAILS.TXT", ""))}
    code = _CODE.search(texts.get("MBED.HTM", ""))
    return Volume(
        folder,
        target_id=(details.get("unique id") or (code and (code[1] or code[2])) or "").upper(),
        interface_version=details.get("interface version") or details.get("version") or "",
        serial_number=serial_number,
    )


def _mount_points() -> Iterable[Path]:
    if sys.platform == "win32":
        return [Path(f"{letter}:\\") for letter in string.ascii_uppercase if os.path.exists(f"{letter}:\\")]
    if sys.platform == "darwin":
        return sorted(Path("/Volumes").glob("*"))
    return [folder for _, folder in _linux_mounts()]


def _linux_mounts() -> list[tuple[str, Path]]:
    """Return device and folder of every mounted FAT volume."""
    try:
        lines = _MOUNTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    fields = [line.split(" ") for line in lines]
    return [(device, Path(_unescaped(folder))) for device, folder, kind, *_ in fields if kind in ("vfat", "msdos")]


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def _serials_by_mount() -> dict[Path, str]:
    """Return which USB serial number each mounted volume belongs to, where the operating system tells."""
    if not sys.platform.startswith("linux"):
        return {}
    devices: dict[str, str] = {}
    for link in _BY_ID.glob("usb-*"):
        # usb-<vendor>_<product>_<serial number>-0:0, and -part1 behind it for a partition
        if serial := re.search(r"_([0-9A-Za-z]+)-\d+:\d+(?:-part\d+)?$", link.name):
            devices[os.path.realpath(link)] = serial[1]
    return {
        folder: devices[os.path.realpath(device)]
        for device, folder in _linux_mounts()
        if os.path.realpath(device) in devices
    }
