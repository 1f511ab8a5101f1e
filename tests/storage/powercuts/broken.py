"""A store that is wrong on purpose: its header says that the data are there before they are."""

from __future__ import annotations

import struct
import zlib

from pdmlab.errors import StorageError

HEADER = struct.Struct("<II")
SLOT = 512


class HeaderFirst:
    """Eight slots, one a key: size and CRC, then data; a set programs the header before the data."""

    def __init__(self, device, *, checks):
        self.device, self.checks = device, checks

    def set(self, key, data):
        start = key * SLOT
        self.device.erase(start, SLOT)
        self.device.program(start, HEADER.pack(len(data), zlib.crc32(data)))
        self.device.program(start + HEADER.size, data)
        self.device.sync()

    def get(self, key):
        start = key * SLOT
        size, crc = HEADER.unpack(self.device.read(start, HEADER.size))
        if size > SLOT - HEADER.size:
            return None
        data = self.device.read(start + HEADER.size, size)
        if self.checks and zlib.crc32(data) != crc:
            raise StorageError(f"slot {key} is torn")
        return data


class TwoSlots:
    """One value in two slots by turns, data first and header last: nothing is lost where programs stay in order.

    syncs: whether the data are synced before the header that makes them count.
    """

    def __init__(self, device, *, syncs=True):
        self.device, self.syncs = device, syncs
        self.place = 0

    def newest(self):
        found = [(number, slot) for slot in (0, 1) if (number := self._number(slot))]
        return max(found, default=(0, 1))

    def _number(self, slot):
        raw = self.device.read(slot * 1024, 512)
        number, size, crc = struct.unpack("<III", raw[:12])
        if not 0 < size <= 512 or number in (0, 0xFFFFFFFF):
            return 0
        return number if zlib.crc32(raw[:8]) == crc else 0

    def get(self):
        number, slot = self.newest()
        size = struct.unpack("<III", self.device.read(slot * 1024, 512)[:12])[1]
        return self.device.read(slot * 1024 + 512, 512)[:size] if number else b""

    def set(self, data):
        number, slot = self.newest()
        start = (1 - slot) * 1024
        self.device.program(start, bytes(512))  # it does not count while it is written
        self.device.sync()
        self.device.program(start + 512, data.ljust(512, b"\0"))
        if self.syncs:
            self.device.sync()
        head = struct.pack("<II", number + 1, len(data))
        self.device.program(start, (head + struct.pack("<I", zlib.crc32(head))).ljust(512, b"\0"))
        self.device.sync()


VALUES = [bytes([65 + n]) * (100 + 40 * n) for n in range(4)]


def fill_header_first(device):
    store = HeaderFirst(device, checks=True)
    for value in VALUES:
        store.set(2, value)
        yield f"set {len(value)} B"


def check_header_first(device, done):
    """Slot 2 holds the last value that was set, or the one that was being set."""
    allowed = VALUES[max(done - 1, 0) : done + 1]
    found = HeaderFirst(device, checks=True).get(2)
    assert found in allowed or (done == 0 and not found), f"slot 2 holds {found and len(found)} B"


def fill_two_slots(device):
    store = TwoSlots(device)
    for value in VALUES:
        store.set(value)
        yield


def fill_two_slots_unsynced(device):
    store = TwoSlots(device, syncs=False)
    for value in VALUES:
        store.set(value)
        yield


def check_two_slots(device, done):
    """The value is the last that was set, or the one that was being set."""
    return TwoSlots(device).get() in [b"", *VALUES][done : done + 2]
