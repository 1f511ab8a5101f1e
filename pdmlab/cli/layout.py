"""`pdmlab layout`: where everything lies in a board's flash, from its mbed_app.json, and what is wrong with that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pdmlab.errors import ConfigError
from pdmlab.update.files import MAX_TEXT, read_file

if TYPE_CHECKING:
    from pdmlab.update.survey import Survey


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("-t", "--target", required=True, help="The board, by its Mbed target name: K64F.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Draw it: picture.svg, .png or .pdf."
)
def layout(file: Path | None, target: str, output: Path | None) -> None:
    """Say where bootloader, header, application, SOTP and candidate lie, as FILE, an mbed_app.json, has them.

    Without a FILE: where they lie on a board of ours. What overlaps, lies across sectors or contradicts itself is said
    and marked; the exit status is 1 then. What may be meant is a warning, and the exit status 0.
    """
    from pdmlab.boards.catalog import find
    from pdmlab.update.layout_settings import survey, survey_config

    row = find(target)
    if file is None:
        settings = row.settings()
        found = survey_config(settings, row.geometry(), candidate_on=row.storage, storage_size=row.storage_size)
    else:
        found = survey(
            _document(file),
            row.target,
            row.geometry(),
            candidate_on=row.storage,
            storage_size=row.storage_size,
            file=file.name,
        )
    click.echo(
        f"{row.target}: {row.flash_size // 1024:,} KiB of flash at 0x{row.flash_base:08x}; offsets count from there"
    )
    click.echo(str(found))
    if output is not None:
        _draw(found, output, f"{row.target}, {'as the catalogue has it' if file is None else file.name}")
        click.echo(f"drawn in {output}")
    if found.faults:
        raise SystemExit(1)


def _document(file: Path) -> dict[str, Any]:  # Any: whatever JSON can hold
    try:
        document = json.loads(read_file(file, MAX_TEXT, "an mbed_app.json"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is no JSON: {error}", hint="name an mbed_app.json") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{file} is no mbed_app.json: it has no settings by name", hint="name an mbed_app.json")
    return document


def _draw(found: Survey, output: Path, title: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from pdmlab import plots

    figure = plots.flash_layout(found, title=title).get_figure(root=True)
    assert figure is not None
    try:
        figure.savefig(output)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot draw {output}: {error}", hint="name a .svg, .png or .pdf") from error
    finally:
        plt.close(figure)
