"""How long things take to start: importing pdmlab, a board's boot, a console, the service."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.table import Table
from pdmlab.boards import Console
from pdmlab.sim import VirtualBoard

IMPORT_BUDGET_MS = 150
"""What `import pdmlab` may add to the start of Python (host ms)."""
REPEATS = 9


def median_ms(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the median host time of some repetitions, after one that does not count (ms)."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def python(program: str) -> Callable[[], object]:
    """Return work that starts a Python and lets it run a program."""
    return lambda: subprocess.run([sys.executable, "-c", program], check=True)


def boot() -> None:
    """Power a virtual board, boot an empty application, end it."""
    with VirtualBoard("K64F", memory=True) as board:
        board.run(lambda: None)


def greet() -> None:
    """Power a virtual board and wait for its first line at the host's end of the serial line."""
    with VirtualBoard("K64F", id="bench-startup") as board, Console(board.url) as console:
        console.expect("Type 'help'")


def serve() -> None:
    """Start the service and stop it."""
    from pdmlab.service import serve

    serve(name="bench-startup").close()


def bench() -> None:
    """Measure each start-up, against the start of Python itself where a process starts."""
    table = Table(
        f"Start-up times, medians of {REPEATS}",
        {"what": "", "host (ms)": ".1f", "against": "", "ratio": ".1f"},
        text_width=44,
    )
    bare = median_ms(python("pass"))
    table.row("python -c pass", bare, "", None)
    with_pdmlab = median_ms(python("import pdmlab"))
    added = with_pdmlab - bare
    table.row("import pdmlab, in a Python of its own", with_pdmlab, "python -c pass", with_pdmlab / bare)
    verdict = "within" if added < IMPORT_BUDGET_MS else "OVER"
    budget = f"its budget of {IMPORT_BUDGET_MS} ms ({verdict})"
    table.row("what import pdmlab adds to it", added, budget, added / IMPORT_BUDGET_MS)
    table.row("virtual board: made, booted, run, closed", median_ms(boot), "", None)
    table.row("virtual board: to its first line on the host", median_ms(greet), "", None)
    table.row("service: started and stopped", median_ms(serve), "", None)
