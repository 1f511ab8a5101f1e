"""A virtual board on a port of its own, for any serial program: a pty on POSIX, or a TCP port anywhere."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from pdmlab.boards import bridged
from pdmlab.errors import BoardError, ConfigError

_READ_SIZE = 4096


class HostLine(Protocol):
    """The host's side of a virtual board's UART."""

    @property
    def listener(self) -> Callable[[], None] | None:
        """Called, on any thread, when the board has printed something."""
        ...

    @listener.setter
    def listener(self, listener: Callable[[], None] | None) -> None: ...

    @property
    def host_waiting(self) -> int:
        """Bytes printed and not read."""
        ...

    def host_read(self, size: int, timeout_s: float | None) -> bytes:
        """Return up to size bytes."""
        ...

    def host_write(self, data: bytes) -> None:
        """Send bytes to the board."""
        ...


@contextlib.contextmanager
def pty_bridge(line: HostLine, *, link: Path | None = None, board: str | None = "unknown") -> Iterator[str]:
    """Give the line a pseudo-terminal; yield its name, such as /dev/pts/3.

    What the board prints while nobody has opened the terminal waits in the board.

    Args:
        link: a symbolic link to make to it, so that its name is known beforehand.
        board: the target of the virtual board that the line is of, for whoever opens it on this machine; None if it is
            of none.

    Raises:
        ConfigError: the operating system has no pseudo-terminals, or something else has the link's name.
    """
    if sys.platform == "win32":
        raise ConfigError("Windows has no pseudo-terminals", hint="use --tcp, and socket://127.0.0.1:PORT")
    import pty
    import tty

    host_end, board_end = pty.openpty()
    tty.setraw(board_end)
    name = os.ttyname(board_end)
    os.set_blocking(host_end, False)
    try:
        if link is not None:
            _make_link(link, name)
        # Our own descriptor of the board's end stays open: without it the pty hangs up when a program leaves.
        with (
            _announced(os.path.realpath(name), board),
            _pump(line, host_end, lambda: os.read(host_end, _READ_SIZE), lambda data: os.write(host_end, data)),
        ):
            yield name
    finally:
        if link is not None and link.is_symlink() and os.readlink(link) == name:
            link.unlink()
        os.close(host_end)
        os.close(board_end)


def _make_link(link: Path, name: str) -> None:
    try:
        if link.is_symlink():  # left over by a board that was killed
            link.unlink()
        link.symlink_to(name)
    except OSError as error:
        raise ConfigError(
            f"cannot make the link {link} to {name}: {error.strerror}", hint="take a name that is free"
        ) from error


@contextlib.contextmanager
def tcp_bridge(
    line: HostLine, *, host: str = "127.0.0.1", port: int = 0, board: str | None = "unknown"
) -> Iterator[tuple[str, int]]:
    """Serve the line on a TCP port, one program at a time; yield the address. board: as of pty_bridge.

    Raises:
        BoardError: the port is taken.
    """
    try:
        server = socket.create_server((host, port))
    except OSError as error:
        raise BoardError(
            f"cannot listen on {host}:{port}: {error.strerror}", hint="take --port 0 for a free one"
        ) from error
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.setblocking(False)
                gone = threading.Event()

                def read(connection: socket.socket = connection, gone: threading.Event = gone) -> bytes:
                    data = b""
                    with contextlib.suppress(ConnectionError):
                        data = connection.recv(_READ_SIZE)
                    if not data:
                        gone.set()
                    return data

                with _pump(line, connection.fileno(), read, connection.send):
                    while not gone.wait(0.1) and not stop.is_set():
                        pass

    thread = threading.Thread(target=serve, name="pdmlab-tcp", daemon=True)
    thread.start()
    try:
        address: tuple[str, int] = server.getsockname()[:2]
        with _announced(f"{address[0]}:{address[1]}", board):
            yield address
    finally:
        stop.set()
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)


def _announced(line: str, board: str | None) -> contextlib.AbstractContextManager[None]:
    return bridged.announced(line, board) if board is not None else contextlib.nullcontext()


@contextlib.contextmanager
def _pump(line: HostLine, fd: int, read: Callable[[], bytes], write: Callable[[bytes], int]) -> Iterator[None]:
    """Carry bytes both ways in a thread: the board's output waits in the board while the other side is slow."""
    selector = selectors.DefaultSelector()
    wake_read, wake_write = socket.socketpair()
    wake_read.setblocking(False)
    wake_write.setblocking(False)
    selector.register(fd, selectors.EVENT_READ)
    selector.register(wake_read, selectors.EVENT_READ)
    running = True
    pending = b""

    def wake() -> None:
        with contextlib.suppress(BlockingIOError):
            wake_write.send(b"x")

    def carry() -> None:
        nonlocal pending
        while running:
            wants = selectors.EVENT_READ | (selectors.EVENT_WRITE if pending or line.host_waiting else 0)
            selector.modify(fd, wants)
            for key, events in selector.select():
                if key.fileobj is wake_read:
                    with contextlib.suppress(BlockingIOError):
                        wake_read.recv(4096)
                    continue
                try:
                    if events & selectors.EVENT_READ:
                        data = read()
                        if not data:
                            return
                        line.host_write(data)
                    if events & selectors.EVENT_WRITE:
                        pending = pending or line.host_read(_READ_SIZE, 0)
                        if pending:
                            pending = pending[write(pending) :]
                except BlockingIOError:
                    continue
                except OSError:
                    return  # the other program went away

    thread = threading.Thread(target=carry, name="pdmlab-bridge", daemon=True)
    line.listener = wake
    thread.start()
    wake()
    try:
        yield
    finally:
        line.listener = None
        running = False
        wake()
        thread.join(5)
        selector.close()
        wake_read.close()
        wake_write.close()
