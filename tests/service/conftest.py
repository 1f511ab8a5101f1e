"""Stories of a core and its devices, in virtual time, on a database of their own: in SQLite and in PostgreSQL."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pdmlab.service import nodes
from tests.service.corelab import Stage, Story, T, play
from tests.service.databases import KINDS, PostgreSQL, sqlite_in

SAMPLE = int(os.environ.get("PDMLAB_TEST_SAMPLE", "3"))
"""Of stories with a database to themselves, one in so many is told on PostgreSQL too; PDMLAB_TEST_SAMPLE=1: all."""
ABOUT_DATABASES = re.compile(
    r"store|migrat|races|several|kills|crashes|nodes|postgresql|metrics|queries|groups|filters"
)
"""Modules whose tests are told on both, whatever the sample: what differs between the two is their subject."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out stories that are not in the sample; which they are hangs on their names alone."""
    left_out = [item for item in items if _is_left_out(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in gone]


def _is_left_out(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    if call is None or call.params.get("database") != "postgresql" or ABOUT_DATABASES.search(item.path.stem):
        return False
    return zlib.crc32(item.nodeid.encode()) % SAMPLE != 0


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
