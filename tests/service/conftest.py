"""Stories of a core and its devices, in virtual time, on a database of their own: in SQLite and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pdmlab.service import nodes
from tests.service.corelab import Stage, Story, T, play
from tests.service.databases import KINDS, PostgreSQL, sqlite_in


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """The server that makes databases; skips where there is none."""
    server = PostgreSQL()
    yield server
    server.close()


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a new database, of one kind and then of the other."""
    yield from _database(request, tmp_path)


@pytest.fixture(params=KINDS, scope="module")
def shared_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same for all tests of a module."""
    yield from _database(request, tmp_path_factory.mktemp("database"))


def _database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield sqlite_in(folder)
        return
    server: PostgreSQL = request.getfixturevalue("postgresql")
    url = server.new()
    yield url
    server.drop(url)


@pytest.fixture(name="play")
def play_(database: str, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Play a story: `play(story)`, where story is a coroutine function that takes the lab."""
    monkeypatch.setattr(nodes, "BEAT_S", 1e9)  # it is alone; years go by in a story, and each heartbeat is a query

    def on_a_new_database(story: Story[T]) -> T:
        return play(story, database)

    return on_a_new_database
