"""A set-up of storage as Mbed OS is told of it: the keys of its libraries' mbed_lib.json.

Only what the libraries know is here: littlefs2 has block_size, block_cycles, cache_size and lookahead_size (units of
reading and programming are the device's own), each driver has its bus clock, and FatFs's buffer has no setting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

BUS_CLOCKS = {
    ("sd", "SPI"): "sd.TRX_FREQUENCY",
    ("nor", "SPI"): "spif-driver.SPI_FREQ",
    ("nor", "QSPI"): "qspif.QSPI_FREQ",
    ("dataflash", "SPI"): "dataflash.SPI_FREQ",
}
"""Kind of part and bus -> the option of its driver."""
_LITTLEFS = {
    "block_size_B": "littlefs2.block_size",
    "cache_size_B": "littlefs2.cache_size",
    "lookahead_size_B": "littlefs2.lookahead_size",
}


def overrides(kind: str, settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the options and their values for a volume's settings on a part of that kind."""
    clock = BUS_CLOCKS.get((kind, settings["bus"]))
    found = {clock: settings["bus_Hz"]} if clock else {}
    if settings["file_system"] == "LFS":
        found |= {option: settings[name] for name, option in _LITTLEFS.items()}
    if kind == "dataflash":
        found["dataflash.binary-size"] = 1
    return found


def mbed_app(options: Mapping[str, int]) -> str:
    """Return an mbed_app.json that sets these options for every target."""
    return json.dumps({"target_overrides": {"*": dict(options)}}, indent=4)
