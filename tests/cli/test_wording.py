"""Hints say what to type, where they come from a command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import pdmlab
from pdmlab.cli import main, wording
from pdmlab.service import serve
from tests.cli.processes import finished


def source() -> str:
    """Return the code of all but the command line, with strings over several lines in one piece."""
    files = sorted(Path(pdmlab.__file__).parent.rglob("*.py"))
    text = "\n".join(each.read_text(encoding="utf-8") for each in files if each.parent.name != "cli")
    return re.sub(r'"\n\s+f?"', "", text)


def test_what_is_said_otherwise_is_said_somewhere() -> None:
    text = source()
    for said in wording._TYPED:
        assert said in text, said


def test_a_second_service_is_told_what_to_type() -> None:
    with serve() as service:
        second = finished("service")
        assert second.returncode == 1
        assert "`pdmlab service --name mine`" in second.stderr and "`pdmlab dm`" in second.stderr
        assert str(service.folder / "api-key") in second.stderr
        assert "serve(" not in second.stderr and "Cloud(" not in second.stderr


@pytest.mark.parametrize("command", [["log", "nosuch"], ["update", "device", "-D", "nosuch", "-p", __file__]])
def test_a_device_that_is_not_there_is_told_what_lists_them(command: list[str]) -> None:
    with serve():
        done = CliRunner().invoke(main, ["dm", *command])
    assert done.exit_code == 1
    assert "no device 'nosuch'" in done.stderr and "hint: `pdmlab dm devices` lists them" in done.stderr
