"""pyserial's handler of `sim://K64F?id=desk1`: any program that takes a pyserial URL can talk to a virtual board."""

from __future__ import annotations

from typing import Any

import serial
from serial import SerialBase

from pdmlab.errors import BoardError, ConfigError
from pdmlab.sim.board import VirtualBoard, open_board, opened


class Serial(SerialBase):  # type: ignore[misc]  # pyserial's base class is untyped
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
        if self._port is None:
            raise serial.SerialException("a sim:// port needs a URL")
        if self.is_open:
            raise serial.SerialException(f"{self._port} is open already")
        try:
            board = opened(self._port)
            self._owns_board = board is None
            board = board or open_board(self._port)
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
            board.detach(self)
            if self._owns_board:
                board.close()

    def _attached(self) -> VirtualBoard:
        if self._board is None:
            raise serial.PortNotOpenError
        return self._board

    def read(self, size: int = 1) -> bytes:
        """Read up to size bytes; waits at most the port's timeout for the first, then takes what is there."""
        uart = self._attached().uart
        data = bytearray(uart.host_read(size, self._timeout))
        while data and len(data) < size and self._timeout is None:
            data += uart.host_read(size - len(data), None)
            if not self.is_open:
                break
        return bytes(data)

    def write(self, data: Any) -> int:
        """Send bytes to the board; never blocks."""
        payload = bytes(serial.to_bytes(data))
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

    def send_break(self, duration: float = 0.25) -> None:
        """Reset the board at once, as DAPLink and ST-Link do on a serial break."""
        self._attached().reset()

    def _update_break_state(self) -> None:
        if self._break_state and self._board is not None:
            self._board.reset()

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
