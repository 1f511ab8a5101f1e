"""Linux's own TCP between network namespaces, where the right is had; and clear words where it is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pdmlab.errors import ConfigError, NetworkError
from pdmlab.network import namespaces
from pdmlab.network.link import Link
from pdmlab.network.namespaces import End, RealLink, choose, netem_options, real_link, why_not
from tests.tools import program, require_namespaces
from tests.watching import alive, until

MS = 1_000_000
LINK = Link.of("ethernet", latency=5 * MS, jitter=0)


def devices() -> set[str]:
    return {name for name in os.listdir("/sys/class/net") if name.startswith("pdm")}


@pytest.fixture(params=["netem", "tun"])
def path(request: pytest.FixtureRequest) -> namespaces.PathName:
    name: namespaces.PathName = request.param
    require_namespaces(name)
    return name


def test_a_download_arrives_whole_and_takes_its_round_trips(path: namespaces.PathName) -> None:
    with real_link(LINK, path=path) as real:
        assert isinstance(real, RealLink) and repr(real) == f"<RealLink ethernet by {path}, Linux's own TCP>"
        [got] = real.download(8 * 2144, 2144)
        two = real.download(4 * 2144, 2144, threads=2)
    assert got.bytes == 8 * 2144 and [each.bytes for each in two] == [4 * 2144] * 2
    # No upper bound: how busy the host is decides that. A window of 2144 B takes eight round trips at least.
    assert got.first >= 10 * MS and got.duration >= 8 * 10 * MS
    assert sum(got.waits) <= got.duration and real.retransmissions == 0


def test_nothing_is_left_behind_even_by_a_process_that_is_killed(path: namespaces.PathName, tmp_path: Path) -> None:
    before = devices()
    program = (
        "import time\n"
        "from pdmlab.network.namespaces import real_link\n"
        "from pdmlab.network.link import Link\n"
        f"with real_link(Link.of('ethernet', latency=1000), path={path!r}) as real:\n"
        "    print(real._board.pid, real._server.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        pids = [int(word) for word in child.stdout.readline().split()]
        assert len(pids) == 2
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert child.stdout is not None
        child.stdout.close()
    until(lambda: not any(alive(pid) for pid in pids))
    assert devices() == before


def test_an_error_in_the_middle_takes_all_of_it_down(path: namespaces.PathName) -> None:
    before = devices()
    with pytest.raises(KeyboardInterrupt), real_link(LINK, path=path) as real:
        pids = [real._board.pid, real._server.pid]
        raise KeyboardInterrupt
    assert not any(alive(pid) for pid in pids) and devices() == before


def test_an_end_that_fails_says_what_it_said() -> None:
    require_namespaces("tun")
    end = End("fetch")
    try:
        end.tell(address="203.0.113.1", port=9, mss=536, window=2144, buffer=100, threads=1)
        with pytest.raises(NetworkError, match="that is to fetch failed: Network is unreachable"):
            end.hear()
        end.tell(nonsense=1)
        with pytest.raises(NetworkError, match="that is to fetch ended, saying: TypeError"):
            end.hear()
    finally:
        end.close()


def test_who_may_not_is_told_why_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip(why_not("tun"))
    for name in namespaces.PROGRAMS:
        program(name)
    monkeypatch.setattr(namespaces.os, "geteuid", lambda: 1000)
    assert why_not("tun") == why_not("netem") == "making network namespaces is root's right"
    with pytest.raises(ConfigError, match=r"netem: making .* right; tun: making") as error:
        choose()
    assert "unshare --user --map-root-user" in str(error.value.hint) and "sch_netem" in str(error.value.hint)


def test_programs_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces.sys, "platform", "linux")
    monkeypatch.setattr(namespaces.shutil, "which", lambda name, path=None: None if name in ("tc", "ip") else name)
    assert why_not("netem") == "there is no ip and no tc here: packages iproute2 and util-linux"
    monkeypatch.setattr(namespaces.sys, "platform", "darwin")
    assert why_not("tun") == "network namespaces are Linux's, and this is darwin"


def test_links_that_no_path_can_carry_are_refused() -> None:
    with pytest.raises(ConfigError, match="6lowpan is a link for IPv6"), real_link(Link.of("6lowpan")):
        pass
    with pytest.raises(ConfigError, match="there is no path 'pigeon'"):
        choose("pigeon")  # type: ignore[arg-type]


def test_netem_is_given_the_links_figures() -> None:
    link = Link.of("ethernet", latency=20 * MS, jitter=4 * MS, loss=0.02)
    assert netem_options(link, link.down) == [
        "limit", "10000", "delay", "22.000ms", "2.000ms", "loss", "2.0000%", "rate", "100000000bit", "38",
    ]  # fmt: skip
    assert netem_options(Link(), 0) == ["limit", "10000", "delay", "0.000ms"]
