"""Media, block devices, file systems and stores; each is loaded where it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.storage.blockdevice import BlockDevice, HeapBlockDevice
    from pdmlab.storage.credentials import CredentialStore
    from pdmlab.storage.dataflash import DataFlashBlockDevice
    from pdmlab.storage.fat import FATFileSystem
    from pdmlab.storage.faults import MediumFaults
    from pdmlab.storage.file import File
    from pdmlab.storage.filesystem import FileSystem, mount_or_format
    from pdmlab.storage.flashiap import FlashIAPBlockDevice
    from pdmlab.storage.kv.nvstore import NVStore, root_of_trust
    from pdmlab.storage.littlefs import LittleFileSystem2
    from pdmlab.storage.medium import Medium, MediumFault
    from pdmlab.storage.parts import Part, load_parts, part, parts_frame
    from pdmlab.storage.sd import SDBlockDevice
    from pdmlab.storage.spif import QSPIFBlockDevice, SPIFBlockDevice
    from pdmlab.storage.wrappers import (
        BufferedBlockDevice,
        ChainingBlockDevice,
        MBRBlockDevice,
        ProfilingBlockDevice,
        ReadOnlyBlockDevice,
        SlicingBlockDevice,
    )

_HOMES = {
    "BlockDevice": "blockdevice",
    "BufferedBlockDevice": "wrappers",
    "ChainingBlockDevice": "wrappers",
    "CredentialStore": "credentials",
    "DataFlashBlockDevice": "dataflash",
    "FATFileSystem": "fat",
    "File": "file",
    "FileSystem": "filesystem",
    "FlashIAPBlockDevice": "flashiap",
    "HeapBlockDevice": "blockdevice",
    "LittleFileSystem2": "littlefs",
    "MBRBlockDevice": "wrappers",
    "Medium": "medium",
    "MediumFault": "medium",
    "MediumFaults": "faults",
    "NVStore": "kv.nvstore",
    "Part": "parts",
    "ProfilingBlockDevice": "wrappers",
    "QSPIFBlockDevice": "spif",
    "ReadOnlyBlockDevice": "wrappers",
    "SDBlockDevice": "sd",
    "SPIFBlockDevice": "spif",
    "SlicingBlockDevice": "wrappers",
    "load_parts": "parts",
    "mount_or_format": "filesystem",
    "part": "parts",
    "parts_frame": "parts",
    "root_of_trust": "kv.nvstore",
}

__all__ = [
    "BlockDevice",
    "BufferedBlockDevice",
    "ChainingBlockDevice",
    "CredentialStore",
    "DataFlashBlockDevice",
    "FATFileSystem",
    "File",
    "FileSystem",
    "FlashIAPBlockDevice",
    "HeapBlockDevice",
    "LittleFileSystem2",
    "MBRBlockDevice",
    "Medium",
    "MediumFault",
    "MediumFaults",
    "NVStore",
    "Part",
    "ProfilingBlockDevice",
    "QSPIFBlockDevice",
    "ReadOnlyBlockDevice",
    "SDBlockDevice",
    "SPIFBlockDevice",
    "SlicingBlockDevice",
    "load_parts",
    "mount_or_format",
    "part",
    "parts_frame",
    "root_of_trust",
]

__getattr__ = lazily(__name__, _HOMES)
