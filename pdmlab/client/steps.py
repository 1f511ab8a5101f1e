"""How long each step of a connection took: name resolution, TCP, handshake, bootstrap, registration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

    from pdmlab.clock import DeviceClock

KEPT = 200
"""Steps that are kept, the latest: a device that cannot connect makes them for months."""


class ConnectionStep(NamedTuple):
    """A step: at which server, what, when it began and how long it took (ns of the board's clock); ok: it succeeded."""

    server: str
    name: str
    start_ns: int
    duration_ns: int
    ok: bool

    def __str__(self) -> str:
        end = "" if self.ok else "  failed"
        return (
            f"{self.start_ns / 1e9:10.3f} s  {self.server:<9}  {self.name:<14} {self.duration_ns / 1e6:10.1f} ms{end}"
        )


class ConnectionSteps:
    """The steps of a client's connections, in their order."""

    def __init__(self, clock: DeviceClock) -> None:
        self._clock = clock
        self._steps: list[ConnectionStep] = []
        self.on_step: Callable[[ConnectionStep], None] | None = None
        """Hears of each step when it has ended."""
        self.server = ""
        """The role of the server that the present steps are about: bootstrap or lwm2m."""

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Note how long what happens inside takes, on the board's clock, and whether it raises."""
        start, ok = self._clock.now(), False
        try:
            yield
            ok = True
        finally:
            self.note(name, start, ok=ok)

    def note(self, name: str, start_ns: int, *, ok: bool = True) -> None:
        """Note a step that began then and has ended now."""
        step = ConnectionStep(self.server, name, start_ns, self._clock.now() - start_ns, ok)
        self._steps.append(step)
        del self._steps[:-KEPT]
        if self.on_step is not None:
            self.on_step(step)

    def now(self) -> int:
        """Return the time (ns)."""
        return self._clock.now()

    def __iter__(self) -> Iterator[ConnectionStep]:
        return iter(list(self._steps))

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, name: str) -> ConnectionStep:
        """Return the latest step of that name, such as "TLS handshake" or "register".

        Raises:
            KeyError: there has been none.
        """
        for step in reversed(self._steps):
            if step.name == name:
                return step
        raise KeyError(name)

    def frame(self) -> pd.DataFrame:
        """Return them as a frame, a row a step."""
        import pandas as pd

        return pd.DataFrame(list(self), columns=list(ConnectionStep._fields))

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "<no steps yet>"

    def _repr_html_(self) -> str:
        cells = (
            (each.server, each.name, f"{each.duration_ns / 1e6:.1f} ms", "" if each.ok else "failed") for each in self
        )
        rows = "".join(
            "<tr>" + "".join(f"<td style='text-align:left'>{escape(cell)}</td>" for cell in row) + "</tr>"
            for row in cells
        )
        return f"<table><tr><th>server</th><th>step</th><th>took</th><th></th></tr>{rows}</table>"
