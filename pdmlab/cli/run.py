"""`pdmlab run`: notebooks headless, with an HTML report."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("names", nargs=-1)
@click.option("-p", "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Set a parameter.")
@click.option("--times", type=click.IntRange(1), default=1, help="Run each so often in one kernel.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("report"), show_default=True)
@click.option("--notebooks", type=click.Path(path_type=Path), default=Path("notebooks"), show_default=True)
def run(names: tuple[str, ...], parameters: tuple[str, ...], times: int, output: Path, notebooks: Path) -> None:
    """Run notebooks (all, or those whose names begin so: 01 03) and write what they showed as HTML."""
    from pdmlab.report import Outcome, find_notebooks, write_report

    def tell(outcome: Outcome) -> None:
        click.echo(f"{outcome.name:<28} {'ran' if outcome.ok else 'FAILED':<8} {outcome.seconds:6.1f} s (host clock)")
        if not outcome.ok:
            click.echo(outcome.error[-2000:], err=True)

    outcomes = write_report(
        find_notebooks(names, notebooks),
        output,
        parameters=dict(_parameter(text) for text in parameters),
        times=times,
        on_done=tell,
    )
    click.echo(f"report: {output / 'index.html'}")
    if not all(outcome.ok for outcome in outcomes):
        raise SystemExit(1)


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
