"""A Stop button for a sweep that works while its cell runs."""

from __future__ import annotations

from threading import Event

import ipywidgets

from pdmlab.widgets.view import View


def stop_button(description: str = "Stop after this point") -> Event:
    """Show a button and return the event that it sets: hand it to sweep(stop=...) in the same cell or a later one.

    JupyterLab 4.4 and newer carry the click to the kernel while a cell runs (kernel subshells); elsewhere
    interrupt the kernel, which keeps the finished rows just as well.
    """
    from IPython.display import display

    stop = Event()
    button = ipywidgets.Button(description=description, icon="stop", layout={"width": "16em"})

    def press(_: object) -> None:
        stop.set()
        button.disabled, button.description = True, "Stopping …"

    button.on_click(press)
    display(View([button], still=lambda: ""))  # type: ignore[no-untyped-call]  # IPython ships half its types
    # ipykernel 7.4 sends a click to the loop that last spoke of the button: this one, which the sweep holds up.
    vars(button.comm).pop("_reply_subshell_id", None)
    return stop
