"""What all views share: they show without a kernel, and those that follow something do so in a thread that ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets


class View(ipywidgets.VBox):  # type: ignore[misc]  # ships no types
    """A box of widgets; `still` gives the HTML that stands for it where no kernel answers."""

    def __init__(self, children: Sequence[Any], *, still: Callable[[], str]) -> None:  # Any: widgets, see above
        super().__init__(children=list(children))
        self._still = still
        self._ended = threading.Event()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:  # Any: IPython's own signature
        bundle = super()._repr_mimebundle_(**kwargs)
        if isinstance(bundle, dict):
            bundle["text/html"] = self._still()
        return bundle

    def follow(self, look: Callable[[], bool], *, every: float = 0.25) -> None:
        """Call `look` every so many host seconds, in a thread, until it says False or the view is closed."""

        def run() -> None:
            while not self._ended.wait(every):
                if not look():
                    return

        threading.Thread(target=run, name="pdmlab-view", daemon=True).start()

    def close(self) -> None:
        """Take the view off the page, and stop following."""
        if hasattr(self, "_ended"):  # ipywidgets also closes what was never set up, from __del__
            self._ended.set()
        super().close()
