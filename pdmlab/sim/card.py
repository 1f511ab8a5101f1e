"""How a virtual board shows itself: a line in a log, and a card in a notebook that says SIMULATED."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.boards.card import card
from pdmlab.network.nsapi import ConnectionStatus

_CONNECTION = {
    ConnectionStatus.NSAPI_STATUS_LOCAL_UP: "up as far as the local network",
    ConnectionStatus.NSAPI_STATUS_GLOBAL_UP: "connected",
    ConnectionStatus.NSAPI_STATUS_DISCONNECTED: "not connected",
    ConnectionStatus.NSAPI_STATUS_CONNECTING: "connecting",
}

if TYPE_CHECKING:
    from pdmlab.sim.board import VirtualBoard


def describe(board: VirtualBoard) -> str:
    """Return the board in one line."""
    state = "closed" if board.closed else "on" if board.powered else "off"
    installed = "" if board.closed else f", installed: {_installed(board)}"
    return f"<SIMULATED {board.target} id={board.id} seed={board.seed}, {state}{installed}>"


def card_of(board: VirtualBoard) -> str:
    """Return the board's card as HTML."""
    rows: dict[str, object] = {"board": f"{board.info.name}, {board.info.mcu}", "url": board.url}
    if board.closed:
        rows["state"] = "closed"
    else:
        clock, status = board.clock, board.network.get_connection_status()
        rows |= {
            "state": "on" if board.powered else "without power",
            "installed": _installed(board),
            "storage": repr(board.media),
            "network": f"{board.network.link.name}, {_CONNECTION[status]}",
            "clock": f"{clock.now() / 1e9:.6f} s ({clock.name} clock, {clock.pace})",
        }
    return card(board.target, rows, simulated=True)


def _installed(board: VirtualBoard) -> str:
    return str(board.installed() or "nothing that could start")
