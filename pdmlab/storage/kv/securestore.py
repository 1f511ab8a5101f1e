"""SecureStore: values encrypted and authenticated over another store, and guarded against older ones put back.

A value of the store below, little-endian:

| offset | bytes |
|---|---|
| 0 | u16 size of these metadata (20), u16 revision 1, u32 size n of the data, u32 flags, 8 B IV (0 if not encrypted) |
| 20 | n B data; with REQUIRE_CONFIDENTIALITY under AES-128-CTR from IV and a counter of 0 |
| 20+n | 16 B AES-CMAC over key, metadata and data as they lie there |

The keys are derived from the device key for the salts "ENC" and "AUTH", each followed by the value's key. With
REQUIRE_REPLAY_PROTECTION or WRITE_ONCE the CMAC is kept in the rollback protection store, too, after the value. What
is odd is Mbed's own: docs/decisions/0011-stores-as-they-are.md lists it.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Callable
from contextlib import ExitStack

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from pdmlab.clock import Mutex
from pdmlab.errors import StorageError
from pdmlab.storage.kv.devicekey import DeviceKey
from pdmlab.storage.kv.kvstore import Info, KeyIterator, KVFlag, KVStore, MbedError, SetHandle, refuse
from pdmlab.storage.kv.tdbstore import TDBStore

METADATA = struct.Struct("<HHII8s")
REVISION = 1
CMAC_SIZE = 16
_BLOCK = 16
_IV = 8
_SECURITY = KVFlag.REQUIRE_CONFIDENTIALITY | KVFlag.REQUIRE_REPLAY_PROTECTION
_PROTECTED = KVFlag.REQUIRE_REPLAY_PROTECTION | KVFlag.WRITE_ONCE


class _Set(SetHandle):
    def __init__(self, key: str, size: int, flags: int, iv: bytes, mac: CMAC, cipher_key: bytes | None) -> None:
        super().__init__(key, size, flags)
        self.iv, self.mac, self.cipher_key = iv, mac, cipher_key
        self.metadata = METADATA.pack(METADATA.size, REVISION, size, flags, iv)
        self.below: SetHandle | None = None
        self.added = 0
        self.blocks = 0
        self.held = ExitStack()


class SecureStore(KVStore):
    """Values over the store `underlying`; rbp keeps what guards against rollback, None for no guard.

    device_key: where keys come from; the reserved data of rbp, or of underlying, if left out.
    random_bytes: where IVs come from.
    """

    type = "SecureStore"

    def __init__(
        self,
        underlying: KVStore,
        rbp: KVStore | None = None,
        *,
        device_key: DeviceKey | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.underlying, self.rbp = underlying, rbp
        self._device_key = device_key
        self._random_bytes = random_bytes
        self._initialised = False
        self._set: _Set | None = None
        self._seen_flags = 0  # of the metadata that were read or written last

    @property
    def _mutex(self) -> Mutex:  # type: ignore[override]  # the one of the store below
        return self.underlying._mutex

    def init(self) -> None:
        """Initialise both stores below."""
        with self._mutex:
            self.underlying.init()
            if self.rbp is not None:
                self.rbp.init()
            self._initialised = True

    def deinit(self) -> None:
        """Stop; the stores below stay initialised, as in Mbed."""
        self._initialised = False

    def reset(self) -> None:
        """Reset both stores below; a device key in their reserved data goes, too."""
        with self._mutex:
            self._ready()
            self.underlying.reset()
            if self.rbp is not None:
                self.rbp.reset()

    def get(self, key: str, size: int | None = None, offset: int = 0) -> bytes:
        """Return at most size bytes of a value from offset on, once all of it is authenticated.

        Raises:
            CorruptMedium: the CMAC is wrong (AUTHENTICATION_FAILED).
            RollbackRefused: the CMAC is not that of the newest value (RBP_AUTHENTICATION_FAILED).
        """
        self._check_stretch(size, offset)
        with self._mutex:
            data, _ = self._load(key)
            if offset > len(data):
                raise refuse(
                    self.type, MbedError.INVALID_SIZE, f"no offset {offset} in {len(data)} B", "see get_info()"
                )
            return data[offset:] if size is None else data[offset : offset + size]

    def get_info(self, key: str) -> Info:
        """Return size (B) and flags of a value, once it is authenticated; raises as get() does."""
        with self._mutex:
            data, flags = self._load(key)
            return Info(len(data), KVFlag(flags))

    def set_start(self, key: str, size: int, flags: int = 0) -> SetHandle:
        """Begin to store a value; nobody can take REQUIRE_REPLAY_PROTECTION from a key that has it."""
        raw = self._check_key(key)
        with ExitStack() as stack:
            stack.enter_context(self._mutex)
            self._ready()
            self._refuse_protected(key, flags)
            iv, cipher_key = bytes(_IV), None
            if flags & KVFlag.REQUIRE_CONFIDENTIALITY:
                iv, cipher_key = self._random_bytes(_IV), self._derive(b"ENC", raw)
            held = _Set(key, size, flags, iv, self._mac(raw), cipher_key)
            held.mac.update(held.metadata)
            self._seen_flags = flags
            below = self.underlying.set_start(key, METADATA.size + size + CMAC_SIZE, flags & ~_SECURITY)
            self.underlying.set_add_data(below, held.metadata)
            held.below = below
            held.held = stack.pop_all()
            self._set = held
            return held

    def set_add_data(self, handle: SetHandle, data: bytes) -> None:
        """Write the next piece of a value; pieces that are encrypted must be of whole 16 B, but for the last.

        As in Mbed, each piece begins with a new block of the cipher: what other pieces hold cannot be read again.
        """
        held, below = self._held(handle)
        if held.added + len(data) > held.size:
            raise refuse(self.type, MbedError.INVALID_SIZE, f"more than {held.size} B for {held.key!r}", "as announced")
        try:
            if held.cipher_key is not None:
                data = _crypt(held.cipher_key, held.iv, held.blocks, data)
                held.blocks += -(-len(data) // _BLOCK)
            held.mac.update(data)
            self.underlying.set_add_data(below, data)
        except StorageError:
            self._set = None
            held.held.close()
            raise
        held.added += len(data)

    def set_finalize(self, handle: SetHandle) -> None:
        """Write the CMAC behind the value, then into the rollback protection store, where the flags ask for it."""
        held, below = self._held(handle)
        self._set = None
        with held.held:
            if held.added != held.size:
                what = f"{held.added} B instead of {held.size} B for {held.key!r}"
                raise refuse(self.type, MbedError.INVALID_SIZE, what, "add all that was announced")
            cmac = held.mac.finalize()
            self.underlying.set_add_data(below, cmac)
            self.underlying.set_finalize(below)
            if self.rbp is not None and held.flags & _PROTECTED:
                self.rbp.set(held.key, cmac, held.flags & KVFlag.WRITE_ONCE)

    def remove(self, key: str) -> None:
        """Forget a key, even one that cannot be authenticated."""
        with self._mutex:
            flags = 0
            try:
                flags = self._load(key)[1]
            except StorageError as error:
                if error.code not in (MbedError.AUTHENTICATION_FAILED, MbedError.RBP_AUTHENTICATION_FAILED):
                    raise
            if flags & KVFlag.WRITE_ONCE:
                raise refuse(self.type, MbedError.WRITE_PROTECTED, f"{key!r} was stored write-once")
            self.underlying.remove(key)
            if self.rbp is not None and flags & KVFlag.REQUIRE_REPLAY_PROTECTION:
                try:
                    self.rbp.remove(key)
                except StorageError as error:
                    if error.code != MbedError.ITEM_NOT_FOUND:
                        raise

    def iterate(self, prefix: str = "") -> KeyIterator:
        """Go through the keys of the store below that begin with prefix."""
        self._ready()
        return self.underlying.iterate(prefix)

    # -- values ----------------------------------------------------------------------------------------

    def _load(self, key: str) -> tuple[bytes, int]:
        """Return a value and its flags, authenticated."""
        raw = self._check_key(key)
        self._ready()
        kept = None if self.rbp is None else _get(self.rbp, key)
        try:
            metadata = self.underlying.get(key, METADATA.size)
        except StorageError as error:
            if kept is None:
                raise
            what = f"{key!r} was stored, and is not there"
            raise refuse(self.type, MbedError.RBP_AUTHENTICATION_FAILED, what) from error
        if len(metadata) != METADATA.size:
            raise refuse(self.type, MbedError.AUTHENTICATION_FAILED, f"{key!r} has no metadata")
        head, _, size, flags, iv = METADATA.unpack(metadata)
        self._seen_flags = flags
        protected = flags & _PROTECTED if self.rbp is not None else flags & KVFlag.WRITE_ONCE
        if kept is not None and not protected:
            raise refuse(self.type, MbedError.RBP_AUTHENTICATION_FAILED, f"{key!r} has lost its protection")
        data = self.underlying.get(key, size, head)
        cmac = self.underlying.get(key, CMAC_SIZE, head + size)
        mac = self._mac(raw)
        mac.update(metadata + data)
        calculated = mac.finalize()
        if calculated != cmac:
            raise refuse(self.type, MbedError.AUTHENTICATION_FAILED, f"the CMAC of {key!r} is wrong")
        if self.rbp is not None and protected and kept != calculated:
            raise refuse(self.type, MbedError.RBP_AUTHENTICATION_FAILED, f"{key!r} is not the newest value stored")
        if flags & KVFlag.REQUIRE_CONFIDENTIALITY:
            data = _crypt(self._derive(b"ENC", raw), iv, 0, data)
        return data, flags

    def _refuse_protected(self, key: str, flags: int) -> None:
        there = _get(self.underlying, key, METADATA.size)
        if there is not None:
            self._seen_flags = METADATA.unpack(there.ljust(METADATA.size, b"\0"))[3]
            if self._seen_flags & KVFlag.REQUIRE_REPLAY_PROTECTION and not flags & KVFlag.REQUIRE_REPLAY_PROTECTION:
                what = f"{key!r} has replay protection, which these flags would remove"
                raise refuse(self.type, MbedError.INVALID_ARGUMENT, what, "pass REQUIRE_REPLAY_PROTECTION again")
        # As in Mbed: for a key that is not there, these are the flags of the key before it.
        if self._seen_flags & KVFlag.WRITE_ONCE and (
            there is not None or (self.rbp is not None and _get(self.rbp, key) is not None)
        ):
            raise refuse(self.type, MbedError.WRITE_PROTECTED, f"{key!r} was stored write-once")

    def _mac(self, key: bytes) -> CMAC:
        mac = CMAC(algorithms.AES(self._derive(b"AUTH", key)))
        mac.update(key)
        return mac

    def _derive(self, prefix: bytes, key: bytes) -> bytes:
        try:
            return self._root().generate_derived_key(prefix + key)
        except StorageError as error:
            raise refuse(self.type, MbedError.FAILED_OPERATION, error.message, error.hint) from error

    def _root(self) -> DeviceKey:
        if self._device_key is None:
            store = self.rbp if isinstance(self.rbp, TDBStore) else self.underlying
            if not isinstance(store, TDBStore):
                what, hint = "there is no device key", "pass device_key=DeviceKey(store)"
                raise refuse(self.type, MbedError.FAILED_OPERATION, what, hint)
            self._device_key = DeviceKey(store)
        return self._device_key

    def _held(self, handle: SetHandle) -> tuple[_Set, SetHandle]:
        if not isinstance(handle, _Set) or handle is not self._set or handle.below is None:
            raise refuse(self.type, MbedError.INVALID_ARGUMENT, f"{handle!r} is not being stored", "set_start() begins")
        return handle, handle.below

    def _ready(self) -> None:
        if not self._initialised:
            raise refuse(self.type, MbedError.NOT_READY, "the store is not initialised")

    def __repr__(self) -> str:
        # Keys and values are secrets.
        return f"<SecureStore over {self.underlying!r}, rollback protection in {self.rbp!r}>"


def _crypt(key: bytes, iv: bytes, block: int, data: bytes) -> bytes:
    # Counter mode is its own inverse.
    crypt = Cipher(algorithms.AES(key), modes.CTR(iv + block.to_bytes(_BLOCK - _IV, "big"))).encryptor()
    return crypt.update(data) + crypt.finalize()


def _get(store: KVStore, key: str, size: int | None = None) -> bytes | None:
    try:
        return store.get(key, size)
    except StorageError as error:
        if error.code != MbedError.ITEM_NOT_FOUND:
            raise
        return None
