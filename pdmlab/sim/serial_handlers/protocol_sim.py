"""pyserial's handler of `sim://K64F?id=desk1`: any program that takes a pyserial URL can talk to a virtual board."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import serial
from serial.serialutil import SerialBase

from pdmlab.errors import BoardError, ConfigError
from pdmlab.sim.opening import open_board, opened

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from pdmlab.sim.board import VirtualBoard


class Serial(SerialBase):
    """The host's end of a virtual board's serial line.

    Opens the board if this process has not done so yet, and then closes it again on `close`.
    """

    _board: VirtualBoard | None = None
    _owns_board = False

    def open(self) -> None:
        """Attach to the board.

        Raises:
            serial.SerialException: no such board, or its line is open already.
        """
        if self.port is None:
            raise serial.SerialException("a sim:// port needs a URL")
        if self.is_open:
            raise serial.SerialException(f"{self.port} is open already")
        try:
            board = opened(self.port)
            self._owns_board = board is None
            board = board or open_board(self.port)
            board.attach(self)
        except (BoardError, ConfigError) as error:
            raise serial.SerialException(str(error)) from error
        self._board = board
        self.is_open = True

    def close(self) -> None:
        """Detach; end the board if this port started it."""
        if not self.is_open:
            return
        self.is_open = False
        board, self._board = self._board, None
        if board is not None:
            board.uart.host_wake()
            board.detach(self)
            if self._owns_board:
                board.close()

    def _attached(self) -> VirtualBoard:
        if self._board is None:
            raise serial.PortNotOpenError
        return self._board

    def read(self, size: int = 1, /) -> bytes:
        """Read size bytes; fewer if the port's timeout passes first.

        Raises:
            serial.SerialException: the board was closed, and everything that it printed has been read.
        """
        uart = self._attached().uart
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        data = bytearray()
        while len(data) < size:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            piece = uart.host_read(size - len(data), left)
            data += piece
            if not piece:
                if uart.closed and not data:
                    raise serial.SerialException("the virtual board was closed")
                break
        return bytes(data)

    def write(self, data: ReadableBuffer, /) -> int:
        """Send bytes to the board; never blocks."""
        payload = bytes(data)
        self._attached().uart.host_write(payload)
        return len(payload)

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read without waiting."""
        return self._attached().uart.host_waiting

    @property
    def out_waiting(self) -> int:
        """Always 0: what was written has left."""
        return 0

    def flush(self) -> None:
        """Return at once: what was written has left."""

    def reset_input_buffer(self) -> None:
        """Forget what the board printed and nobody read."""
        self._attached().uart.host_flush_output()

    def reset_output_buffer(self) -> None:
        """Do nothing: what was written has left."""

    def cancel_read(self) -> None:
        """Wake a reader that waits in another thread."""
        self._attached().uart.host_wake()

    def cancel_write(self) -> None:
        """Do nothing: no write waits."""

    def send_break(self, duration: float = 0.25) -> None:
        """Reset the board at once, as DAPLink and ST-Link do on a serial break."""
        self._attached().reset()

    def _update_break_state(self) -> None:
        if self.break_condition:
            self._attached().reset()

    def _update_rts_state(self) -> None: ...

    def _update_dtr_state(self) -> None: ...

    def _reconfigure_port(self) -> None: ...

    @property
    def cts(self) -> bool:
        """Clear to send: always."""
        return True

    @property
    def dsr(self) -> bool:
        """Data set ready: always."""
        return True

    @property
    def ri(self) -> bool:
        """Ring indicator: never."""
        return False

    @property
    def cd(self) -> bool:
        """Carrier: while the board is open."""
        return self._board is not None
