"""`pdmlab dm psk` against a running service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pdmlab.cli import main
from pdmlab.service import serve
from pdmlab.service.service import Service

NAME = "my-endpoint-0001"


@pytest.fixture
def service() -> Iterator[Service]:
    with serve(name="keys") as running:
        yield running


def run(*arguments: str, given: str | None = None) -> str:
    done = CliRunner().invoke(main, ["dm", "psk", *arguments], input=given)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_key_is_made_shown_once_listed_and_deleted(service: Service) -> None:
    assert run() == ""
    identity, key = (line.split()[1] for line in run(NAME).splitlines())
    assert identity == NAME and service.call(service.core.shared_keys.of, NAME.encode()) == bytes.fromhex(key)
    assert run() == f"{NAME}\n"
    again = CliRunner().invoke(main, ["dm", "psk", NAME])
    assert again.exit_code == 1 and "KEY_ALREADY_EXISTS" in again.stderr and key not in again.output
    assert run(NAME, "--delete") == "" == run()


def test_a_key_that_is_there_is_read_from_a_file_or_standard_input(service: Service, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0x" + "4A" * 16 + "\n")
    assert run(NAME, "--secret", str(tmp_path / "key")).endswith(f"{'4a' * 16}\n")
    run(f"{NAME}b", "--secret", "-", given="5b" * 32)
    assert service.call(service.core.shared_keys.of, f"{NAME}b".encode()) == bytes([0x5B]) * 32


def test_a_name_is_wanted_where_something_is_to_be_done(service: Service) -> None:
    done = CliRunner().invoke(main, ["dm", "psk", "--delete"])
    assert done.exit_code == 1 and "NAME is missing" in done.stderr
