"""The console's view: what the board says, and what one types."""

import pytest

from pdmlab import widgets
from pdmlab.errors import ConsoleLost
from pdmlab.sim.board import VirtualBoard


@pytest.fixture
def board():
    with VirtualBoard("K64F", id="console-view", memory=True) as board:
        board.console.expect("idle")
        yield board


def test_it_shows_the_transcript_and_sends_what_is_typed(board):
    view = widgets.console(board)
    assert "All clear. Jumping" in view.text.value
    view.line.value = "version"
    assert view.line.value == ""
    board.console.expect("idle 1.0.0")
    view.look()
    assert "&gt; version" in view.text.value or "> version" in view.text.value
    assert "host clock" in view._repr_mimebundle_()["text/html"]
    view.close()


def test_a_second_view_of_a_console_replaces_the_first(board):
    first = widgets.console(board)
    second = widgets.console(board)
    assert first._ended.is_set() and not second._ended.is_set()
    second.close()


def test_it_ends_with_the_console_and_says_why_nothing_is_sent(board):
    view = widgets.console(board)
    board.close()
    assert not view.look()
    view.line.value = "version"
    assert "closed" in view.problem.value
    view.close()


def test_markup_from_a_board_stays_text(board):
    view = widgets.console(board)
    board.console.write_line("<b>bold</b>")
    board.console.expect("unknown command")
    view.look()
    assert "<b>bold" not in view.text.value and "&lt;b&gt;bold" in view.text.value
    view.close()


def test_a_lost_line_is_no_crash(board, monkeypatch):
    view = widgets.console(board)

    def lost(text):
        raise ConsoleLost("the line broke off", hint="plug it in")

    monkeypatch.setattr(board.console, "write_line", lost)
    view.line.value = "x"
    assert "broke off" in view.problem.value and "plug it in" in view.problem.value
    view.close()
