"""What is known of a storage part, figure by figure: the figures of each kind, their units, and what they may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pdmlab.errors import ConfigError

Kind = Literal["sd", "nor", "dataflash", "internal"]
Sectors = tuple[tuple[int, int], ...]
SET_BY_CALLER = "set by the caller"


@dataclass(frozen=True)
class Figure:
    """A number with its source: typical (or simply what it is), at most, and where both are from.

    maximum: None where a part's document gives one number only. source: document, revision and table; empty for an
    estimate. note: what a reader of the number should know.
    """

    typical: int
    maximum: int | None
    source: str
    note: str = ""

    @property
    def most(self) -> int:
        """The maximum, or the one number there is."""
        return self.typical if self.maximum is None else self.maximum

    @property
    def entry(self) -> dict[str, Any]:
        """The figure as TOML has it: what figure_from() reads."""
        numbers: dict[str, Any] = {"typical": self.typical, "maximum": self.maximum}
        entry = {"value": self.typical} if self.maximum is None else numbers
        return entry | {"source": self.source} | ({"note": self.note} if self.note else {})


@dataclass(frozen=True)
class Meaning:
    """What a figure of that name is, its unit (ns, B, Hz, or a word for what is counted), the least it can be."""

    unit: str
    text: str
    required: bool = True
    least: int = 1


_COMMON = {
    "erase_value": Meaning("byte value", "what erased bytes read as", required=False, least=0),
    "endurance": Meaning("erases", "of each block before it may fail; guaranteed, so the least"),
}
_NOR_ERASE = "erasing a block of {} KiB"

MEANINGS: dict[Kind, dict[str, Meaning]] = {
    "sd": {
        "capacity": Meaning("B", "user area"),
        "command": Meaning("B", "a command with its argument and CRC7"),
        "response": Meaning("B", "R1"),
        "token": Meaning("B", "start or stop token of a data block"),
        "crc": Meaning("B", "CRC16 of a data block"),
        "ncr": Meaning("B", "clocked between a command and its response", least=0),
        "init_clock": Meaning("Hz", "bus clock while the card identifies itself"),
        "max_clock": Meaning("Hz", "bus clock at most"),
        "init_bytes": Meaning("B", "clocked during initialisation", least=0),
        "init_wait": Meaning("ns", "until ACMD41 says that the card is ready", least=0),
        "read_access": Meaning("ns", "from the response of a read to its start token", least=0),
        "program": Meaning("ns", "busy after a single block, or the first of many", least=0),
        "program_next": Meaning("ns", "busy after each further block of one write", least=0),
        "erase": Meaning("ns", "busy after CMD38", least=0),
        "stall": Meaning("ns", "busy while the card moves its own blocks", least=0),
        "stall_every": Meaning("B", "written from one stall to the next"),
        **_COMMON,
    },
    "nor": {
        "capacity": Meaning("B", "all of it"),
        "page": Meaning("B", "programmed by one command"),
        "max_clock": Meaning("Hz", "bus clock on one data line at most"),
        "max_clock_quad": Meaning("Hz", "bus clock on four data lines at most", required=False),
        "command": Meaning("B", "an instruction"),
        "address_bytes": Meaning("B", "of an address after an instruction"),
        "dummy": Meaning("B", "between address and data of a fast read", least=0),
        "dummy_quad": Meaning("clocks", "between address and data of a quad read", required=False, least=0),
        "program": Meaning("ns", "busy after a whole page"),
        "program_byte": Meaning("ns", "busy after one byte"),
        "erase_4k": Meaning("ns", _NOR_ERASE.format(4), required=False),
        "erase_32k": Meaning("ns", _NOR_ERASE.format(32), required=False),
        "erase_64k": Meaning("ns", _NOR_ERASE.format(64), required=False),
        "erase_256k": Meaning("ns", _NOR_ERASE.format(256), required=False),
        **_COMMON,
    },
    "dataflash": {
        "capacity": Meaning("B", "in pages of the binary size"),
        "page": Meaning("B", "as it leaves the factory"),
        "page_binary": Meaning("B", "once set to a power of two"),
        "block": Meaning("pages", "of a block"),
        "sector": Meaning("pages", "of a sector"),
        "max_clock": Meaning("Hz", "bus clock at most"),
        "program": Meaning("ns", "buffer to an erased page"),
        "erase_program": Meaning("ns", "buffer to a page that is erased first"),
        "page_erase": Meaning("ns", "erasing a page"),
        "block_erase": Meaning("ns", "erasing a block"),
        "sector_erase": Meaning("ns", "erasing a sector"),
        "chip_erase": Meaning("ns", "erasing everything"),
        "transfer": Meaning("ns", "page to buffer, or comparing them"),
        **_COMMON,
    },
    "internal": {
        "unit": Meaning("B", "programmed at a time"),
        "program": Meaning("ns", "of a unit"),
        "erase": Meaning("ns", "erasing a sector, where all are alike", required=False),
        "read": Meaning("ns/KiB", "as the processor reads"),
        **_COMMON,
    },
}


def meaning(kind: Kind, figure: str) -> Meaning | None:
    """Return what a figure of that name means for that kind of part; None if it has no such figure."""
    if kind == "internal" and figure.startswith("erase_") and figure[6:].isdigit():
        return Meaning("ns", f"erasing a sector of {int(figure[6:]) // 1024} KiB")
    return MEANINGS[kind].get(figure)


def figure_from(entry: object, kind: Kind, name: str, of: str) -> Figure:
    """Make the figure of a TOML entry: `{ value, source }` or `{ typical, maximum, source }`, and a note if it has one.

    Raises:
        ConfigError: it has another form, or a number that the figure cannot be; names part (`of`) and figure.
    """
    known = meaning(kind, name)
    if known is None:
        names = ", ".join(MEANINGS[kind]) + (", sectors, erase_SIZE" if kind == "internal" else "")
        raise ConfigError(f"{of}: no {kind} part has a figure {name!r}", hint=f"its figures are {names}")
    form = f'write {name} = {{ value = …, source = "…" }} or {{ typical = …, maximum = …, source = "…" }}'
    if not isinstance(entry, Mapping):
        raise ConfigError(f"{of}: {name} is {entry!r} without a source", hint=f'{form}; source = "" for an estimate')
    given = set(entry) - {"source", "note"}
    if given not in ({"value"}, {"typical", "maximum"}, {"typical"}):
        raise ConfigError(f"{of}: {name} has {', '.join(sorted(given)) or 'no number'}", hint=form)
    source, note = texts(entry, name, of)
    typical = _number(entry["value"] if "value" in entry else entry["typical"], known, name, of)
    maximum = _number(entry["maximum"], known, name, of) if "maximum" in entry else None
    if maximum is not None and maximum < typical:
        raise ConfigError(
            f"{of}: {name} is typically {typical} {known.unit}, but {maximum} {known.unit} at most",
            hint="the maximum cannot be below the typical figure",
        )
    return Figure(typical, maximum, source, note)


def sectors_from(entry: Any, of: str) -> tuple[Sectors, str, str]:  # Any: whatever a TOML file holds
    """Return runs of (count, size in B), source and note of a TOML entry `{ value = [[count, size], …], source }`.

    Raises:
        ConfigError: it has another form.
    """
    form = 'write sectors = { value = [[count, size], …], source = "…" }, from the lowest address'
    if entry is None:
        raise ConfigError(f"{of} has no sectors", hint=form)
    if not isinstance(entry, Mapping) or not {"value"} <= set(entry) <= {"value", "source", "note"}:
        raise ConfigError(f"{of}: sectors is {entry!r}", hint=form)
    source, note = texts(entry, "sectors", of)
    runs = entry["value"]
    good = isinstance(runs, (list, tuple)) and len(runs) > 0
    for run in runs if good else ():
        pair = isinstance(run, (list, tuple)) and len(run) == 2
        good = good and pair and all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in run)
    if not good:
        raise ConfigError(f"{of}: sectors is {runs!r}", hint=form)
    return tuple((count, size) for count, size in runs), source, note


def texts(entry: Mapping[str, Any], name: str, of: str) -> tuple[str, str]:  # Any: whatever a TOML file holds
    """Return an entry's source and note.

    Raises:
        ConfigError: one of them is no text.
    """
    for key in ("source", "note"):
        if not isinstance(entry.get(key, ""), str):
            raise ConfigError(f"{of}: the {key} of {name} is {entry[key]!r}", hint=f"a {key} is a text")
    return entry.get("source", ""), entry.get("note", "")


def cited(source: str, note: str) -> str:
    """Return where a figure is from as a person reads it."""
    return (source or "estimate") + (f" ({note})" if note else "")


def _number(value: Any, known: Meaning, name: str, of: str) -> int:  # Any: whatever a TOML file holds
    need = f"{name} is {known.text}: a whole number of {known.unit}, {known.least} or more"
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{of}: {name} is {value!r}", hint=need)
    if value < known.least:
        raise ConfigError(f"{of}: {name} is {value} {known.unit}", hint=need)
    return value


_TIME = ((10**9, "s"), (10**6, "ms"), (10**3, "µs"))
_SIZE = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_CLOCK = ((10**6, "MHz"), (10**3, "kHz"))


def shown(value: int, unit: str) -> str:
    """Return a figure as a person writes it: 850 µs, 4 KiB, 80 MHz.

    >>> shown(850_000, "ns"), shown(4096, "B"), shown(80_000_000, "Hz"), shown(264, "B"), shown(8, "pages")
    ('850 µs', '4 KiB', '80 MHz', '264 B', '8 pages')
    """
    scales = {"ns": _TIME, "ns/KiB": _TIME, "B": _SIZE, "Hz": _CLOCK}.get(unit, ())
    for size, name in scales:
        if value >= size:
            return f"{value / size:g} {name}{unit[2:]}"
    if unit == "byte value":
        return f"0x{value:02x}"
    return f"{value} {unit}"
