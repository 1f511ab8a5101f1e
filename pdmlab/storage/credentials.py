"""What a device must not lose and nobody may read: named items in files, encrypted and authenticated.

The names are those of the client's key and configuration manager (KCM), such as mbed.LwM2MServerURI. Keys are
derived from the root of trust by counter-mode KDF over AES-CMAC (NIST SP 800-108). An item is a file named by
the head of its name's SHA-256, little-endian, in the shape of Mbed's SecureStore:

| offset | bytes |
|---|---|
| 0 | u16 size of these metadata (20), u16 revision, u32 size n of what is encrypted, u32 flags (0), 8 B IV |
| 20 | n B AES-128-CTR: u8 length of the name, the name, the value |
| 20+n | 16 B AES-CMAC over file name, metadata and ciphertext |

The IV is the head of a CMAC over name and value, so that it repeats only where both do. An item is replaced by
writing a second file beside the first: a power cut leaves the old value or the new one. What is not
guarded against is somebody who puts back an older file.
"""

from __future__ import annotations

import hashlib
import re
import struct
from enum import IntEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from pdmlab.errors import ConfigError, CorruptMedium, StorageError
from pdmlab.storage.filesystem import FileSystem

MAX_NAME = 100
"""KCM_MAX_FILENAME_SIZE (characters)."""
MAX_VALUE = 0xFFFF
_METADATA = struct.Struct("<HHII8s")
_REVISION = 1
_MAC = 16
_NEW = ".new"
Names = list[str]
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_ENOENT, _EEXIST = -2, -17


class KcmStatus(IntEnum):
    """KCM_STATUS_* of mbed-cloud-client (kcm_status.h), as far as they can happen here."""

    INVALID_PARAMETER = 2
    ITEM_NOT_FOUND = 5
    FILE_EXIST = 8
    FILE_CORRUPTED = 14


class CredentialStore:
    """Items of a mounted file system, readable only with the root of trust (16 B) that they were stored under."""

    def __init__(self, fs: FileSystem, root_of_trust: bytes, *, folder: str = "/kcm") -> None:
        if len(root_of_trust) != 16:
            raise ConfigError(f"the root of trust has {len(root_of_trust)} B", hint="it is an AES key of 16 B")
        self.fs = fs
        self.folder = folder
        self._encrypt = _derive(root_of_trust, b"ENC")
        self._authenticate = _derive(root_of_trust, b"AUTH")

    def get(self, name: str) -> bytes:
        """Return an item's value.

        Raises:
            StorageError: there is no such item (KCM_STATUS_ITEM_NOT_FOUND, 5).
            CorruptMedium: the file was damaged, or stored under another root of trust.
        """
        stored = self._load(_checked(name))
        if stored is None:
            raise _error(
                KcmStatus.ITEM_NOT_FOUND, f"there is no {name}", "list() says what there is; pdmlab dm init makes a set"
            )
        return stored

    def set(self, name: str, value: bytes, *, replace: bool = True) -> None:
        """Store an item; with replace=False refuse one that is there (KCM_STATUS_FILE_EXIST, 8)."""
        if len(value) > MAX_VALUE:
            raise _error(KcmStatus.INVALID_PARAMETER, f"{name} has {len(value)} B", f"at most {MAX_VALUE} B")
        if not replace and _checked(name) in self:
            raise _error(KcmStatus.FILE_EXIST, f"{name} is there already", "remove() it first")
        file = self._file(_checked(name))
        self._make_folder()
        with self.fs.open(file + _NEW, "w") as out:
            out.write(self._seal(file, name, value))
        self._remove(file)
        self.fs.rename(file + _NEW, file)

    def remove(self, name: str) -> None:
        """Remove an item.

        Raises:
            StorageError: there is none (KCM_STATUS_ITEM_NOT_FOUND, 5).
        """
        file = self._file(_checked(name))
        # The older file first: a power cut in between must not bring it back.
        if not any([self._remove(file), self._remove(file + _NEW)]):
            raise _error(KcmStatus.ITEM_NOT_FOUND, f"there is no {name} to remove", "list() says what there is")

    def list(self) -> Names:
        """Return the names of all items, sorted.

        Raises:
            CorruptMedium: an item was damaged, or stored under another root of trust.
        """
        names = set()
        for entry in self._entries():
            file = f"{self.folder}/{entry}".removesuffix(_NEW)
            opened = self._open(file, f"{self.folder}/{entry}", torn=entry.endswith(_NEW))
            if opened is not None:
                names.add(opened[0])
        return sorted(names)

    def clear(self) -> None:
        """Remove every item, readable or not."""
        for entry in self._entries():
            self.fs.remove(f"{self.folder}/{entry}")

    def __contains__(self, name: str) -> bool:
        """Whether there is an item of that name; raises CorruptMedium as get()."""
        return self._load(_checked(name)) is not None

    # -- files -----------------------------------------------------------------------------------------

    def _load(self, name: str) -> bytes | None:
        file = self._file(name)
        for path in (file, file + _NEW):
            opened = self._open(file, path, torn=path != file)
            if opened is not None:
                return opened[1]
        return None

    def _open(self, file: str, path: str, *, torn: bool) -> tuple[str, bytes] | None:
        """Return name and value of a file; None if it is missing, or may be torn and is."""
        try:
            with self.fs.open(path, "r") as stored:
                data = stored.read()
        except StorageError as error:
            if error.code == _ENOENT:
                return None
            raise
        try:
            return self._unseal(file, data)
        except (InvalidSignature, ValueError, struct.error) as error:
            if torn:
                return None
            raise CorruptMedium(
                f"the item in {path} cannot be authenticated "
                f"(KCM_STATUS_FILE_CORRUPTED, {KcmStatus.FILE_CORRUPTED.value})",
                code=KcmStatus.FILE_CORRUPTED,
                hint="the root of trust in SOTP has changed, or the file is damaged: clear() and provision again",
            ) from error

    def _seal(self, file: str, name: str, value: bytes) -> bytes:
        plain = bytes([len(name)]) + name.encode("ascii") + value
        iv = self._cmac(plain)[:8]
        head = _METADATA.pack(_METADATA.size, _REVISION, len(plain), 0, iv)
        sealed = head + self._crypt(iv, plain)
        return sealed + self._cmac(_leaf(file) + sealed)

    def _unseal(self, file: str, data: bytes) -> tuple[str, bytes]:
        sealed, mac = data[:-_MAC], data[-_MAC:]
        check = CMAC(algorithms.AES(self._authenticate))
        check.update(_leaf(file) + sealed)
        check.verify(mac)
        size, _, length, _, iv = _METADATA.unpack_from(sealed)
        plain = self._crypt(iv, sealed[size : size + length])
        end = 1 + plain[0]
        return plain[1:end].decode("ascii"), plain[end:]

    def _crypt(self, iv: bytes, data: bytes) -> bytes:
        # Counter mode is its own inverse.
        crypt = Cipher(algorithms.AES(self._encrypt), modes.CTR(iv + bytes(8))).encryptor()
        return crypt.update(data) + crypt.finalize()

    def _cmac(self, data: bytes) -> bytes:
        mac = CMAC(algorithms.AES(self._authenticate))
        mac.update(data)
        return mac.finalize()

    def _file(self, name: str) -> str:
        return f"{self.folder}/{hashlib.sha256(name.encode('ascii')).hexdigest()[:32]}"

    def _entries(self) -> Names:
        try:
            return self.fs.listdir(self.folder)
        except StorageError as error:
            if error.code == _ENOENT:
                return []
            raise

    def _make_folder(self) -> None:
        try:
            self.fs.mkdir(self.folder)
        except StorageError as error:
            if error.code != _EEXIST:
                raise

    def _remove(self, path: str) -> bool:
        try:
            self.fs.remove(path)
        except StorageError as error:
            if error.code == _ENOENT:
                return False
            raise
        return True

    def __repr__(self) -> str:
        # The values are secrets.
        return f"<CredentialStore in {self.folder} of {self.fs!r}>"


def _derive(key: bytes, label: bytes) -> bytes:
    return KBKDFCMAC(
        algorithms.AES,
        Mode.CounterMode,
        length=16,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=b"pdmlab credentials",
        fixed=None,
    ).derive(key)


def _leaf(file: str) -> bytes:
    return file.rpartition("/")[2].encode("ascii")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _error(
            KcmStatus.INVALID_PARAMETER, f"{name!r} is no item name", f"1 to {MAX_NAME} letters, digits, . _ and -"
        )
    return name


def _error(status: KcmStatus, what: str, hint: str) -> StorageError:
    return StorageError(f"credentials: {what} (KCM_STATUS_{status.name}, {status.value})", code=status, hint=hint)
