"""ESFS, the client's own files of before KVStore: encrypted and authenticated under the root of trust in SOTP.

They lie in the folder WORKING of a volume; those of the factory in BACKUP, too, from where a factory reset brings
them back. A file is called by the head of its name's SHA-256 (6 B in base 64, with # and _), and is little-endian:

| bytes | |
|---|---|
| u16 version 1, u16 mode, u16 length of the name, the name | 0x100 of the mode: encrypted, 0x200: factory |
| 8 B nonce | only if encrypted |
| u16 number of metadata (0 to 3), for each u16 type, u16 length, u16 where its value lies in the file | |
| the metadata's values, the data | AES-128-CTR from nonce and a counter of 0, if encrypted |
| 16 B AES-CMAC over all before | |

The keys are AES-CMACs of "RoTStorageEnc128" and "RoTStorageSgn128" under the root of trust. A file is written in
place, once: what is to change is removed first, and a power cut in between loses it.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import secrets
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pdmlab.errors import ConfigError, CorruptMedium, StorageError
from pdmlab.storage.filesystem import FileSystem
from pdmlab.storage.kv.devicekey import aes_cmac

VERSION = 1
WORKING, BACKUP = "/WORKING", "/BACKUP"
_RESET_FOLDER = f"{BACKUP}/FR"
_RESET_FLAG = f"{_RESET_FOLDER}/fr_on"
MAX_NAME = 1024
MAX_METADATA = 3
_NONCE = 8
_CMAC = 16
_PIECE = 256
_U16 = struct.Struct("<H")
_TLV = struct.Struct("<HHH")
_ROOT = 16


class EsfsMode(IntFlag):
    """What a file's header says of it, as far as the client uses it (esfs.h)."""

    ENCRYPTED = 0x0100
    FACTORY = 0x0200


class EsfsError(IntEnum):
    """ESFS_* of the client (esfs.h)."""

    INVALID_PARAMETER = 1
    ERROR = 4
    EXISTS = 5
    NOT_EXISTS = 6
    HASH_CONFLICT = 7
    INVALID_FILE_VERSION = 10
    CMAC_DOES_NOT_MATCH = 11


_HINTS = {
    EsfsError.INVALID_PARAMETER: f"names have 1 to {MAX_NAME} B, metadata up to {MAX_METADATA} items, none empty",
    EsfsError.ERROR: "a power cut may have torn it: remove() it, and set it again",
    EsfsError.EXISTS: "remove() it first",
    EsfsError.NOT_EXISTS: "list() says what there is",
    EsfsError.HASH_CONFLICT: "another file has this short name: choose another name",
    EsfsError.INVALID_FILE_VERSION: "it was written by another release, or is damaged",
    EsfsError.CMAC_DOES_NOT_MATCH: "the root of trust has changed, or the file is damaged",
}


@dataclass(frozen=True)
class EsfsFile:
    """An authenticated file: its name, what its header says, its metadata by type, its data."""

    name: str
    mode: EsfsMode
    metadata: tuple[tuple[int, bytes], ...]
    data: bytes

    def __repr__(self) -> str:
        # The data are secrets.
        return f"<EsfsFile {self.name!r}, {len(self.data)} B, {self.mode!r}>"


Names = list[str]
Files = list[EsfsFile]


class EsfsKeys:
    """The two keys that a root of trust (16 B) gives."""

    def __init__(self, root_of_trust: bytes) -> None:
        if len(root_of_trust) != _ROOT:
            raise ConfigError(f"the root of trust has {len(root_of_trust)} B", hint="it is an AES key of 16 B")
        self.encryption = aes_cmac(root_of_trust, b"RoTStorageEnc128")
        self.signature = aes_cmac(root_of_trust, b"RoTStorageSgn128")

    def __repr__(self) -> str:
        return "<EsfsKeys>"


class Esfs:
    """Files by name in a mounted file system, readable only with the root of trust that they were stored under.

    random_bytes: where nonces come from.
    """

    def __init__(
        self,
        fs: FileSystem,
        root_of_trust: bytes,
        *,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.fs = fs
        self._keys = EsfsKeys(root_of_trust)
        self._random_bytes = random_bytes
        self._initialised = False

    def init(self) -> None:
        """Make the folders where they are missing, and finish a factory reset that was cut off."""
        if self._initialised:
            return
        for folder in (WORKING, BACKUP):
            self._make(folder)
        self._initialised = True
        if self._read(_RESET_FLAG) is not None:
            self.factory_reset()

    def deinit(self) -> None:
        """Stop; the file system stays mounted."""
        self._initialised = False

    def get(self, name: str) -> bytes:
        """Return a file's data: see read()."""
        return self.read(name).data

    def read(self, name: str) -> EsfsFile:
        """Return a file.

        Raises:
            StorageError: there is none (ESFS_NOT_EXISTS).
            CorruptMedium: it is torn, damaged, or was stored under another root of trust.
        """
        self.init()
        raw = self._read(f"{WORKING}/{short_name(name)}")
        if raw is None or stored_name(raw) not in (name, None):
            raise _error(EsfsError.NOT_EXISTS, f"there is no {name!r}")
        return unseal(raw, self._keys)

    def set(
        self,
        name: str,
        data: bytes,
        *,
        mode: EsfsMode = EsfsMode.ENCRYPTED,
        metadata: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Store a file that is not there yet; metadata are (type, value).

        Raises:
            StorageError: there is one (ESFS_EXISTS), or one of another name that has its short name
                (ESFS_HASH_CONFLICT).
        """
        self.init()
        raw_name = name.encode()
        if not 0 < len(raw_name) <= MAX_NAME or len(metadata) > MAX_METADATA or not all(v for _, v in metadata):
            raise _error(EsfsError.INVALID_PARAMETER, f"{name!r}, {len(metadata)} metadata")
        leaf = short_name(name)
        self._refuse_existing(name, f"{WORKING}/{leaf}", conflict_only=False)
        pieces = seal(raw_name, data, mode, metadata, self._keys, self._random_bytes(_NONCE))
        if not mode & EsfsMode.FACTORY:
            self._write(f"{WORKING}/{leaf}", pieces)
            return
        self._make(BACKUP)
        self._refuse_existing(name, f"{BACKUP}/{leaf}", conflict_only=True)
        self._write(f"{BACKUP}/{leaf}", pieces)
        self._copy(leaf)

    def remove(self, name: str) -> None:
        """Remove a file, readable or not; the factory's copy stays.

        Raises:
            StorageError: there is none (ESFS_NOT_EXISTS).
        """
        self.init()
        if not self._remove(f"{WORKING}/{short_name(name)}"):
            raise _error(EsfsError.NOT_EXISTS, f"there is no {name!r} to remove")

    def list(self) -> Files:
        """Return all files, sorted by name.

        Raises:
            CorruptMedium: one is torn, damaged, or was stored under another root of trust.
        """
        self.init()
        found = [unseal(self._read(f"{WORKING}/{leaf}") or b"", self._keys) for leaf in self._files(WORKING)]
        return sorted(found, key=lambda file: file.name)

    def iterate(self) -> Iterator[str]:
        """Go through the names of all files."""
        return (file.name for file in self.list())

    def reset(self) -> None:
        """Remove every file, the factory's copies too, readable or not."""
        for folder in (WORKING, _RESET_FOLDER, BACKUP):
            for leaf in self._files(folder):
                self._remove(f"{folder}/{leaf}")
            self._remove(folder)
        self._initialised = False
        self.init()

    def factory_reset(self) -> None:
        """Bring back what the factory stored; one that is cut off goes on at the next init()."""
        self.init()
        self._make(_RESET_FOLDER)
        self._write(_RESET_FLAG, [])
        for leaf in self._files(WORKING):
            self._remove(f"{WORKING}/{leaf}")
        for leaf in self._files(BACKUP):
            self._copy(leaf)
        self._remove(_RESET_FLAG)

    # -- files -----------------------------------------------------------------------------------------

    def _refuse_existing(self, name: str, path: str, *, conflict_only: bool) -> None:
        raw = self._read(path)
        if raw is None:
            return
        there = stored_name(raw)
        if there is not None and there != name:
            raise _error(EsfsError.HASH_CONFLICT, f"{there!r} has the short name of {name!r}")
        if not conflict_only:
            raise _error(EsfsError.EXISTS, f"there is {name!r} already")

    def _copy(self, leaf: str) -> None:
        raw = self._read(f"{BACKUP}/{leaf}") or b""
        self._write(f"{WORKING}/{leaf}", [raw[start : start + _PIECE] for start in range(0, len(raw), _PIECE)])

    def _write(self, path: str, pieces: Sequence[bytes]) -> None:
        try:
            with self.fs.open(path, "w") as file:
                for piece in pieces:
                    file.write(piece)
        except StorageError:
            try:
                self._remove(path)
            except StorageError:
                pass  # as in the client: what could not be written is removed if it can be
            raise

    def _read(self, path: str) -> bytes | None:
        try:
            with self.fs.open(path, "r") as file:
                return file.read()
        except StorageError as error:
            if error.code != -errno.ENOENT:
                raise
            return None

    def _files(self, folder: str) -> Names:
        try:
            names = self.fs.listdir(folder)
        except StorageError as error:
            if error.code != -errno.ENOENT:
                raise
            return []
        return [name for name in names if self.fs.stat(f"{folder}/{name}").kind == "file"]

    def _make(self, folder: str) -> None:
        try:
            self.fs.mkdir(folder)
        except StorageError as error:
            if error.code != -errno.EEXIST:
                raise

    def _remove(self, path: str) -> bool:
        try:
            self.fs.remove(path)
        except StorageError as error:
            if error.code != -errno.ENOENT:
                raise
            return False
        return True

    def __repr__(self) -> str:
        return f"<Esfs in {WORKING} of {self.fs!r}>"


def short_name(name: str) -> str:
    """Return what a file is called on the volume."""
    return base64.b64encode(hashlib.sha256(name.encode()).digest()[:6], altchars=b"#_").decode()


def stored_name(raw: bytes) -> str | None:
    """Return the name that a file's header gives; None if it is torn, or of another version."""
    if len(raw) < 6 or _U16.unpack_from(raw)[0] != VERSION:
        return None
    (length,) = _U16.unpack_from(raw, 4)
    name = raw[6 : 6 + length]
    return name.decode(errors="replace") if len(name) == length else None


def data_size(raw: bytes) -> int | None:
    """Return the size (B) of a file's data, as its header has it; None if it is torn."""
    if stored_name(raw) is None:
        return None
    at = 6 + _U16.unpack_from(raw, 4)[0]
    if _U16.unpack_from(raw, 2)[0] & EsfsMode.ENCRYPTED:
        at += _NONCE
    if len(raw) < at + _U16.size:
        return None
    (count,) = _U16.unpack_from(raw, at)
    at += _U16.size
    if count > MAX_METADATA or len(raw) < at + _TLV.size * count:
        return None
    at += sum(_TLV.size + _TLV.unpack_from(raw, at + _TLV.size * n)[1] for n in range(count))
    return len(raw) - at - _CMAC if len(raw) >= at + _CMAC else None


def seal(
    name: bytes, data: bytes, mode: EsfsMode, metadata: Sequence[tuple[int, bytes]], keys: EsfsKeys, nonce: bytes
) -> list[bytes]:
    """Return the pieces in which the client writes a file."""
    encrypted = bool(mode & EsfsMode.ENCRYPTED)
    head = [_U16.pack(VERSION), _U16.pack(mode), _U16.pack(len(name)), name]
    head += [nonce] if encrypted else []
    head.append(_U16.pack(len(metadata)))
    position = sum(map(len, head)) + _TLV.size * len(metadata)
    items = b""
    for type_, value in metadata:
        items += _TLV.pack(type_, len(value), position)
        position += len(value)
    body = [value for _, value in metadata]
    body += [data[start : start + _PIECE] for start in range(0, len(data), _PIECE)]
    if encrypted:
        crypt = _cipher(keys, nonce)
        body = [crypt(piece) for piece in body]
    pieces = [*head, *([items] if items else []), *body]
    return [*pieces, aes_cmac(keys.signature, *pieces)]


def unseal(raw: bytes, keys: EsfsKeys) -> EsfsFile:
    """Return what a file holds.

    Raises:
        CorruptMedium: it is torn (ESFS_ERROR), of another version, or cannot be authenticated.
    """
    if len(raw) >= _U16.size and _U16.unpack_from(raw)[0] != VERSION:
        raise _error(EsfsError.INVALID_FILE_VERSION, f"a file of version {_U16.unpack_from(raw)[0]}")
    name = stored_name(raw)
    if name is None or data_size(raw) is None:
        raise _error(EsfsError.ERROR, f"a file of {len(raw)} B is torn")
    if aes_cmac(keys.signature, raw[:-_CMAC]) != raw[-_CMAC:]:
        raise _error(EsfsError.CMAC_DOES_NOT_MATCH, f"{name!r} cannot be authenticated")
    mode = EsfsMode(_U16.unpack_from(raw, 2)[0])
    at = 6 + _U16.unpack_from(raw, 4)[0]
    nonce = b""
    if mode & EsfsMode.ENCRYPTED:
        nonce, at = raw[at : at + _NONCE], at + _NONCE
    (count,) = _U16.unpack_from(raw, at)
    at += _U16.size
    items = [_TLV.unpack_from(raw, at + _TLV.size * n) for n in range(count)]
    body = raw[at + _TLV.size * count : -_CMAC]
    if nonce:
        body = _cipher(keys, nonce)(body)
    metadata = []
    for type_, length, _ in items:
        metadata.append((type_, body[:length]))
        body = body[length:]
    return EsfsFile(name, mode, tuple(metadata), body)


def _cipher(keys: EsfsKeys, nonce: bytes) -> Callable[[bytes], bytes]:
    # Counter mode is its own inverse.
    return Cipher(algorithms.AES(keys.encryption), modes.CTR(nonce + bytes(8))).encryptor().update


def _error(status: EsfsError, what: str) -> StorageError:
    corrupt = (EsfsError.ERROR, EsfsError.INVALID_FILE_VERSION, EsfsError.CMAC_DOES_NOT_MATCH)
    kind = CorruptMedium if status in corrupt else StorageError
    return kind(f"ESFS: {what} (ESFS_{status.name}, {status.value})", code=status, hint=_HINTS[status])
