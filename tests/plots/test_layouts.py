"""A drawn flash layout: every area where it lies, to scale; what is wrong is hatched where it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib

matplotlib.use("Agg")

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from pdmlab import plots
from pdmlab.boards.catalog import find
from pdmlab.plots import layouts
from pdmlab.update.areas import FlashGeometry
from pdmlab.update.layout_settings import survey_config

K = 1024
K64F = FlashGeometry(0, 1024 * K, ((256, 4 * K),), program_size=8)
OVERLAPS = {
    "bootloader-size": "(40*1024)", "target.header_offset": "0xa000", "target.app_offset": "0xa400",
    "sotp-section-1-address": "0x8000", "sotp-section-1-size": "0x1000",
    "sotp-section-2-address": "0x9800", "sotp-section-2-size": "0x800",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def drawn(ax: Any, gid: str, *, top: bool = True) -> list[tuple[float, float]]:
    """Return from and to (of 0 to 1) of what has a name, in the first strip, or in all."""
    found = [each for each in ax.patches if isinstance(each, Rectangle) and each.get_gid() == gid]
    return sorted((each.get_x(), each.get_x() + each.get_width()) for each in found if not top or each.get_y() > -1)


def whole(pieces: list[tuple[float, float]]) -> tuple[float, float]:
    """Return what pieces that touch make together."""
    for (_, end), (start, _) in itertools.pairwise(pieces):
        assert start == pytest.approx(end)
    return pieces[0][0], pieces[-1][1]


@pytest.mark.parametrize("target", ["K64F", "NUCLEO_F429ZI", "DISCO_L475VG_IOT01A"])
def test_every_area_of_a_board_is_drawn_where_it_lies_and_as_wide_as_it_is(target: str) -> None:
    layout = find(target).layout()
    ax = plots.flash_layout(layout)
    for area in layout.areas():
        start, end = whole(drawn(ax, f"FLASHIAP {area.name}"))
        assert start * layout.geometry.size == pytest.approx(area.offset)
        assert end * layout.geometry.size == pytest.approx(area.end)
    assert drawn(ax, f"{layout.candidate_on} candidate", top=False)
    words = " ".join(text.get_text() for text in ax.texts)
    assert all(f"0x{area.offset:x}" in words for area in layout.areas())
    assert layout.candidate_on in words and "✗" not in words


def test_overlaps_and_misalignment_are_hatched_and_said() -> None:
    found = survey_config(OVERLAPS, K64F)
    ax = plots.flash_layout(found)
    for fault in found.faults:
        marks = drawn(ax, f"{fault.kind} 0x{fault.start:x}..0x{fault.end:x}")
        assert marks and marks[0] == pytest.approx((fault.start / K64F.size, fault.end / K64F.size))
        assert any(fault.words in text.get_text().replace("\n   ", " ") for text in ax.texts)
    hatched = [each for each in ax.patches if each.get_hatch()]
    assert len(hatched) >= len(found.faults) == 3
    # Where two lie, each has half of the height.
    pieces = [each for each in ax.patches if each.get_gid() == "FLASHIAP SOTP section 1" and each.get_y() > -1]
    assert [round(each.get_height(), 2) for each in pieces] == [0.31]


def test_a_warning_is_hatched_and_said_in_another_colour() -> None:
    taken = {"update-client.storage-address": "0x80000", "update-client.storage-size": "0x80000"}
    ax = plots.flash_layout(survey_config(taken, K64F))
    assert drawn(ax, "warning 0xfe000..0x100000") == [(pytest.approx(0xFE000 / K64F.size), pytest.approx(1))]
    [text] = [each for each in ax.texts if "⚠ warning: candidate" in each.get_text()]
    assert text.get_color() == layouts.WARNED


def test_an_area_without_room_is_magnified_where_it_would_begin_and_nowhere_else() -> None:
    found = survey_config({"target.header_offset": "0xa000", "target.app_offset": "0xa000"}, K64F)
    assert (found.header.size, found.sotp[0].offset) == (0, 0xFE000)
    first, low, high = (layouts._strips(found)[number] for number in range(3))
    assert found.header in first.areas and found.header in low.areas and low.start < 0xA000 < low.end
    assert high.start > 0x80000 and found.header not in high.areas


def test_narrow_areas_are_shown_once_more_magnified() -> None:
    layout = find("K64F").layout()
    ax = plots.flash_layout(layout)
    everywhere = drawn(ax, "FLASHIAP header", top=False)
    assert (len(everywhere) == 2 and everywhere[0][1] - everywhere[0][0] > 0.01) or everywhere[1][1] - everywhere[1][
        0
    ] > 0.01
    assert any("magnified" in text.get_text() for text in ax.texts)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 0x120000), st.integers(-0x1000, 0x120000), st.integers(0, 0x120000), st.integers(0, 0x20000))
def test_any_layout_can_be_drawn(header: int, room: int, sotp: int, size: int) -> None:
    settings_ = {
        "target.header_offset": header, "target.app_offset": header + room, "sotp-section-1-address": sotp,
        "sotp-section-1-size": size,
    }  # fmt: skip
    found = survey_config(settings_, K64F)
    ax = plots.flash_layout(found)
    for area in found.areas():
        if area.size > 0 and area.offset >= 0:
            start, end = whole(drawn(ax, f"FLASHIAP {area.name}"))
            extent = max(K64F.size, *(each.end for each in found.areas()))
            assert (start * extent, end * extent) == pytest.approx((area.offset, area.end), abs=1)
    plt.close("all")
