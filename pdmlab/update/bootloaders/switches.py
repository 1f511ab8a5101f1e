"""What the two stock bootloaders can be built with: options in JSON's types, as they lie among a bootloader's bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pdmlab.errors import ConfigError
from pdmlab.update.bootloaders import fota, mbed
from pdmlab.update.bootloaders.interface import Kind

FIXED = "fixed"
_WEAKNESSES: dict[Kind, Mapping[str, str]] = {"fota": fota.WEAKNESSES, "mbed": mbed.WEAKNESSES, "trial": {}}
_TYPES: dict[Kind, Mapping[str, type]] = {
    "fota": {"encrypted": bool},
    "mbed": {"max_boot_retries": int, "max_copy_retries": int, "show_serial_output": bool},
    "trial": {},
}


def arguments(of: Kind, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a bootloader's keyword arguments from its options.

    fixed: True for all weaknesses, or a list of names. Retries are 1 to 255.

    Raises:
        ConfigError: it has no such option, or not with that value.
    """
    types, weaknesses = _TYPES[of], _WEAKNESSES[of]
    known = [*([FIXED] if weaknesses else []), *types]
    unknown = sorted(set(options) - set(known))
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise ConfigError(f"the bootloader {of!r} has no option {', '.join(map(str, unknown))}", hint=has)
    given: dict[str, Any] = {name: value for name, value in options.items() if name != FIXED}
    for name, value in given.items():
        wanted = types[name]
        if type(value) is not wanted or (wanted is int and value not in range(1, 256)):
            raise ConfigError(
                f"the bootloader's option {name} cannot be {value!r}",
                hint="it is True or False" if wanted is bool else "it is a number of 1 to 255",
            )
    if FIXED in options:
        given[FIXED] = _names(options[FIXED], weaknesses)
    return given


def _names(fixed: Any, weaknesses: Mapping[str, str]) -> list[str]:  # Any: whatever a caller or a descriptor has
    if isinstance(fixed, bool):
        return list(weaknesses) if fixed else []
    if isinstance(fixed, list | tuple | set | frozenset) and all(name in weaknesses for name in fixed):
        return sorted(fixed)
    raise ConfigError(
        f"{str(fixed)[:80]!r} names no weaknesses of this bootloader",
        hint="True, or a list of: " + "; ".join(f"{name} ({what})" for name, what in weaknesses.items()),
    )
