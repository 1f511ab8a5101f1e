"""A file of ESFS, as bytes: encrypted and authenticated under the root of trust. Little-endian:

| bytes | |
|---|---|
| u16 version 1, u16 mode, u16 length of the name, the name | 0x100 of the mode: encrypted, 0x200: factory |
| 8 B nonce | only if encrypted |
| u16 number of metadata (0 to 3), for each u16 type, u16 length, u16 where its value lies in the file | |
| the metadata's values, the data | AES-128-CTR from nonce and a counter of 0, if encrypted |
| 16 B AES-CMAC over all before | |

The keys are AES-CMACs of "RoTStorageEnc128" and "RoTStorageSgn128" under the root of trust. A file is called by the
head of its name's SHA-256 (6 B in base 64, with # and _).
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pdmlab.errors import ConfigError, CorruptMedium, StorageError
from pdmlab.storage.kv.devicekey import aes_cmac

VERSION = 1
MAX_NAME = 1024
MAX_METADATA = 3
NONCE_SIZE = 8
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


class EsfsKeys:
    """The two keys that a root of trust (16 B) gives."""

    def __init__(self, root_of_trust: bytes) -> None:
        if len(root_of_trust) != _ROOT:
            raise ConfigError(f"the root of trust has {len(root_of_trust)} B", hint="it is an AES key of 16 B")
        self.encryption = aes_cmac(root_of_trust, b"RoTStorageEnc128")
        self.signature = aes_cmac(root_of_trust, b"RoTStorageSgn128")

    def __repr__(self) -> str:
        return "<EsfsKeys>"


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
        at += NONCE_SIZE
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
        raise esfs_error(EsfsError.INVALID_FILE_VERSION, f"a file of version {_U16.unpack_from(raw)[0]}")
    name = stored_name(raw)
    if name is None or data_size(raw) is None:
        raise esfs_error(EsfsError.ERROR, f"a file of {len(raw)} B is torn")
    if aes_cmac(keys.signature, raw[:-_CMAC]) != raw[-_CMAC:]:
        raise esfs_error(EsfsError.CMAC_DOES_NOT_MATCH, f"{name!r} cannot be authenticated")
    mode = EsfsMode(_U16.unpack_from(raw, 2)[0])
    at = 6 + _U16.unpack_from(raw, 4)[0]
    nonce = b""
    if mode & EsfsMode.ENCRYPTED:
        nonce, at = raw[at : at + NONCE_SIZE], at + NONCE_SIZE
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


def esfs_error(status: EsfsError, what: str) -> StorageError:
    corrupt = (EsfsError.ERROR, EsfsError.INVALID_FILE_VERSION, EsfsError.CMAC_DOES_NOT_MATCH)
    kind = CorruptMedium if status in corrupt else StorageError
    return kind(f"ESFS: {what} (ESFS_{status.name}, {status.value})", code=status, hint=_HINTS[status])
