"""`pdmlab service`, as people start it and end it."""

from __future__ import annotations

import os
import signal

import pytest

from pdmlab import settings
from pdmlab.running import find
from tests.cli.processes import started


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_it_says_where_everything_is_and_ctrl_c_ends_it() -> None:
    with started("service") as process:
        said = [process.stdout.readline() for _ in range(5)]
        url, key = find() or ("", "")
        folder = settings.load().folder("state") / "service/default"
        assert url and said[0].split()[-1] == url
        assert "coap://" in said[1] and "?aid=" in said[1] and "coap://" in said[2]
        assert said[3].split()[-1] == str(folder / "api-key")
        assert "NO SECURITY" in said[4] and "Ctrl-C" in said[4]
        assert key and key not in "".join(said)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert find() is None
