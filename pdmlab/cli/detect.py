"""`pdmlab detect`: what is plugged in, in the columns of mbedls and with the JSON keys of mbed-tools as well."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("-a", "--show-all", "everything", is_flag=True, help="Show also what is not recognised, and why.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def detect(everything: bool, form: str) -> None:
    """List the boards that are plugged in."""
    from pdmlab.boards.detection import as_mbed_tools, find_boards, table

    found = find_boards()
    rows = table(found, everything=everything)
    if form == "json":
        click.echo(json.dumps(as_mbed_tools(found, everything=everything), indent=2))
        return
    if rows:
        _print(rows)
    else:
        click.echo("No board is plugged in. A virtual one needs none: pdmlab board K64F")
    unknown = len(found) - len(rows)
    if unknown:
        click.echo(f"{unknown} more {'port is' if unknown == 1 else 'ports are'} not recognised; -a says why.")


def _print(rows: list[dict[str, str | None]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    columns = [name for name in rows[0] if any(row[name] for row in rows)]
    shown = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows:
        shown.add_row(*(row[name] or "" for name in columns))
    Console().print(shown)
