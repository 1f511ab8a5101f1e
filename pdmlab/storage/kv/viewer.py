"""A look at what lies in an image: stores and their records, file systems, the client's credentials; secrets hidden."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING

from pdmlab.errors import ConfigError, StorageError
from pdmlab.storage.kv.dump import Dump, Row, find_stores
from pdmlab.storage.kv.image import Image, Source, Volume, find_volumes, opened
from pdmlab.storage.kv.kvstore import KVFlag
from pdmlab.storage.kv.picture import state_of, svg
from pdmlab.storage.kv.stored import MOST_FILES, Listed, Stored, look_into

if TYPE_CHECKING:
    import pandas as pd

_SEARCHED = 64 << 20


@dataclass(frozen=True)
class View:
    """What was found: volumes and their files, stores of records, items in files; and what could not be looked into."""

    name: str
    size: int
    volumes: tuple[Volume, ...]
    listed: tuple[Listed, ...]
    stores: tuple[Dump, ...]
    stored: tuple[Stored, ...]
    notes: tuple[str, ...]

    @property
    def records(self) -> pd.DataFrame:
        """One row a record: offset, length and size (B), key, version of its area, flags, CRC, state."""
        import pandas as pd

        rows = [
            {
                "store": dump.kind,
                "area": number,
                "offset": row.offset,
                "key": row.key,
                "version": area.version,
                "flags": _flags(dump, row.flags),
                "size": row.size,
                "length": row.length,
                "crc": "ok" if row.sound else "wrong",
                "state": state_of(row),
            }
            for dump in self.stores
            for number, area in enumerate(dump.areas)
            for row in area.rows
        ]
        columns = ["store", "area", "offset", "key", "version", "flags", "size", "length", "crc", "state"]
        return pd.DataFrame(rows, columns=columns).astype({"version": "Int64"})

    @property
    def files(self) -> pd.DataFrame:
        """One row a file: where its volume begins (B), path, size (B)."""
        import pandas as pd

        return pd.DataFrame([asdict(each) for each in self.listed], columns=list(Listed.__dataclass_fields__))

    @property
    def credentials(self) -> pd.DataFrame:
        """One row an item in a file: store, name, file, size (B), encrypted, factory, intact."""
        import pandas as pd

        columns = list(Stored.__dataclass_fields__)
        return pd.DataFrame([asdict(each) for each in self.stored], columns=columns).astype({"size": "Int64"})

    def __repr__(self) -> str:
        lines = [f"{self.name}: {self.size} B"]
        for v in self.volumes:
            lines.append(f"  0x{v.offset:x} {v.kind}, {v.size} B{': ' + v.detail if v.detail else ''}")
            lines += [f"    {file.path} {file.size} B" for file in self.listed if file.volume == v.offset]
        for dump in self.stores:
            lines.append(f"  0x{dump.offset:x} {dump.kind}, units of {dump.unit} B")
            for number, area in enumerate(dump.areas):
                version = "no master record" if area.version is None else f"version {area.version}"
                state = ", live" if area.live else ""
                lines.append(f"    area {number}: {version}{state}, {area.used} of {area.size} B used")
                lines += [_line(dump, row) for row in area.rows]
        lines += [
            f"  {each.store}: {each.name} {'?' if each.size is None else each.size} B, "
            f"{'encrypted' if each.encrypted else 'in the clear'}{', factory' if each.factory else ''}, "
            f"intact: {each.intact} ({each.file})"
            for each in self.stored
        ]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines if len(lines) > 1 else [*lines, "  nothing that is known here"])

    def _repr_html_(self) -> str:
        parts = [f"<b>{escape(self.name)}</b>, {self.size} B"]
        if self.volumes:
            parts.append(f"<table>{''.join(map(_table_row, self.volumes))}</table>")
        if self.listed:
            parts.append(self.files.to_html(index=False, border=0))
        for dump in self.stores:
            parts.append(f"<b>{dump.kind}</b> at 0x{dump.offset:x}, units of {dump.unit} B<br>{svg(dump)}")
        if self.stores:
            parts.append(self.records.to_html(index=False, border=0))
        if self.stored:
            parts.append(self.credentials.to_html(index=False, border=0, na_rep="?"))
        parts += [f"<i>{escape(note)}</i>" for note in self.notes]
        if len(parts) == 1:
            parts.append("<i>nothing that is known here</i>")
        return "<br>".join(parts)


def view(image: Source, *, sotp: Source | None = None) -> View:
    """Look into an image: a file, bytes, a block device or a medium.

    sotp: an image of the flash with the root of trust, so that the client's files can be authenticated.

    Raises:
        ConfigError: a file cannot be read, or sotp holds no root of trust.
    """
    root = None if sotp is None else _root_of_trust(sotp)
    with opened(image) as found:
        volumes = find_volumes(found)
        stores = find_stores(found.read(0, min(found.size, _SEARCHED)))
        listed, stored, notes = _look_into(found, volumes, root)
        name = image if isinstance(image, str) else getattr(image, "name", None) or type(image).__name__
        return View(str(name), found.size, tuple(volumes), tuple(listed), tuple(stores), tuple(stored), tuple(notes))


def _look_into(image: Image, volumes: list[Volume], root: bytes | None) -> tuple[list[Listed], list[Stored], list[str]]:
    listed: list[Listed] = []
    stored: list[Stored] = []
    notes: list[str] = []
    for volume in volumes:
        if volume.size < volume.whole:
            notes.append(
                f"the {volume.kind} at 0x{volume.offset:x} is cut short: {volume.size} of its {volume.whole} B are here"
            )
        if volume.readable:
            try:
                files, found = look_into(image, volume, root)
                listed += files
                stored += found
                if len(files) == MOST_FILES:
                    notes.append(f"the {volume.kind} at 0x{volume.offset:x} may have more files than {MOST_FILES}")
            except StorageError as error:
                notes.append(f"the {volume.kind} at 0x{volume.offset:x} cannot be read: {error.message}")
        elif volume.kind.startswith("littlefs"):
            notes.append(f"the {volume.kind} at 0x{volume.offset:x} is not looked into: {volume.detail}")
    return listed, stored, notes


def _root_of_trust(sotp: Source) -> bytes:
    with opened(sotp) as image:
        for dump in find_stores(image.read(0, min(image.size, _SEARCHED))):
            if dump.root_of_trust is not None:
                return dump.root_of_trust
    raise ConfigError(
        "the SOTP dump holds no root of trust",
        hint="dump the whole internal flash, or both SOTP areas; a device without one has never been provisioned",
    )


def _line(dump: Dump, row: Row) -> str:
    return f"      0x{row.offset:06x} {row.key:24} {row.size:6} B  {_flags(dump, row.flags):12} {state_of(row)}"


def _table_row(volume: Volume) -> str:
    cells = (f"0x{volume.offset:x}", volume.kind, f"{volume.size} B", volume.detail)
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _flags(dump: Dump, flags: int) -> str:
    if dump.kind != "TDBStore":
        return "SET_ONCE" if flags & 0x4000 else ""
    return "|".join((flag.name or "").removeprefix("REQUIRE_") for flag in KVFlag if flags & flag)
