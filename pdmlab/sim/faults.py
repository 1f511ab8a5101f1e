"""Faults of a virtual board: pull the card, wear out a sector, lose the root of trust, cut a wire."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.errors import ConfigError

if TYPE_CHECKING:
    from pdmlab.sim.board import VirtualBoard
    from pdmlab.storage.medium import Medium


class Faults:
    """What can be broken on a virtual board, and mended again; each method says what a real desk would see."""

    def __init__(self, board: VirtualBoard) -> None:
        self._any_board = board

    @property
    def _board(self) -> VirtualBoard:
        self._any_board.require_open()
        return self._any_board

    def pull_card(self) -> None:
        """Take the SD card out: its driver answers SD_BLOCK_DEVICE_ERROR_NO_DEVICE (-5005) until `seat_card`."""
        self._card().seated = False

    def seat_card(self) -> None:
        """Put the SD card back, with what was on it."""
        self._card().seated = True

    def erase_sotp(self) -> None:
        """Erase the SOTP sectors, as a drag-and-drop over them does: the device has no identity after it."""
        for area in self._board.layout.sotp:
            self._board.media.flash.poke(area.offset, b"\xff" * area.size)

    def corrupt_application(self, offset: int = 0x1000, length: int = 16) -> None:
        """Zero bytes of the installed application (offset from its start, B): its digest is wrong at the next boot."""
        area = self._board.layout.application
        self._board.media.flash.poke(area.offset + offset, bytes(length))

    def wear_out(self, address: int) -> None:
        """Wear out the erase block of the storage part that holds address (B): it takes no more programs."""
        self._board.media.storage.wear_out(address)

    def cut_power(self, *, after_writes: int | None = None, after_s: float | None = None) -> None:
        """Let the supply fail once: now, in the middle of a later program or erase, or at a later time.

        Give it back with `board.power_on()`; what had reached flash and card is still there.

        Args:
            after_writes: programs and erases, of flash and storage part together, that still succeed; of the next
                one the first half takes effect.
            after_s: device time from now (s).
        """
        if after_writes is not None and after_s is not None:
            raise ConfigError("the supply fails once", hint="give after_writes or after_s")
        if (after_writes or 0) < 0 or (after_s or 0) < 0:
            raise ConfigError("the supply cannot fail in the past", hint="count from now: 0 or more")
        if after_writes is not None:
            self._board.media.supply.writes_left = after_writes
        elif after_s is not None:
            self._board.clock.on_loop(lambda: self._board.clock.loop.call_later(after_s, self._board.power_off))
        else:
            self._board.power_off()

    def cut_wire(self, which: str) -> None:
        """Cut `tx` (the board's output) or `rx` (its input) until `mend_wires`; the other side keeps talking."""
        if which not in ("tx", "rx"):
            raise ConfigError(f"a serial line has no wire {which!r}", hint="cut 'tx' or 'rx'")
        self._board.uart.mute_output |= which == "tx"
        self._board.uart.mute_input |= which == "rx"

    def mend_wires(self) -> None:
        """Mend both wires of the serial line."""
        self._board.uart.mute_output = self._board.uart.mute_input = False

    def unplug_network(self) -> None:
        """Take the network away: no carrier, no access point, no cell."""
        self._board.network.carrier = False

    def plug_network(self) -> None:
        """Give the network back."""
        self._board.network.carrier = True

    def __repr__(self) -> str:
        return "Faults: " + ", ".join(name for name in dir(self) if not name.startswith("_"))

    def _card(self) -> Medium:
        card = self._board.media.storage
        if self._board.info.storage != "SD":
            raise ConfigError(f"a {self._board.target} has no SD card", hint="wear_out() works on soldered parts too")
        return card
