"""Who may connect to a server of streams, and whose handshake is next: limits in all, and for each host.

A host that floods takes its own share and no other's: past it its connections are refused, and its handshakes wait.
Who has not even said hello holds no handshake, and makes way for who comes later.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

from pdmlab.coap.framing import MAX_MESSAGE
from pdmlab.errors import ConfigError

_OTHER_FILES = 256
"""Files and sockets that a process has open beside its connections, at most."""


@dataclass(frozen=True, slots=True)
class StreamParameters:
    """Times (s) and limits of connections; what a hostile peer can make a server hold follows from them."""

    connect_timeout: float = 30.0  # of a client
    hello_timeout: float = 5.0  # from the connection to the end of the ClientHello
    handshake_timeout: float = 30.0  # from then, or the end of its waiting, to the end of the handshake
    first_timeout: float = 60.0  # from then to a peer's first message
    message_timeout: float = 30.0  # from the first byte of a message, or a record, to its last
    write_timeout: float = 60.0  # how long a peer may take nothing of what waits for it
    release_timeout: float = 10.0  # for answers that a peer still wants when it has said that it goes (RFC 8323)
    frame_gap: float = 0.01  # between two frames to a stock client on plain TCP, which takes one each time it reads
    max_unsent: int = 256 << 10  # B that wait for one peer
    max_connections: int = 20_000
    max_connections_per_host: int = 10_000  # many devices may be behind one address
    max_handshakes: int = 512  # under way at once; more of them wait
    max_handshakes_per_host: int = 32
    messages_a_turn: int = 32  # of one connection, before others have their turn
    max_renegotiations: int = 4  # of one connection that the client begins; the stock client's first boot has one
    keep_alive: int = 600  # of silence, and the kernel asks whether the peer is still there; stock clients ping at 540

    def __post_init__(self) -> None:
        if self.max_unsent < MAX_MESSAGE:
            raise ConfigError(f"max_unsent of {self.max_unsent} B has no room for one message ({MAX_MESSAGE} B)")
        if self.messages_a_turn < 1:
            raise ConfigError(f"messages_a_turn is {self.messages_a_turn}, and nothing would ever be taken")


class Admission:
    """What is connected to one server, by host."""

    def __init__(self, parameters: StreamParameters, files: int | None = None) -> None:
        """files: how many the process may have open; connections leave some of them to others, and to other hosts."""
        self._parameters = parameters
        room = parameters.max_connections
        if files is not None:
            room = min(room, max(files - _OTHER_FILES, files // 2))
        self.max_connections = room
        self.max_connections_per_host = min(parameters.max_connections_per_host, max(room * 3 // 4, 1))
        self._connections: dict[str, int] = {}
        self._handshakes: dict[str, int] = {}
        self._silent: dict[str, dict[Callable[[], None], None]] = {}  # how each of them is sent away, oldest first
        self._waiting: OrderedDict[str, deque[Callable[[], bool]]] = OrderedDict()
        self.connections = 0
        self.handshakes = 0

    def __repr__(self) -> str:
        return f"<Admission: {self.connections} connections, {self.handshakes} handshakes, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """How many connections wait for their handshake."""
        return sum(len(each) for each in self._waiting.values())

    def connect(self, host: str) -> bool:
        """Count a connection from a host; False if it is one too many, and nobody silent could make way for it."""
        if self._connections.get(host, 0) >= self.max_connections_per_host:
            self._send_away(self._silent.get(host))
        elif self.connections >= self.max_connections:
            self._send_away(self._silent.get(host) or max(self._silent.values(), key=len, default=None))
        mine = self._connections.get(host, 0)
        if self.connections >= self.max_connections or mine >= self.max_connections_per_host:
            return False
        self._connections[host] = mine + 1
        self.connections += 1
        return True

    def await_hello(self, host: str, leave: Callable[[], None]) -> None:
        """Take note of a connection that has said nothing; `leave` ends it, and `disconnect` follows from that."""
        self._silent.setdefault(host, {})[leave] = None

    def heard_hello(self, host: str, leave: Callable[[], None]) -> None:
        """Forget what `await_hello` noted; a second time does nothing."""
        mine = self._silent.get(host)
        if mine is not None:
            mine.pop(leave, None)
            if not mine:
                del self._silent[host]

    def _send_away(self, silent: dict[Callable[[], None], None] | None) -> None:
        """Have the one of them leave that has been silent longest."""
        if silent:
            next(iter(silent))()

    def disconnect(self, host: str) -> None:
        """Count a connection less."""
        self.connections -= 1
        _less(self._connections, host)

    def begin(self, host: str, start: Callable[[], bool]) -> None:
        """Call `start` when the host may have one more handshake: now, or later. It says whether it still wants to."""
        if self._may(host):
            self._start(host, start)
        else:
            self._waiting.setdefault(host, deque()).append(start)

    def end(self, host: str) -> None:
        """Count a handshake less, and begin what waited for that, each host in turn."""
        self.handshakes -= 1
        _less(self._handshakes, host)
        for other in list(self._waiting):
            if self.handshakes >= self._parameters.max_handshakes:
                return
            while self._may(other) and (queue := self._waiting.get(other)):
                if self._start(other, queue.popleft()):
                    self._waiting.move_to_end(other)
                    break
            if not self._waiting[other]:
                del self._waiting[other]

    def _may(self, host: str) -> bool:
        mine = self._handshakes.get(host, 0)
        return self.handshakes < self._parameters.max_handshakes and mine < self._parameters.max_handshakes_per_host

    def _start(self, host: str, start: Callable[[], bool]) -> bool:
        if not start():
            return False
        self._handshakes[host] = self._handshakes.get(host, 0) + 1
        self.handshakes += 1
        return True


def _less(counts: dict[str, int], host: str) -> None:
    left = counts[host] - 1
    if left:
        counts[host] = left
    else:
        del counts[host]


def open_files() -> int | None:
    """Let this process have as many files open as it is granted, and return how many; None where there is no limit."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:  # often 1024, for programs that use select(); a thousand devices are more
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # what is granted is not always given
            pass
    return None if soft == resource.RLIM_INFINITY else soft
