"""Boards for the tests of virtual boards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pdmlab.sim import VirtualBoard


@pytest.fixture
def board() -> Iterator[VirtualBoard]:
    """A K64F in memory, with its supply."""
    with VirtualBoard("K64F", memory=True) as board:
        yield board


@pytest.fixture
def desk() -> Iterator[VirtualBoard]:
    """A K64F with files."""
    with VirtualBoard("K64F", id="desk1") as board:
        yield board
