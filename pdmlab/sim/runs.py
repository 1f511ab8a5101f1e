"""Functions that run on a virtual board as its application, and waiting for how an application ended."""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pdmlab.errors import BoardError, ConfigError
from pdmlab.firmware import registry
from pdmlab.firmware.device import Application, Device

if TYPE_CHECKING:
    from pdmlab.firmware.image import ImageInfo
    from pdmlab.sim.machine import Machine

_FUNCTION = "run:"
_SLICE = 0.2  # seconds; waits are cut into these, so that Ctrl-C comes through on every operating system


class Runs:
    """How the present start of one board goes: running, ended, or without power."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._own: dict[str, Application] = {}
        self._adopted = 0
        self._changed = threading.Condition()
        self._running: Machine | None = None
        self._ended: tuple[object, BaseException | None] | None = None
        self._over: str | None = "the board has no power"
        self._losses = 0
        self._loss = ""

    # -- which application a name means -----------------------------------------------------------------

    def adopt(
        self, application: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[str, int]:
        """Make a function of this process something that an image can name; return that name, and which it is.

        Raises:
            ConfigError: it cannot be called with these arguments, with a Device before them or without.
        """
        name = f"{_FUNCTION}{getattr(application, '__name__', 'function')}"
        wants_device = _wants_device(application, args, kwargs)

        def run(device: Device) -> object:
            return application(device, *args, **kwargs) if wants_device else application(*args, **kwargs)

        with self._changed:
            self._own = {name: run}  # one at a time: the flash holds one image
            self._adopted += 1
            self._changed.notify_all()
            return name, self._adopted

    def find(self, name: str) -> Application:
        """Return the application of that name.

        Raises:
            ImageRejected: no application of that name is known to this process.
        """
        return self._own.get(name) or registry.find(name)

    # -- how it goes ---------------------------------------------------------------------------------------

    def started(self, machine: Machine) -> None:
        """Note that the board has booted."""
        with self._changed:
            self._running, self._ended, self._over = machine, None, None
            self._changed.notify_all()

    def ended(self, machine: Machine, result: object, error: BaseException | None) -> None:
        """Note how its application ended."""
        with self._changed:
            if machine is self._running:
                self._ended = (result, error)
                self._changed.notify_all()

    def halted(self, why: str | None) -> None:
        """Note that the start is over: why for good, or None if the board is about to boot again."""
        with self._changed:
            self._running, self._ended, self._over = None, None, why
            if why is not None:  # whoever waits has to hear of it, even if the power is back by then
                self._losses, self._loss = self._losses + 1, why
            self._changed.notify_all()

    def wait(self, timeout: float | None, what: str, adopted: int | None = None) -> Any:
        """Wait until the application has ended, over restarts that it makes itself; return what it returned.

        adopted: which function it is, of those that `adopt` has taken; by default the one that it has now.

        Raises:
            BoardError: it has not ended after `timeout` host seconds, the board has lost its power, or another
                function was flashed.
        """
        started = time.monotonic()
        with self._changed:
            losses, adopted = self._losses, self._adopted if adopted is None else adopted
            while self._ended is None or self._losses != losses or self._adopted != adopted:
                waited = time.monotonic() - started
                over, hint = self._over, "board.power_on() boots it again"
                if self._adopted != adopted:
                    over, hint = "another function was flashed", "a board runs one function at a time"
                if over is not None or self._losses != losses:
                    raise BoardError(
                        f"{what} on {self._target} did not end: {over or self._loss} after {waited:.1f} s (host clock)",
                        hint=f"board.console.transcript shows what it printed; {hint}",
                    )
                if timeout is not None and waited >= timeout:
                    raise BoardError(
                        f"{what} on {self._target} has not ended after {timeout:g} s (host clock)",
                        hint="board.console.transcript shows what it printed; board.reset() starts it again",
                    )
                self._changed.wait(_SLICE if timeout is None else min(_SLICE, timeout - waited))
            result, error = self._ended
        if error is not None:
            raise error
        return result


def is_function(image: ImageInfo | None) -> bool:
    """Whether an image names a function of the process that flashed it, which means nothing to any other."""
    return image is not None and image.application.startswith(_FUNCTION)


def _wants_device(application: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a function takes the Device before these arguments: by its first parameter's name, or for want of one."""
    try:
        signature = inspect.signature(application)
    except (TypeError, ValueError):  # some builtins have no signature
        return False
    named = next(iter(signature.parameters), None) == "device"
    for before in ((None,),) if named else ((), (None,)):
        try:
            signature.bind(*before, *args, **kwargs)
        except TypeError:
            continue
        return bool(before)
    raise ConfigError(
        f"{getattr(application, '__name__', 'the function')}{signature} cannot be called with "
        f"{len(args)} arguments{''.join(f', {name}=' for name in kwargs)} on a board",
        hint="board.run(f, a, b=1) calls f(device, a, b=1), or f(a, b=1) if f takes no device",
    )
