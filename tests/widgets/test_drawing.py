"""Figures follow their sliders, with and without a kernel."""

import pandas as pd
import pytest

from pdmlab import widgets
from pdmlab.errors import ConfigError
from pdmlab.widgets.view import View

ROWS = pd.DataFrame(
    [
        {"buffer_B": buffer, "bus_Hz": bus, "way": way, "speed_kBps": buffer * bus / 1e6, "clock": "device",
         "simulated": True}
        for buffer in (64, 1024)
        for bus in (1_000_000, 4_000_000)
        for way in ("write", "read")
    ]
)  # fmt: skip


def test_a_moved_slider_draws_another_picture():
    drawing = widgets.explore(ROWS, x="buffer_B", y="speed_kBps", over=["bus_Hz", "way"])
    first = bytes(drawing.image.value)
    assert first.startswith(b"\x89PNG")
    drawing.choices["bus_Hz"].value = 4_000_000
    assert bytes(drawing.image.value) != first
    drawing.choices["bus_Hz"].value = 1_000_000
    assert bytes(drawing.image.value) == first


def test_sliders_show_units_and_words_keep_their_order():
    drawing = widgets.explore(ROWS, x="buffer_B", y=["speed_kBps"], over=["bus_Hz", "way"])
    bus, way = drawing.choices["bus_Hz"], drawing.choices["way"]
    assert [text for text, _ in bus.options] == ["1 MHz", "4 MHz"] and bus.description == "bus"
    assert [text for text, _ in way.options] == ["write", "read"]


def test_several_measures_are_a_choice_of_their_own():
    drawing = widgets.explore(ROWS, x="buffer_B", y=["speed_kBps", "bus_Hz"], by="way")
    assert drawing.values == {"show": "speed_kBps"}


def test_a_slider_may_start_elsewhere():
    drawing = widgets.redraw(lambda ax, n: None, start={"n": 3}, n=[1, 3, 5])
    assert drawing.values == {"n": 3}


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="no column 'sped_kBps'"):
        widgets.explore(ROWS, x="buffer_B", y="sped_kBps")
    with pytest.raises(ConfigError, match="nothing to choose from"):
        widgets.redraw(lambda ax, n: None, n=[])
    with pytest.raises(ConfigError, match="nothing to choose from"):
        widgets.redraw(lambda ax: None)


def test_a_figure_that_cannot_be_drawn_says_why_beside_the_sliders():
    def draw(ax, n):
        if n == 2:
            raise ValueError("no rows for <2>")

    drawing = widgets.redraw(draw, n=[1, 2])
    assert not drawing.problem.value
    drawing.choices["n"].value = 2
    assert "no rows for &lt;2&gt;" in drawing.problem.value
    drawing.choices["n"].value = 1
    assert not drawing.problem.value


def test_a_figure_that_cannot_be_drawn_at_all_is_an_error_of_the_cell():
    with pytest.raises(ZeroDivisionError):
        widgets.redraw(lambda ax, n: 1 / 0, n=[1])


def test_a_view_carries_the_picture_that_stands_for_it_without_a_kernel():
    bundle = widgets.redraw(lambda ax, gain: ax.plot([0, gain]), gain=[1, 2])._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert "data:image/png;base64," in bundle["text/html"] and "gain = 1" in bundle["text/html"]


def test_a_view_stops_looking_when_it_is_closed():
    looks = []
    view = View([], still=lambda: "")
    view.follow(lambda: looks.append(1) or True, every=0.001)
    view.close()
    assert view._ended.wait(0)


def test_a_stop_button_sets_its_event(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    stop = widgets.stop_button()
    assert not stop.is_set()
    (button,) = shown[0].children
    button.click()
    assert stop.is_set() and button.disabled
