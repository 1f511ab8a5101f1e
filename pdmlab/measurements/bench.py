"""What a measuring function needs of a board: a virtual one, opened up."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from pdmlab.errors import ConfigError
from pdmlab.network.interface import NetworkInterface
from pdmlab.network.interfaces import WiFiInterface
from pdmlab.network.nsapi import Security

if TYPE_CHECKING:
    from pdmlab.boards.catalog import BoardRow
    from pdmlab.storage.medium import Medium
    from pdmlab.update.layout import FlashLayout

Row = dict[str, str | int | float | bool | None]


class Media(Protocol):
    """The bytes that survive power."""

    storage: Medium


class Step(Protocol):
    """A step of a start: what, and from when to when (ns from the start)."""

    @property
    def name(self) -> str: ...

    @property
    def start_ns(self) -> int: ...

    @property
    def duration_ns(self) -> int: ...


class Bench(Protocol):
    """A virtual board, as far as it is measured on."""

    network: NetworkInterface
    layout: FlashLayout
    info: BoardRow
    seed: int

    @property
    def target(self) -> str: ...

    @property
    def media(self) -> Media: ...

    @property
    def run(self) -> Callable[..., Any]: ...

    @property
    def machine(self) -> Any: ...  # the sim's Machine: started_ns, boot_steps


class Scratch(Protocol):
    """What makes boards to measure on."""

    def scratch(self, *, seed: int) -> AbstractContextManager[Any]: ...  # Any: a Bench


def connect(net: NetworkInterface) -> None:
    """Connect an interface, a Wi-Fi one to the access point of the desk; call it from device code."""
    if isinstance(net, WiFiInterface):
        net.set_credentials("desk", "long enough", Security.WPA2)
    net.connect()


def on_board(board: Bench, application: Callable[..., Any]) -> Any:
    """Run a function on the board, as its application, and return what it returns.

    Raises:
        ConfigError: the board is a real one, which runs only what is flashed.
    """
    if not hasattr(board, "run"):
        raise ConfigError(
            f"{board.target} is a real board: Python does not run on it",
            hint="measure it with the suites: pdmlab test -n 'fs-*' --run, or take board = 'sim://K64F'",
        )
    return board.run(application)
