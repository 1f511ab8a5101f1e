"""The parsers of what lies in a board's slots: firmware headers, the mark of a whole candidate, whole slots at a start.

Whatever lies there, a bootloader installs nothing but the image that a header's SHA-256 is of, and starts.
"""

from __future__ import annotations

import hashlib

from pdmlab.errors import ImageRejected
from pdmlab.storage.blockdevice import BlockDevice
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.update import bootloaders
from pdmlab.update.bootloaders.interface import Hardware, Kind
from pdmlab.update.header import READY_SIZE, FirmwareHeader, HeaderFields, pack_ready, parse_ready
from pdmlab.update.header_v2 import OFF_MBED_ROOT_OF_TRUST, FirmwareHeaderV2, device_key
from pdmlab.update.layout import Area, FlashGeometry, FlashLayout
from pdmlab.update.version import Version
from tests.fuzz.target import Target

K = 1024
KEY = device_key(OFF_MBED_ROOT_OF_TRUST)
OLD = hashlib.shake_256(b"old").digest(300)
LAYOUT = FlashLayout(
    FlashGeometry(0, 32 * K, ((32, K),), program_size=8),
    Area("bootloader", 0, K),
    Area("header", K, K),
    Area("application", 2 * K, 4 * K),
    (Area("SOTP section 1", 8 * K, 4 * K), Area("SOTP section 2", 12 * K, 4 * K)),
    Area("candidate", 16 * K, K),
    "FLASHIAP",
)


class _Flash(BlockDevice):
    """Flash in memory."""

    type = "FLASH"
    program_size = 8  # type: ignore[assignment]
    erase_size = K  # type: ignore[assignment]
    size = 32 * K  # type: ignore[assignment]

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = bytearray(content)

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.content[address : address + size])

    def program(self, address: int, data: bytes) -> None:
        self.content[address : address + len(data)] = data

    def erase(self, address: int, size: int) -> None:
        self.content[address : address + size] = b"\xff" * size


def _programmed(kind: Kind) -> bytes:
    flash = _Flash(b"\xff" * 32 * K)
    for at, data in bootloaders.programmed(kind, LAYOUT, OLD, Version(1, 0, 0)):
        flash.program(at, data)
    return bytes(flash.content)


_WITH_OLD: dict[Kind, bytes] = {"fota": _programmed("fota"), "mbed": _programmed("mbed")}


def check_header_v2(data: bytes) -> None:
    """Read a header both ways; what was read comes back from what is written."""
    try:
        header = FirmwareHeaderV2.parse_internal(data)
        assert FirmwareHeaderV2.parse_internal(header.pack_internal()) == header
    except ImageRejected:
        pass
    try:
        header = FirmwareHeaderV2.parse_external(data, KEY)
        assert FirmwareHeaderV2.parse_external(header.pack_external(KEY), KEY) == header
    except ImageRejected:
        pass


def check_header_v3(data: bytes) -> None:
    """Read a candidate's header, an active one, and the mark of a whole candidate."""
    try:
        header = FirmwareHeader.parse(data)
        assert FirmwareHeader.parse(header.pack()) == header
    except ImageRejected:
        pass
    try:
        fields = HeaderFields.parse_active(data)
        assert fields.size > 0 and len(fields.digest) == 32 and fields.version_text
    except ImageRejected:
        pass
    component = parse_ready(data)
    if component is not None and 1 <= len(component) <= 8 and component.isalnum():
        assert parse_ready(pack_ready(component)) == component and len(data) >= READY_SIZE


def _check_slot(kind: Kind, data: bytes) -> None:
    flash = _Flash(_WITH_OLD[kind])
    flash.program(16 * K, data[:K])
    before = bytes(flash.content)
    nvstore = NVStore(flash, [(area.offset, area.size) for area in LAYOUT.sotp])
    bootloader = bootloaders.build(kind, Hardware(LAYOUT, flash, flash, nvstore))
    result = bootloader.boot(lambda text: None)
    image = flash.read(2 * K, result.active.size)
    assert hashlib.sha256(image).digest() == result.active.digest
    if result.installed:
        assert result.active.version_number > bootloaders.header_of(kind, before[K : 2 * K]).version_number
        assert result.active.digest in data
    else:
        assert flash.content == before and image == OLD
    assert len(bootloader.slots()) == 2


def check_slot_v3(data: bytes) -> None:
    """Start a board with the 4.x bootloader and these bytes in its slot."""
    _check_slot("fota", data)


def check_slot_v2(data: bytes) -> None:
    """Start a board with mbed-bootloader and these bytes in its slot."""
    _check_slot("mbed", data)


SLOT_TARGETS = (
    Target("headers-v2", check_header_v2, weight=0.5),
    Target("headers-v3", check_header_v3, weight=0.5),
    Target("slots-v2", check_slot_v2, longest=1024, weight=0.1),  # each is a start
    Target("slots-v3", check_slot_v3, longest=1024, weight=0.1),
)
