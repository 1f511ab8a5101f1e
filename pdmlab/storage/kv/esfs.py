"""ESFS, the client's own files of before KVStore, under the root of trust in SOTP; esfsfile.py has their bytes.

They lie in the folder WORKING of a volume; those of the factory in BACKUP, too, from where a factory reset brings
them back. A file is written in place, once: what is to change is removed first, and a power cut in between loses it.
"""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Iterator, Sequence

from pdmlab.errors import StorageError
from pdmlab.storage.filesystem import FileSystem
from pdmlab.storage.kv.esfsfile import (
    MAX_METADATA,
    MAX_NAME,
    NONCE_SIZE,
    EsfsError,
    EsfsFile,
    EsfsKeys,
    EsfsMode,
    esfs_error,
    seal,
    short_name,
    stored_name,
    unseal,
)

WORKING, BACKUP = "/WORKING", "/BACKUP"
_RESET_FOLDER = f"{BACKUP}/FR"
_RESET_FLAG = f"{_RESET_FOLDER}/fr_on"
_COPIED = 256
Names = list[str]
Files = list[EsfsFile]


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
            raise esfs_error(EsfsError.NOT_EXISTS, f"there is no {name!r}")
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
            raise esfs_error(EsfsError.INVALID_PARAMETER, f"{name!r}, {len(metadata)} metadata")
        leaf = short_name(name)
        self._refuse_existing(name, f"{WORKING}/{leaf}", conflict_only=False)
        pieces = seal(raw_name, data, mode, metadata, self._keys, self._random_bytes(NONCE_SIZE))
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
            raise esfs_error(EsfsError.NOT_EXISTS, f"there is no {name!r} to remove")

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
            raise esfs_error(EsfsError.HASH_CONFLICT, f"{there!r} has the short name of {name!r}")
        if not conflict_only:
            raise esfs_error(EsfsError.EXISTS, f"there is {name!r} already")

    def _copy(self, leaf: str) -> None:
        raw = self._read(f"{BACKUP}/{leaf}") or b""
        self._write(f"{WORKING}/{leaf}", [raw[start : start + _COPIED] for start in range(0, len(raw), _COPIED)])

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
