"""Block devices over block devices, by Mbed's names and rules."""

from __future__ import annotations

from pdmlab.storage.wrappers.buffered import BufferedBlockDevice
from pdmlab.storage.wrappers.chaining import ChainingBlockDevice
from pdmlab.storage.wrappers.mbr import MBRBlockDevice
from pdmlab.storage.wrappers.profiling import ProfilingBlockDevice
from pdmlab.storage.wrappers.readonly import ReadOnlyBlockDevice
from pdmlab.storage.wrappers.slicing import SlicingBlockDevice
from pdmlab.storage.wrappers.wrapper import Wrapper

__all__ = [
    "BufferedBlockDevice",
    "ChainingBlockDevice",
    "MBRBlockDevice",
    "ProfilingBlockDevice",
    "ReadOnlyBlockDevice",
    "SlicingBlockDevice",
    "Wrapper",
]
