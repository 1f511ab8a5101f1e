"""Serial ports as pyserial opens them, with errors that say what is the matter and who holds the port."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import serial

from pdmlab.errors import BoardError, BoardNotFound, ConfigError, PdmlabError, PortBusy

SIM_HANDLERS = "pdmlab.sim.serial_handlers"
"""Where pyserial finds the handler of sim:// URLs."""
WRITE_TIMEOUT = 5.0
"""Seconds that a write may take before the line counts as stuck."""


def open_port(url: str, *, baud: int, read_timeout: float) -> serial.SerialBase:
    """Open a port or pyserial URL, for this program alone where the operating system can see to it.

    Raises:
        BoardNotFound: there is no such port. PortBusy: another program has it.
        ConfigError: no such kind of URL. BoardError: it cannot be opened for another reason.
    """
    if SIM_HANDLERS not in serial.protocol_handler_packages:
        serial.protocol_handler_packages.append(SIM_HANDLERS)
    try:
        return serial.serial_for_url(
            url, baudrate=baud, timeout=read_timeout, write_timeout=WRITE_TIMEOUT, exclusive=True
        )
    except serial.SerialException as error:
        raise _explained(url, error) from error
    except ValueError as error:
        raise ConfigError(
            f"{url!r} cannot be opened: {error}", hint="such as /dev/ttyACM0, COM7 or socket://host:port"
        ) from error


def holder(path: str) -> str | None:
    """Return the program that has a port open, such as "minicom (process 4711)"; only Linux can tell."""
    if not sys.platform.startswith("linux"):
        return None
    port = os.path.realpath(path)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.name != str(os.getpid()) and any(
                os.path.realpath(fd) == port for fd in (process / "fd").iterdir()
            ):
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:  # it ended, or belongs to somebody else
            continue
    return None


def _explained(url: str, error: serial.SerialException) -> PdmlabError:
    cause = error.__cause__
    if isinstance(cause, PdmlabError):  # our own handler's
        return cause
    code = error.errno
    text = str(error)
    if code in (errno.EAGAIN, errno.EACCES, errno.EBUSY, None) and (
        "lock" in text or "Access is denied" in text or code == errno.EBUSY
    ):
        who = holder(url)
        return PortBusy(
            f"{url} is open in {who or 'another program'}",
            hint="close it there; a notebook's kernel holds its boards until they are closed or the kernel ends",
        )
    if code == errno.ENOENT or "FileNotFoundError" in text:
        return BoardNotFound(f"there is no serial port {url}", hint="pdmlab detect lists what is plugged in")
    if code in (errno.EACCES, errno.EPERM):
        return BoardError(
            f"you may not open {url}: permission denied",
            hint="on Linux: sudo usermod -aG dialout $USER, then log in again",
        )
    return BoardError(f"{url} cannot be opened: {text}", hint="is the board plugged in, or its bridge running?")
