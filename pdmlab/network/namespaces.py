"""Downloads over Linux's own TCP behind a link, in two network namespaces: the check of what the model says.

Both ends are processes with a namespace each (`unshare --net`). What lies between them is a path:

* `netem`: a veth pair with `tc netem` on both ends, the kernel's own delay, loss and rate;
* `tun`: two TUN devices, and this process carries the IP packets from one to the other through the same `Pipe`s
  that the model uses. For kernels without sch_netem. It checks TCP, not the link.

Needs root, or `unshare --user --map-root-user --net` around the whole. Namespaces and devices end with the
processes, and the processes with their standard input: nothing stays behind, however this process ends.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pdmlab.clock import MS, SECOND
from pdmlab.errors import ConfigError, NetworkError, TimedOut
from pdmlab.network.link import Link, Pipe, pipes
from pdmlab.prng import SplitMix64

PathName = Literal["netem", "tun"]
BOARD, SERVER = "198.18.0.2", "198.18.0.1"  # RFC 2544: for benchmarks
TUN = Path("/dev/net/tun")
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
PATIENCE = 900.0  # s that a download may take
_numbers = iter(range(1 << 30))


@dataclass(frozen=True)
class RealDownload:
    """What one connection measured; times in host ns."""

    bytes: int
    duration: int
    """From the request to the last byte (ns)."""
    first: int
    """From the request to the first byte (ns)."""
    waits: tuple[int, ...]
    """How long each recv() took (ns)."""


class Way(Protocol):
    """What lies between the two namespaces."""

    name: PathName

    def open(self, board: End, server: End, link: Link, seed: int) -> None:
        """Connect the two, so that a packet crosses the link each way."""
        ...

    def close(self) -> None:
        """Take it down."""
        ...


class End:
    """A process in a network namespace of its own."""

    def __init__(self, role: Literal["serve", "fetch"]) -> None:
        command = ["unshare", "--net", sys.executable, "-m", "pdmlab.network.peers", role]
        self.role = role
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        self._heard = b""
        try:
            self.hear()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id, by which `ip` and `nsenter` find the namespace."""
        return self._process.pid

    def tell(self, **order: Any) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # hear() says why it has ended
            self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def hear(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait for the next answer.

        Raises:
            NetworkError: the process failed. TimedOut: nothing in timeout (s).
        """
        output, errors = self._process.stdout, self._process.stderr
        assert output is not None and errors is not None
        while b"\n" not in self._heard:
            if not select.select([output], [], [], timeout)[0]:
                raise TimedOut(f"no answer from the process that is to {self.role} in {timeout:g} s")
            piece = os.read(output.fileno(), 65536)
            if not piece:
                said = errors.read().decode(errors="replace").strip().splitlines() or ["nothing"]
                raise NetworkError(f"the process that is to {self.role} ended, saying: {said[-1]}")
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise NetworkError(f"the process that is to {self.role} failed: {answer['error']}")
        return answer

    def run(self, *command: str) -> None:
        """Run a command in the namespace."""
        _run("nsenter", "-t", str(self.pid), "-n", *command)

    def close(self) -> None:
        """End the process, and with it the namespace."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class NetemWay:
    """A veth pair with the kernel's own delay, loss and rate (`tc netem`) on both ends."""

    name: PathName = "netem"

    def open(self, board: End, server: End, link: Link, seed: int) -> None:
        name = f"pdm{os.getpid() % 100_000}x{next(_numbers)}"  # IFNAMSIZ: 15 characters
        _run("ip", "link", "add", f"{name}b", "netns", str(board.pid), "type", "veth",
             "peer", "name", f"{name}s", "netns", str(server.pid))  # fmt: skip
        sides = ((board, f"{name}b", BOARD, link.up), (server, f"{name}s", SERVER, link.down))
        for end, device, address, rate in sides:
            end.run("ip", "addr", "add", f"{address}/24", "dev", device)
            end.run("ip", "link", "set", device, "mtu", str(link.mtu), "gso_max_segs", "1", "up")
            end.run("tc", "qdisc", "add", "dev", device, "root", "netem", *netem_options(link, rate))

    def close(self) -> None:
        """The devices end with the namespaces."""


class TunWay:
    """Two TUN devices; a thread of this process carries their packets through the model's own pipes."""

    name: PathName = "tun"

    def __init__(self) -> None:
        self._carrier: _Carrier | None = None

    def open(self, board: End, server: End, link: Link, seed: int) -> None:
        up, down = pipes(link, SplitMix64(seed))
        name = f"pdm{os.getpid() % 100_000}x{next(_numbers)}"
        devices: list[int] = []
        try:
            for end, letter, address in ((board, "b", BOARD), (server, "s", SERVER)):
                devices.append(_open_tun(f"{name}{letter}"))
                _run("ip", "link", "set", f"{name}{letter}", "netns", str(end.pid))
                end.run("ip", "addr", "add", f"{address}/24", "dev", f"{name}{letter}")
                end.run("ip", "link", "set", f"{name}{letter}", "mtu", str(link.mtu), "txqueuelen", "1000", "up")
        except BaseException:
            for device in devices:
                os.close(device)
            raise
        self._carrier = _Carrier({devices[0]: (devices[1], up), devices[1]: (devices[0], down)})

    def close(self) -> None:
        if self._carrier is not None:
            self._carrier.close()
            self._carrier = None


class _Carrier:
    """Reads packets from TUN devices and writes each to the other one when its pipe says it arrives."""

    def __init__(self, ways: dict[int, tuple[int, Pipe]]) -> None:
        self._ways = ways
        self._wake, self._waker = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="pdmlab-tun", daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        waiting: list[tuple[int, int, int, bytes]] = []  # when, a number to tell equals apart, where to, what
        count = 0
        sources = [*self._ways, self._wake]
        while True:
            timeout = max(waiting[0][0] - time.monotonic_ns(), 0) / SECOND if waiting else None
            ready = select.select(sources, [], [], timeout)[0]
            if self._wake in ready:
                return
            now = time.monotonic_ns()
            for device in ready:
                target, pipe = self._ways[device]
                with contextlib.suppress(BlockingIOError):
                    while packet := os.read(device, 65536):
                        arrival = pipe.send(len(packet), now) if packet[0] >> 4 == 4 else None  # no IPv6 chatter
                        if arrival is not None:
                            count += 1
                            heapq.heappush(waiting, (arrival, count, target, packet))
            while waiting and waiting[0][0] <= time.monotonic_ns():
                _, _, target, packet = heapq.heappop(waiting)
                with contextlib.suppress(OSError):  # the other end has just gone
                    os.write(target, packet)

    def close(self) -> None:
        os.write(self._waker, b"x")
        self._thread.join(5)
        for each in (*self._ways, self._wake, self._waker):
            os.close(each)


WAYS: dict[PathName, type[NetemWay] | type[TunWay]] = {"netem": NetemWay, "tun": TunWay}


PROGRAMS = ("ip", "tc", "unshare", "nsenter")
"""Of the packages iproute2 and util-linux."""


def why_not(path: PathName | Literal["auto"] = "auto") -> str:
    """Return why downloads over that path, or any, cannot be had here; nothing if they can."""
    if path == "auto":
        reasons = {name: why_not(name) for name in WAYS}
        return "; ".join(f"{name}: {reason}" for name, reason in reasons.items()) if all(reasons.values()) else ""
    if sys.platform != "linux":
        return f"network namespaces are Linux's, and this is {sys.platform}"
    missing = [name for name in PROGRAMS if shutil.which(name, path=_program_path()) is None]
    if missing:
        return f"there is no {' and no '.join(missing)} here: packages iproute2 and util-linux"
    if os.geteuid() != 0:
        return "making network namespaces is root's right"
    if path == "tun" and not TUN.exists():
        return f"there is no {TUN}: neither the kernel nor the container has it"
    return _refused(_TRIES[path])


_TRIES: dict[PathName, list[str]] = {
    "netem": ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
    "tun": ["ip", "tuntap", "add", "dev", "pdmtry", "mode", "tun"],
}
"""What shows that a path can be had; each is tried in a namespace that ends with it."""


def _refused(command: list[str]) -> str:
    done = subprocess.run(
        ["unshare", "--net", *command], capture_output=True, text=True, env={**os.environ, "PATH": _program_path()}
    )
    if done.returncode == 0:
        return ""
    said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    module = " (the kernel's module sch_netem)" if "qdisc kind is unknown" in said else ""
    return f"'{' '.join(command)}' is refused: {said}{module}"


def choose(path: PathName | Literal["auto"] = "auto") -> PathName:
    """Return the path that can be had here: netem before tun, unless one is asked for.

    Raises:
        ConfigError: it cannot be had here; says why.
    """
    if path != "auto" and path not in WAYS:
        raise ConfigError(f"there is no path {path!r} between namespaces", hint=f"known are {', '.join(WAYS)}, auto")
    for name in WAYS if path == "auto" else (path,):
        if not why_not(name):
            return name
    raise ConfigError(
        f"real sockets in network namespaces cannot be had here: {why_not(path)}",
        hint="run it as root, or all of it under 'unshare --user --map-root-user --net'; "
        "'modprobe sch_netem' loads the kernel's module",
    )


@contextlib.contextmanager
def real_link(link: Link, *, path: PathName | Literal["auto"] = "auto", seed: int = 0) -> Iterator[RealLink]:
    """Give two namespaces with the link between them, and take all of it down again.

    Raises:
        ConfigError: they cannot be had here, or the link is not IPv4's or its frames are fragments (6LoWPAN).
    """
    if link.ip_header != 20 or link.frame_payload:
        raise ConfigError(f"{link.name} is a link for IPv6 in small frames", hint="the check runs over IPv4 links")
    chosen = choose(path)
    if chosen == "netem" and (link.half_duplex or link.access or link.backoff or link.retries):
        raise ConfigError(
            f"tc netem cannot share a medium as {link.name} does",
            hint='path="tun" carries the packets through the model\'s own link',
        )
    way = WAYS[chosen]()
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(contextlib.closing(End("fetch")))
        server = stack.enter_context(contextlib.closing(End("serve")))
        stack.callback(way.close)
        way.open(board, server, link, seed)
        yield RealLink(link, chosen, board, server)


class RealLink:
    """Two namespaces with a link between them."""

    def __init__(self, link: Link, path: PathName, board: End, server: End) -> None:
        self.link = link
        self.path: PathName = path
        self._board = board
        self._server = server
        self._ports: dict[int, int] = {}  # by size of the content
        self.retransmissions = 0
        """Segments that the server's TCP sent again, in all downloads so far."""

    def __repr__(self) -> str:
        return f"<RealLink {self.link.name} by {self.path}, Linux's own TCP>"

    def download(self, size: int, window: int, *, receive_buffer: int = 1024, threads: int = 1) -> list[RealDownload]:
        """Download size bytes on each of so many connections at once; window (B) is the most that is offered.

        Linux clamps no window below 1152 B.
        """
        if size not in self._ports:
            self._server.tell(address=SERVER, size=size)
            self._ports[size] = self._server.hear()["port"]
        self._board.tell(
            address=SERVER, port=self._ports[size], mss=self.link.mss, window=window, buffer=receive_buffer,
            threads=threads,
        )  # fmt: skip
        answer = self._board.hear()
        for _ in range(threads):
            self.retransmissions += self._server.hear()["retransmissions"]
        return [
            RealDownload(each["bytes"], each["duration"], each["first"], tuple(each["waits"]))
            for each in answer["downloads"]
        ]


def netem_options(link: Link, rate: int) -> list[str]:
    """Return tc netem's options for one direction of a link.

    netem's jitter is spread around the delay, so that half of it is added to the delay.
    """
    delay = link.latency + link.jitter // 2
    options = ["limit", "10000", "delay", f"{delay / MS:.3f}ms"]
    if link.jitter:
        options.append(f"{link.jitter / 2 / MS:.3f}ms")
    if link.loss:
        options += ["loss", f"{link.loss:.4%}"]
    if rate:
        # The last three: bytes of framing that each packet is counted with.
        options += ["rate", f"{rate}bit", str(link.overhead)]
    return options


def _open_tun(name: str) -> int:
    import fcntl  # which Windows lacks, where why_not() is to be asked all the same

    device = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError as error:
        os.close(device)
        raise ConfigError(f"no TUN device can be made: {error.strerror}", hint="that is root's right") from error
    return device


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": _program_path()})
    if done.returncode:
        raise NetworkError(f"{' '.join(command)} failed: {done.stderr.strip() or done.returncode}")


def _program_path() -> str:
    return f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
