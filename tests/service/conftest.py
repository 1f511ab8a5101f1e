"""Stories of a core and its devices, in virtual time, on a database file of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.corelab import Stage, Story, T, play


@pytest.fixture(name="play")
def play_(tmp_path: Path) -> Stage:
    """Play a story: `play(story)`, where story is a coroutine function that takes the lab."""

    def on_a_new_database(story: Story[T]) -> T:
        return play(story, tmp_path / "lab.sqlite")

    return on_a_new_database
