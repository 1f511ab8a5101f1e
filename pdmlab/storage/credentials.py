"""The client's key and configuration manager (KCM): named credentials, each a file of ESFS.

The names are those of the client, such as mbed.LwM2MServerURI. On the volume a prefix goes before them, which says
what the item is; certificates and public keys are authenticated, all else is encrypted, too. kv/esfs.py has the
layout. An item is replaced by removing it first, as the client does: a power cut in between loses it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from enum import IntEnum

from pdmlab.errors import CorruptMedium, StorageError
from pdmlab.storage.filesystem import FileSystem
from pdmlab.storage.kv.esfs import Esfs
from pdmlab.storage.kv.esfsfile import EsfsError, EsfsMode

MAX_NAME = 100
"""KCM_MAX_FILENAME_SIZE (characters)."""
MAX_VALUE = 0xFFFF
Names = list[str]
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_PREFIXES = {"PrivateKey": "PrvKey_", "PublicKey": "PubKey_", "Cert": "Cert_"}
_CONFIG = "CfgParam_"
_IN_THE_CLEAR = ("PubKey_", "Cert_")


class KcmStatus(IntEnum):
    """KCM_STATUS_* of mbed-cloud-client (kcm_status.h), as far as they can happen here."""

    INVALID_PARAMETER = 2
    ITEM_NOT_FOUND = 5
    FILE_EXIST = 8
    STORAGE_ERROR = 11
    INVALID_FILE_VERSION = 13
    FILE_CORRUPTED = 14
    FILE_NAME_CORRUPTED = 15


_STATUS = {
    EsfsError.INVALID_PARAMETER: KcmStatus.INVALID_PARAMETER,
    EsfsError.ERROR: KcmStatus.STORAGE_ERROR,
    EsfsError.EXISTS: KcmStatus.FILE_EXIST,
    EsfsError.NOT_EXISTS: KcmStatus.ITEM_NOT_FOUND,
    EsfsError.HASH_CONFLICT: KcmStatus.FILE_NAME_CORRUPTED,
    EsfsError.INVALID_FILE_VERSION: KcmStatus.INVALID_FILE_VERSION,
    EsfsError.CMAC_DOES_NOT_MATCH: KcmStatus.FILE_CORRUPTED,
}


class CredentialStore:
    """Items of a mounted file system, readable only with the root of trust (16 B) that they were stored under.

    random_bytes: the board's source of randomness.
    """

    def __init__(
        self, fs: FileSystem, root_of_trust: bytes, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self.fs = fs
        self._files = Esfs(fs, root_of_trust, random_bytes=random_bytes)

    def get(self, name: str) -> bytes:
        """Return an item's value.

        Raises:
            StorageError: there is no such item (KCM_STATUS_ITEM_NOT_FOUND, 5).
            CorruptMedium: the file was torn or damaged, or stored under another root of trust.
        """
        try:
            return self._files.get(_complete(name))
        except StorageError as error:
            raise _translated(error, name) from error

    def set(self, name: str, value: bytes, *, replace: bool = True, factory: bool = False) -> None:
        """Store an item; with replace=False refuse one that is there (KCM_STATUS_FILE_EXIST, 8).

        factory: whether a factory reset brings it back.
        """
        complete = _complete(name)
        if len(value) > MAX_VALUE:
            raise _error(KcmStatus.INVALID_PARAMETER, f"{name} has {len(value)} B", f"at most {MAX_VALUE} B")
        mode = EsfsMode(0) if complete.startswith(_IN_THE_CLEAR) else EsfsMode.ENCRYPTED
        if factory:
            mode |= EsfsMode.FACTORY
        try:
            if replace:
                self._remove(complete)
            self._files.set(complete, value, mode=mode)
        except StorageError as error:
            raise _translated(error, name) from error

    def remove(self, name: str) -> None:
        """Remove an item, readable or not.

        Raises:
            StorageError: there is none (KCM_STATUS_ITEM_NOT_FOUND, 5).
        """
        if not self._remove(_complete(name)):
            raise _error(KcmStatus.ITEM_NOT_FOUND, f"there is no {name} to remove", "list() says what there is")

    def list(self) -> Names:
        """Return the names of all items, sorted.

        Raises:
            CorruptMedium: an item was torn or damaged, or stored under another root of trust.
        """
        try:
            return sorted(item_name(file.name) for file in self._files.list())
        except StorageError as error:
            raise _translated(error, "an item") from error

    def clear(self) -> None:
        """Remove every item, readable or not."""
        self._files.reset()

    def factory_reset(self) -> None:
        """Bring back the items that were stored with factory=True; all others are gone."""
        self._files.factory_reset()

    def __contains__(self, name: str) -> bool:
        """Whether there is an item of that name; raises CorruptMedium as get()."""
        try:
            self.get(name)
        except CorruptMedium:
            raise
        except StorageError as error:
            if error.code != KcmStatus.ITEM_NOT_FOUND:
                raise
            return False
        return True

    def _remove(self, complete: str) -> bool:
        try:
            self._files.remove(complete)
        except StorageError as error:
            if error.code != EsfsError.NOT_EXISTS:
                raise
            return False
        return True

    def __repr__(self) -> str:
        # The values are secrets.
        return f"<CredentialStore in {self._files!r}>"


def item_name(complete: str) -> str:
    """Return an item's name without the prefix that it has on the volume."""
    for prefix in (*_PREFIXES.values(), _CONFIG):
        complete = complete.removeprefix(prefix)
    return complete


def _complete(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise _error(
            KcmStatus.INVALID_PARAMETER, f"{name!r} is no item name", f"1 to {MAX_NAME} letters, digits, . _ and -"
        )
    return next((prefix for suffix, prefix in _PREFIXES.items() if name.endswith(suffix)), _CONFIG) + name


def _translated(error: StorageError, name: str) -> StorageError:
    """Return KCM's error for one of ESFS; one of the file system's stays what it is."""
    status = _STATUS.get(error.code) if isinstance(error.code, EsfsError) else None
    if status is None:
        return error
    hint = "see list()" if status == KcmStatus.ITEM_NOT_FOUND else error.hint
    kind = CorruptMedium if isinstance(error, CorruptMedium) else StorageError
    return kind(
        f"credentials: {name}: {error.message} (KCM_STATUS_{status.name}, {status.value})", code=status, hint=hint
    )


def _error(status: KcmStatus, what: str, hint: str) -> StorageError:
    return StorageError(f"credentials: {what} (KCM_STATUS_{status.name}, {status.value})", code=status, hint=hint)
