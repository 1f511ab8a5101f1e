"""Names of a package that are loaded where they are first used, so that importing it stays light."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:  # a module's attributes are of any type
    """Return a package's `__getattr__` (PEP 562), which loads a name from its home and keeps it there.

    Args:
        homes: name -> module below the package, or elsewhere in pdmlab; "" for a module of that very name.
    """

    def load(name: str) -> Any:
        try:
            home = homes[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        module = import_module(home if home.startswith("pdmlab.") else f"{package}.{home or name}")
        value = getattr(module, name) if home else module
        setattr(sys.modules[package], name, value)
        return value

    return load
