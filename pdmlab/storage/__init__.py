"""Media, block devices, file systems and stores; each is loaded where it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.storage.blockdevice import BlockDevice, HeapBlockDevice
    from pdmlab.storage.credentials import CredentialStore
    from pdmlab.storage.dataflash import DataFlashBlockDevice
    from pdmlab.storage.fat import FATFileSystem
    from pdmlab.storage.faults import MediumFaults
    from pdmlab.storage.filesystem import File, FileSystem, mount_or_format
    from pdmlab.storage.flashiap import FlashIAPBlockDevice
    from pdmlab.storage.kv.nvstore import NVStore, root_of_trust
    from pdmlab.storage.littlefs import LittleFileSystem2
    from pdmlab.storage.medium import Medium, MediumFault
    from pdmlab.storage.sd import SDBlockDevice
    from pdmlab.storage.spif import QSPIFBlockDevice, SPIFBlockDevice
    from pdmlab.storage.wrappers import BufferedBlockDevice, ProfilingBlockDevice, SlicingBlockDevice

_HOMES = {
    "BlockDevice": "blockdevice",
    "BufferedBlockDevice": "wrappers",
    "CredentialStore": "credentials",
    "DataFlashBlockDevice": "dataflash",
    "FATFileSystem": "fat",
    "File": "filesystem",
    "FileSystem": "filesystem",
    "FlashIAPBlockDevice": "flashiap",
    "HeapBlockDevice": "blockdevice",
    "LittleFileSystem2": "littlefs",
    "Medium": "medium",
    "MediumFault": "medium",
    "MediumFaults": "faults",
    "NVStore": "kv.nvstore",
    "ProfilingBlockDevice": "wrappers",
    "QSPIFBlockDevice": "spif",
    "SDBlockDevice": "sd",
    "SPIFBlockDevice": "spif",
    "SlicingBlockDevice": "wrappers",
    "mount_or_format": "filesystem",
    "root_of_trust": "kv.nvstore",
}

__all__ = [
    "BlockDevice",
    "BufferedBlockDevice",
    "CredentialStore",
    "DataFlashBlockDevice",
    "FATFileSystem",
    "File",
    "FileSystem",
    "FlashIAPBlockDevice",
    "HeapBlockDevice",
    "LittleFileSystem2",
    "Medium",
    "MediumFault",
    "MediumFaults",
    "NVStore",
    "ProfilingBlockDevice",
    "QSPIFBlockDevice",
    "SDBlockDevice",
    "SPIFBlockDevice",
    "SlicingBlockDevice",
    "mount_or_format",
    "root_of_trust",
]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'pdmlab.storage' has no attribute {name!r}") from None
    value = getattr(import_module(f"pdmlab.storage.{home}"), name)
    globals()[name] = value
    return value
