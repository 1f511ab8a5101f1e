"""The virtual board: what a real one on a cable has, and what can be opened up besides.

>>> board = VirtualBoard("K64F", id="desk1")
>>> board.run(lambda: print("on the board's clock"))
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pdmlab import settings
from pdmlab.boards import catalog
from pdmlab.boards.console import Console
from pdmlab.client.download_protocol import DownloadProtocol
from pdmlab.client.download_protocol import check as check_download
from pdmlab.client.transport import Transport, check
from pdmlab.clock import DeviceClock
from pdmlab.errors import BoardError, PortBusy
from pdmlab.network.fabric import Fabric
from pdmlab.sim.blueprint import Blueprint
from pdmlab.sim.board_layout import from_settings, layout_for, settings_of
from pdmlab.sim.card import card_of, describe
from pdmlab.sim.desk import make_fabric, make_interface
from pdmlab.sim.faults import Faults
from pdmlab.sim.image_keys import ImageKeys
from pdmlab.sim.machine import BootStep, Machine
from pdmlab.sim.media import BoardMedia, BoardStorage
from pdmlab.sim.opening import Address, enter, free_number, leave, open_board, opened
from pdmlab.sim.power import Power
from pdmlab.sim.programmed import ProgrammedBoard
from pdmlab.sim.programmer import Programmer
from pdmlab.sim.runs import Runs, is_function
from pdmlab.sim.state import StateDirectory
from pdmlab.sim.uart import VirtualUart
from pdmlab.update import bootloaders

if TYPE_CHECKING:
    from pdmlab.boards.catalog import BoardRow
    from pdmlab.update.layout import FlashLayout

__all__ = ["VirtualBoard", "open_board", "opened"]

T = TypeVar("T")


class VirtualBoard(ProgrammedBoard):
    """A board in this process: flash and card in files, a clock of its own, faults at will. It says SIMULATED.

    A board of the same id that this process has open is closed first, so that a notebook's cell can be run again.

    Args:
        target: Mbed's target name, such as K64F.
        id: whose flash and card it is (a directory below the state folder, locked); default: the target's name.
        seed: of everything random on the board.
        memory: keep flash and card in memory; they end with the board. Any number of such boards can be open; one
            that is given by number takes the place of the open one of that number.
        transport: what the client of its images speaks: tcp (TLS, or plain TCP), udp (DTLS, or UDP) or udp_queue; by
            default what the working folder's mbed_app.json says, else TLS for coaps:// and UDP for coap://.
        download: what that client fetches firmware by: coap (over its connection) or http; by default what
            mbed_app.json says, else CoAP.
        bootloader: which one it has, flashed if it has another: fota (header v3), mbed (mbed-bootloader, header v2) or
            trial (signed images, on trial until confirmed); by default what is in its flash, fota in a new one.
        clock, fabric: share them with others, for a story in virtual time.
        power: whether to boot at once.

    Raises:
        PortBusy: another process has that id open.
        BoardNotFound: no such target.
    """

    simulated = True

    def __init__(
        self,
        target: str = "K64F",
        *,
        id: str | None = None,
        seed: int | None = None,
        memory: bool | int = False,
        transport: Transport | None = None,
        download: DownloadProtocol | None = None,
        bootloader: bootloaders.Kind | None = None,
        clock: DeviceClock | None = None,
        fabric: Fabric | None = None,
        power: bool = True,
    ) -> None:
        self.info: BoardRow = catalog.find(target)
        self.target = self.info.target
        self.id = id or self.target
        chosen = settings.load(seed=seed)
        self.seed = chosen.number("seed")
        number = free_number(self.id) if memory is True else int(memory)
        wanted = bootloaders.kind(bootloader)
        self.address = Address(
            self.target, self.id, self.seed, number, check(transport), check_download(download), wanted
        )
        self.layout = layout_for(self.info)
        self._closed = False
        self._runs = Runs(self.target)
        self._port: object | None = None
        self._console: Console | None = None
        before = opened(self.url)
        if before is not None:
            before.close()
        with contextlib.ExitStack() as undo:
            self._state = None if memory else StateDirectory(chosen.folder("state"), self.id, self.target)
            if self._state is not None:
                undo.callback(self._state.close)
            self.clock = clock or DeviceClock(name=self.id)
            if clock is None:
                undo.callback(self.clock.close)
            self.media = BoardMedia(self.info, self.layout, self._state.path if self._state is not None else None)
            undo.callback(self.media.close)
            self.uart = VirtualUart(self.clock)
            self.fabric = fabric or make_fabric(self.clock, self.seed)
            self.network = make_interface(
                self.info.interface_type, self.clock, self.fabric, name=self.id, seed=self.seed
            )
            self._power = Power(self, self._runs, own_clock=clock is None)
            self.media.supply.cut = self.power_off
            self.faults = Faults(self)
            self._programmer = Programmer(
                self.target,
                self.layout,
                self.media.flash,
                self.address.transport,
                self.address.download,
                ImageKeys(self._state.path if self._state is not None else None),
            )
            before_move = self._layout_before()
            if before_move is not None:
                self._programmer.move_from(before_move)
            blank = not self._programmer.has_bootloader()
            if blank or (wanted is not None and self._programmer.bootloader().application != wanted):
                self._programmer.write_bootloader(wanted or bootloaders.DEFAULT)
            if self._programmer.is_blank() or is_function(self.installed()):
                self._programmer.write(self._programmer.build_blank())
            self._close = undo.pop_all()
        enter(self)
        if power:
            try:
                self.power_on()
            except BaseException:
                self.close()
                raise

    def _layout_before(self) -> FlashLayout | None:
        """Return the layout by which the flash in this board's folder was written, if that is another one."""
        if self._state is None:
            return None
        found, now = self._state.note_layout(settings_of(self.layout))
        if found is None:  # never kept: it is the catalogue's
            before = self.info.layout()
            return before if self._programmer.has_bootloader() and before != self.layout else None
        return from_settings(self.info, found) if found != now else None

    @property
    def closed(self) -> bool:
        """Whether the board was closed."""
        return self._closed

    @property
    def url(self) -> str:
        """What connect(), and any pyserial program in this process, opens this board by."""
        return str(self.address)

    @property
    def folder(self) -> Path | None:
        """Where the files of its flash and card are; None for a board in memory."""
        return self._state.path if self._state is not None else None

    # -- power -----------------------------------------------------------------------------------------

    @property
    def powered(self) -> bool:
        """Whether the board has its supply."""
        return self._power.on

    @property
    def boots(self) -> int:
        """How often the board has started."""
        return self._power.boots

    def power_on(self) -> None:
        """Supply the board: it boots what is installed."""
        self.require_open()
        self._power.supply()

    def power_off(self) -> None:
        """Cut the supply at once; flash and card keep what had reached them.

        Device code that does this to its own board does not return from it.
        """
        self._power.cut("the board's power was cut")

    def power_cycle(self) -> None:
        """Cut the supply and give it back."""
        self.require_open()
        self._power.cycle()

    def reset(self) -> None:
        """Press the reset button: what was in RAM is gone, and the board boots.

        Raises:
            BoardError: the board has no power.
        """
        self.require_open()
        if not self.powered:
            raise BoardError(f"the virtual board {self.id!r} has no power", hint="call board.power_on()")
        self._power.reset()

    def restart_from_inside(self) -> None:
        """Restart on the device's own request; call it from device code, which it ends."""
        self._power.restart_from_inside()

    @property
    def machine(self) -> Machine:
        """The present start of the board, or the last one.

        Raises:
            BoardError: the board has not been started.
        """
        if self._power.machine is None:
            raise BoardError(f"the virtual board {self.id!r} has not booted yet", hint="call board.power_on()")
        return self._power.machine

    @property
    def storage(self) -> BoardStorage:
        """The drivers and stores of the present start."""
        return self.machine.storage

    @property
    def boot_steps(self) -> list[BootStep]:
        """What the present start has done so far, step by step, in device time."""
        return list(self.machine.boot_steps)

    # -- running functions -----------------------------------------------------------------------------

    def run(self, application: Callable[..., T], *args: Any, timeout: float | None = None, **kwargs: Any) -> T:
        """Run a function on the board, as its application, and return what it returns.

        The function is flashed as an image that names it, and booted. It is given the running Device before `args`
        if its first parameter is called `device`, or if it requires one positional argument more than there are:
        `board.run(lambda d: d.network.type)`. Its background work (a client, threads) goes on after it.

        Args:
            timeout: host seconds to wait; None waits for ever. Ctrl-C stops the board, which stays usable.

        Raises:
            ConfigError: it cannot be called with these arguments, with the Device or without.
            BoardError: it did not end in time, or the board could not boot it, or lost its power.
            Exception: whatever the function raises.
        """
        label = getattr(application, "__name__", "the function")
        name, adopted = self._runs.adopt(application, args, kwargs)
        image = self.build(name)
        try:
            self.flash(image)
            return cast(T, self._runs.wait(timeout, label, adopted))
        except KeyboardInterrupt:
            self.power_off()
            raise

    def wait_for_end(self, timeout: float | None = None, *, what: str = "the application") -> Any:
        """Wait until the application has ended, over restarts that it makes itself; return what it returned.

        Raises:
            BoardError: it has not ended after `timeout` host seconds, or the board has no power any more.
        """
        return self._runs.wait(timeout, what)

    @property
    def blueprint(self) -> Blueprint:
        """What it takes to make boards like this one, in any process."""
        self.require_open()
        return Blueprint(self.target, self.id, self.network.link)

    def scratch(self, *, seed: int) -> contextlib.AbstractContextManager[VirtualBoard]:
        """Give a fresh board of the same kind and link with blank media in memory, and end it afterwards."""
        return self.blueprint.scratch(seed=seed)

    # -- the serial line -----------------------------------------------------------------------------------

    @property
    def console(self) -> Console:
        """The host's end of the serial line."""
        self.require_open()
        if self._console is None or self._console.closed:
            if self._console is not None:
                self._console.close()
            self._console = Console(self.url, name=self.target)
        return self._console

    def attach(self, port: object) -> None:
        """Give the line to a port; one at a time.

        Raises:
            PortBusy: another port has it.
        """
        if self._port is not None:
            raise PortBusy(f"{self.url} is open in this process already", hint="use board.console, or close it")
        self._port = port

    def detach(self, port: object) -> None:
        """Take the line back."""
        if self._port is port:
            self._port = None

    # -- the end -----------------------------------------------------------------------------------------------

    def require_open(self) -> None:
        """Raise BoardError if the board was closed."""
        if self._closed:
            raise BoardError(f"the virtual board {self.id!r} is closed", hint=f"pdmlab.connect({self.url!r}) opens it")

    def close(self) -> None:
        """Cut the power, close files and line, and give the state directory back."""
        if self._closed:
            return
        self._power.cut("the board was closed")
        self._closed = True
        self.uart.close()
        if self._console is not None:
            self._console.close()
        leave(self)
        self._close.close()

    def __enter__(self) -> VirtualBoard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return describe(self)

    def _repr_html_(self) -> str:
        return card_of(self)
