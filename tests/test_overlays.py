"""One figure lays a board's points over the model's curve, and says how far they are apart and what is estimated."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib

matplotlib.use("Agg")

import pandas as pd
import pytest
from matplotlib import pyplot as plt

from pdmlab import plots
from pdmlab.errors import ConfigError
from pdmlab.greentea.rows import Measured


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def board() -> pd.DataFrame:
    """Return the rows of two lines of stock firmware."""
    seen = Measured("K64F", False, "fs-single")
    for size, speed in ((256, 40.0), (1024, 80.0)):
        line = f'[FS] Wrote: "mbed-file-test-0.txt" 128.00KB ({speed:.2f}KB/s, {128 / speed:.2f} secs)'
        seen.line(line, f"SD+FAT 1 file, buff {size:5}", 1.0)
    return seen.rows()


def model(*speeds: float, name: str = "", estimates: str = "SDHC: stall") -> pd.DataFrame:
    rows = [
        {"operation": "write", "buffer_B": 256 * 4**i, "throughput_kBps": speed, "simulated": True, "clock": "device",
         "estimates": estimates, "model": name}
        for i, speed in enumerate(speeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def legend(ax: plt.Axes) -> list[str]:
    found = ax.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def said(ax: plt.Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_lines_of_stock_firmware_lie_over_simulated_rows() -> None:
    both = pd.concat([board(), model(40.96 * 1.1, 81.92 * 0.98, 100.0)], ignore_index=True)
    ax = plots.overlay(both, "buffer_B", "throughput_kBps", title="a board and its model")
    assert legend(ax) == ["write, board", "write, model: 10 % off (median), 10 % at most"]
    assert [list(map(float, point)) for point in ax.collections[0].get_offsets()] == [
        pytest.approx([256, 40.96], rel=1e-3), pytest.approx([1024, 81.92], rel=1e-3),
    ]  # fmt: skip
    assert len(ax.lines[0].get_xdata()) == 3
    assert "points board, curve SIMULATED, device clock" in said(ax)
    assert ax.figure.get_supxlabel() == "Hangs on estimates, which no source vouches for: SDHC: stall"
    assert ax.get_xlabel() == "buffer B" or ax.get_xlabel() == "buffer"


def test_models_are_told_apart_and_no_estimates_leave_no_note() -> None:
    curves = pd.concat([model(20, 40, name="before", estimates=""), model(40.96, 81.92, name="after", estimates="")])
    ax = plots.overlay(board(), "buffer_B", "throughput_kBps", model=curves)
    assert [text.split(":")[0] for text in legend(ax)] == ["write, board", "write, model before", "write, model after"]
    assert [line.get_linestyle() for line in ax.lines] == [":", "-"]
    assert ax.figure.get_supxlabel() == ""
    assert ax.get_ylabel() == "throughput (kB/s)"


def test_a_virtual_board_as_the_board_says_that_it_is_simulated() -> None:
    ax = plots.overlay(model(1.0, 2.0), "buffer_B", "throughput_kBps", model=model(1.0, 2.0))
    assert "points SIMULATED, curve SIMULATED, device clock" in said(ax)


def test_points_of_a_board_of_which_nobody_knows_say_so() -> None:
    unknown = board().assign(simulated=pd.array([None, None], dtype="boolean"))
    ax = plots.overlay(unknown, "buffer_B", "throughput_kBps", model=model(1.0, 2.0))
    assert "points board, not known whether simulated, curve SIMULATED, device clock" in said(ax)


def test_curves_of_a_calibration_tell_board_and_model_apart_by_name() -> None:
    both = pd.concat([model(1.0, 2.0).assign(model=""), model(1.1, 2.0, name="after")], ignore_index=True)
    ax = plots.overlay(both, "buffer_B", "throughput_kBps")
    assert legend(ax) == ["write, board", "write, model after: 10 % off (median), 10 % at most"]
    assert "points SIMULATED, curve SIMULATED, device clock" in said(ax)


def test_one_of_both_alone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no row of a board to lay over the other\nhint: .*model="):
        plots.overlay(model(1.0), "buffer_B", "throughput_kBps")
    with pytest.raises(ConfigError, match="no row of the model"):
        plots.overlay(board(), "buffer_B", "throughput_kBps")
