"""A capture of what a board sends and receives, for Wireshark: packets of the fabric, real sockets, plain messages.

Packets stand in the file at the time of the board's clock at which the board sent or received them; what was lost on
its way to the board is not there. Of real TCP connections the operating system shows no segments: their bytes stand
in segments made up for them, and each says so.
"""

from __future__ import annotations

import threading
from html import escape
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pdmlab.capture.kept import Kept, KeptEvent
from pdmlab.capture.pcapng import LINKTYPE_ETHERNET, LINKTYPE_RAW, Direction, PcapngFile
from pdmlab.capture.plain import LINKTYPE_UPPER_PDU
from pdmlab.capture.plain import comment as comment_of
from pdmlab.capture.plain import packet as plain_packet
from pdmlab.errors import NetworkError
from pdmlab.network.fabric import Packet
from pdmlab.network.segment import Segment
from pdmlab.network.wire import ethernet, ip_packets, mac_bytes, mac_of

if TYPE_CHECKING:
    from pdmlab.capture import MessageLog
    from pdmlab.coap.transport import Address
    from pdmlab.network.interface import NetworkInterface

MADE_UP = "TCP header made up: the bytes went through the operating system's own TCP"
WINDOW = 65535
_places: set[Path] = set()
_places_lock = threading.Lock()


class Recording:
    """A capture under way; get it with `board.network.capture(path)`, as a context manager.

    >>> with board.network.capture("board.pcapng") as recording:    # doctest: +SKIP
    ...     board.run(main)
    """

    def __init__(self, net: NetworkInterface, path: Path | str, logs: tuple[MessageLog, ...] = ()) -> None:
        framed = net.type in ("Ethernet", "WiFi")
        self.path = Path(path)
        if not net.clock.is_open:
            raise NetworkError(f"{net.name} is closed: there is nothing to capture", hint="open the board again")
        self._place = self.path.resolve()
        with _places_lock:
            if self._place in _places:
                raise NetworkError(f"{path} is being captured into already", hint="give each capture a file of its own")
            if self.path.is_file() or not self.path.exists():  # a device or a pipe takes several
                _places.add(self._place)
        self.error: NetworkError | None = None
        """Why the capture ended early: a full disk must not stop the board."""
        self._net = net
        self._mac = mac_bytes(net.get_mac_address()) if framed else None
        self._logs = logs
        self._lock = threading.Lock()
        self._number = 0
        self._plain: int | None = None  # the interface of plain messages
        self._file: PcapngFile | None = None
        self.packets = 0
        """Packets in the file; once a disk was full, those that reached it whole."""
        try:
            self._file = PcapngFile(
                path,
                link_type=LINKTYPE_ETHERNET if framed else LINKTYPE_RAW,
                name=net.name,
                hardware=f"SIMULATED {net.type} interface of {net.name} on the bearer {net.link.name}",
                comment=f"SIMULATED: {net.name} on {net.link.name}; times are ns of the {net.clock.name} clock",
            )
        except BaseException:
            self._leave_place()
            raise
        net.watchers.append(self)
        for log in logs:
            log.watch(self.message)

    def __repr__(self) -> str:
        state = "closed" if self._file is None else "open"
        return f"<Recording {self.path}, {self.packets} packets, {state}>"

    def _repr_html_(self) -> str:
        size = f"{self.packets} packets, {self.path.stat().st_size} B" if self.path.is_file() else "no file"
        return f"<b>SIMULATED</b> capture <code>{escape(str(self.path))}</code>: {size}; Wireshark opens it"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(quiet=error is not None)

    def packet(self, direction: Direction, packet: Packet, time_ns: int, comment: str = "") -> None:
        """Take a packet that the board sent or received at that time (ns)."""
        with self._lock:
            if self._file is None:
                return
            self._number += 1
            try:
                for data in ip_packets(packet, self._net.link.mtu, self._number):
                    self._file.add(time_ns, self._framed(data, packet, direction), direction, comment)
                    self.packets += 1
            except NetworkError as error:
                self._broken(error)

    def message(self, kept: Kept | KeptEvent) -> None:
        """Take a message from a log: it stands in the file in plain text, whatever secured or carried it."""
        if isinstance(kept, KeptEvent):
            return
        data, whole = plain_packet(kept)
        with self._lock:
            if self._file is None:
                return
            try:
                if self._plain is None:
                    about = "CoAP messages in plain text; what is secret is overwritten with *"
                    self._plain = self._file.interface(LINKTYPE_UPPER_PDU, "message log", about)
                self._file.add(kept.time_ns, data, kept.direction, comment_of(kept), whole=whole, interface=self._plain)
                self.packets += 1
            except NetworkError as error:
                self._broken(error)

    def _broken(self, error: NetworkError) -> None:
        self.error = error
        if self._file is not None:
            self.packets = self._file.drop()
            self._file = None

    def close(self, *, quiet: bool = False) -> None:
        """End the capture; a second call does nothing.

        Raises:
            NetworkError: not all of it could be written; not if quiet.
        """
        if self in self._net.watchers:
            self._net.watchers.remove(self)
        for log in self._logs:
            log.unwatch(self.message)
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                try:
                    file.close()
                except NetworkError as error:
                    self.error = error
                    self.packets = file.drop()
        self._leave_place()
        if self.error is not None and not quiet:
            raise self.error

    def _leave_place(self) -> None:
        with _places_lock:
            _places.discard(self._place)

    def _framed(self, data: bytes, packet: Packet, direction: Direction) -> bytes:
        if self._mac is None:
            return data
        other = mac_of((packet.target if direction == "out" else packet.source)[0])
        return ethernet(data, other, self._mac) if direction == "in" else ethernet(data, self._mac, other)


class MadeUpStream:
    """The segments that a real TCP connection is shown as: the handshake, its bytes in order, the end."""

    def __init__(self, net_watchers: list[Recording], local: Address, peer: Address, mss: int) -> None:
        self._watchers = net_watchers
        self._ends: dict[Direction, tuple[Address, Address]] = {"out": (local, peer), "in": (peer, local)}
        self._next: dict[Direction, int] = {"out": 0, "in": 0}
        self._mss = mss

    def opened(self, asked: int, answered: int) -> None:
        """Show the handshake: when it was asked for, and when it was through (ns)."""
        self._show("out", asked, Segment(0, window=WINDOW, syn=True, mss=self._mss))
        self._show("in", answered, Segment(0, 1, WINDOW, syn=True, acks=True, mss=self._mss))
        self._next = {"out": 1, "in": 1}
        self._show("out", answered, Segment(1, 1, WINDOW, acks=True))

    def data(self, direction: Direction, data: bytes, when: int) -> None:
        """Show bytes that were sent or received, and what acknowledges them; none are the end (FIN)."""
        other: Direction = "in" if direction == "out" else "out"
        for start in range(0, max(len(data), 1), self._mss):
            part = data[start : start + self._mss]
            segment = Segment(self._next[direction], self._next[other], WINDOW, part, fin=not data, acks=True)
            self._next[direction] = segment.end
            self._show(direction, when, segment)
        if direction == "in":
            self._show("out", when, Segment(self._next["out"], self._next["in"], WINDOW, acks=True))

    def _show(self, direction: Direction, when: int, segment: Segment) -> None:
        source, target = self._ends[direction]
        for watcher in self._watchers:
            watcher.packet(direction, Packet(source, target, segment, when), when, MADE_UP)
