"""`python -m benchmarks [NAME ...]`: print all benchmarks, or some."""

from __future__ import annotations

import os
import sys
import tempfile
from importlib import import_module

NAMES = (
    *(
        "startup",
        "storage",
        "powercuts",
        "update_cuts",
        "manifests",
        "payloads",
        "published",
        "network",
        "suites",
        "download",
        "updates",
    ),
    *("coap", "dtls", "streams", "message_log", "service", "rest", "console"),
)


def main(arguments: list[str]) -> int:
    """Print the named benchmarks; return the exit status."""
    unknown = [name for name in arguments if name not in NAMES]
    if unknown:
        print(f"there is no benchmark {unknown[0]!r}\nusage: python -m benchmarks [{' | '.join(NAMES)}] ...")
        return 2
    with tempfile.TemporaryDirectory() as state:
        os.environ["PDMLAB_STATE"] = state  # boards and services of the benchmarks, not yours
        for name in arguments or NAMES:
            import_module(f"benchmarks.{name}").bench()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
