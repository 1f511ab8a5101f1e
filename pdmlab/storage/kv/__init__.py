"""Stores of values by key, byte for byte as Mbed OS lays them out; each is loaded where it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pdmlab.storage.kv.kvstore import Info, KVFlag, KVStore, MbedError
    from pdmlab.storage.kv.nvstore import NVStore, root_of_trust
    from pdmlab.storage.kv.sotp import Sotp, SotpType
    from pdmlab.storage.kv.tdbstore import TDBStore

_HOMES = {
    "Info": "kvstore",
    "KVFlag": "kvstore",
    "KVStore": "kvstore",
    "MbedError": "kvstore",
    "NVStore": "nvstore",
    "Sotp": "sotp",
    "SotpType": "sotp",
    "TDBStore": "tdbstore",
    "root_of_trust": "nvstore",
}

__all__ = [
    "Info",
    "KVFlag",
    "KVStore",
    "MbedError",
    "NVStore",
    "Sotp",
    "SotpType",
    "TDBStore",
    "root_of_trust",
]


def __getattr__(name: str) -> Any:  # a module's attributes are of any type
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'pdmlab.storage.kv' has no attribute {name!r}") from None
    value = getattr(import_module(f"pdmlab.storage.kv.{home}"), name)
    globals()[name] = value
    return value
