"""`pdmlab dm log`: what was said to and by a device, and how `pdmlab service --log` writes it down."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pdmlab.cli.asking import asked, asking

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.capture import Kept, KeptEvent, LoggedMessage, MessageLog

EVERY = 0.5  # s between two looks at the service's log


@click.command("log")
@click.argument("device", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--why", is_flag=True, help="Show what failed, what it means and what to do, and what waits, instead.")
@asking
def device_log(
    device: str | None, follow: bool, why: bool, api_key: str | None, host: str | None, service: str | None
) -> None:
    """Show what the service and a DEVICE (its id or name) said to each other, bootstrap included.

    Without DEVICE: all devices, and what came from peers that never became one.
    """
    from pdmlab.capture.failures import Failures

    with asked(host, api_key, service) as cloud:
        found = cloud if device is None else cloud.device(device)
        rows = found.messages()
        if why:
            away = [] if device is None else [*_away(rows), *_waiting(cloud.device(device).queue())]
            failures = Failures(rows)
            click.echo("\n".join([repr(failures)] * bool(failures or not away) + away))
            return
        latest = -1
        while True:
            for row in rows:
                click.echo(str(row))
                latest = row.number
            if not follow:
                return
            time.sleep(EVERY)
            rows = found.messages(latest)


def _away(rows: Sequence[LoggedMessage]) -> Iterator[str]:
    """Tell of a connection that has closed, if it is the one that the device spoke by last."""
    spoke = next((row for row in reversed(rows) if row.direction == "in"), None)
    for row in rows:
        if spoke is not None and row.code == "closed" and row.peer == spoke.peer and row.number > spoke.number:
            why = f" ({row.payload})" if row.payload else ""
            yield f"{row.time.strip()}  {row.place}  its connection closed{why}, and it has not come back since"


def _waiting(queue: pd.DataFrame) -> Iterator[str]:
    """Tell what waits for a device, and why."""
    for row in queue.to_dict("records"):
        yield f"{row['request']} waits since {row['since']}" + (f": {row['why']}" if row["why"] else "")


@contextlib.contextmanager
def written(log: MessageLog, path: Path | None) -> Iterator[None]:
    """Write a log's messages to a file as they pass: .pcapng for Wireshark, .jsonl as rows, else as lines; - to stdout.

    Without a path, nothing is written. What is in a file already stays: a capture is set aside as .1, others go on.

    Raises:
        NetworkError, ConfigError: the file cannot be written.
    """
    from pdmlab.capture.files import set_aside
    from pdmlab.capture.journal import Journal, as_json
    from pdmlab.errors import ConfigError

    if path is None:
        yield
        return
    if path.suffix == ".pcapng":
        try:
            if path.is_file() and path.stat().st_size:
                set_aside(path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be set aside: {error.strerror}", hint="name another file") from error
        with log.capture(path):
            yield
        return
    watcher: Journal | _Printed
    if str(path) == "-":
        watcher = _Printed(log)
    else:
        try:
            watcher = Journal(path, log.dialect, as_json if path.suffix == ".jsonl" else str)
        except OSError as error:
            raise ConfigError(f"the log {path} cannot be written: {error.strerror}", hint="name a file") from error
    log.watch(watcher)
    try:
        yield
    finally:
        log.unwatch(watcher)
        watcher.close()


class _Printed:
    """Writes lines to stdout."""

    def __init__(self, log: MessageLog) -> None:
        from pdmlab.capture.reading import FOLLOWING, Reader

        self._reader = Reader(log.dialect, most=FOLLOWING)

    def __call__(self, kept: Kept | KeptEvent) -> None:
        print(self._reader.row(self._reader.feed(kept)), file=sys.stdout, flush=True)

    def close(self) -> None:
        """Nothing to end."""
