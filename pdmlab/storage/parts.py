"""Storage parts by name: their geometry and timing, each figure with its source (parts.toml, or a file of your own).

>>> part("MX25R6435F")["page"], part("MX25R6435F").maximum("program")
(256, 10000000)
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pdmlab.errors import ConfigError
from pdmlab.storage.figures import (
    MEANINGS,
    SET_BY_CALLER,
    Figure,
    Kind,
    Meaning,
    Sectors,
    cited,
    figure_from,
    meaning,
    sectors_from,
    shown,
)

if TYPE_CHECKING:
    import pandas as pd

Timing = Literal["typical", "maximum"]
_TIMES = ("ns", "ns/KiB")


@dataclass(frozen=True)
class Part:
    """A part: sizes in B, times in ns, clocks in Hz; `part["program"]` is its typical figure.

    sectors: runs of (count, size in B) from the lowest address, of a microcontroller's own flash; else empty.
    """

    name: str
    kind: Kind
    title: str
    figures: Mapping[str, Figure] = field(repr=False)
    sectors: Sectors = ()
    sectors_source: str = field(default="", repr=False)
    sectors_note: str = field(default="", repr=False)

    def __getitem__(self, figure: str) -> int:
        return self._figure(figure).typical

    def __contains__(self, figure: object) -> bool:
        return figure in self.figures

    def maximum(self, figure: str) -> int:
        """Return the figure's maximum, or its one number where its document gives no other."""
        return self._figure(figure).most

    def at(self, timing: Timing) -> Part:
        """Return the part with the times of that column of its data sheet: "maximum" makes each time its maximum."""
        if timing not in get_args(Timing):
            raise ConfigError(f"{self.name} has no {timing!r} times", hint='"typical" or "maximum"')
        if timing == "typical":
            return self
        slow = {
            name: replace(figure, typical=figure.most) if self._meaning(name).unit in _TIMES else figure
            for name, figure in self.figures.items()
        }
        return replace(self, figures=slow)

    def with_(self, **changes: Any) -> Part:  # Any: a number, a pair of them, or sectors
        """Copy the part with other figures: `program=300_000`, `program=(300_000, 900_000)` for typical and maximum.

        Raises:
            ConfigError: there is no such figure, or it cannot be that.
        """
        row = self.row
        for name, value in changes.items():
            if name in ("name", "title"):
                row[name] = value
                continue
            entry: dict[str, Any] = {"value": value, "source": SET_BY_CALLER}
            if isinstance(value, tuple) and len(value) == 2 and name != "sectors":
                entry = {"typical": value[0], "maximum": value[1], "source": SET_BY_CALLER}
            row[name] = entry
        return part_from(row, row.pop("name", self.name))

    @property
    def sources(self) -> dict[str, str]:
        """Figure -> where it is from, "" for an estimate."""
        found = {"sectors": self.sectors_source} if self.sectors else {}
        return found | {name: figure.source for name, figure in self.figures.items()}

    @property
    def unsourced(self) -> list[str]:
        """The figures that are estimates."""
        return [name for name, source in self.sources.items() if not source]

    @property
    def erases(self) -> dict[int, str]:
        """Size of what one command erases (B) -> the figure that says how long, smallest first; cards have none."""
        if self.kind == "nor":
            sizes = {4096: "erase_4k", 32768: "erase_32k", 65536: "erase_64k", 262144: "erase_256k"}
            return {size: name for size, name in sizes.items() if name in self}
        if self.kind == "dataflash":
            page = self["page"]
            return {
                page: "page_erase",
                page * self["block"]: "block_erase",
                page * self["sector"]: "sector_erase",
            }
        sizes = {size: f"erase_{size}" for size in sorted({size for _, size in self.sectors})}
        return {size: name if name in self else "erase" for size, name in sizes.items()}

    @property
    def row(self) -> dict[str, Any]:
        """The part in plain values, as a row of parts.toml: what a run keeps of it, and what part_from() reads."""
        row: dict[str, Any] = {"kind": self.kind, "title": self.title}
        if self.sectors:
            row["sectors"] = {"value": [list(run) for run in self.sectors], "source": self.sectors_source}
            if self.sectors_note:
                row["sectors"]["note"] = self.sectors_note
        return row | {name: figure.entry for name, figure in self.figures.items()}

    def to_toml(self) -> str:
        """Return the part as load_parts() reads it, to keep one that was fitted or changed."""
        lines = [f"[{_text(self.name)}]", f"kind = {_text(self.kind)}", f"title = {_text(self.title)}"]
        for name, entry in self.row.items():
            if isinstance(entry, dict):
                inside = ", ".join(f"{key} = {_text(v) if isinstance(v, str) else v}" for key, v in entry.items())
                lines.append(f"{name} = {{ {inside} }}")
        return "\n".join(lines) + "\n"

    def __repr__(self) -> str:
        estimated = len(self.unsourced)
        return f"<part {self.name} ({self.kind}), {estimated} of {len(self.sources)} figures estimated>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{title}</th>" for title in ("figure", "typical", "maximum", "", "source"))
        rows = "".join(
            "<tr style='text-align:left'>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
            for cells in self._shown()
        )
        return f"<table><caption>{escape(f'{self.title} ({self.kind})')}</caption><tr>{head}</tr>{rows}</table>"

    def _shown(self) -> list[tuple[str, str, str, str, str]]:
        """Figure, typical, maximum, meaning and source, as they are read."""
        cells = []
        if self.sectors:
            runs = ", ".join(f"{count} x {shown(size, 'B')}" for count, size in self.sectors)
            source = cited(self.sectors_source, self.sectors_note)
            cells.append(("sectors", runs, "", "from the lowest address", source))
        for name, figure in self.figures.items():
            known = self._meaning(name)
            most = "" if figure.maximum is None else shown(figure.maximum, known.unit)
            cells.append((name, shown(figure.typical, known.unit), most, known.text, cited(figure.source, figure.note)))
        return cells

    def _figure(self, name: str) -> Figure:
        try:
            return self.figures[name]
        except KeyError:
            raise ConfigError(f"{self.name} has no figure {name!r}", hint=f"it has {', '.join(self.figures)}") from None

    def _meaning(self, name: str) -> Meaning:
        known = meaning(self.kind, name)
        assert known is not None  # figure_from let no other in
        return known


@cache
def parts() -> dict[str, Part]:
    """Return every part that pdmlab knows."""
    return _read((files(__package__) / "parts.toml").read_text(encoding="utf-8"), "parts.toml", {})


def load_parts(path: Path | str) -> dict[str, Part]:
    """Read parts of your own from a TOML file by the rules of parts.toml; `like` may name one that pdmlab knows.

    Raises:
        ConfigError: the file cannot be read, or a row lacks a figure or has an impossible one.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"no parts can be read from {path}: {error}", hint="a text file of tables as in pdmlab/storage/parts.toml"
        ) from error
    return _read(text, str(path), parts())


def part(name: str | Part, kind: Kind | None = None) -> Part:
    """Return the part of that name, for a driver of that kind if one is given; a Part is only checked for its kind.

    Raises:
        ConfigError: there is none.
    """
    row = name if isinstance(name, Part) else parts().get(name)
    if row is None or kind not in (None, row.kind):
        names = ", ".join(known.name for known in parts().values() if kind in (None, known.kind))
        wanted = f"{kind} part" if kind else "part"
        raise ConfigError(
            f"no {wanted} {name!r} in parts.toml" if row is None else f"{row.name} is no {wanted} but {row.kind}",
            hint=f"there are: {names}; load_parts() reads your own",
        )
    return row


def part_from(row: Mapping[str, Any], name: str, known: Mapping[str, Part] | None = None) -> Part:
    """Make the part of a row of TOML: `kind`, `title`, `like` (a part in known to start from), and its figures.

    Raises:
        ConfigError: a figure is missing, unknown or impossible; names part, figure and what is needed.
    """
    if not isinstance(row, Mapping):
        raise ConfigError(f"{name} is {row!r}, and no row of figures", hint=f"begin with [{name}] on a line of its own")
    like = row.get("like")
    if like is not None:
        if not isinstance(like, str) or like not in (known or {}):
            raise ConfigError(
                f"{name}: like = {like!r}, but no such part comes before it",
                hint="parts() lists those of pdmlab; of your own, put the one that it is like first",
            )
        row = {**(known or {})[like].row, **row}
    kind: Any = row.get("kind")  # Any: whatever a TOML file holds
    if kind not in get_args(Kind):
        raise ConfigError(f"{name}: kind is {kind!r}", hint=f"kind is one of {', '.join(get_args(Kind))}")
    rest = {key: entry for key, entry in row.items() if key not in ("kind", "title", "like")}
    sectors = sectors_from(rest.pop("sectors", None), name) if kind == "internal" else ((), "", "")
    figures = {figure: figure_from(entry, kind, figure, name) for figure, entry in rest.items()}
    made = Part(name, kind, str(row.get("title", name)), figures, *sectors)
    for figure, wanted in MEANINGS[made.kind].items():
        if wanted.required and figure not in made:
            raise ConfigError(f"{name} has no {figure}", hint=f"it needs {figure}: {wanted.text} ({wanted.unit})")
    for what, hint in _misfits(made):
        raise ConfigError(f"{name}: {what}", hint=hint)
    return made


def parts_frame(rows: Iterable[Part] | None = None) -> pd.DataFrame:
    """Return a tidy frame, one row a figure: its numbers, unit and source, whether estimated, and whether recalled."""
    import pandas as pd

    cells = [
        {
            "part": row.name,
            "kind": row.kind,
            "figure": name,
            "typical": figure.typical,
            "maximum": figure.maximum,
            "unit": row._meaning(name).unit,
            "meaning": row._meaning(name).text,
            "source": figure.source,
            "estimate": not figure.source,
            "recalled": "recalled" in figure.note,
            "note": figure.note,
        }
        for row in (parts().values() if rows is None else rows)
        for name, figure in row.figures.items()
    ]
    return pd.DataFrame(cells).astype({"typical": "Int64", "maximum": "Int64"})


def _read(text: str, where: str, known: Mapping[str, Part]) -> dict[str, Part]:
    try:
        rows = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is no TOML: {error}", hint="https://toml.io has the rules") from error
    found: dict[str, Part] = {}
    for name, row in rows.items():
        try:
            found[name] = part_from(row, name, {**known, **found})
        except ConfigError as error:
            raise ConfigError(f"{where}: {error.message}", hint=error.hint) from error
    return found


def _misfits(row: Part) -> Iterator[tuple[str, str]]:
    """What of a part's sizes does not go together, and what would."""
    if row.kind == "sd" and row["capacity"] % 512:
        yield f"capacity is {row['capacity']} B", "a card has whole blocks of 512 B"
    if row.kind == "dataflash":
        page, binary, block, sector = (row[name] for name in ("page", "page_binary", "block", "sector"))
        if binary & (binary - 1) or page < binary:
            yield f"page_binary is {binary} B, page {page} B", "page_binary is a power of two, and page no smaller"
        if sector % block or row["capacity"] % (binary * sector):
            yield (
                f"block is {block} pages, sector {sector} pages, capacity {row['capacity']} B",
                "whole blocks make a sector, and whole sectors of binary pages the capacity",
            )
    if row.kind in ("nor", "internal"):
        if not row.erases:
            yield "nothing erases it", "it needs one of erase_4k, erase_32k, erase_64k, erase_256k"
        unit = "page" if row.kind == "nor" else "unit"
        for size, figure in row.erases.items():
            if figure not in row:
                yield f"no erase_{size}", f"its sectors of {size} B need that, or all of them erase"
            if size % row[unit]:
                yield f"a {unit} of {row[unit]} B does not divide a sector of {size} B", f"a sector is whole {unit}s"
        if row.kind == "nor" and row.erases and row["capacity"] % max(row.erases):
            yield f"capacity is {row['capacity']} B", f"it is whole blocks of {max(row.erases)} B"


def _text(value: str) -> str:
    """Return a TOML basic string."""
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in quoted) + '"'
