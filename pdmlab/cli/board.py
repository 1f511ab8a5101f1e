"""`pdmlab board`: a virtual board as a process of its own, on a pty or a TCP port, for any serial program."""

from __future__ import annotations

import os
from pathlib import Path

import click

from pdmlab.cli.stopping import stoppable


@click.command()
@click.argument("target", default="K64F")
@click.option("--id", "board_id", default=None, help="Whose flash and card it is; default: the target's name.")
@click.option("--seed", type=int, default=None, help="Seed of everything random on the board.")
@click.option("--application", default=None, help="Flash this application first: fs-single, connect, example, lwm2m …")
@click.option("--image", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Flash this image first.")
@click.option("-v", "--fw-version", "version", help="Version of the application, a.b.c; default: 1.0.0.")
@click.option(
    "--build",
    "built",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Build the application's image into this file, to update a board with, and run nothing.",
)
@click.option("--bootloader", help="Which bootloader it has: fota, mbed or trial; default: the one in its flash.")
@click.option(
    "--flash-image",
    "dumped",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the board's whole internal flash into this file, as a programmer reads it out, and run nothing.",
)
@click.option("--tcp", is_flag=True, help="Serve the line on a TCP port of this machine instead of a pty.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The TCP port; 0 takes a free one.")
@click.option("--link", type=click.Path(path_type=Path), help="Make a symbolic link of this name to the pty.")
def board(
    target: str,
    board_id: str | None,
    seed: int | None,
    application: str | None,
    image: Path | None,
    version: str | None,
    built: Path | None,
    bootloader: str | None,
    dumped: Path | None,
    tcp: bool,
    port: int,
    link: Path | None,
) -> None:
    """Run a virtual board as a process of its own, until Ctrl-C or the end of its terminal.

    Whatever its end, flash and card stay in their files. On a POSIX system SIGUSR1 presses its reset button.
    replay://LOG in the place of a target plays a saved log instead.
    """
    from pdmlab.errors import ConfigError
    from pdmlab.sim import VirtualBoard, bridge
    from pdmlab.update import bootloaders

    if tcp and link is not None:
        raise ConfigError("--link names a pty, and --tcp has none", hint="leave one of them out")
    if application is not None and image is not None:
        raise ConfigError("a board starts one program", hint="leave --application or --image out")
    if application is None and (version is not None or built is not None):
        raise ConfigError("which application? --application is missing", hint="such as --application example")
    if target.startswith("replay:"):
        given = {
            "--id": board_id, "--seed": seed, "--application": application, "--image": image,
            "--fw-version": version, "--build": built, "--bootloader": bootloader, "--flash-image": dumped,
        }  # fmt: skip
        if odd := [name for name, value in given.items() if value is not None]:
            raise ConfigError(f"a log has no {', '.join(odd)}", hint="they are for virtual boards")
        _replay(target, tcp=tcp, port=port, link=link)
        return
    if application is not None and built is not None:
        _build(target, application, version or "1.0.0", built)
        return
    with (
        VirtualBoard(target, id=board_id, seed=seed, bootloader=bootloaders.kind(bootloader), power=False) as virtual,
        stoppable({"SIGUSR1": virtual.reset}) as until_stopped,
    ):
        if image is not None:
            virtual.flash(image, power=dumped is None)
        elif application is not None:
            virtual.flash_application(application, version=version or "1.0.0", power=dumped is None)
        if dumped is not None:
            flash = virtual.flash_image()
            _write(dumped, flash)
            click.echo(
                f"{dumped}: the flash of the SIMULATED {virtual.target}, {len(flash)} B; secrets are in it",
                err=not dumped.is_file(),
            )
            return
        virtual.attach("its bridge")
        # The address is last, with nothing after it, so that it can be copied.
        said = f"SIMULATED {virtual.target}, process {os.getpid()}, until Ctrl-C: "
        if tcp:
            with bridge.tcp_bridge(virtual.uart, port=port, board=virtual.target) as (host, number):
                virtual.power_on()
                click.echo(f"{said}socket://{host}:{number}")
                until_stopped()
        else:
            with bridge.pty_bridge(virtual.uart, link=link, board=virtual.target) as name:
                virtual.power_on()
                click.echo(f"{said}{name}")
                until_stopped()


def _build(target: str, application: str, version: str, file: Path) -> None:
    """Write an image with what the working folder compiles in: beside a board that runs, and for its owner alone."""
    from pdmlab.sim import VirtualBoard

    with VirtualBoard(target, memory=True, power=False) as virtual:
        image = virtual.build(application, version=version)
    _write(file, image)
    # Nothing but the image goes to /dev/stdout.
    click.echo(f"{file}: {application} {version}, {len(image)} B", err=not file.is_file())


def _write(file: Path, data: bytes) -> None:
    """Write a file for its owner alone.

    Raises:
        ConfigError: it cannot be written.
    """
    from pdmlab.errors import ConfigError
    from pdmlab.update.files import write_secret

    try:
        write_secret(file, data)
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}", hint="name another file") from error


def _replay(url: str, *, tcp: bool, port: int, link: Path | None) -> None:
    """Play a log on a port, until Ctrl-C: any serial program, mbedhtrun too, takes it for a board."""
    from pdmlab.boards.replay_line import open_line
    from pdmlab.sim import bridge

    with open_line(url) as line, stoppable({"SIGUSR1": line.restart}) as until_stopped:
        simulated = "SIMULATED " if line.playback.log.simulated else ""
        said = f"{simulated}{line.playback.log!r}, process {os.getpid()}, until Ctrl-C: "
        board = "unknown" if simulated else None
        if tcp:
            with bridge.tcp_bridge(line, port=port, board=board) as (host, number):
                click.echo(f"{said}socket://{host}:{number}")
                until_stopped()
        else:
            with bridge.pty_bridge(line, link=link, board=board) as name:
                click.echo(f"{said}{name}")
                until_stopped()
