"""The virtual board: what a real one on a cable has, and what can be opened up besides.

>>> board = VirtualBoard("K64F", id="desk1")
>>> board.run(lambda: print("on the board's clock"))
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import threading
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

from pdmlab import settings
from pdmlab.boards import catalog
from pdmlab.boards.console import Console
from pdmlab.clock import DeviceClock
from pdmlab.errors import BoardError, ConfigError, FlashFailed, ImageRejected, PdmlabError, PortBusy
from pdmlab.firmware import corpus, registry
from pdmlab.firmware.device import Device, ResetReason
from pdmlab.firmware.image import ImageInfo, build_image, descriptor_size, read_image
from pdmlab.network import interface as network_interface
from pdmlab.network.fabric import Fabric
from pdmlab.network.fileserver import serve_files
from pdmlab.sim.compiled_in import compiled_in
from pdmlab.sim.faults import Faults
from pdmlab.sim.machine import IMAGE_HEAD, Machine
from pdmlab.sim.media import BoardMedia, BoardStorage
from pdmlab.sim.state import StateDirectory
from pdmlab.sim.uart import VirtualUart
from pdmlab.storage import blockdevice
from pdmlab.update.credentials import Credentials, UpdateResources
from pdmlab.update.header import HEADER_SIZE, FirmwareHeader
from pdmlab.update.version import Version

if TYPE_CHECKING:
    from pdmlab.boards.catalog import BoardRow

T = TypeVar("T")

DOWNLOADS_HOST = "downloads.pdmlab"
"""The host on every virtual board's own network that serves the corpus, on port 80."""

_opened: dict[str, VirtualBoard] = {}


class VirtualBoard:
    """A board in this process: flash and card in files, a clock of its own, faults at will. It says SIMULATED.

    Args:
        target: Mbed's target name, such as K64F.
        id: whose flash and card it is (a directory below the state folder, locked); default: the target's name.
        seed: of everything random on the board.
        memory: keep flash and card in memory; they end with the board.
        clock, fabric: share them with others, for a story in virtual time.
        power: whether to boot at once.

    Raises:
        PortBusy: another process or board has that id open.
        BoardNotFound: no such target.
    """

    simulated = True

    def __init__(
        self,
        target: str = "K64F",
        *,
        id: str | None = None,
        seed: int | None = None,
        memory: bool = False,
        clock: DeviceClock | None = None,
        fabric: Fabric | None = None,
        power: bool = True,
    ) -> None:
        self.info: BoardRow = catalog.find(target)
        self.target = self.info.target
        self.id = id or self.target
        chosen = settings.load(seed=seed)
        self.seed = chosen.number("seed")
        self.layout = self.info.layout()
        self.boots = 0
        self._powered = self._closed = False
        self._changed = threading.Condition()
        self._machine: Machine | None = None
        self._ended: tuple[Machine, object, Exception | None] | None = None
        self._port: object | None = None
        self._console: Console | None = None
        with contextlib.ExitStack() as undo:
            self._state = None if memory else StateDirectory(chosen.folder("state"), self.id, self.target)
            if self._state is not None:
                undo.callback(self._state.close)
            self._own_clock = clock is None
            self.clock = clock or DeviceClock(name=self.id)
            if self._own_clock:
                undo.callback(self.clock.close)
            self.media = BoardMedia(self.info, self.layout, self._state.path if self._state is not None else None)
            undo.callback(self.media.close)
            self.uart = VirtualUart(self.clock)
            self.fabric = fabric or self._make_fabric()
            self.network = network_interface.INTERFACES[self.info.interface_type](
                self.clock, fabric=self.fabric, name=self.id, seed=self.seed
            )
            self.faults = Faults(self)
            if self.installed() is None:
                self._install(build_image(ImageInfo("idle"), load_address=self._load_address))
            self._close = undo.pop_all()
        _opened[self.id] = self
        _make_default(self)
        if power:
            self.power_on()

    def _make_fabric(self) -> Fabric:
        fabric = Fabric(self.clock, self.seed)
        serve_files(fabric.host(DOWNLOADS_HOST), {"/corpus.txt": corpus.corpus()})
        return fabric

    @property
    def url(self) -> str:
        """What connect(), and any pyserial program in this process, opens this board by."""
        return f"sim://{self.target}?{urlencode({'id': self.id, 'seed': self.seed})}"

    # -- power -----------------------------------------------------------------------------------------

    @property
    def powered(self) -> bool:
        """Whether the board has its supply."""
        return self._powered

    def power_on(self) -> None:
        """Supply the board: it boots what is installed."""
        self._require_open()
        if not self._powered:
            self._powered = self.media.powered = True
            self.clock.call_soon(self._boot, "power-on")

    def power_off(self) -> None:
        """Cut the supply at once; flash and card keep what had reached them."""
        if self._powered:
            self._powered = self.media.powered = False
            self.clock.halt(None if self._own_clock else self)
            self._forget()

    def power_cycle(self) -> None:
        """Cut the supply and give it back."""
        self.power_off()
        self.power_on()

    def reset(self) -> None:
        """Press the reset button: what was in RAM is gone, and the board boots.

        Raises:
            BoardError: the board has no power.
        """
        self._require_open()
        if not self._powered:
            raise BoardError(f"the virtual board {self.id!r} has no power", hint="call board.power_on()")
        self.clock.halt(None if self._own_clock else self)
        self.clock.call_soon(self._reboot, "pin")

    def restart_from_inside(self, reason: ResetReason) -> None:
        """Restart on the device's own request; call it from device code, which it ends."""
        self.clock.halt_then(lambda: self._reboot(reason), None if self._own_clock else self)

    def _reboot(self, reason: ResetReason) -> None:
        self._forget()
        if self._powered:
            self._boot(reason)

    def _forget(self) -> None:
        self.uart.reset()
        self.network.reset()
        if self._own_clock:
            self.clock.pace = "virtual"

    def _boot(self, reason: ResetReason) -> None:
        machine = Machine(self, BoardStorage(self.info, self.layout, self.clock, self.media), reason)
        with self._changed:
            self.boots += 1
            self._machine, self._ended = machine, None
            self._changed.notify_all()
        machine.start()

    @property
    def machine(self) -> Machine:
        """The present start of the board: what booted, how, and how long each step took.

        Raises:
            BoardError: the board has not been started.
        """
        if self._machine is None:
            raise BoardError(f"the virtual board {self.id!r} has not booted yet", hint="call board.power_on()")
        return self._machine

    @property
    def storage(self) -> BoardStorage:
        """The drivers and stores of the present start."""
        return self.machine.storage

    # -- firmware ----------------------------------------------------------------------------------------

    @property
    def _load_address(self) -> int:
        return self.layout.address(self.layout.application)

    def installed(self) -> ImageInfo | None:
        """Return what the installed image says of itself; None if its bytes name nothing."""
        start, flash = self.layout.app_offset, self.media.flash
        try:
            return read_image(flash.peek(start, descriptor_size(flash.peek(start, IMAGE_HEAD))))
        except ImageRejected:
            return None

    def flash(self, image: bytes | Path | str) -> None:
        """Write an application image with its header, as a programmer does, and restart; SOTP stays untouched.

        The bytes are written as they are: whether they name anything shows when the board boots.

        Raises:
            FlashFailed: the file cannot be read, or the image does not fit.
        """
        if not isinstance(image, bytes):
            try:
                image = Path(image).read_bytes()
            except OSError as error:
                raise FlashFailed(
                    f"{image} cannot be read: {error.strerror}", hint="give the path of a .bin"
                ) from error
        self.power_off()
        self._install(image)
        self.power_on()

    def flash_application(
        self,
        name: str,
        *,
        version: str = "1.0.0",
        build: str = "0",
        credentials: Credentials | None = None,
        update_resources: UpdateResources | None = None,
    ) -> None:
        """Build an image of an application with its compiled-in credentials, flash it and restart."""
        registry.find(name)
        self.flash(
            self.build(name, version=version, build=build, credentials=credentials, update_resources=update_resources)
        )

    def build(
        self,
        application: str,
        *,
        version: str = "1.0.0",
        build: str = "0",
        credentials: Credentials | None = None,
        update_resources: UpdateResources | None = None,
    ) -> bytes:
        """Build an image for this board without flashing it; credentials default to what the project compiles in."""
        found = compiled_in()
        credentials = credentials or found.credentials
        update_resources = update_resources or found.update_resources
        info = ImageInfo(
            application,
            version,
            build,
            credentials=credentials.to_mapping() if credentials is not None else None,
            update_resources=update_resources.to_mapping() if update_resources is not None else None,
        )
        return build_image(info, load_address=self._load_address)

    def _install(self, image: bytes) -> None:
        area, flash = self.layout.application, self.media.flash
        if len(image) > area.size:
            raise FlashFailed(
                f"the image of {len(image)} B does not fit {area} ({area.size} B)", hint="build a smaller one"
            )
        try:
            version = Version.parse(read_image(image).version)
        except PdmlabError:
            version = Version.parse("0.0.0")
        header = FirmwareHeader(len(image), version, hashlib.sha256(image).digest())
        flash.poke(self.layout.header_offset, header.pack().ljust(HEADER_SIZE, b"\xff"))
        flash.poke(area.offset, image)

    def run(self, application: Callable[..., T], *args: Any, timeout: float | None = None, **kwargs: Any) -> T:
        """Run a function on the board, as its application, and return what it returns.

        The function is flashed as an image that names it, and booted. If its first parameter is called
        `device` it is given the running Device. Its background work (a client, threads) goes on after it.

        Args:
            timeout: host seconds to wait; None waits for ever. Ctrl-C stops the board, which stays usable.

        Raises:
            BoardError: it did not end in time, or the board could not boot it.
            Exception: whatever the function raises.
        """
        label = getattr(application, "__name__", "function")
        name = f"run:{label}:{id(application):x}"
        wants_device = next(iter(inspect.signature(application).parameters), None) == "device"

        def run(device: Device) -> object:
            return application(device, *args, **kwargs) if wants_device else application(*args, **kwargs)

        registry.register(name, run)
        self.flash(self.build(name))
        try:
            return self.wait_for_end(timeout, what=label)
        except KeyboardInterrupt:
            self.power_off()
            self._powered = False
            raise

    def wait_for_end(self, timeout: float | None = None, *, what: str = "the application") -> Any:
        """Wait until the application has ended, over restarts that it makes itself; return what it returned.

        Raises:
            BoardError: it has not ended after `timeout` host seconds.
        """
        waited = 0.0
        with self._changed:
            while self._ended is None:
                self._changed.wait(0.2)  # in slices, so that Ctrl-C comes through everywhere
                waited += 0.2
                if timeout is not None and waited >= timeout:
                    raise BoardError(
                        f"{what} on {self.target} has not ended after {timeout:g} s (host clock)",
                        hint="board.console.transcript shows what it printed; board.reset() starts it again",
                    )
            _, result, error = self._ended
        if error is not None:
            raise error
        return result

    def ended(self, machine: Machine, result: object, error: Exception | None) -> None:
        """Note how an application ended (the machine calls it)."""
        with self._changed:
            if machine is self._machine:
                self._ended = (machine, result, error)
                self._changed.notify_all()

    @contextlib.contextmanager
    def scratch(self, *, seed: int) -> Iterator[VirtualBoard]:
        """Give a fresh board of the same kind and link with blank media in memory, and end it afterwards."""
        with VirtualBoard(self.target, id=f"{self.id}-scratch", seed=seed, memory=True, power=False) as board:
            board.network.link = self.network.link
            yield board

    # -- the serial line -----------------------------------------------------------------------------------

    @property
    def console(self) -> Console:
        """The host's end of the serial line."""
        self._require_open()
        if self._console is None or self._console.closed:
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

    def _require_open(self) -> None:
        if self._closed:
            raise BoardError(f"the virtual board {self.id!r} is closed", hint=f"pdmlab.connect({self.url!r}) opens it")

    def close(self) -> None:
        """Cut the power, close files and line, and give the state directory back."""
        if self._closed:
            return
        self.power_off()
        self._closed = True
        if self._console is not None:
            self._console.close()
        self.uart.close()
        if _opened.get(self.id) is self:
            del _opened[self.id]
        _make_default(next(reversed(_opened.values()), None))
        self._close.close()

    def __enter__(self) -> VirtualBoard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "on" if self._powered else "off"
        return f"<SIMULATED {self.target} id={self.id} seed={self.seed}, {state}, installed: {self.installed()}>"

    def _repr_html_(self) -> str:
        rows = {
            "board": f"{self.info.name}, {self.info.mcu}",
            "url": self.url,
            "installed": self.installed() or "nothing that could start",
            "storage": repr(self.media),
            "network": repr(self.network),
            "clock": f"{self.clock.now() / 1e9:.6f} s since power-up ({self.clock.name} clock, {self.clock.pace})",
        }
        cells = "".join(
            f"<tr style='text-align:left'><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
            for name, value in rows.items()
        )
        return (
            "<div style='border:2px dashed #D55E00;border-radius:8px;padding:.6em 1em;display:inline-block'>"
            f"<b style='color:#a84a00'>SIMULATED {escape(self.target)}</b><table>{cells}</table></div>"
        )


def open_board(url: str) -> VirtualBoard:
    """Open the virtual board of a URL such as sim://K64F?id=desk1&seed=7.

    Raises:
        ConfigError: the URL has something that a virtual board has not.
        BoardNotFound, PortBusy: see VirtualBoard.
    """
    target, board_id, seed = _parse(url)
    return VirtualBoard(target, id=board_id, seed=seed)


def opened(url: str) -> VirtualBoard | None:
    """Return the board of this process that a URL means, if it is open."""
    target, board_id, _ = _parse(url)
    return _opened.get(board_id or catalog.find(target).target)


def _parse(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = set(query) - {"id", "seed"}
    if parts.scheme != "sim" or not parts.netloc or parts.path not in ("", "/") or unknown:
        raise ConfigError(f"{url!r} names no virtual board", hint="such as sim://K64F?id=desk1&seed=7")
    seed = query.get("seed")
    try:
        return parts.netloc, query.get("id"), int(seed) if seed is not None else None
    except ValueError:
        raise ConfigError(f"the seed in {url!r} is no whole number", hint="such as seed=7") from None


def _make_default(board: VirtualBoard | None) -> None:
    """Let get_default_instance() in a notebook mean the board opened last."""
    blockdevice.set_default(None if board is None else lambda: board.storage.file_system_part)
    network_interface.set_default(None if board is None else lambda: board.network)
