"""`pdmlab inspect`: what lies in an image of a card or a flash, or what an update's file is; secrets stay hidden."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from pdmlab.errors import ConfigError

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("image", type=_FILE)
@click.option(
    "--sotp", type=_FILE, help="Image of the internal flash, or of its SOTP areas: says which items are intact."
)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write it with pictures to this file.")
def inspect(image: Path, sotp: Path | None, html: Path | None) -> None:
    """Say what lies in IMAGE: partitions, file systems, files, stores and their records, the client's credentials.

    Of a board's image, a package, a whole flash, a manifest or a SUIT envelope: which it is, and what its header says.

    A virtual board keeps its images in its state directory: see pdmlab doctor.
    """
    from pdmlab.cli.identified import identified
    from pdmlab.storage.kv import view

    seen = view(image, sotp=sotp)
    seen = replace(seen, notes=(*identified(image), *seen.notes))
    click.echo(repr(seen))
    if html is not None:
        try:
            html.write_text(f"<!doctype html><meta charset='utf-8'>{seen._repr_html_()}", encoding="utf-8")
        except OSError as error:
            hint = "name a file in a folder that is there and can be written"
            raise ConfigError(f"cannot write {html}: {error.strerror}", hint=hint) from error
