"""The table that every benchmark prints, row by row as they are measured."""

from __future__ import annotations

from collections.abc import Mapping


class Table:
    """Print a title and a header now, and each row when it comes.

    >>> table = Table("Reads", {"block (B)": "d", "MB/s": ".1f"})
    >>> table.row(1024, 19.5)

    Args:
        columns: heading -> format of its values, such as ".1f"; "" for text, which is set to the left.
    """

    def __init__(self, title: str, columns: Mapping[str, str], *, text_width: int = 12) -> None:
        self._columns = columns
        self._widths = [max(len(heading), text_width if kind == "" else 9) for heading, kind in columns.items()]
        print(f"\n{title}")
        self._print(list(columns))

    def row(self, *values: float | str | None) -> None:
        """Print a row; None leaves a place empty."""
        formats = self._columns.values()
        self._print(["" if value is None else format(value, kind) for value, kind in zip(values, formats, strict=True)])

    def _print(self, cells: list[str]) -> None:
        places = zip(cells, self._widths, self._columns.values(), strict=True)
        print(
            "  ".join(f"{cell:{'<' if kind == '' else '>'}{width}}" for cell, width, kind in places).rstrip(),
            flush=True,
        )
