"""What comes out of a port, as fast as it comes: for the thread that drains it."""

from __future__ import annotations

import contextlib
import selectors
import socket

import serial

from pdmlab.boards.port import Port

READ_SIZE = 64 * 1024
"""Bytes to take at once, if there are so many."""
_SLICE = 0.2  # seconds; waits are cut into these


class Source:
    """The bytes of a port, as many at once as there are, without pyserial's wait for a full buffer."""

    def __init__(self, port: Port) -> None:
        self._port = port
        self._selector: selectors.BaseSelector | None = None
        try:
            fd = port.fileno()
        except (OSError, AttributeError, serial.SerialException):
            return  # Windows, and handlers without a descriptor
        self._selector = selectors.DefaultSelector()
        self._waker, woken = socket.socketpair()
        self._woken = woken
        self._selector.register(fd, selectors.EVENT_READ)
        self._selector.register(woken, selectors.EVENT_READ)
        port.timeout = 0

    def read(self) -> bytes:
        """Return what has come; b"" after a while."""
        if self._selector is not None:
            self._selector.select(_SLICE)
            return self._port.read(READ_SIZE)
        first = self._port.read(1)
        if not first:
            return b""
        waiting = self._port.in_waiting
        return first + (self._port.read(min(waiting, READ_SIZE)) if waiting else b"")

    def wake(self) -> None:
        """End a read that waits in another thread."""
        if self._selector is not None:
            self._waker.send(b"x")
        else:
            with contextlib.suppress(AttributeError, serial.SerialException, OSError):
                self._port.cancel_read()

    def close(self) -> None:
        """Give back what was needed for waiting."""
        if self._selector is not None:
            self._selector.close()
            self._waker.close()
            self._woken.close()
