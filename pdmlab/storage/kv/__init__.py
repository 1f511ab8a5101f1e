"""Stores of values by key, byte for byte as Mbed OS lays them out; each is loaded where it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.storage.kv.devicekey import DeviceKey
    from pdmlab.storage.kv.esfs import Esfs
    from pdmlab.storage.kv.esfsfile import EsfsError, EsfsMode
    from pdmlab.storage.kv.filesystemstore import FileSystemStore
    from pdmlab.storage.kv.kvstore import Info, KVFlag, KVStore, MbedError
    from pdmlab.storage.kv.nvstore import NVStore, root_of_trust
    from pdmlab.storage.kv.paths import (
        KVMap,
        kv_attach,
        kv_detach,
        kv_get,
        kv_get_info,
        kv_iterator_close,
        kv_iterator_next,
        kv_iterator_open,
        kv_remove,
        kv_reset,
        kv_set,
    )
    from pdmlab.storage.kv.securestore import SecureStore
    from pdmlab.storage.kv.sotp import Sotp, SotpType
    from pdmlab.storage.kv.tdbstore import TDBStore
    from pdmlab.storage.kv.viewer import View, view

_HOMES = {
    "DeviceKey": "devicekey",
    "Esfs": "esfs",
    "EsfsError": "esfsfile",
    "EsfsMode": "esfsfile",
    "FileSystemStore": "filesystemstore",
    "Info": "kvstore",
    "KVFlag": "kvstore",
    "KVMap": "paths",
    "KVStore": "kvstore",
    "MbedError": "kvstore",
    "NVStore": "nvstore",
    "SecureStore": "securestore",
    "Sotp": "sotp",
    "SotpType": "sotp",
    "TDBStore": "tdbstore",
    "View": "viewer",
    "kv_attach": "paths",
    "kv_detach": "paths",
    "kv_get": "paths",
    "kv_get_info": "paths",
    "kv_iterator_close": "paths",
    "kv_iterator_next": "paths",
    "kv_iterator_open": "paths",
    "kv_remove": "paths",
    "kv_reset": "paths",
    "kv_set": "paths",
    "root_of_trust": "nvstore",
    "view": "viewer",
}

__all__ = [
    "DeviceKey",
    "Esfs",
    "EsfsError",
    "EsfsMode",
    "FileSystemStore",
    "Info",
    "KVFlag",
    "KVMap",
    "KVStore",
    "MbedError",
    "NVStore",
    "SecureStore",
    "Sotp",
    "SotpType",
    "TDBStore",
    "View",
    "kv_attach",
    "kv_detach",
    "kv_get",
    "kv_get_info",
    "kv_iterator_close",
    "kv_iterator_next",
    "kv_iterator_open",
    "kv_remove",
    "kv_reset",
    "kv_set",
    "root_of_trust",
    "view",
]

__getattr__ = lazily(__name__, _HOMES)
