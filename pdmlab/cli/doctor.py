"""`pdmlab doctor`: one table of what the lab needs, what was found, and how to mend what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import click

from pdmlab.errors import ConfigError

State = Literal["ok", "optional", "broken"]


@dataclass(frozen=True)
class Check:
    """Something that the lab needs: what was found, and what mends it."""

    name: str
    state: State
    found: str
    fix: str = ""


@click.command()
def doctor() -> None:
    """Check this machine; exit status 1 if something that the lab needs is broken."""
    from rich.console import Console
    from rich.table import Column, Table

    marks = {"ok": "[green]ok[/]", "optional": "[yellow]optional[/]", "broken": "[red]broken[/]"}
    # A path that is cut short cannot be copied.
    shown = Table("what", "state", Column("found", overflow="fold"), Column("what to do", overflow="fold"))
    results = [check for make in CHECKS for check in make()]
    for check in results:
        shown.add_row(check.name, marks[check.state], check.found, check.fix)
    Console().print(shown)
    if any(check.state == "broken" for check in results):
        raise SystemExit(1)


def check_python() -> Iterator[Check]:
    """Check the interpreter."""
    good = sys.version_info >= (3, 11)
    yield Check(
        "Python",
        "ok" if good else "broken",
        f"{platform.python_version()} on {platform.system()} ({sys.executable})",
        "" if good else "pdmlab needs Python 3.11 or newer",
    )


def check_packages() -> Iterator[Check]:
    """Check that every dependency is installed."""
    wanted = [re.split(r"[ ;<>=!~\[(]", line, maxsplit=1)[0] for line in _requirements()]
    missing = [name for name in wanted if not _installed(name)]
    yield Check(
        "packages",
        "broken" if missing else "ok",
        f"missing: {', '.join(missing)}" if missing else f"all {len(wanted)}; pdmlab {metadata.version('pdmlab')}",
        "python lab.py setup" if missing else "",
    )


def _requirements() -> list[str]:
    return [line for line in metadata.requires("pdmlab") or [] if "extra ==" not in line]


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def check_ports() -> Iterator[Check]:
    """Check what is plugged in, and whether it may be opened."""
    from pdmlab.boards.detection import find_boards

    found = find_boards()
    boards = [item for item in found if item.row is not None]
    names = ", ".join(f"{item.row.target} on {item.serial_port}" for item in boards if item.row is not None)
    yield Check(
        "boards",
        "ok" if boards else "optional",
        names or f"none plugged in ({len(found)} other serial port{'' if len(found) == 1 else 's'})",
        "" if boards else "none is needed: pdmlab.connect() gives a virtual one",
    )
    for item in boards:
        if item.reason:
            yield Check(str(item.serial_port or item.mount_point), "broken", "not usable", item.reason)


def check_state() -> Iterator[Check]:
    """Check that boards and the service can keep their state."""
    from pdmlab import settings

    try:
        chosen = settings.load()
    except ConfigError as error:
        yield Check("settings", "broken", error.message, error.hint or "")
        return
    for name in ("state", "data"):
        folder = chosen.folder(name)
        problem = _unwritable(folder)
        yield Check(
            f"{name} folder",
            "broken" if problem else "ok",
            f"{folder}{f': {problem}' if problem else ''}",
            f"set PDMLAB_{name.upper()} to a folder that you may write to" if problem else "",
        )


def _unwritable(folder: Path) -> str | None:
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path(folder.anchor))
    try:
        with tempfile.TemporaryFile(dir=there):
            return None
    except OSError as error:
        return error.strerror or str(error)


def check_loopback() -> Iterator[Check]:
    """Check that device and service can reach each other on this machine."""
    for name, kind in (("loopback TCP", socket.SOCK_STREAM), ("loopback UDP", socket.SOCK_DGRAM)):
        try:
            with socket.socket(socket.AF_INET, kind) as end:
                end.bind(("127.0.0.1", 0))
                yield Check(name, "ok", f"a free port such as {end.getsockname()[1]}")
        except OSError as error:
            yield Check(name, "broken", str(error), "allow sockets on 127.0.0.1: a container or firewall forbids them")


def check_security() -> Iterator[Check]:
    """Check that TLS and DTLS can be spoken as the stock client speaks them."""
    stock = "ECDHE-ECDSA-AES128-CCM8"  # the only suite that it offers
    try:
        from OpenSSL import SSL
        from OpenSSL import __version__ as version

        found = f"pyOpenSSL {version}, {SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()}"
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_cipher_list(f"{stock}:@SECLEVEL=0".encode())
        offered = SSL.Connection(context).get_cipher_list()
    except ImportError as error:
        yield Check("TLS and DTLS", "broken", str(error), "python lab.py setup")
        return
    except SSL.Error:
        offered = []
    if stock in offered:
        yield Check("TLS and DTLS", "ok", f"{found}, with {stock}")
    else:
        yield Check(
            "TLS and DTLS",
            "broken",
            f"{found}, without {stock}",
            "stock boards offer nothing else: pip install --force-reinstall cryptography, whose own OpenSSL has it",
        )


def check_reach() -> Iterator[Check]:
    """Check by what addresses boards could reach a service here."""
    from pdmlab.service.reach import machine_addresses

    addresses = machine_addresses()
    yield Check(
        "boards' network",
        "ok" if addresses else "optional",
        ", ".join(addresses) or "no address but loopback",
        "pdmlab service --host ADDRESS opens it to boards there" if addresses else "virtual boards need none",
    )


def check_programs() -> Iterator[Check]:
    """Check for programs that only some tests and exercises use."""
    for purpose, names, package in (
        ("the test in a browser", ("chromium", "chromium-browser", "google-chrome"), "chromium"),
        ("looking at the service from outside", ("coap-client", "coap-client-notls"), "libcoap3-bin"),
        ("reading SD images", ("mdir",), "mtools"),
        ("checking SD images", ("fsck.fat",), "dosfstools"),
    ):
        path = next((found for name in names if (found := _program(name))), None)
        fix = "" if path else f"for {purpose}; on Debian: sudo apt-get install {package}"
        yield Check(names[0], "ok" if path else "optional", path or "not installed", fix)


def _program(name: str) -> str | None:
    # sbin, where fsck.fat lives, is not on every user's path.
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    check_python,
    check_packages,
    check_ports,
    check_state,
    check_loopback,
    check_security,
    check_reach,
    check_programs,
)
