"""Key-value stores as a story opens them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from pdmlab.errors import StorageError
from pdmlab.storage.kv import DeviceKey, Esfs, EsfsError, KVFlag, KVStore, NVStore, SecureStore, Sotp, TDBStore
from pdmlab.storage.littlefs import LittleFileSystem2
from pdmlab.storage.powercuts.geometries import Geometry
from pdmlab.storage.powercuts.image import Image, Operation
from pdmlab.storage.powercuts.steps import Contents, Step
from pdmlab.storage.powercuts.story import Places
from pdmlab.storage.wrappers import SlicingBlockDevice

ROOT_OF_TRUST = bytes(range(16))


def areas(geometry: Geometry) -> list[tuple[int, int]]:
    """Return NVStore's two areas (offset, size in B): the two sectors of the medium, or its halves."""
    sizes = [size for count, size in geometry.sectors for _ in range(count)]
    first = sizes[0] if len(sizes) == 2 else geometry.size // 2 // geometry.erase * geometry.erase
    return [(0, first), (first, geometry.size - first)]


class NumberedRecords:
    """NVStore or SOTP; opened by its first look, as on a board."""

    def __init__(self, store: NVStore | Sotp) -> None:
        self._store = store
        self._store.keys()

    def take(self, step: Step, data: bytes, before: Contents) -> None:
        """Take a step."""
        key = int(step.name)
        if step.verb == "set":
            self._store.set(key, data)
        elif step.verb == "once" and isinstance(self._store, NVStore):
            self._store.set_once(key, data)
        else:
            self._store.remove(key)

    def contents(self) -> Contents:
        """Read all records."""
        return {str(key): self._store.get(key) for key in self._store.keys()}  # noqa: SIM118

    def settle(self) -> Contents | None:
        """Do nothing: opening has done it."""
        return None

    def flaw(self) -> str:
        """Know of none."""
        return ""

    def close(self) -> None:
        """Do nothing: it buffers nothing."""


class NamedValues:
    """A KVStore; `flags` says how a key is stored."""

    def __init__(self, store: KVStore, flags: Callable[[str], int] = lambda key: 0) -> None:
        self._store, self._flags = store, flags
        store.init()

    def take(self, step: Step, data: bytes, before: Contents) -> None:
        """Take a step."""
        if step.verb == "remove":
            self._store.remove(step.name)
        else:
            once = KVFlag.WRITE_ONCE if step.verb == "once" else 0
            self._store.set(step.name, data, self._flags(step.name) | once)

    def contents(self) -> Contents:
        """Read all values; Mbed's TDBStore lists its master record among them once it has been opened again."""
        return {key: self._store.get(key) for key in self._store.keys() if key != "TDBS"}  # noqa: SIM118

    def settle(self) -> Contents | None:
        """Do nothing: opening has done it."""
        return None

    def flaw(self) -> str:
        """Know of none."""
        return ""

    def close(self) -> None:
        """Let the store go."""
        self._store.deinit()


class SealedFiles:
    """The client's ESFS on a littlefs volume, under one root of trust; a file is set when it is not there."""

    def __init__(self, image: Image, names: Sequence[str]) -> None:
        self._fs = LittleFileSystem2("esfs")
        self._fs.mount(image)
        self._names = names
        self._files = Esfs(self._fs, ROOT_OF_TRUST, random_bytes=not_random)
        try:
            self._files.init()
        except StorageError:
            self.close()
            raise

    def take(self, step: Step, data: bytes, before: Contents) -> None:
        """Take a step."""
        if step.verb == "remove":
            self._files.remove(step.name)
        else:
            self._files.set(step.name, data)

    def contents(self) -> Contents:
        """Read every file of the story that is there."""
        there = Contents()
        for name in self._names:
            try:
                there[name] = self._files.get(name)
            except StorageError as error:
                if error.code != EsfsError.NOT_EXISTS:
                    raise
        return there

    def settle(self) -> Contents | None:
        """Do nothing: opening has done it."""
        return None

    def flaw(self) -> str:
        """Know of none."""
        return ""

    def close(self) -> None:
        """Unmount the volume."""
        if self._fs.mounted:
            self._fs.unmount()


def not_random(size: int) -> bytes:
    """Return bytes for IVs and nonces that are the same each time, so that a replay writes the same."""
    return hashlib.shake_128(b"nonce").digest(size)


def secured(key: str) -> int:
    """Return the flags of a key of SecureStore's story: secret-1 is encrypted, guarded-1 protected from rollback."""
    flags = KVFlag(0)
    if key.startswith("secret"):
        flags |= KVFlag.REQUIRE_CONFIDENTIALITY
    if key.startswith("guarded"):
        flags |= KVFlag.REQUIRE_CONFIDENTIALITY | KVFlag.REQUIRE_REPLAY_PROTECTION
    return flags


def open_tdbstore(image: Image) -> NamedValues:
    """Open TDBStore on an image."""
    return NamedValues(TDBStore(image))


def open_securestore(image: Image) -> NamedValues:
    """Open SecureStore: its values on the upper half of an image, its rollback protection on the lower."""
    protection, values = _halves(image)
    return NamedValues(SecureStore(TDBStore(values), TDBStore(protection), random_bytes=not_random), secured)


def format_securestore(image: Image) -> None:
    """Inject the device key."""
    store = TDBStore(_halves(image)[0])
    store.init()
    DeviceKey(store).inject(ROOT_OF_TRUST)
    store.deinit()


def _halves(image: Image) -> tuple[SlicingBlockDevice, SlicingBlockDevice]:
    half = image.size // 2
    return SlicingBlockDevice(image, 0, half), SlicingBlockDevice(image, half, image.size)


def open_esfs(image: Image, names: Sequence[str]) -> SealedFiles:
    """Open ESFS on the littlefs volume of an image."""
    return SealedFiles(image, names)


def format_esfs(image: Image) -> None:
    """Make an empty littlefs volume with ESFS's folders."""
    fs = LittleFileSystem2("esfs")
    fs.reformat(image)
    Esfs(fs, ROOT_OF_TRUST).init()
    fs.unmount()


def open_nvstore(image: Image) -> NumberedRecords:
    """Open NVStore in the two areas of an image."""
    return NumberedRecords(NVStore(image, areas(image.geometry)))


def open_sotp(image: Image) -> NumberedRecords:
    """Open SOTP in the two areas of an image."""
    return NumberedRecords(Sotp(image, areas(image.geometry)))


def format_nothing(image: Image) -> None:
    """Do nothing: the store makes itself on blank flash, and that can be cut as well."""


def in_nvstore(image: Image) -> Places:
    """Name areas and their master records."""
    both = areas(image.geometry)

    def place(operation: Operation) -> str:
        number = int(operation.address >= both[1][0])
        offset = operation.address - both[number][0]
        if operation.kind == "erase":
            return f"area {number}"
        return f"the master record of area {number}" if offset == 0 else f"a record in area {number}"

    return place
