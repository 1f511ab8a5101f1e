"""`pdmlab service`, as people start it and end it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from pdmlab import settings
from pdmlab.cli import main
from pdmlab.running import find
from pdmlab.service.reach import machine_addresses
from tests.cli.processes import started

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals")


def said(process: subprocess.Popen[str]) -> Iterator[str]:
    """Give what a service says until it waits."""
    for line in process.stdout or ():
        yield line
        if "Ctrl-C" in line:
            return


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


def test_it_says_where_everything_is_and_ctrl_c_ends_it() -> None:
    with started("service") as process:
        *lines, last = said(process)
        found = {line[:19].strip(): line[19:].strip() for line in lines}
        url, key = find() or ("", "")
        folder = settings.load().folder("state") / "service/default"
        assert url and found["REST API"] == url
        assert found["bootstrap server"].startswith("coaps://127.0.0.1:") and "?aid=" in found["bootstrap server"]
        assert found["LwM2M server"].startswith("coaps://127.0.0.1:")
        assert found["without security"].count("coap://127.0.0.1:") == 2
        assert found["API key"] == f"in {folder / 'api-key'}" and found["CA certificate"] == f"in {folder / 'ca.pem'}"
        assert (folder / "ca.pem").read_text().startswith("-----BEGIN CERTIFICATE-----")
        assert set(found) == {
            "REST API", "bootstrap server", "LwM2M server", "without security", "API key", "CA certificate",
        }  # fmt: skip
        assert last == "TLS and DTLS at coaps://; plain coap:// on loopback only. Ctrl-C ends it.\n"
        assert key and key not in "".join(lines)
        end(process)
    assert find() is None


@pytest.mark.skipif(not machine_addresses(), reason="this machine has no address but loopback")
def test_opened_to_a_network_it_says_by_what_addresses_boards_reach_it() -> None:
    with started("service", "--host", "0.0.0.0", "--address", "lab.example") as process:
        *lines, last = said(process)
        found = {line[:19].strip(): line[19:].strip() for line in lines}
        assert found["bootstrap server"].startswith("coaps://lab.example:")
        assert found["LwM2M server"].startswith("coaps://lab.example:")
        assert found["firmware images"].startswith("http://lab.example:")
        assert found["REST API"].startswith("http://127.0.0.1:") and "without security" not in found
        listed = found["boards reach it at"].split(", ")
        assert listed[0] == "lab.example"
        assert set(listed[1:]) == {each for each in machine_addresses() if ":" not in each}
        assert "TLS and DTLS alone" in last
        end(process)


def test_what_boards_cannot_reach_is_refused_with_a_way_out() -> None:
    def refused(*arguments: str) -> str:
        done: Any = CliRunner().invoke(main, ["service", *arguments])
        assert done.exit_code == 1
        return str(done.stderr)

    assert "203.0.113.9 is no address of this machine\nhint: this machine's addresses are: " in refused(
        "--host", "203.0.113.9"
    )
    assert "without security it listens on loopback alone" in refused(
        "--host", "0.0.0.0", "--address", "lab.example", "--coap-port", "5683"
    )
    assert "'my lab' is neither an address nor a host name" in refused("--address", "my lab")


def test_keys_of_sessions_are_written_for_their_owner_only_if_asked(tmp_path: Any) -> None:
    file = tmp_path / "keys.log"
    with started("service", "--keylog", str(file)) as process:
        list(said(process))
        assert file.stat().st_mode & 0o777 == 0o600
        end(process)
