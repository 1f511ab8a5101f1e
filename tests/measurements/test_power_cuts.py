"""An update replayed with the supply cut: no single cut bricks a board, and codes that do are found out."""

import pytest

from pdmlab import measurements
from pdmlab.errors import ConfigError
from pdmlab.measurements.power_cuts import replay
from pdmlab.sim.board import VirtualBoard

IMAGE_B = 24 * 1024


@pytest.fixture(scope="module")
def board():
    with VirtualBoard("K64F", id="cuts", memory=True, power=False) as board:
        yield board


def test_without_a_cut_the_new_version_runs(board):
    story = replay(board, "download boot", image_B=IMAGE_B)
    assert story.running == story.active == story.candidate == "2.0.0" and story.cuts == 0
    assert set(story.slot_map["holds"]) == {"2.0.0"}


def test_no_cut_anywhere_bricks_the_board(board):
    download, boot = replay(board, "download boot", image_B=IMAGE_B).steps
    cuts = range(1, download.operations + boot.operations + 1, 3)
    rows = [measurements.power_cut(board, cut, IMAGE_B) for cut in cuts]
    assert {row["in_the_end"] for row in rows} == {"2.0.0"}
    # The last operation marks the candidate as whole; half of its block carries the whole mark.
    unmarked = [row for cut, row in zip(cuts, rows, strict=True) if cut < download.operations]
    assert {row["first_start"] for row in unmarked} == {"1.0.0"}
    assert {row["first_start"] for row in rows if row["step"] == "install"} == {"2.0.0"}
    assert {row["active"] for row in rows if row["step"] == "install"} == {"incomplete"}


@pytest.mark.parametrize("bootloader", ["mbed", "trial"])
def test_nor_under_the_other_bootloaders(board, bootloader):
    download, boot = replay(board, "download boot", image_B=IMAGE_B, bootloader=bootloader).steps
    cuts = range(1, download.operations + boot.operations + 1, 17)
    rows = [measurements.power_cut(board, cut, IMAGE_B, bootloader) for cut in cuts]
    assert {row["in_the_end"] for row in rows} == {"2.0.0"} and {row["step"] for row in rows} == {"download", "install"}


def test_a_cut_beyond_the_last_operation_is_none(board):
    assert measurements.power_cut(board, 100_000, IMAGE_B)["operation"] == "none"


def test_a_download_goes_on_where_the_cut_left_it(board):
    cut = replay(board, "download!40 boot download", image_B=48 * 1024)
    assert cut.steps[-1].outcome.startswith("whole, from 1")  # the last mark, 16 KiB or so
    assert cut.steps[-1].operations < replay(board, "download", image_B=48 * 1024).steps[0].operations


def test_a_formatted_card_after_a_cut_installation_is_the_end(board):
    story = replay(board, "download boot!20 format-card boot", image_B=IMAGE_B)
    assert story.running == "nothing" and story.cuts == 1
    assert "Validating installed firmware failed" in story.steps[-1].outcome


def test_a_card_that_was_only_out_is_not(board):
    story = replay(board, "download boot!20 pull-card boot seat-card boot", image_B=IMAGE_B)
    assert [step.running for step in story.steps] == ["1.0.0", "nothing", "nothing", "nothing", "nothing", "2.0.0"]


def test_nothing_downloads_where_nothing_runs(board):
    story = replay(board, "download boot!20 download", image_B=IMAGE_B)
    assert story.steps[-1].outcome == "nothing runs that could download"


@pytest.mark.parametrize("code", ["", "boot!0", "boot!", "download boot!-1", "flash", "boot " * 21])
def test_a_code_that_cannot_be_replayed_is_refused(board, code):
    with pytest.raises(ConfigError):
        replay(board, code)


def test_a_board_without_a_card_has_none_to_pull():
    with VirtualBoard("DISCO_F413ZH", id="soldered", memory=True, power=False) as board:
        story = replay(board, "download pull-card boot", image_B=IMAGE_B)
    assert "has no card" in story.steps[1].outcome and story.running == "2.0.0"


def test_it_reads_well_in_a_log_and_in_a_cell(board):
    story = replay(board, "download boot!20 boot", image_B=IMAGE_B)
    assert "power lost in operation 20" in repr(story) and "SIMULATED" in story._repr_html_()
    assert list(story.frame["step"]) == ["download", "boot!20", "boot"]


@pytest.mark.parametrize(
    ("code", "bootloader", "running"),
    [
        ("download boot boot", "trial", "1.0.0"),
        ("trial: download boot!30.5 boot confirm boot", None, "2.0.0"),
        ("mbed: download boot!20 boot", "mbed", "2.0.0"),
        ("mbed: download boot!20 format-card boot", None, "nothing"),
        ("trial/K64F-SD: download boot!20x7 boot confirm", None, "2.0.0"),
        ("trial/K64F-SD/full: download boot!20a boot confirm!3b boot", None, "1.0.0"),
    ],
)
def test_a_code_or_an_argument_names_the_bootloader(board, code, bootloader, running):
    story = replay(board, code, bootloader=bootloader, image_B=IMAGE_B)
    assert story.running == running and not story.fault, story
    assert story.bootloader == (bootloader or code.partition("/")[0].partition(":")[0])


def test_a_code_of_one_bootloader_is_not_replayed_under_another(board):
    with pytest.raises(ConfigError, match="names the bootloader trial"):
        replay(board, "trial: download boot", bootloader="fota")


def test_a_card_taken_out_in_the_copy_is_told_from_a_cut(board):
    story = replay(board, "trial: download boot!30o seat-card boot confirm boot", image_B=IMAGE_B)
    assert story.cuts == 0 and story.running == "2.0.0"
    assert "nothing may start" in story.steps[1].outcome and "no card answers" in story.steps[1].outcome
