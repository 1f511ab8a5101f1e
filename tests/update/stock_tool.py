"""manifest-tool for tests: 2.6.2 and 1.5.2.

2.6.2 is started once, and forked for each command, since it takes a second to start.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tools import environment

_SERVER = """
import json, os, sys
from manifesttool.dev_tool import dev_tool
from manifesttool.mtool import mtool

for line in sys.stdin:
    module, arguments, folder = json.loads(line)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.chdir(folder)
        try:
            status = {"dev_tool": dev_tool, "mtool": mtool}[module].entry_point(arguments)
        except SystemExit as end:
            status = end.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    os.close(write)
    with os.fdopen(read) as output:
        said = output.read()
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said]), flush=True)
"""


class StockTool:
    """Runs the tool's programs: `dev_tool` is manifest-dev-tool, `mtool` is manifest-tool."""

    def __init__(self, python: Path, process: subprocess.Popen[str] | None) -> None:
        self._python, self._process = python, process

    def __call__(self, module: str, *arguments: object, folder: Path) -> tuple[int, str]:
        """Run a command in a folder; return its exit status, and what it said."""
        words = list(map(str, arguments))
        if self._process is None:
            name = f"manifesttool.{module}.{module}"
            command = [self._python, "-W", "ignore", "-m", name, *words]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            return done.returncode, done.stdout + done.stderr
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([module, words, str(folder)]) + "\n")
        self._process.stdin.flush()
        status, said = json.loads(self._process.stdout.readline())
        return int(status), str(said)


@contextmanager
def stock_tool() -> Iterator[StockTool]:
    """Start the tool; skip the test where it cannot be had."""
    # The wheel is for CPython 3.11 alone, and pins what it uses.
    python = environment("manifest-tool-2.6.2", "manifest-tool==2.6.2", python="3.11")
    if not hasattr(os, "fork"):
        yield StockTool(python, None)
        return
    command = [python, "-W", "ignore", "-c", _SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield StockTool(python, process)
        assert process.stdin is not None
        process.stdin.close()


# It waits without end for answers that do not come; then it has to say where. What it leaves to the garbage collector
# goes before the interpreter ends: among it may be the SDK's ApiClient, whose __del__ joins the workers of a thread
# pool. Of those CPython 3.8 stops at its end who still run, and does not say so to who joins them, who waits for ever.
_OLD = """
import faulthandler, gc, sys
faulthandler.dump_traceback_later(90, exit=True)
from manifesttool.clidriver import main

try:
    sys.exit(main())
finally:
    gc.collect()
"""


def old_tool(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run manifest-tool 1.5.2 in a folder; skip the test where it cannot be had."""
    # Its packages are older than CPython 3.9, and it uses the SDK's UpdateAPI.
    python = environment("manifest-tool-1.5.2", "manifest-tool==1.5.2", "mbed-cloud-sdk==2.2.0", python="3.8")
    command = [str(python), "-W", "ignore", "-c", _OLD, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110, stdin=subprocess.DEVNULL)
