"""The catalogue: what is known of each board, and where each figure is from (catalog.toml)."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field, fields
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, Literal

from pdmlab.errors import BoardNotFound
from pdmlab.update.layout import FlashGeometry, FlashLayout

Storage = Literal["SD", "SPIF", "QSPIF"]


@dataclass(frozen=True)
class BoardRow:
    """A board: sizes in B, clocks in Hz, addresses as the processor sees them.

    target: Mbed's target name. target_id: the four digits that its interface chip's ids begin with.
    usb: vendor and product id of that chip. storage_part, flash_part: rows of storage/parts.toml.
    sotp_size: of each of the two SOTP sections, which end where the flash ends.
    candidate: address and size of the update candidate on the external storage.
    """

    target: str
    name: str
    vendor: str
    target_id: str
    interface: str
    usb: tuple[int, int]
    connectivity: str
    interface_type: str
    storage: Storage
    storage_part: str
    storage_size: int
    mcu: str
    core_clock: int
    ram: int
    flash_part: str
    flash_base: int
    flash_size: int
    sectors: tuple[tuple[int, int], ...]
    program_size: int
    header_offset: int
    app_offset: int
    sotp_size: int
    candidate: tuple[int, int]
    sources: dict[str, str] = field(repr=False)
    """Figure -> where it is from; an empty text marks an estimate."""

    @property
    def unsourced(self) -> list[str]:
        """The figures that are estimates."""
        return [figure for figure, source in self.sources.items() if not source]

    @property
    def row(self) -> dict[str, Any]:
        """The whole row in plain values, `sources` with it: what a run keeps as its board's provenance."""
        return {column.name: _thawed(getattr(self, column.name)) for column in fields(self)}

    def geometry(self) -> FlashGeometry:
        """Return the microcontroller's flash."""
        return FlashGeometry(self.flash_base, self.flash_size, self.sectors, self.program_size)

    def layout(self) -> FlashLayout:
        """Return where bootloader, application, SOTP and candidate lie unless an mbed_app.json says otherwise."""
        return FlashLayout.from_config(
            self.settings(), self.geometry(), candidate_on=self.storage, storage_size=self.storage_size
        )

    def settings(self) -> dict[str, int]:
        """Return the same as an mbed_app.json would have it, by its keys."""
        end = self.flash_base + self.flash_size
        return {
            "target.header_offset": self.header_offset,
            "target.app_offset": self.app_offset,
            "sotp-section-1-address": end - 2 * self.sotp_size,
            "sotp-section-1-size": self.sotp_size,
            "sotp-section-2-address": end - self.sotp_size,
            "sotp-section-2-size": self.sotp_size,
            "update-client.storage-address": self.candidate[0],
            "update-client.storage-size": self.candidate[1],
        }

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr style='text-align:left'><th>{escape(name)}</th><td>{escape(value)}</td><td>{escape(source)}</td></tr>"
            for name, value, source in self._shown()
        )
        return (
            f"<table><caption>{escape(self.name)}</caption>"
            f"<tr><th></th><th>value</th><th>source</th></tr>{rows}</table>"
        )

    def _shown(self) -> list[tuple[str, str, str]]:
        shown = {
            "target": self.target,
            "mcu": f"{self.mcu}, {self.core_clock / 1e6:.0f} MHz, {self.ram // 1024} KiB RAM",
            "flash": f"{self.flash_size // 1024} KiB at 0x{self.flash_base:08x}, sectors of "
            + ", ".join(f"{count} x {size // 1024} KiB" for count, size in self.sectors),
            "connectivity": self.connectivity,
            "storage": f"{self.storage} ({self.storage_part}), {self.storage_size >> 20} MiB",
            "usb": f"{self.interface} {self.usb[0]:04x}:{self.usb[1]:04x}, target id {self.target_id}",
        }
        figures = {"flash": "sectors"}
        return [
            (name, value, "" if name == "target" else self.sources[figures.get(name, name)] or "estimate")
            for name, value in shown.items()
        ]


@cache
def boards() -> dict[str, BoardRow]:
    """Return every board by its target name."""
    document = tomllib.loads((files(__package__) / "catalog.toml").read_text(encoding="utf-8"))
    sources: dict[str, str] = document["source"]
    return {target: _row(target, values, sources) for target, values in document["board"].items()}


def find(target: str) -> BoardRow:
    """Return the board of that Mbed target name; K64F, k64f and frdm-k64f all mean the K64F.

    Raises:
        BoardNotFound: there is none.
    """
    names = _names()
    row = names.get(_plain(target))
    if row is None:
        close = difflib.get_close_matches(_plain(target), names, n=1, cutoff=0.5)
        guess = f"did you mean {names[close[0]].target}? " if close else ""
        raise BoardNotFound(f"no board {target!r} in the catalogue", hint=f"{guess}known are {', '.join(boards())}")
    return row


def by_target_id(target_id: str) -> BoardRow | None:
    """Return the board whose interface chip's id begins with these four digits, if it is known."""
    return next((row for row in boards().values() if row.target_id == target_id[:4].upper()), None)


@cache
def _names() -> dict[str, BoardRow]:
    names = {}
    for row in boards().values():
        words = row.name.split(" ")
        for name in (row.target, row.name, words[-1], " ".join(words[1:])):
            names[_plain(name)] = row
    return names


def _plain(name: str) -> str:
    return "".join(letter for letter in name.upper() if letter.isalnum())


def _row(target: str, values: dict[str, Any], sources: dict[str, str]) -> BoardRow:  # TOML's values are of any type
    values = {name: _frozen(value) for name, value in values.items()}
    values["sources"] = {figure: sources[source] for figure, source in values["sources"].items()}
    known = {column.name for column in fields(BoardRow)} - {"target"}
    assert set(values) == known, f"catalog.toml, {target}: {sorted(set(values) ^ known)}"
    return BoardRow(target=target, **values)


def _thawed(value: Any) -> Any:  # TOML's values are of any type
    if isinstance(value, tuple):
        return [_thawed(item) for item in value]
    return dict(value) if isinstance(value, dict) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
