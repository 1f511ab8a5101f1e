"""README's way from a service to a board that the vendor's manifest-tool updates, line by line as it is written."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pdmlab.boards import Console
from tests.cli.processes import started
from tests.tools import environment

README = Path(__file__).parents[2] / "README.md"
STAY = re.compile(r"pdmlab (service|board (?!.*--build).*)")
"""What runs in a shell of its own until Ctrl-C."""


def lines() -> Iterator[str]:
    """Return the commands, without what is said of them."""
    section = README.read_text(encoding="utf-8").partition("\n## Scripts, tools and people\n")[2].partition("\n## ")[0]
    for line in section.split("```")[1].strip().splitlines():
        yield line.partition("  #")[0].strip()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the lines are a POSIX shell's, and the board is on a pty")
def test_the_lines_lead_from_a_service_to_an_updated_board(tmp_path: Path) -> None:
    tool = environment("manifest-tool-2.6.2", "manifest-tool==2.6.2", python="3.11")
    programs, project = tmp_path / "bin", tmp_path / "project"
    programs.mkdir()
    project.mkdir()
    for name, code in {
        "pdmlab": f'exec {shlex.quote(sys.executable)} -c "from pdmlab.cli import main; main()" "$@"',
        "manifest-dev-tool": f'exec {shlex.quote(str(tool))} -W ignore -m manifesttool.dev_tool.dev_tool "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{code}\n")
        (programs / name).chmod(0o755)
    shell = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    folder = port = ""
    shell_so_far, ran = "", []
    with ExitStack() as running:
        for line in lines():
            if STAY.fullmatch(line) is None:
                line = line.replace("FOLDER", shlex.quote(folder)).replace("PORT", port)
                if line.startswith("export "):
                    shell_so_far += f"{line} && "
                    continue
                command = ["sh", "-c", shell_so_far + line]
                done = subprocess.run(command, cwd=project, env=shell, capture_output=True, text=True, timeout=120)
                assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
                ran.append(done.stdout + done.stderr)
                continue
            process = running.enter_context(started(*shlex.split(line)[1:], cwd=project))
            running.callback(process.terminate)
            assert process.stdout is not None
            if line == "pdmlab service":
                said = ""
                while "CA certificate" not in said:
                    said += process.stdout.readline() or pytest.fail(said)
                found = re.search(
                    r"^REST API +http://127\.0\.0\.1:(\d+)$.*^API key +in (\S+)/api-key$", said, re.M | re.S
                )
                assert found is not None, said
                port, folder = found[1], found[2]
            else:
                console = running.enter_context(Console(process.stdout.readline().split()[-1]))
                console.expect("Connected to Pelion Device Management", timeout=30)
        assert len(ran) == 4 and re.search(r"Successfully updated: +1\b", ran[-1]), ran[-1]
    assert (project / "board.bin").stat().st_mode & 0o777 == 0o600  # the device's private key is in it
