"""manifest-tool 2.6.2, which makes and reads payloads too."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools import environment

Tool = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def manifest_tool() -> Tool:
    """Run one of its modules in a folder; what it prints is in stdout."""
    python = environment("manifest-tool-2.6.2", "manifest-tool==2.6.2", python="3.11")

    def run(module: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, "-W", "ignore", "-m", f"manifesttool.{module}", *map(str, arguments)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run
