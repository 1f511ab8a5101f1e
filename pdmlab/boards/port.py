"""Serial ports as pyserial opens them, with errors that say what is the matter and who holds the port."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import serial

from pdmlab.errors import BoardError, BoardNotFound, ConfigError, PdmlabError, PortBusy

WRITE_TIMEOUT = 5.0
"""Seconds that a write may take before the line counts as stuck."""


class Port(Protocol):
    """What a console needs of a line, whichever of pyserial's handlers opened it."""

    baudrate: int
    timeout: float | None

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read without waiting."""
        ...

    def fileno(self) -> int:
        """Return a descriptor to wait on; not every handler has one."""
        ...

    def read(self, size: int = ..., /) -> bytes:
        """Return up to size bytes, waiting at most `timeout` seconds."""
        ...

    def write(self, data: bytes, /) -> int | None:
        """Send bytes."""
        ...

    def send_break(self, duration: float = ...) -> None:
        """Hold the line low for so many seconds."""
        ...

    def cancel_read(self) -> None:
        """End a read that waits in another thread; not every handler can."""
        ...

    def close(self) -> None:
        """Give the line back."""
        ...


def open_port(url: str, *, baud: int, read_timeout: float) -> Port:
    """Open a port or pyserial URL, for this program alone where the operating system can see to it.

    Raises:
        BoardNotFound: there is no such port. PortBusy: another program has it.
        ConfigError: no such kind of URL. BoardError: it cannot be opened for another reason.
    """
    _check_address(url)
    try:
        port = serial.serial_for_url(
            url, baudrate=baud, timeout=read_timeout, write_timeout=WRITE_TIMEOUT, exclusive=True, do_not_open=True
        )
        # pyserial empties a port that it has opened. In a connection that is new nothing is old, and what a board says
        # at once would be lost.
        new = url.startswith("socket://")
        if new:
            port.reset_input_buffer = lambda: None  # type: ignore[method-assign]
        port.open()
        if new:
            del port.reset_input_buffer
        return port
    except serial.SerialException as error:
        raise _explained(url, error) from error
    except KeyError as error:
        raise _unknown_option(url) from error
    except ValueError as error:
        raise ConfigError(
            f"{url!r} cannot be opened: {error}", hint="such as /dev/ttyACM0, COM7 or socket://host:port"
        ) from error


def carries_break(url: str) -> bool:
    """Whether a break on this line reaches the other side: a TCP socket and a pseudo-terminal have none."""
    if "://" in url:
        return not url.startswith(("socket://", "loop://"))
    return not os.path.realpath(url).startswith(("/dev/pts/", "/dev/ttys"))


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


def _check_address(url: str) -> None:
    """Refuse a TCP line without host and port, of which pyserial says nothing that helps."""
    parts = urlsplit(url)
    if parts.scheme not in ("socket", "rfc2217"):
        return
    try:
        good = parts.hostname and parts.port
    except ValueError:
        good = None
    if not good:
        raise ConfigError(
            f"{url!r} names no host:port", hint="such as socket://127.0.0.1:4000; `pdmlab board --tcp` prints its own"
        )


def _unknown_option(url: str) -> ConfigError:
    """Say what pyserial means by a KeyError: it stumbles over the braces of its own message."""
    return ConfigError(f"{url!r} has an option that pyserial does not know", hint="leave out what follows the ?")


def _explained(url: str, error: serial.SerialException) -> PdmlabError:
    if isinstance(error.__context__, KeyError):
        return _unknown_option(url)
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
