"""The supply and the reset line of a virtual board: they start it, end what runs, and start it again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pdmlab.clock import power_domain
from pdmlab.firmware.device import ResetReason
from pdmlab.sim.machine import Machine
from pdmlab.sim.media import BoardStorage

if TYPE_CHECKING:
    from pdmlab.sim.board import VirtualBoard
    from pdmlab.sim.runs import Runs


class Power:
    """Starts and ends one board; from any OS thread, or from device code, which does not return from its own end.

    on: whether the board has its supply. boots: how often it has started. machine: its present or last start.
    """

    def __init__(self, board: VirtualBoard, runs: Runs, *, own_clock: bool) -> None:
        self.on = False
        self.boots = 0
        self.machine: Machine | None = None
        self._board = board
        self._runs = runs
        self._own_clock = own_clock
        self._domain = None if own_clock else board
        self._retained: dict[str, int] = {}

    def supply(self) -> None:
        """Supply the board: it boots what is installed."""
        if not self.on:
            self.on = self._board.media.powered = True
            self._board.clock.on_loop(self._boot, "power-on")

    def cut(self, why: str | None) -> None:
        """Cut the supply; why: what ended this start for good, or None if the supply comes back at once."""
        if self.on:
            self.on = self._board.media.powered = False
            self._halt(lambda: self._forget(why))

    def cycle(self) -> None:
        """Cut the supply and give it back."""

        def come_back() -> None:
            self._board.media.powered = True
            self._restart("power-on")

        if self.on:
            self._board.media.powered = False
            self._halt(come_back)
        else:
            self.supply()

    def reset(self) -> None:
        """Press the reset button of a board that has its supply."""
        self._halt(lambda: self._restart("pin"))

    def restart_from_inside(self) -> None:
        """Restart on the device's own request; call it from device code, which it ends."""
        self._board.clock.halt_then(lambda: self._restart("software"), self._domain)

    def _halt(self, proceed: Callable[[], object]) -> None:
        self._board.clock.halt(self._domain, proceed)

    def _restart(self, reason: ResetReason) -> None:
        self._forget(None)
        self._boot(reason)

    def _forget(self, why: str | None) -> None:
        """Forget what was in RAM."""
        board = self._board
        board.uart.reset()
        board.network.reset()
        board.network.attach(None)
        self._runs.halted(why)
        if self._own_clock:
            board.clock.pace = "virtual"

    def _boot(self, reason: ResetReason) -> None:
        board = self._board
        self.boots += 1
        storage = BoardStorage(board.info, board.layout, board.clock, board.media, seed=board.seed + self.boots)
        if reason == "power-on":
            self._retained.clear()
        self.machine = Machine(board, storage, reason, self._runs, self._retained)
        self._runs.started(self.machine)
        token = power_domain.set(board)
        self.machine.start()
        power_domain.reset(token)
