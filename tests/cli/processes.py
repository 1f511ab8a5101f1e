"""The command line as processes of their own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

PDMLAB = [sys.executable, "-c", "from pdmlab.cli import main; main()"]


@contextlib.contextmanager
def started(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command; kill it at the end if the test has not ended it."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen([*PDMLAB, *arguments], text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finished(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*PDMLAB, *arguments], capture_output=True, text=True, check=False, timeout=60)
