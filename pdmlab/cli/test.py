"""`pdmlab test`: Greentea suites on a board, with the options of `mbed test` and the reports of mbedgt."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pdmlab import settings
from pdmlab.errors import BoardNotFound, ConfigError
from pdmlab.firmware.registry import SUITES
from pdmlab.update.files import MAX_IMAGE, read_file

if TYPE_CHECKING:
    from pdmlab.greentea import Result

TOOLCHAINS = ("ARM", "ARMC6", "GCC_ARM", "IAR", "uARM")
_BOTH_MEANINGS = "here, as in mbed CLI, -t is the toolchain and -m the target; in mbedgt -t is the target"
_FULL = {
    suite: f"simple-mbed-cloud-client-tests-{'dev_mgmt' if suite in ('connect', 'update') else 'basic'}-{suite}"
    for suite in SUITES
}
"""What mbed CLI calls the stock suites."""
_INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)
_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command()
@click.option("-m", "--target", default=None, help="Mbed's name of the target; default: K64F.")
@click.option(
    "-n", "--tests-by-name", "names", default="*", show_default=True, help="Suites, with * and ?, and commas."
)
@click.option("-t", "--toolchain", default=None, help="Taken, and of no use: virtual boards need no compiler.")
@click.option("-D", "macros", multiple=True, metavar="MACRO", help="Taken, and of no use, likewise.")
@click.option("--app-config", type=click.Path(path_type=Path), default=None, help="Taken, and of no use, likewise.")
@click.option("--compile", "compile_", is_flag=True, help="Only build the images, unless --run is given too.")
@click.option("--run", "run_", is_flag=True, help="Run the suites; what is done if --compile is not given either.")
@click.option("--compile-list", is_flag=True, help="List the suites that can be built.")
@click.option("--run-list", is_flag=True, help="List the suites that can be run.")
@click.option(
    "--board", "url", default=None, help="The board's URL or port, or replay://LOG; default: a virtual board."
)
@click.option("--update-image", type=_INPUT, default=None, help="What `update` installs on a real board.")
@click.option("--update-version", default="1.0.1", show_default=True, help="The version of that image.")
@click.option("--sync", type=int, default=2, show_default=True, help="How often to sync; negative: until it answers.")
@click.option("--seed", type=int, default=None, help="Seed of everything random on a virtual board.")
@click.option("--save", is_flag=True, help="Keep the measured rows as runs, each row as it comes.")
@click.option("-v", "--verbose", is_flag=True, help="Show what the board prints, as it comes.")
@click.option("--report-junit", type=_FILE, help="Write JUnit XML to this file.")
@click.option("--report-text", type=_FILE, help="Write the tables to this file.")
@click.option("--report-json", type=_FILE, help="Write results and measured rows as JSON to this file.")
@click.pass_context
def test(
    context: click.Context,
    target: str | None,
    names: str,
    toolchain: str | None,
    macros: tuple[str, ...],
    app_config: Path | None,
    compile_: bool,
    run_: bool,
    compile_list: bool,
    run_list: bool,
    url: str | None,
    update_image: Path | None,
    update_version: str,
    sync: int,
    seed: int | None,
    save: bool,
    verbose: bool,
    report_junit: Path | None,
    report_text: Path | None,
    report_json: Path | None,
) -> None:
    """Run Greentea suites and say what came of them; the exit status is 0 only if all are OK."""
    _check_letters(target, toolchain)
    suites = matching(names)
    if compile_list or run_list:
        click.echo("Test cases:" if compile_list else f"Tests for {target or 'K64F'}:")
        for suite in suites:
            click.echo(f"  {suite:<14} ({_FULL[suite]})")
        return
    if compile_:
        for suite in suites:
            click.echo(f"built {suite} for {target or 'K64F'}: {_built(target, suite)} B")
        if not run_:
            return
    update = {
        "update_image": update_image and read_file(update_image, MAX_IMAGE, "an image"),
        "update_version": update_version,
    }
    results = _run(suites, target, url, seed, update, sync=sync, on_event=_echo if verbose else None, save=save)
    from pdmlab.greentea import to_json, to_junit, to_text

    click.echo(to_text(results, report_text), nl=False)
    for result in results:
        if result.run:
            click.echo(f"pdmlab: the rows of {result.suite} are run {result.run}", err=True)
    if report_junit is not None:
        to_junit(results, report_junit)
    if report_json is not None:
        to_json(results, report_json)
    if not all(result.ok for result in results):
        context.exit(1)


def matching(names: str) -> list[str]:
    """Return the suites that any of these patterns means, by their own names or by mbed CLI's.

    Raises:
        ConfigError: a pattern means none, or there is none.
    """
    patterns = [name.strip() for name in names.split(",") if name.strip()]
    if not patterns:
        raise ConfigError("-n names no suite", hint=f"there are {', '.join(SUITES)}; leave -n out for all of them")
    for pattern in patterns:
        if not any(_means(pattern, suite) for suite in SUITES):
            raise ConfigError(f"no suite is called {pattern!r}", hint=f"there are {', '.join(SUITES)}")
    return [suite for suite in SUITES if any(_means(pattern, suite) for pattern in patterns)]


def _means(pattern: str, suite: str) -> bool:
    return any(fnmatchcase(name, pattern.lower()) for name in (suite, _FULL[suite]))


def _check_letters(target: str | None, toolchain: str | None) -> None:
    """Refuse a toolchain where a target belongs, and the other way round."""
    if target is not None and target.upper() in {name.upper() for name in TOOLCHAINS}:
        raise ConfigError(f"{target} is a toolchain, not a target", hint=_BOTH_MEANINGS)
    if toolchain is not None and toolchain.upper() not in {name.upper() for name in TOOLCHAINS}:
        from pdmlab.boards import catalog

        with contextlib.suppress(BoardNotFound):
            catalog.find(toolchain)
            raise ConfigError(f"{toolchain} is a target, not a toolchain", hint=_BOTH_MEANINGS)
        raise ConfigError(f"no toolchain is called {toolchain!r}", hint=f"there are {', '.join(TOOLCHAINS)}")


def _built(target: str | None, suite: str) -> int:
    from pdmlab.sim import VirtualBoard

    with VirtualBoard(target or "K64F", memory=True, power=False) as board:
        return len(board.build(suite))


def _run(
    suites: list[str],
    target: str | None,
    url: str | None,
    seed: int | None,
    update: dict[str, Any],
    **options: Any,  # as run() takes them
) -> list[Result]:
    from pdmlab.greentea import run
    from pdmlab.greentea.suites import MANAGED

    results = []
    with _service(any(suite in MANAGED for suite in suites)) as managed:
        for suite in suites:
            with _board(target, url, seed) as board:
                if len(suites) > 1 and not hasattr(board, "flash_application"):
                    raise ConfigError(
                        f"a real board holds one suite, and -n means {', '.join(suites)}",
                        hint="flash one, and name it with -n",
                    )
                click.echo(f"pdmlab: {suite} on {'SIMULATED ' * bool(board.simulated)}{board.target} …", err=True)
                results.append(run(board, suite, **options, **({**managed, **update} if suite in MANAGED else {})))
                click.echo(f"pdmlab: {suite}: {results[-1].result}, {results[-1].host_s:.2f} s (host clock)", err=True)
    return results


@contextlib.contextmanager
def _board(target: str | None, url: str | None, seed: int | None) -> Iterator[Any]:  # any board
    if url is None:
        from pdmlab.sim import VirtualBoard

        with VirtualBoard(target or "K64F", id=f"test-{target or 'K64F'}", seed=seed, memory=True) as board:
            yield board
    else:
        from pdmlab.boards import connect

        if target is not None and url.startswith("replay:") and "board=" not in url:
            url += f"{'&' if '?' in url else '?'}board={target}"
        named = target is None or url.startswith(("sim:", "replay:"))
        with connect(url) if named else connect(url, target=target) as opened:
            yield opened


@contextlib.contextmanager
def _service(needed: bool) -> Iterator[dict[str, Any]]:
    """Give what run() needs of a service: the one that the settings name, else one for this run alone."""
    if not needed:
        yield {}
        return
    from pdmlab.cloud import Cloud
    from pdmlab.update.credentials import CREDENTIALS_FILE
    from pdmlab.update.developer import Developer

    if settings.load().text("host"):
        with Cloud() as cloud:
            project = Path(CREDENTIALS_FILE).is_file() or settings.load().text("credentials")
            yield {
                "cloud": cloud,
                "developer": Developer(Path.cwd()),
                "credentials": None if project else cloud.developer_credentials(f"pdmlab-test-{secrets.token_hex(4)}"),
            }
        return
    from pdmlab.service import serve

    with serve(name=f"test-{os.getpid()}") as service:
        try:
            click.echo(f"pdmlab: {service}", err=True)
            with Cloud(service.url, service.api_key) as cloud:
                yield {
                    "cloud": cloud,
                    "developer": service.developer,
                    "credentials": service.credentials(),
                    "update_resources": service.update_resources(),
                }
        finally:
            service.close()
            shutil.rmtree(service.folder, ignore_errors=True)


def _echo(event: Any) -> None:  # any event of the protocol
    text = getattr(event, "text", None)
    click.echo(f"[{event.time:.2f}][CONN][RXD] {event if text is None else text}")
    sys.stdout.flush()
