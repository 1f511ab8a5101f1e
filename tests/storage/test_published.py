"""The page on what storage costs holds what the model computes, and the model holds what the page says of it."""

from __future__ import annotations

from benchmarks.published import PAGE, Published, markdown, table_in, thread_14402


def test_the_page_has_the_table_that_the_model_computes() -> None:
    assert table_in(PAGE.read_text(encoding="utf-8")) == markdown(), "run python -m benchmarks.published"


def test_the_published_27_kB_s_of_sd_and_fat_lie_between_the_two_c_libraries_that_pass_small_pieces_on() -> None:
    rates = {row.job.split(",")[1].strip(): row.model for row in thread_14402() if "any B" in row.job}
    assert rates["Arm C"] < 27.7 < rates["newlib-nano"]
    assert max(rates.values()) < 1.25 * 27.7


def test_an_error_is_per_cent_or_a_factor() -> None:
    assert [Published("", "", "", 10, model).error for model in (11, 5, 4, 30)] == ["+10%", "-50%", "/ 2.5", "x 3"]
