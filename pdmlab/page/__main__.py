"""The page beside a service: `python -m pdmlab.page URL --port N` ends when its standard input does.

So it ends with whoever started it, however that ended. Its first line of output is its address.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from pdmlab.page.run import Running


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser(prog="python -m pdmlab.page")
    parser.add_argument("url")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--last", type=int, default=0)
    parser.add_argument("--ca", type=Path, default=None)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both: the other one decides
    with Running(options.url, port=options.port, last=options.last, ca=options.ca, beside=True) as page:
        print(page.url, flush=True)
        while os.read(sys.stdin.fileno(), 4096):
            pass  # nothing is said on it: it is there to end


if __name__ == "__main__":
    main()
